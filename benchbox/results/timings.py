"""What the raw latencies of many cases say, all at once: intervals, quantiles, ratios of pairs.

The same numbers as `stats` gives for one case, over flat arrays: a hundred thousand in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from benchbox.numerics import moderation, stats
from benchbox.numerics.moderation import Processes, Scatter
from benchbox.numerics.stats import Centres, Floats, Ints
from benchbox.results.calls import Calls
from benchbox.schema.seen import Measurement

Bounds = tuple[Floats, Floats, Floats]
"""Low, point, high: one value a case or a pair each; NaN where there is none."""


@dataclass(frozen=True)
class Timings:
    """Timed, undisturbed blocks of many cases, one after another in the order of cases and replicates.

    `latencies_ns` holds the calls of all blocks; the other arrays have one value a block: how many calls it
    has, the position of its case, its replicate and its round. `groups`, of length `cases`, says which cases
    were measured in interleaved rounds; below 0 where that is not known.
    """

    cases: int
    latencies_ns: Ints
    lengths: Ints
    case: Ints
    replicate: Ints
    round: Ints
    groups: Ints | None = None

    @cached_property
    def log_medians(self) -> Floats:
        """The logarithm of each block's median."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(stats.segment_quantiles(self.latencies_ns, self.lengths, [0.5])[:, 0])

    @cached_property
    def processes(self) -> Processes:
        """Every process of every case, and which of them count beside the others of their groups."""
        blocks = _runs(self.case, self.replicate)
        calls = _sums(self.lengths, blocks)
        with np.errstate(divide="ignore", invalid="ignore"):
            centres = np.log(stats.segment_quantiles(self.latencies_ns, calls, [0.5])[:, 0])
        within = stats.segment_variances_of_medians(self.log_medians, blocks)
        first = np.cumsum(blocks) - blocks
        return Processes(centres, within, self.case[first], self.cases, self._scatter[1])

    @cached_property
    def scatter(self) -> Scatter:
        """How the processes of each case scatter, as the cases of its group have it together."""
        return self._scatter[0]

    @cached_property
    def _scatter(self) -> tuple[Scatter, npt.NDArray[np.bool_]]:
        blocks = _runs(self.case, self.replicate)
        first = np.cumsum(blocks) - blocks
        if self.groups is None:
            return Scatter.unknown(self.cases), np.ones(blocks.size, dtype=bool)
        medians = stats.segment_quantiles(self.log_medians, blocks, [0.5])[:, 0]
        return moderation.scatter_of(medians, self.case[first], self.replicate[first], self.groups)

    def counts(self, case: Ints, replicate: Ints) -> npt.NDArray[np.bool_]:
        """Whether each of these processes counts: a case and a replicate each."""
        blocks = _runs(self.case, self.replicate)
        first = np.cumsum(blocks) - blocks
        left_out = ~self.processes.counts
        hit = set(
            zip(self.case[first][left_out].tolist(), self.replicate[first][left_out].tolist(), strict=True)
        )
        if not hit:
            return np.ones(case.size, dtype=bool)
        return np.array([pair not in hit for pair in zip(case.tolist(), replicate.tolist(), strict=True)])


@dataclass(frozen=True)
class Spread:
    """What the pooled calls of each case say. Percentiles are absent (NaN) where n does not earn them."""

    samples: Ints
    min_ns: Floats
    mean_ns: Floats
    p90_ns: Floats
    p99_ns: Floats


def flatten(measurements: Sequence[Measurement | None]) -> Timings:
    """The timed blocks of all measurements; None has none."""
    calls = Calls()
    calls.add(measurements)
    return timings(calls)


def timings(*calls: Calls) -> Timings:
    """The timed blocks of all calls; the cases of the second come after those of the first, and so on."""
    timed = [each.timed() for each in calls]
    before = np.cumsum([0, *(each.cases for each in calls)])
    named: dict[str, int] = {}
    groups = [
        -1 if name is None else named.setdefault(name, len(named)) for each in calls for name in each.sessions
    ]
    return Timings(
        cases=int(before[-1]),
        latencies_ns=np.concatenate([each.latencies_ns for each in timed]),
        lengths=np.concatenate([each.lengths for each in timed]),
        case=np.concatenate([each.case + start for each, start in zip(timed, before, strict=False)]),
        replicate=np.concatenate([each.replicate for each in timed]),
        round=np.concatenate([each.round for each in timed]),
        groups=np.array(groups, dtype=np.int64),
    )


def medians(timings: Timings, confidence: Floats) -> Bounds:
    """The median of each case in nanoseconds with its interval (`moderation.median_intervals`)."""
    return moderation.median_intervals(timings.processes, timings.scatter, confidence)


def centres(timings: Timings) -> list[Centres]:
    """The processes of each case that count, and how they scatter, for comparing it with another run."""
    processes = timings.processes
    variances, degrees = moderation.of_medians(timings.scatter)
    ends = np.searchsorted(processes.owner, np.arange(timings.cases + 1)).tolist()
    found = []
    for case, (a, b) in enumerate(pairwise(ends)):
        known = math.isfinite(variances[case]) and processes.counts[a:b].sum() > 1
        kept = processes.counts[a:b] | (not known)
        between, how_well = (variances[case], degrees[case]) if known else (math.nan, math.nan)
        values, within = processes.centres[a:b][kept], processes.within[a:b][kept]
        found.append(Centres(values, within, float(between), float(how_well)))
    return found


