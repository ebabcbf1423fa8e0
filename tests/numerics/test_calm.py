"""Which calls count."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchbox.numerics import calm
from benchbox.schema.seen import Block, Memory, Replicate

MS = 1_000_000
QUIET = Block(0, 0, 50 * MS, (50 * MS, 50 * MS), slices=(1, 1), waited_ns=(0, 0), cpu_ns=(0, 0))


def counted(*blocks: Block) -> list[tuple[int, list[bool]]]:
    """The position of each block that counts, and which of its calls do."""
    return [(blocks.index(block), calls.tolist()) for block, calls in calm.counting_blocks(blocks)]


@pytest.mark.parametrize(
    ("waited_ns", "calm_calls"),
    [
        ((0, 0), [True, True]),
        ((MS, 1_100_000), [True, False]),  # 2 % of 50 ms, and more
        ((30 * MS, 0), [False, True]),
    ],
)
def test_a_call_that_waited_for_a_core_is_not_calm(waited_ns, calm_calls):
    assert calm.calm_calls(replace(QUIET, waited_ns=waited_ns)).tolist() == calm_calls


def test_short_calls_are_calm_by_the_slice():
    """Three calls in the first slice, two in the second, in which a thread waited."""
    block = replace(QUIET, latencies_ns=(4 * MS,) * 5, slices=(3, 2), waited_ns=(0, MS))
    assert calm.calm_calls(block).tolist() == [True, True, True, False, False]


def test_what_a_core_does_for_the_kernel_is_not_looked_at():
    block = replace(QUIET, latencies_ns=(1000,), slices=(1,), waited_ns=(90_000,))
    assert calm.is_surely_calm(block)
    assert calm.calm_calls(block).tolist() == [True]


def test_where_the_kernel_does_not_tell_what_was_said_counts():
    old = Block(0, 0, 1, (5, 5))
    assert calm.calm_calls(old).tolist() == [True, True]
    assert calm.calm_calls(replace(old, disturbed="steal")).tolist() == [False, False]


def test_of_a_round_the_calmest_block_counts_with_its_calm_calls():
    first, again = replace(QUIET, waited_ns=(30 * MS, 30 * MS)), replace(QUIET, waited_ns=(0, 30 * MS))
    assert counted(first, again) == [(1, [True, False])]


def test_a_round_without_a_calm_call_counts_only_where_no_round_has_one():
    loud = replace(QUIET, disturbed="steal")
    assert counted(loud, replace(QUIET, round=1)) == [(1, [True, True])]
    assert counted(loud, replace(loud, started_ns=1), replace(loud, round=1)) == [
        (1, [True, True]),
        (2, [True, True]),
    ]


def test_a_block_on_a_machine_that_is_slow_by_itself_counts_only_where_there_is_no_other():
    slow = replace(QUIET, pace=1.5)
    assert counted(slow, replace(QUIET, round=1, pace=1.1)) == [(1, [True, True])]
    assert counted(slow) == [(0, [True, True])]
    held_up = replace(QUIET, waited_ns=(30 * MS, 30 * MS), round=1)
    assert counted(held_up, slow) == [(1, [True, True])]  # rather than what somebody held up
    assert not calm.is_disturbed(slow)  # nobody held it up: it is not measured again at once


def test_the_calm_share_is_one_of_time():
    half = replace(QUIET, latencies_ns=(75 * MS, 25 * MS), waited_ns=(30 * MS, 0))
    assert calm.calm_share([half]) == 0.25
    assert calm.calm_share([half, QUIET, QUIET, QUIET]) == pytest.approx(0.8125)
    assert calm.calm_share([]) is None


def test_a_process_that_was_never_calm_counts_only_where_two_others_were_not_either():
    def process(index, *, calm_process):
        block = QUIET if calm_process else replace(QUIET, disturbed="steal")
        return Replicate(index, 0.1, True, (), (block,), Memory(0, 1, 2))

    quiet, loud = process(0, calm_process=True), process(1, calm_process=False)
    assert [len(blocks) for blocks in calm.counting([quiet, loud, quiet])] == [1, 0, 1]
    assert [len(blocks) for blocks in calm.counting([quiet, loud])] == [1, 1]
    assert [len(blocks) for blocks in calm.counting([loud, loud, loud])] == [1, 1, 1]
