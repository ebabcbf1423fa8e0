"""Which calls count: those that ran while nobody held them up.

On a shared machine a block is rarely disturbed as a whole: a neighbour's burst ends, and the next call is as
good as on a quiet machine (measured beside one that takes one of two cores half of the time: calm calls have
a median of 61.7 ms where 61.0 is right, all calls 63.6). So every call is kept, and of a process those count
that were calm, as long as there are any; of a process that never had a calm call all count, for that is how
it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from benchbox.schema.seen import Block, Replicate

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# Of a slice's time, what a thread may have waited for a core: on a quiet machine 0.1 to 0.5 %, beside a
# neighbour 3 % and more.
WAITED_MOST = 0.02
# Less is not looked at, however short the slice: it is what the kernel's own work on a core takes now and
# then.
_UNSEEN_NS = 100_000
# A canary that takes so much longer than at its best: the machine is in another state, in which runtimes are
# slower by factors of their own. Its readings on a quiet machine lie within 10 %.
PACE_MOST = 1.35


class Counting(NamedTuple):
    """A block that counts, and which of its calls do."""

    block: Block
    calls: npt.NDArray[np.bool_]


def is_slow(block: Block) -> bool:
    """Whether the machine itself was slower while the block ran."""
    return block.pace is not None and block.pace > PACE_MOST


def is_surely_calm(block: Block) -> bool:
    """Whether nobody held up any call, by a look that costs next to nothing; False: one has to look
    closer."""
    return not (block.disturbed or (block.waited_ns and max(block.waited_ns) > _UNSEEN_NS))


def is_disturbed(block: Block) -> bool:
    """Whether no call of the block is calm: it is measured again where that can be."""
    return not is_surely_calm(block) and not calm_calls(block).any()


def calm_calls(block: Block) -> npt.NDArray[np.bool_]:
    """Which calls of the block nobody held up, shape (calls,). Where nobody looked, and nothing was said,
    all."""
    import numpy as np

    count = len(block.latencies_ns)
    if is_surely_calm(block):
        return np.ones(count, dtype=bool)
    if block.disturbed:
        return np.zeros(count, dtype=bool)
    slices, waited = np.array(block.slices), np.array(block.waited_ns)
    lasted = np.add.reduceat(np.array(block.latencies_ns), np.cumsum(slices) - slices)
    calm: npt.NDArray[np.bool_] = np.repeat(waited <= np.maximum(WAITED_MOST * lasted, _UNSEEN_NS), slices)
    return calm


def calm_share(blocks: Sequence[Block]) -> float | None:
    """The share of the time in calls that was calm; None where there are no calls."""
    import numpy as np

    total = sum(sum(block.latencies_ns) for block in blocks)
    held_up = sum(
        int(np.array(block.latencies_ns)[~calm_calls(block)].sum())
        for block in blocks
        if not is_surely_calm(block)
    )
    return 1 - held_up / total if total else None


# Fewer processes give no interval.
_LEAST_PROCESSES = 2


def counting(replicates: Sequence[Replicate]) -> list[tuple[Counting, ...]]:
    """The timed blocks of each process of a case that count.

    None of a process that never had a calm call, where two others had some: its numbers are of a busy
    machine.
    """
    found = [counting_blocks(replicate.blocks) for replicate in replicates]
    calm = [any(not is_disturbed(block) for block in replicate.blocks) for replicate in replicates]
    if sum(calm) < _LEAST_PROCESSES:
        return found
    return [blocks if was_calm else () for blocks, was_calm in zip(found, calm, strict=True)]


def counting_blocks(blocks: Sequence[Block]) -> tuple[Counting, ...]:
    """Those of a process that count, one a round at most, in the order in which they were measured.

    Of a round the calmest, with its calm calls; none of them ran while the machine itself was slow. Where no
    round has such calls, those count that were calm on the slow machine; where there are none either, of each
    round the last block, with all calls.
    """
    import numpy as np

    calm = [calm_calls(block) for block in blocks]
    fast = [calls & (not is_slow(block)) for block, calls in zip(blocks, calm, strict=True)]
    for calls in (fast, calm):
        chosen = [i for i in _calmest(blocks, calls) if calls[i].any()]
        if chosen:
            return tuple(Counting(blocks[i], calls[i]) for i in chosen)
    whole = [np.ones(len(block.latencies_ns), dtype=bool) for block in blocks]
    return tuple(Counting(blocks[i], whole[i]) for i in _calmest(blocks, calm))


def _calmest(blocks: Sequence[Block], calls: Sequence[npt.NDArray[np.bool_]]) -> list[int]:
    """The position of the block of each round that has most of these calls; the last of those that have as
    many."""
    found: dict[int, int] = {}
    for index, block in enumerate(blocks):
        best = found.get(block.round)
        if best is None or calls[index].sum() >= calls[best].sum():
            found[block.round] = index
    return sorted(found.values())
