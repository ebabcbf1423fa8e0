"""Timing with a given clock: what is counted, what is kept apart, and when it ends."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from datetime import UTC

import pytest

from benchbox.machine import clock
from benchbox.machine.clock import Stopwatch, Timing

MS = 1_000_000


class Machine:
    """A clock that moves only when the session runs; the n-th run takes the n-th of `durations_ns`."""

    def __init__(self, durations_ns: Iterable[int], started_ns: int = 1000) -> None:
        self.now_ns = started_ns
        self._durations: Iterator[int] = iter(durations_ns)
        self.calls = 0

    def clock(self) -> int:
        return self.now_ns

    def session(self) -> None:
        self.calls += 1
        self.now_ns += next(self._durations)


def test_the_first_call_is_kept_apart_and_every_other_is_exact() -> None:
    machine = Machine([9 * MS, 2 * MS, 3 * MS, 4 * MS, 5 * MS])
    timing = clock.time_block(machine.session, seconds=0.009, clock=machine.clock)
    assert timing == Timing(started_ns=1000, first_ns=9 * MS, latencies_ns=(2 * MS, 3 * MS, 4 * MS))


def test_the_last_call_begins_before_the_end_and_is_counted_whole() -> None:
    """A block of 5 ms whose second call takes 100 ms holds both."""
    machine = Machine([1, 4 * MS, 100 * MS])
    timing = clock.time_block(machine.session, seconds=0.005, clock=machine.clock)
    assert timing.latencies_ns == (4 * MS, 100 * MS)


@pytest.mark.parametrize("seconds", [0.0, 0.001])
def test_a_block_has_at_least_one_timed_call(seconds: float) -> None:
    machine = Machine([7 * MS, 8 * MS])
    timing = clock.time_block(machine.session, seconds=seconds, clock=machine.clock)
    assert (timing.first_ns, timing.latencies_ns, machine.calls) == (7 * MS, (8 * MS,), 2)


def test_what_the_clock_itself_costs_is_in_no_latency_twice() -> None:
    """Each reading takes 10 ns: one of them lies between the two that bracket a call."""
    machine = Machine([100] * 100)

    def slow_clock() -> int:
        machine.now_ns += 10
        return machine.now_ns

    timing = clock.time_block(machine.session, seconds=0.000_000_4, clock=slow_clock)
    assert timing.first_ns == 110
    assert set(timing.latencies_ns) == {110}


def test_the_collector_is_off_while_calls_are_timed_and_on_again_after() -> None:
    machine = Machine([1, 1])
    seen = []

    def session() -> None:
        seen.append(gc.isenabled())
        machine.session()

    clock.time_block(session, seconds=0.0, clock=machine.clock)
    assert (seen, gc.isenabled()) == ([False, False], True)


def test_the_collector_is_on_again_after_a_session_that_fails() -> None:
    with pytest.raises(StopIteration):
        clock.time_block(Machine([]).session, seconds=0.0)
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        clock.time_block(Machine([1, 1]).session, seconds=0.0, clock=lambda: 0)
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("medians", "expected"),
    [
        ([], False),
        ([100.0], False),
        ([100.0, 105.0], True),
        ([100.0, 95.0], True),
        ([100.0, 106.0], False),
        ([100.0, 94.0], False),
        ([500.0, 100.0, 101.0], True),
        ([100.0, 100.0, 200.0], False),
    ],
)
def test_blocks_have_settled_when_the_last_two_agree_within_five_percent(
    medians: list[float], expected: bool
) -> None:
    assert clock.settled(medians) is expected


class Spinning:
    """A process whose threads use a share of a core in each of its next steps of sleep."""

    def __init__(self, shares: Iterable[float]) -> None:
        self._shares = iter(shares)
        self.used_ns = 0
        self.slept: list[float] = []

    def clock(self) -> int:
        return self.used_ns

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.used_ns += int(next(self._shares) * seconds * 1e9)


def test_rest_ends_after_four_quiet_steps_in_a_row() -> None:
    """One quiet step proves nothing: a thread that spins may not have been booked in it."""
    process = Spinning([2.0, 0.0, 0.01, 0.0, 0.5, 0.0, 0.01, 0.0, 0.019, 9.0])
    clock.rest(clock=process.clock, sleep=process.sleep)
    assert process.slept == [0.005] * 9


def test_rest_gives_up_on_threads_that_spin_for_ever() -> None:
    process = Spinning([1.0] * 1000)
    clock.rest(clock=process.clock, sleep=process.sleep, step_seconds=0.01, at_most_seconds=0.25)
    assert process.slept == [0.01] * 25


def test_a_stopwatch_says_seconds_since_it_was_started() -> None:
    machine = Machine([1_500_000_000], started_ns=42)
    watch = Stopwatch.start(machine.clock)
    machine.session()
    assert watch.seconds() == 1.5


def test_the_wall_clock_knows_its_zone() -> None:
    assert clock.now().tzinfo is UTC