def spread(timings: Timings) -> Spread:
    """Samples, minimum, mean and the percentiles that are earned."""
    samples = np.bincount(timings.case, timings.lengths, timings.cases).astype(np.int64)
    found = stats.segment_quantiles(timings.latencies_ns, samples, [0.0, 0.9, 0.99])
    owner = np.repeat(np.arange(timings.cases), samples)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(owner, timings.latencies_ns, timings.cases) / samples
    return Spread(
        samples=samples,
        min_ns=found[:, 0],
        mean_ns=mean,
        p90_ns=np.where(samples >= stats.samples_needed(0.9), found[:, 1], np.nan),
        p99_ns=np.where(samples >= stats.samples_needed(0.99), found[:, 2], np.nan),
    )


def ratios(timings: Timings, ours: Ints, theirs: Ints, confidence: Floats) -> Bounds:
    """Median latency of case `ours[i]` over that of `theirs[i]`, for every i (`moderation.ratio_intervals`).

    Blocks are paired by replicate and round; a round that only one of the two has is left out.
    """
    log_ratios, rounds, owner, replicate = _log_ratios(timings, ours, theirs)
    found = stats.calm_centres(log_ratios, rounds, owner)
    counts = timings.counts(ours[owner], replicate) & timings.counts(theirs[owner], replicate)
    pairs = Processes(found.values, found.variances, owner, ours.size, counts)
    return moderation.ratio_intervals(pairs, ours, theirs, timings.scatter, confidence)


def ratios_of_ratios(
    timings: Timings, new: tuple[Ints, Ints], old: tuple[Ints, Ints], confidence: Floats
) -> Bounds:
    """(case / its baseline) of `new[i]` over that of `old[i]`, for every i (`stats.independent_ratio`).

    For cases that took turns with a baseline each, and not with each other. Both sides are cases and, in the
    second array, their baselines.
    """
    sides = [_centres_of_ratios(timings, *side) for side in (new, old)]
    found = [stats.independent_ratio(a, b, c) for a, b, c in zip(*sides, confidence.tolist(), strict=True)]
    nothing = (math.nan, math.nan, math.nan)
    bounds = [nothing if one is None else (one.low, one.point, one.high) for one in found]
    low, point, high = np.array(bounds, dtype=np.float64).reshape(-1, 3).T
    return low, point, high


def _centres_of_ratios(timings: Timings, ours: Ints, theirs: Ints) -> list[Centres]:
    log_ratios, rounds, owner, _ = _log_ratios(timings, ours, theirs)
    found = stats.calm_centres(log_ratios, rounds, owner)
    ends = np.searchsorted(owner, np.arange(ours.size + 1)).tolist()
    return [Centres(found.values[a:b], found.variances[a:b]) for a, b in pairwise(ends)]


def _log_ratios(timings: Timings, ours: Ints, theirs: Ints) -> tuple[Floats, Ints, Ints, Ints]:
    """A value a round, how many rounds each process pair has, whose it is, and of which replicate."""
    pair, mine, other = _paired_blocks(timings, ours, theirs)
    log_medians = timings.log_medians
    rounds = _runs(pair, timings.replicate[mine])
    first = np.cumsum(rounds) - rounds
    return log_medians[mine] - log_medians[other], rounds, pair[first], timings.replicate[mine][first]


def _paired_blocks(timings: Timings, ours: Ints, theirs: Ints) -> tuple[Ints, Ints, Ints]:
    """For every two blocks that belong together: the pair's number and the positions of both."""
    blocks = np.bincount(timings.case, minlength=timings.cases)
    starts = np.cumsum(blocks) - blocks
    counts = blocks[ours]
    pair = np.repeat(np.arange(ours.size), counts)
    mine = np.repeat(starts[ours] - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
    slot, slots = _slots(timings)
    keys, first = np.unique(timings.case * slots + slot, return_index=True)
    wanted = theirs[pair] * slots + slot[mine]
    at = np.minimum(np.searchsorted(keys, wanted), max(keys.size - 1, 0))
    found = keys[at] == wanted if keys.size else np.zeros(0, dtype=bool)
    return pair[found], mine[found], first[at[found]]


def _slots(timings: Timings) -> tuple[Ints, int]:
    """A number for each block that is the same for the same replicate and round, and how many there are."""
    replicates, replicate = np.unique(timings.replicate, return_inverse=True)
    rounds, round_ = np.unique(timings.round, return_inverse=True)
    return replicate * rounds.size + round_, max(replicates.size * rounds.size, 1)


def _runs(first: Ints, second: Ints) -> Ints:
    """The lengths of runs of equal neighbours, by both keys."""
    if first.size == 0:
        return np.zeros(0, dtype=np.int64)
    change = np.flatnonzero((np.diff(first) != 0) | (np.diff(second) != 0)) + 1
    return np.diff(np.concatenate([[0], change, [first.size]]))


def _sums(values: Ints, lengths: Ints) -> Ints:
    """The sum of each of the consecutive segments, none of which is empty."""
    if lengths.size == 0:
        return np.zeros(0, dtype=np.int64)
    return np.add.reduceat(values, np.cumsum(lengths) - lengths)
