"""What is to be done with cases, as a table of contents: those that can run are built, then measured.

Records come out as they are made; who wants them kept keeps them (runner.py), and no folder of results is
needed to measure (cases.py).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

from benchbox.build.artifacts import artifact_of
from benchbox.build.cache import Cache, Entry
from benchbox.build.client import Builder
from benchbox.errors import CaseError
from benchbox.machine import clock
from benchbox.machine.child import Limits
from benchbox.machine.launcher import Launcher
from benchbox.measure import rounds
from benchbox.measure.pace import Pace
from benchbox.runner import planning
from benchbox.runner.interrupt import Interrupt
from benchbox.runner.observer import Observer
from benchbox.runner.progress import RunWatcher, Time
from benchbox.runner.records import Provenance, measure_ready, record_of_error
from benchbox.schema.asked import Case, Stage, Suite
from benchbox.schema.seen import Record

T = TypeVar("T")
Records = Sequence[Record]
"""Records that came out together, and are kept together: of those of one sitting all or none."""

# What may be loaded side by side when the suite does not say: the rest is for the page cache and others.
_SHARE_OF_FREE_MEMORY = 0.7


@dataclass
class Work:
    """The cases of a suite, and what is needed at every step.

    `name` begins the names of its sessions; `overrides` are what the command line set in the suite.
    """

    suite: Suite
    name: str
    cache: Cache
    launcher: Launcher
    say: Observer
    interrupt: Interrupt
    time: Time
    overrides: tuple[str, ...] = ()
    ledger: clock.Ledger = field(default_factory=clock.Ledger)
    _pace: Pace | None = None

    def records(self, todo: Sequence[Case]) -> Generator[Records, None, None]:
        """Of every case that is left, model by model: its artifacts are built, then its groups measured."""
        with Pace(self.launcher) as self._pace:
            yield from self._of_all(todo)

    def _of_all(self, todo: Sequence[Case]) -> Generator[Records, None, None]:
        runnable = yield from self._skip_what_cannot_run(todo)
        left = {case.id for case in todo}
        companions = [c for c in self.suite.cases if c.id in self._provenance.baselines and c.id not in left]
        for cases in grouped(runnable, key=lambda case: str(case.model)):
            groups = {case.group for case in cases}
            extra = [case for case in companions if case.group in groups]
            wanted = {case.id for case in cases}
            ready = yield from self._build([*extra, *cases], wanted)
            for group in grouped(ready, key=lambda item: item.case.group):
                if self.interrupt.asked:
                    return
                if any(item.case.id in wanted for item in group):
                    yield from self._measure(group, wanted)

    @cached_property
    def _provenance(self) -> Provenance:
        """Of the whole suite, for each case is asked whether it is a baseline."""
        return Provenance(planning.baselines(self.suite.cases), self.suite.file, self.overrides)

    def _skip_what_cannot_run(self, cases: Sequence[Case]) -> Generator[Records, None, list[Case]]:
        """Yields the records of those, returns the others."""
        runnable = []
        with planning.Availability(self.suite.folder, launcher=self.launcher) as availability:
            for case in cases:
                with self.ledger.on("ask what can run", case.id):
                    reason = availability.why_not(case)
                if reason is None:
                    runnable.append(case)
                else:
                    yield self._dropped(case, "plan", reason)
        return runnable

    def _dropped(self, case: Case, stage: Stage, error: CaseError) -> Records:
        self.time.cases_waiting -= 1
        record = record_of_error(case, stage, error, self._provenance)
        return [replace(record, seconds=self.ledger.seconds(case.id))]

    def _build(self, cases: Sequence[Case], wanted: set[str]) -> Generator[Records, None, list[rounds.Ready]]:
        """Yields the records of those that could not be built, returns the others.

        A baseline that was recorded before and fails now keeps its record.
        """
        ready = []
        plan, parity = self.suite.measure, self.suite.parity
        limits = Limits(plan.memory_limit_bytes, plan.timeout_seconds)
        with Builder(limits, self.cache, self.suite.folder, self.launcher) as builder:
            for case in cases:
                if self.interrupt.asked:
                    break
                stage: Stage = "reference"
                try:
                    self.say.entered(case, stage)
                    with self.ledger.on("reference", case.id):
                        reference = builder.reference(case, parity.samples, parity.gradient_directions)
                    stage = "build"
                    self.say.entered(case, stage)
                    with self.ledger.on("build", case.id):
                        entry = builder.artifact(case)
                except CaseError as error:
                    if case.id in wanted:
                        yield self._dropped(case, stage, error)
                    continue
                ready.append(self._ready(case, entry, reference))
                self.time.tell(self.say, building=True)
        return ready

    def _ready(self, case: Case, entry: Entry, reference: Entry) -> rounds.Ready:
        return rounds.Ready(
            case=case,
            artifact=artifact_of(entry),
            folder=entry.folder,
            reference=reference.folder,
            reference_content=reference.content,
            compiled=self.cache.folder / "compiled",
        )

    def _measure(self, group: Sequence[rounds.Ready], wanted: set[str]) -> Iterator[Records]:
        """The records of a group, as much of which sits together as fits into memory."""
        baseline = next((item for item in group if item.case.id in self._provenance.baselines), None)
        watcher = RunWatcher(self.say, self.interrupt, self.time)
        for sitting in rounds.sittings(group, baseline, self._memory_budget_bytes()):
            if self.interrupt.asked:
                return
            self.time.began(len(sitting), sum(item.case.id in wanted for item in sitting))
            settings = self._settings(baseline)
            records = measure_ready(sitting, settings, watcher, self._provenance, wanted)
            self.time.group_ended(len(sitting))
            yield records
            wanted = wanted - {record.case.id for record in records}

    def _settings(self, baseline: rounds.Ready | None) -> rounds.Settings:
        return rounds.Settings(
            plan=self.suite.measure,
            parity=self.suite.parity,
            session=f"{self.name}/{clock.now():%Y%m%dT%H%M%S.%f}",  # a run that goes on sits anew
            baseline=baseline.case.id if baseline else "",
            folder=self.suite.folder,
            launcher=self.launcher,
            pace=self._pace,
            ledger=self.ledger,
        )

    def _memory_budget_bytes(self) -> int:
        given = self.suite.measure.memory_budget_bytes
        return given or int(self.launcher.machine.available_memory_bytes() * _SHARE_OF_FREE_MEMORY)


def grouped(items: Sequence[T], key: Callable[[T], str]) -> Iterator[list[T]]:
    """The items in lists of one key each, keys in the order of their first item."""
    groups: dict[str, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    yield from groups.values()
