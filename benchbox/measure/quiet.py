"""Waiting until nobody else uses the machine, within bounds; and who it was.

A block that others held up is worth nothing, and a neighbour's burst ends: to wait for its end and to measure
again costs less than a number that nobody can use. Where the burst does not end, waiting does not help
either, and so patience is a budget.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from benchbox.machine import clock, neighbours
from benchbox.machine.launcher import Machine
from benchbox.machine.neighbours import Look
from benchbox.schema.seen import Neighbours

# Of a core. Less is what an idle system does; a tick of the kernel's is 10 ms, a tenth of a look.
QUIET_CORES = 0.15
_LOOK_SECONDS = 0.1
# A burst that lasts longer is no burst.
_LONGEST_SECONDS = 5.0
_SHORTEST_SECONDS = 0.5

Say = Callable[[Neighbours], None]


@dataclass
class Patience:
    """How much longer measuring may wait, or measure again what was held up.

    A wait that ended in vain halves the next one: beside a neighbour that never stops, nearly all that is
    left goes into measuring.
    """

    seconds: float
    longest_seconds: float = _LONGEST_SECONDS

    def spend(self, seconds: float) -> None:
        """Takes note of what was spent."""
        self.seconds -= seconds

    def in_vain(self) -> None:
        """A wait was in vain."""
        self.longest_seconds = max(_SHORTEST_SECONDS, self.longest_seconds / 2)


@dataclass
class Witness:
    """Remembers who used the machine while somebody was held up: core-seconds by the command's name."""

    machine: Machine
    last: Look
    seconds: float = 0.0
    core_seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, machine: Machine) -> Witness:
        """One that begins to look now."""
        return cls(machine, machine.look())

    def look(self, *, blame: bool) -> Neighbours:
        """What others used since the last look; kept where somebody is to `blame`."""
        now = self.machine.look()
        seen = neighbours.between(self.last, now)
        if blame:
            elapsed = (now.at_ns - self.last.at_ns) / 1e9
            self.seconds += elapsed
            for name, cores in seen.by_name.items():
                self.core_seconds[name] = self.core_seconds.get(name, 0.0) + cores * elapsed
        self.last = now
        return seen

    def blamed(self, most: int = 3) -> dict[str, float]:
        """Those who used most while others were held up, in cores; none where nobody used a twentieth of
        one."""
        if not self.seconds:
            return {}
        cores = {name: used / self.seconds for name, used in self.core_seconds.items()}
        ordered = sorted(cores.items(), key=lambda item: -item[1])
        return {name: share for name, share in ordered[:most] if share >= 0.05}


def wait_for_quiet(witness: Witness, patience: Patience, say: Say) -> bool:
    """Whether nobody else uses the machine now; waits for it as long as there is patience."""
    watch = clock.Stopwatch.start()
    at_most = min(patience.seconds, patience.longest_seconds)
    try:
        while watch.seconds() + _LOOK_SECONDS <= at_most + 1e-6:
            witness.machine.pause(_LOOK_SECONDS)
            seen = witness.look(blame=True)
            if seen.cores <= QUIET_CORES:
                return True
            say(seen)
        patience.in_vain()
        return False
    finally:
        patience.spend(watch.seconds())
