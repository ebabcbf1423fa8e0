"""Timing of a block of calls: the only clock in benchbox.

Everything that needs the time asks here, so that tests can give it.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

Clock = Callable[[], int]

# So often the kernel is asked, between two calls, what threads waited for: a call that is longer is a slice
# of its own. Asking may take one part in fifty of a slice, however many threads there are.
_SLICE_NS = 10_000_000
_SLICE_OVER_LOOK = 50

# Who time is spent on that is no case's own.
RUN = ""

clock_ns: Clock = time.perf_counter_ns
process_clock_ns: Clock = time.process_time_ns


def now() -> datetime:
    """The wall-clock time, in UTC."""
    return datetime.now(UTC)


def pause(seconds: float) -> None:
    """Does nothing for so long."""
    time.sleep(seconds)


@dataclass(frozen=True)
class Stopwatch:
    """Seconds since it was made."""

    started_ns: int
    clock: Clock = clock_ns

    @classmethod
    def start(cls, clock: Clock = clock_ns) -> Stopwatch:
        """A watch that starts now."""
        return cls(clock(), clock)

    def seconds(self) -> float:
        """Seconds since the start."""
        return (self.clock() - self.started_ns) / 1e9


class Ledger:
    """Where the time goes: seconds by who they were spent on, and on what.

    What begins within something else is taken from it, so that all entries add up to the time that went by.
    """

    def __init__(self, clock: Clock = clock_ns) -> None:
        self._clock = clock
        self._spent_ns: dict[str, dict[str, float]] = {}
        self._open: list[tuple[str, tuple[str, ...]]] = []
        self._since_ns = clock()

    @contextmanager
    def on(self, what: str, *whose: str) -> Iterator[None]:
        """What happens within is spent on this; on several, in equal parts; on none, on the run itself."""
        self._book()
        self._open.append((what, whose or (RUN,)))
        try:
            yield
        finally:
            self._book()
            self._open.pop()

    def seconds(self, who: str = "") -> Mapping[str, float]:
        """What was spent on one, or on the run itself."""
        return {what: ns / 1e9 for what, ns in self._spent_ns.get(who, {}).items()}

    def _book(self) -> None:
        now = self._clock()
        if self._open:
            what, whose = self._open[-1]
            for who in whose:
                spent = self._spent_ns.setdefault(who, {})
                spent[what] = spent.get(what, 0.0) + (now - self._since_ns) / len(whose)
        self._since_ns = now


@dataclass(frozen=True)
class Usage:
    """CPU time of a process with all its threads, and what each thread has waited for a core; None where the
    kernel does not tell."""

    cpu_ns: int
    waited_ns: Mapping[int, int] | None


@dataclass(frozen=True)
class Timing:
    """What a block of calls gave, in nanoseconds; `first_ns` found the caches cold (None: no such call was
    made).

    `looks` are what the process had used before the timed calls (after 0 of them), and after so many.
    """

    started_ns: int
    first_ns: int | None
    latencies_ns: tuple[int, ...]
    looks: tuple[tuple[int, Usage], ...] = ()


def time_block(
    call: Callable[[], object],
    *,
    seconds: float,
    clock: Clock = clock_ns,
    usage: Callable[[], Usage] | None = None,
    cold_first: bool = True,
) -> Timing:
    """Calls once for the cold caches (`cold_first`), then for at least `seconds` and at least once.

    Between the two readings of the clock stands nothing but the call; the collector is off meanwhile. `usage`
    is asked between calls, at most every 10 ms and at the end.
    """
    with _without_collector():
        started = clock()
        if cold_first:
            call()
        first = clock() - started if cold_first else None
        latencies: list[int] = []
        append = latencies.append
        looks = [] if usage is None else [(0, usage())]
        begun = clock()
        end, next_look = begun + int(seconds * 1e9), begun + _SLICE_NS
        while True:
            begun = clock()
            call()
            ended = clock()
            append(ended - begun)
            if usage is not None and (ended >= next_look or ended >= end):
                looks.append((len(latencies), usage()))
                looked = clock()
                next_look = looked + max(_SLICE_NS, _SLICE_OVER_LOOK * (looked - ended))
            if ended >= end:
                return Timing(started, first, tuple(latencies), tuple(looks))


def time_call(call: Callable[[], object], *, clock: Clock = clock_ns) -> Timing:
    """One call, as the first of a block that has no other."""
    with _without_collector():
        started = clock()
        call()
        return Timing(started, clock() - started, ())


def settled(medians: Sequence[float], *, tolerance: float = 0.05) -> bool:
    """Whether the last two blocks neither fall by more than `tolerance` nor rise by more than it.

    5 % is above the noise of a block on a shared machine and below what warm-up costs (10 % and more).
    """
    if len(medians) < 2:
        return False
    before, last = medians[-2:]
    return abs(last - before) <= tolerance * before


def rest(
    *,
    clock: Clock = process_clock_ns,
    sleep: Callable[[float], None] = time.sleep,
    step_seconds: float = 0.005,
    at_most_seconds: float = 0.5,
) -> None:
    """Waits until this process uses no CPU: a runtime's threads spin on after the last call.

    Returns after four steps in a row that used less than 2 % of a core, or after `at_most_seconds`. One
    quiet step says nothing, because the kernel books a running thread's time by the tick (4 ms). Measured:
    onnxruntime's threads spin for 50 to 90 ms, torch's for 20 ms.
    """
    quiet = 0
    for _ in range(int(at_most_seconds / step_seconds)):
        before = clock()
        sleep(step_seconds)
        quiet = quiet + 1 if clock() - before < 0.02 * step_seconds * 1e9 else 0
        if quiet == 4:
            return


@contextmanager
def _without_collector() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
