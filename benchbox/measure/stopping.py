"""When measuring stops: rounds of a process, and processes of a group. Pure functions of what is known.

`rounds.py` asks them between blocks, and tests/test_guarantees.py asks the same ones on a simulated machine:
what is promised of the numbers holds for this rule. All seconds are for one case, loading not counted; a
half-width is that of the widest interval of the group, relative to its point.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchbox.numerics import calm
from benchbox.schema.asked import MeasurePlan, StoppedBy
from benchbox.schema.seen import Block, Replicate

if TYPE_CHECKING:
    import numpy.typing as npt

    from benchbox.numerics.moderation import Processes
    from benchbox.numerics.stats import Interval

    Bounds = tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]

Medians = Mapping[int, float]
"""The median latency in ns of each round of a process."""

# `min_rounds` may take so many times a process's share of the budget. Simulated with calls of a second, of
# which the default share holds two rounds: so a true 10 % is found in 99 %, and at one share in 94 %.
_STRETCH = 2.0
# How long a process may wait for quiet, and measure again what others held up: this share of what its rounds
# may take. Beside a neighbour that takes one of two cores in bursts, half of the time, a run lasts less than
# twice as long so.
PATIENCE = 0.75
# However slow a model is: with a single round a process that is slow and a block that was hit look alike, and
# of calls of 5 s 4 % are told apart from themselves; with two rounds 1 %.
_LEAST_ROUNDS = 2


def least_rounds(plan: MeasurePlan) -> int:
    """How many rounds a process has at least, however long they take."""
    return min(plan.min_rounds, _LEAST_ROUNDS)


@dataclass(frozen=True)
class Allowance:
    """How long the rounds of a process may take, and how long where these do not hold `min_rounds`."""

    seconds: float
    at_most_seconds: float


def allowance(replicates: int, seconds: float, plan: MeasurePlan) -> Allowance:
    """What the next process may take, where `replicates` of them took `seconds` together.

    The fewest processes have equal shares of the budget; each one more lives on what those left over.
    """
    share = plan.budget_seconds / plan.replicates
    if replicates < plan.replicates:
        return Allowance(share, _STRETCH * share)
    left = plan.budget_seconds - seconds
    return Allowance(min(share, left), left)


def rounds_stop(
    rounds: int, seconds: float, half_width: float, allowed: Allowance, plan: MeasurePlan
) -> StoppedBy | None:
    """Why a process has been asked often enough; None where another round is due.

    Rounds that are so slow that a share of the budget does not hold `min_rounds` of them are measured all the
    same as long as they take at most twice the share; two rounds there are always.
    """
    if rounds < least_rounds(plan):
        return None
    with_another = seconds * (rounds + 1) / rounds
    if rounds < plan.min_rounds:
        return "budget" if with_another > allowed.at_most_seconds else None
    if half_width <= plan.precision:
        return "precision"
    return "budget" if with_another > allowed.seconds else None


def replicates_stop(
    replicates: int, seconds: float, half_width: float, plan: MeasurePlan
) -> StoppedBy | None:
    """Why there are enough processes; None where another is due.

    Nobody looks at the interval before the fewest processes are there: who stops as soon as three of them
    happen to agree stops on luck. `most_replicates` belongs to the budget.
    """
    if replicates < plan.replicates:
        return None
    if half_width <= plan.precision:
        return "precision"
    return None if replicates < _most(replicates, seconds, plan) else "budget"


def replicates_to_come(replicates: int, seconds: float, half_width: float, plan: MeasurePlan) -> int | None:
    """About how many more processes it will take, for the time left; None before the interval was looked at.

    A half-width falls with the square root of the number of processes (and faster, because Student's t falls
    too: the estimate errs on the long side).
    """
    if replicates < plan.replicates:
        return None
    if replicates_stop(replicates, seconds, half_width, plan):
        return 0
    most = _most(replicates, seconds, plan)
    wanted = replicates * (half_width / plan.precision) ** 2 if plan.precision > 0 else math.inf
    return (math.ceil(wanted) if wanted < most else most) - replicates


def _most(replicates: int, seconds: float, plan: MeasurePlan) -> int:
    """How many processes the plan and the budget allow, if the next ones take as long as those before."""
    if seconds <= 0:
        return plan.most_replicates
    return min(plan.most_replicates, int(plan.budget_seconds / (seconds / replicates) + 1e-9))


def medians_by_round(blocks: Sequence[Block]) -> Medians:
    """The median of each round of a process, of the calls that count (`calm.counting_blocks`)."""
    return _medians(calm.counting_blocks(blocks))


def medians_of_processes(replicates: Sequence[Replicate]) -> list[Medians]:
    """Those of each process of a case; empty where a process does not count (`calm.counting`)."""
    return [_medians(counting) for counting in calm.counting(replicates)]


def _medians(counting: Sequence[calm.Counting]) -> Medians:
    import numpy as np

    return {block.round: float(np.median(np.array(block.latencies_ns)[calls])) for block, calls in counting}


def process_half_width(ours: Medians, theirs: Medians | None, confidence: float) -> float:
    """How well one process is known: its ratio to the baseline's (`theirs`), or its own median.

    Infinite where there are too few rounds to say.
    """
    from benchbox.numerics import stats

    if theirs is None:
        return _relative(stats.process_median(_rounds(ours, list(ours)), confidence))
    both = _in_both(ours, theirs)
    return _relative(stats.process_ratio(_rounds(ours, both), _rounds(theirs, both), confidence))


def group_half_width(finished: Sequence[Sequence[Medians]], baseline: int | None, confidence: float) -> float:
    """How well the case of a group is known that is known least: its ratio to the case at `baseline`, or its
    own median where there is none, over the processes that all of them have `finished`.

    By the same rule as the reports' (`moderation`). Infinite below two processes.
    """
    import numpy as np

    from benchbox.numerics import moderation, stats

    of = [(c, p, m) for c, processes in enumerate(finished) for p, m in enumerate(processes) if m]
    logs = [np.log(list(medians.values())) for _, _, medians in of]
    lengths = np.array([each.size for each in logs], dtype=np.int64)
    flat = np.concatenate([*logs, np.empty(0)])
    centres, within = (
        stats.segment_quantiles(flat, lengths, [0.5])[:, 0],
        stats.segment_variances_of_medians(flat, lengths),
    )
    owner, replicate = (np.array([one[i] for one in of], dtype=np.int64) for i in (0, 1))
    size = len(finished)
    scatter, counts = moderation.scatter_of(centres, owner, replicate, np.zeros(size, dtype=np.int64))
    if baseline is None:
        processes = moderation.Processes(centres, within, owner, size, counts)
        return _widest(moderation.median_intervals(processes, scatter, confidence))
    others = [c for c in range(size) if c != baseline]
    hit = {(c, p) for (c, p, _), kept in zip(of, counts.tolist(), strict=True) if not kept}
    pairs = _pairs(finished, baseline, others, hit)
    ours = np.array(others, dtype=np.int64)
    return _widest(moderation.ratio_intervals(pairs, ours, np.full(ours.size, baseline), scatter, confidence))


def _pairs(
    finished: Sequence[Sequence[Medians]], baseline: int, others: Sequence[int], hit: set[tuple[int, int]]
) -> Processes:
    """The log ratio of each process of the others to the baseline's that took turns with it."""
    import numpy as np

    from benchbox.numerics import moderation, stats

    found: list[tuple[int, bool, list[float]]] = []
    for position, case in enumerate(others):
        for p, (mine, other) in enumerate(zip(finished[case], finished[baseline], strict=False)):
            if both := _in_both(mine, other):
                kept = (case, p) not in hit and (baseline, p) not in hit
                found.append((position, kept, [math.log(mine[r] / other[r]) for r in both]))
    owner = np.array([position for position, _, _ in found], dtype=np.int64)
    rounds = np.array([len(ratios) for _, _, ratios in found], dtype=np.int64)
    flat = np.array([ratio for _, _, ratios in found for ratio in ratios], dtype=np.float64)
    centres = stats.calm_centres(flat, rounds, owner)
    counts = np.array([kept for _, kept, _ in found], dtype=bool)
    return moderation.Processes(centres.values, centres.variances, owner, len(others), counts)


def _widest(bounds: Bounds) -> float:
    """Half the width of the widest interval over its point; infinite where one is not known."""
    low, point, high = bounds
    widths = ((high - low) / 2 / point).tolist()
    return max((math.inf if math.isnan(width) else float(width) for width in widths), default=0.0)


def _in_both(ours: Medians, theirs: Medians) -> list[int]:
    return [number for number in ours if number in theirs]


def _rounds(medians: Medians, numbers: Sequence[int]) -> list[npt.NDArray[Any]]:
    """As `stats` takes them; it asks for no more than the median of a round."""
    import numpy as np

    return [np.array([medians[number]]) for number in numbers]


def _relative(interval: Interval | None) -> float:
    return math.inf if interval is None else interval.relative_half_width
