"""How long a run took, and about how long the rest will take."""

from __future__ import annotations

from dataclasses import dataclass

from benchbox.machine import clock
from benchbox.runner.interrupt import Interrupt
from benchbox.runner.observer import Observer
from benchbox.schema.asked import Case, Stage, Suite
from benchbox.schema.seen import Neighbours

# Loading and warming up one case, until the first replicate has shown how long it takes here.
_LOAD_SECONDS = 5.0


def progress_of(suite: Suite, cases: int) -> Time:
    """The clock of a run with so many cases to do, which knows nothing of this machine yet."""
    plan = suite.measure
    guess = plan.budget_seconds / plan.replicates + _LOAD_SECONDS
    return Time(clock.Stopwatch.start(), guess, plan.replicates, cases)


@dataclass
class Time:
    """How long it took, and about how long the rest will take.

    A unit is one case in one process. Until the first has ended it is taken to last `guess_seconds`. How
    many processes a case will need nobody knows: it is taken to be as many as the cases before it needed,
    at first the fewest that the plan asks for.
    """

    watch: clock.Stopwatch
    guess_seconds: float
    fewest: int
    cases_waiting: int
    cases_done: int = 0
    units_in_hand: float = 0.0
    units_done: int = 0
    unit_seconds: float = 0.0
    since_seconds: float = 0.0

    def began(self, cases: int, waiting: int) -> None:
        """So many cases are measured together from now on, of which so many had been waiting."""
        self.cases_waiting -= waiting
        self.units_in_hand = cases * self._units_of_a_case
        self.since_seconds = self.watch.seconds()

    def ended(self, units: int, seconds: float, more: int | None) -> None:
        """So many units took so long, together; so many more of each are to come, if it is known."""
        left = max(0.0, self.units_in_hand - units)
        self.units_in_hand = left if more is None else units * more
        self.units_done += units
        self.unit_seconds += seconds
        self.since_seconds = self.watch.seconds()

    def group_ended(self, cases: int) -> None:
        """So many cases need no more units."""
        self.cases_done += cases
        self.units_in_hand = 0.0

    @property
    def _units_of_a_case(self) -> float:
        return max(self.fewest, self.units_done / self.cases_done) if self.cases_done else self.fewest

    def tell(self, say: Observer, *, building: bool = False) -> None:
        """Tells the observer; while building, nobody knows yet."""
        elapsed = self.watch.seconds()
        mean = self.unit_seconds / self.units_done if self.units_done else self.guess_seconds
        units = self.units_in_hand + self.cases_waiting * self._units_of_a_case
        left = units * mean - (elapsed - self.since_seconds)
        say.time_left(elapsed, None if building else max(0.0, left))


@dataclass
class RunWatcher:
    """Passes on how a group goes."""

    say: Observer
    interrupt: Interrupt
    time: Time

    def entered(self, case: Case, stage: Stage) -> None:
        """Passes it on."""
        self.say.entered(case, stage)

    def measured(self, case: Case, latency_ns: float, rounds: int, replicate: int) -> None:
        """Passes it on, with the time that is left."""
        self.say.measured(case, latency_ns, rounds, replicate)
        self.time.tell(self.say)

    def replicate_ended(self, cases: int, seconds: float, more: int | None) -> None:
        """Counts what has ended, and tells the time that is left."""
        self.time.ended(cases, seconds, more)
        self.time.tell(self.say)

    def waiting(self, neighbours: Neighbours) -> None:
        """Passes it on, with the time that is left."""
        self.say.waiting(neighbours)
        self.time.tell(self.say)

    def stopping(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self.interrupt.asked
