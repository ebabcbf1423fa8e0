"""What measuring itself costs: a timed call, and the conductor beside the workers.

    pytest tests/perf/test_harness.py --benchmark-enable -m 'slow or not slow'

The bounds hold on a machine that others use too: the two sides are visited in turn, and the least of many
readings counts, because others can only add to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchbox.machine import clock as measure
from benchbox.measure import rounds
from benchbox.runner import selftest
from benchbox.schema.asked import Case, MeasurePlan, ParityPlan, Stage
from benchbox.schema.seen import Neighbours

CALLS = 5_000


def nothing() -> None:
    """A call that takes no time."""


def bare_loop() -> list[int]:
    """What anyone would write, and what is the least that timing each call can cost."""
    clock = time.perf_counter_ns
    latencies = []
    append = latencies.append
    for _ in range(CALLS):
        begun = clock()
        nothing()
        append(clock() - begun)
    return latencies


def block_ns_a_call() -> float:
    """Of a real block with the real clock: what passes between one call and the next."""
    begun = time.perf_counter_ns()
    timing = measure.time_block(nothing, seconds=0.002)
    return (time.perf_counter_ns() - begun) / (len(timing.latencies_ns) + 1)


def loop_ns_a_call() -> float:
    begun = time.perf_counter_ns()
    bare_loop()
    return (time.perf_counter_ns() - begun) / CALLS


def least(one: Callable[[], float], other: Callable[[], float], visits: int = 60) -> tuple[float, float]:
    """The least reading of each, visited in turn."""
    pairs = [(one(), other()) for _ in range(visits)]
    return min(first for first, _ in pairs), min(second for _, second in pairs)


def test_a_timed_call_costs_at_most_1_microsecond_more_than_in_a_bare_loop():
    block, loop = least(block_ns_a_call, loop_ns_a_call)
    assert block - loop <= 1000


def test_a_timed_call_costs_at_most_three_times_what_it_costs_in_a_bare_loop():
    """A ratio, which holds on a slow machine too: one comparison more, and no list kept by the caller."""
    block, loop = least(block_ns_a_call, loop_ns_a_call)
    assert block / loop <= 3


def test_the_harness_adds_nothing_to_the_latency_that_it_reports():
    """Between the two readings of the clock stands the call alone, as in a bare loop."""

    def reported() -> float:
        return min(measure.time_block(nothing, seconds=0.002).latencies_ns)

    def bare() -> float:
        return min(bare_loop())

    ours, theirs = least(reported, bare, visits=20)
    assert ours - theirs <= 100


def test_bare_loop(benchmark):
    """5,000 calls of nothing, timed by hand."""
    assert len(benchmark(bare_loop)) == CALLS


def test_time_block(benchmark):
    """A block of 2 ms of calls of nothing; divide by the calls to compare."""
    timing = benchmark(measure.time_block, nothing, seconds=0.002)
    assert timing.latencies_ns


class Spending:
    """A watcher that notes what the conductor had used when the first and the last block were told."""

    def __init__(self) -> None:
        self.readings: list[tuple[float, float]] = []

    def entered(self, case: Case, stage: Stage) -> None:
        pass

    def measured(self, case: Case, latency_ns: float, rounds: int, replicate: int) -> None:
        self.readings.append((time.perf_counter(), time.process_time()))

    def replicate_ended(self, cases: int, seconds: float, more: int | None) -> None:
        pass

    def waiting(self, neighbours: Neighbours) -> None: ...

    def stopping(self) -> bool:
        return False

    @property
    def share(self) -> float:
        """Of a core, between the first block and the last."""
        (began, before), (ended, after) = self.readings[0], self.readings[-1]
        return (after - before) / (ended - began)

    @property
    def seconds(self) -> float:
        return self.readings[-1][0] - self.readings[0][0]


def conductors_share(folder: Path, seconds: float) -> float:
    """Of a core, while three real workers measure in turn for so long."""
    group = [selftest._case(selftest._runtime(), 0.0, copy) for copy in range(3)]
    plan = MeasurePlan(budget_seconds=seconds / len(group), replicates=1, precision=1e-9, warm_up_seconds=0.5)
    spending = Spending()
    ready = [selftest._ready(case, folder) for case in group]
    measured = rounds.measure_together(ready, rounds.Settings(plan, ParityPlan(), "perf"), spending)
    assert all(result.error is None for result in measured.values())
    assert spending.seconds > seconds / 2
    return spending.share


@pytest.mark.slow
def test_the_conductor_uses_under_1_percent_of_a_core_while_workers_measure(tmp_path):
    """The least of three readings of 20 s each: caches that others emptied are not the conductor's doing."""
    for _ in range(3):
        share = conductors_share(tmp_path, 20.0)
        if share < 0.01:
            return
    pytest.fail(f"the conductor used {share:.2%} of a core")
