"""What a few processes of several cases say together: variances that borrow from each other, hits set aside.

Three processes know next to nothing of how processes of a case scatter: Student's t is 4.30, where infinitely
many would have 1.96. But the cases of a group were measured on one machine in one hour, and their variances
have much in common. So each case's variance is moderated by those of the others (empirical Bayes: Smyth 2004,
"Linear Models and Empirical Bayes Methods for Assessing Differential Expression in Microarray Experiments",
Statistical Applications in Genetics and Molecular Biology 3:1, doi:10.2202/1544-6115.1027): the variance is
(d0 s0^2 + d s^2) / (d0 + d), with d0 + d degrees of freedom. d0 is Smyth's, from the moments of log s^2. s0^2
is the mean variance: Smyth's own is smaller where cases differ, and four cases cannot tell that they do.

What a replicate has in common is taken out first, case by case and replicate by replicate. That mixes the
others' variances into a case's; it is undone (Grubbs 1948, "On Estimating Precision of Measuring Instruments
and Product Variability", Journal of the American Statistical Association 43:242), down to half of what was
seen, for the difference may be negative.

Bounds, so that intervals cover what they say where cases differ by e^0.5 (tests/numerics/test_moderation.py):
d0 by about the case's own degrees of freedom (`times_own`) and by two thirds of what the others have; the
variance from below by most of what the case itself has shown.

A process of which all calls are slower by far than the case's other processes, and than the other cases in
the same replicate, was hit: it is set aside as long as most of the case's remain. The centre is then the mean
of the others: a median of three would cost a sixth of the width always, this costs a process where one was
hit. One that is faster by far, or most that are slower, is nothing that a neighbour does: such a case has no
variance that anybody knows, lends none, and has Student's interval. Of two processes that are far apart
nobody knows which was hit, nor whether elsewhere both were: the whole group has Student's.

A replicate as a whole may be slower: that is in the interval of a median, where the next replicate may be so
too, and cancels in a ratio.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchbox.numerics import stats
from benchbox.numerics.stats import Floats, Ints

# All figures here are from simulations like those of the tests, with 12,000 groups each.
# How far a hit process lies from the others, in standard deviations of the group. At 8 a case that scatters
# by e^0.5 more than others is hardly ever taken for hit (coverage falls by 0.5 % at 6), and neighbours that
# cost 30 % are found where processes scatter by 1 to 3 %.
_HIT = 8.0
# The smallest residuals that are not zero by construction are the group's scale: so many of them, as a share.
# One in ten hit, even of twelve, is never among them. Their root mean square, in standard deviations: 0.48 to
# 0.65 of 3 to 12 processes of 4 to 20 cases.
_SHARE_UNHIT = 0.6
_UNHIT_TO_SIGMA = 2.0
# How much may be borrowed, and how little a case's own variance may count.
_SHARE_OF_OTHERS = 2 / 3
_LEAST_OF_OWN = 0.6
_LEAST_OF_SEEN = 0.5
_SWEEPS = 12
_LEAST_VARIANCE = 1e-18
_LEAST_DISTANCE = 1e-9
# Below three cases nobody can say which of them scatters; below two processes nobody knows that any does.
_LEAST_CASES, _LEAST_PROCESSES = 3, 2


def times_own(cases: int) -> float:
    """How many times its own degrees of freedom a case borrows at most: more cases know the prior better."""
    return 1.09 + 0.04 * min(cases, 12)


def most_degrees_of_ratio(cases: int, processes: int) -> float:
    """The degrees of freedom of the ratio of two such cases, where they borrow as much as they may."""
    return 2 * (1 + times_own(cases)) * (processes - 1) * (1 - 1 / cases)


@dataclass(frozen=True)
class Moderated:
    """Of groups of cases in processes, arrays of shape (groups, cases) unless said otherwise.

    `counts`, of shape (groups, cases, processes), says which processes count. `variances` are those of one
    process about its case, the replicate's own part taken out, with `degrees` of freedom; NaN where nobody
    knows. `of_replicates`, of shape (groups,), is the variance of what all cases of a replicate have in
    common.
    """

    counts: npt.NDArray[np.bool_]
    variances: Floats
    degrees: Floats
    of_replicates: Floats


def moderate(centres: Floats) -> Moderated:
    """What log centres of shape (groups, cases, processes) say of variances; NaN where a process is not
    there.

    At least three cases: of two nobody can say which of them scatters.
    """
    there = ~np.isnan(centres)
    counts, unfit = _without_hits(centres, there)
    lending = counts & ~unfit[..., None]
    fit = lending.any(axis=2).sum(axis=1, keepdims=True)
    means, replicates = _two_ways(centres, lending)
    residuals = np.where(lending, centres - means[..., None] - replicates[:, None, :], 0.0)
    own = np.maximum(lending.sum(axis=2) - 1, 0) * (1 - 1 / np.maximum(fit, 1))
    known = (own > 0) & (fit >= _LEAST_CASES)
    variances = _own_variances(residuals, own, known)
    prior, prior_degrees = _fit(variances, own, known)
    others = np.where(known, own, 0.0).sum(axis=1, keepdims=True) - 2 * own
    bound = np.minimum(times_own(centres.shape[1]) * own, np.maximum(_SHARE_OF_OTHERS * others, 0.0))
    borrowed = np.minimum(prior_degrees[:, None], bound)
    with np.errstate(divide="ignore", invalid="ignore"):
        moderated = (borrowed * prior[:, None] + own * variances) / (borrowed + own)
        moderated = np.maximum(moderated, _LEAST_OF_OWN * variances)
    measured: npt.NDArray[np.bool_] = np.logical_or.reduce(lending, axis=1)
    spread = _variance(replicates, measured)
    of_cases = (
        np.where(known, moderated, 0.0).sum(axis=1)
        / np.maximum(known.sum(axis=1), 1)
        / np.maximum(fit[:, 0], 1)
    )
    return Moderated(counts, moderated, borrowed + own, np.maximum(spread - of_cases, 0.0))


def _own_variances(residuals: Floats, own: Floats, known: npt.NDArray[np.bool_]) -> Floats:
    """What each case shows of its own variance, the others' part in it taken out; NaN where it is not known.

    The mean square of a case is its variance times (C - 2) / (C - 1) and the mean variance of all C cases
    over C - 1.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        seen = np.where(known, (residuals**2).sum(axis=2) / own, 0.0)
    cases = known.sum(axis=1, keepdims=True)
    apart = np.maximum(cases - 2, 1)
    alone = (cases - 1) / apart * seen - seen.sum(axis=1, keepdims=True) / np.maximum(cases, 1) / apart
    found = np.maximum(np.maximum(alone, _LEAST_OF_SEEN * seen), _LEAST_VARIANCE)
    return np.where(known, found, np.nan)


def _without_hits(
    centres: Floats, there: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which processes count, and of which cases that cannot be said."""
    pairs = there.sum(axis=2).max(axis=1, initial=0) <= 2
    residuals = _polished(centres, pairs)
    far = _HIT * np.maximum(_unhit_sigma(residuals, pairs), _LEAST_DISTANCE)[:, None, None]
    with np.errstate(invalid="ignore"):
        kept = there & ~(residuals > far)
        faster = (residuals < -far).any(axis=2)
    unfit = (2 * kept.sum(axis=2) <= there.sum(axis=2)) | faster
    unfit |= pairs[:, None] & (unfit & there.any(axis=2)).any(axis=1, keepdims=True)
    return np.where(unfit[..., None], there, kept), unfit


def _polished(centres: Floats, pairs: npt.NDArray[np.bool_]) -> Floats:
    """Tukey's median polish: what is left of each process without its case's and its replicate's part.

    Of an even number the lower median: where two of four cases were hit in one replicate, the other two say
    what it was like, for a neighbour only slows. Of two processes nobody knows which was hit: `pairs`.
    """

    def middle(values: Floats, axis: int) -> Floats:
        return np.where(pairs[:, None], _median(values, axis), _median(values, axis, low=True))

    cases = middle(centres, 2)
    replicates = np.zeros((centres.shape[0], centres.shape[2]))
    for _ in range(2):
        replicates = np.nan_to_num(middle(centres - cases[..., None], 1))
        cases = middle(centres - replicates[:, None, :], 2)
    return centres - cases[..., None] - replicates[:, None, :]


def _unhit_sigma(residuals: Floats, pairs: npt.NDArray[np.bool_]) -> Floats:
    """The standard deviation of processes that were not hit, of each group; 0 where nothing says it.

    As many residuals as there are medians are zero, whatever the processes are like.
    """
    squares = np.sort((residuals**2).reshape(len(residuals), -1), axis=1)  # NaN last
    there = ~np.isnan(residuals)
    count = there.sum(axis=(1, 2))
    medians = there.any(axis=2).sum(axis=1) + there.any(axis=1).sum(axis=1) - 1
    first = np.where(pairs, 0, np.minimum(medians, count))
    left = np.where(pairs, 2 * np.ceil(_SHARE_UNHIT * count / 2), np.ceil(_SHARE_UNHIT * (count - first)))
    last = np.minimum(first + np.maximum(left.astype(np.int64), 1), count)
    place = np.arange(squares.shape[1])
    inner = (place >= first[:, None]) & (place < last[:, None])
    sums = np.where(inner, np.nan_to_num(squares), 0.0).sum(axis=1)
    sigma: Floats = _UNHIT_TO_SIGMA * np.sqrt(sums / np.maximum(inner.sum(axis=1), 1))
    return sigma


def _two_ways(centres: Floats, counts: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """The mean of each case and of each replicate (zero in sum), by least squares where some are missing."""
    weights = counts.astype(float)
    values = np.where(counts, centres, 0.0)
    of_cases, of_replicates = np.maximum(weights.sum(axis=2), 1), np.maximum(weights.sum(axis=1), 1)
    cases = values.sum(axis=2) / of_cases
    replicates = np.zeros_like(of_replicates)
    for _ in range(_SWEEPS):
        replicates = (weights * (values - cases[..., None])).sum(axis=1) / of_replicates
        replicates -= replicates.mean(axis=1, keepdims=True)
        cases = (weights * (values - replicates[:, None, :])).sum(axis=2) / of_cases
    return cases, replicates


def _fit(variances: Floats, own: Floats, known: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """s0^2 and d0 of each group; d0 by the moments of log s^2 (Smyth 2004, 6.2), and it may be infinite."""
    from scipy.special import digamma, polygamma

    halves = np.where(known, own, 1.0) / 2
    logs = np.log(np.where(known, variances, 1.0)) - digamma(halves) + np.log(halves)
    count = np.maximum(known.sum(axis=1), 1)
    mean = np.where(known, logs, 0.0).sum(axis=1) / count
    about = np.where(known, (logs - mean[:, None]) ** 2, 0.0).sum(axis=1) / np.maximum(count - 1, 1)
    more = about - np.where(known, polygamma(1, halves), 0.0).sum(axis=1) / count
    half = _trigamma_inverse(np.where(more > 0, more, 1.0))
    weights = np.where(known, own, 0.0)
    pooled = (weights * np.where(known, variances, 0.0)).sum(axis=1) / np.maximum(
        weights.sum(axis=1), _LEAST_VARIANCE
    )
    return pooled, np.where(more > 0, 2 * half, np.inf)


def _trigamma_inverse(values: Floats) -> Floats:
    """By Newton's method on 1 / trigamma, from 1/2 + 1/y (Smyth 2004, appendix)."""
    from scipy.special import polygamma

    found: Floats = 0.5 + 1 / values
    for _ in range(8):
        trigamma = polygamma(1, found)
        found = found + trigamma * (1 - trigamma / values) / polygamma(2, found)
    return found


def _variance(values: Floats, there: npt.NDArray[np.bool_]) -> Floats:
    """Of each row, over what is there; 0 where that is less than two."""
    count = there.sum(axis=1)
    mean = np.where(there, values, 0.0).sum(axis=1) / np.maximum(count, 1)
    squares = np.where(there, (values - mean[:, None]) ** 2, 0.0).sum(axis=1)
    found: Floats = squares / np.maximum(count - 1, 1)
    return found


def _median(values: Floats, axis: int, *, low: bool = False) -> Floats:
    """As `np.nanmedian`, which takes a Python call for each of many short rows; or the lower of the two
    in the middle."""
    ordered = np.sort(values, axis=axis)
    count = np.sum(~np.isnan(values), axis=axis, keepdims=True)
    first = np.maximum((count - 1) // 2, 0)
    second = first if low else np.minimum(count // 2, values.shape[axis] - 1)
    both = np.take_along_axis(ordered, first, axis) + np.take_along_axis(ordered, second, axis)
    middle: Floats = np.squeeze(both / 2, axis)
    return middle


@dataclass(frozen=True)
class Scatter:
    """What is known of the processes of many cases, an array of length `cases` each; NaN where a case has
    only its own processes to go by.

    `variances` of one process about its case, with `degrees` of freedom; `of_replicates` of what all cases of
    its group have in common in a replicate, with `replicates` of them.
    """

    variances: Floats
    degrees: Floats
    of_replicates: Floats
    replicates: Floats

    @classmethod
    def unknown(cls, cases: int) -> Scatter:
        """Of no case is anything known."""
        return cls(*(np.full(cases, np.nan) for _ in range(4)))


def scatter_of(
    centres: Floats, case: Ints, replicate: Ints, groups: Ints
) -> tuple[Scatter, npt.NDArray[np.bool_]]:
    """What groups of cases say of their processes, and which processes count.

    `centres` has the log centre of each process, `case` and `replicate` say whose it is and in which
    replicate it ran; `groups` names the group of each case, below 0 where it has none.
    """
    counts = np.ones(centres.size, dtype=bool)
    scatter = Scatter.unknown(groups.size)
    _, replicate = np.unique(replicate, return_inverse=True)
    timed = np.unique(case[groups[case] >= 0]) if case.size else case
    _, group, sizes = np.unique(groups[timed], return_inverse=True, return_counts=True)
    order = np.argsort(group, kind="stable")
    place = np.empty(timed.size, dtype=np.int64)
    place[order] = np.arange(timed.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    for size in np.unique(sizes[sizes >= _LEAST_CASES]):
        members = np.flatnonzero(sizes[group] == size)
        number = np.full(sizes.size, -1)
        number[np.unique(group[members])] = np.arange(np.unique(group[members]).size)
        at = np.full(groups.size, -1)
        at[timed[members]] = members
        mine = np.flatnonzero(at[case] >= 0)
        rows, columns = number[group[at[case[mine]]]], place[at[case[mine]]]
        cube = np.full((number.max() + 1, size, replicate.max() + 1), np.nan)
        cube[rows, columns, replicate[mine]] = centres[mine]
        found = moderate(cube)
        counts[mine] = found.counts[rows, columns, replicate[mine]]
        row, column, of = number[group[members]], place[members], timed[members]
        scatter.variances[of], scatter.degrees[of] = found.variances[row, column], found.degrees[row, column]
        scatter.of_replicates[of] = found.of_replicates[row]
        scatter.replicates[of] = (~np.isnan(cube)).any(axis=1).sum(axis=1)[row]
    return scatter, counts


@dataclass(frozen=True)
class Processes:
    """Processes, or pairs of them, of many cases, one after another: the log centre of each, the variance
    that this is uncertain by from its rounds, the case that it belongs to, and whether it counts."""

    centres: Floats
    within: Floats
    owner: Ints
    cases: int
    counts: npt.NDArray[np.bool_]


def median_intervals(
    processes: Processes, scatter: Scatter, confidence: float | Floats
) -> tuple[Floats, Floats, Floats]:
    """Low, point and high of the median of each case, for the next process: its own scatter and its
    replicate's."""
    variances, degrees = of_medians(scatter)
    return _intervals(processes, variances, degrees, confidence)


def of_medians(scatter: Scatter) -> tuple[Floats, Floats]:
    """The variance of the median of one process of each case, its replicate's part in it, and the degrees of
    freedom that it is known with.

    Satterthwaite 1946, "An Approximate Distribution of Estimates of Variance Components". Two replicates know
    what they have in common with one degree of freedom, which may be all luck: then no more is claimed
    (simulated: 91 % of 95 % intervals would hold where replicates differ by five times as much as processes).
    """
    own, common = scatter.variances, scatter.of_replicates
    variances = own + common
    with np.errstate(divide="ignore", invalid="ignore"):
        degrees = variances**2 / (
            own**2 / scatter.degrees + common**2 / np.maximum(scatter.replicates - 1, 1)
        )
    return variances, np.where((scatter.replicates <= 2) & (common > 0), 1.0, degrees)


def ratio_intervals(
    processes: Processes, ours: Ints, theirs: Ints, scatter: Scatter, confidence: float | Floats
) -> tuple[Floats, Floats, Floats]:
    """Low, point and high of the ratio of case `ours[i]` to `theirs[i]`: what a replicate has in common
    cancels."""
    mine, other = scatter.variances[ours], scatter.variances[theirs]
    with np.errstate(divide="ignore", invalid="ignore"):
        degrees = (mine + other) ** 2 / (mine**2 / scatter.degrees[ours] + other**2 / scatter.degrees[theirs])
    return _intervals(processes, mine + other, degrees, confidence)


def _intervals(
    of: Processes, variances: Floats, degrees: Floats, confidence: float | Floats
) -> tuple[Floats, Floats, Floats]:
    """With these variances of a process; Student's, of the case's own processes, where there are none."""
    low, point, high = stats.process_intervals(of.centres, of.within, of.owner, of.cases, confidence)
    kept = of.counts
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        count = np.bincount(of.owner[kept], minlength=of.cases)
        mean = np.bincount(of.owner[kept], of.centres[kept], of.cases) / count
        within = np.bincount(of.owner[kept], of.within[kept], of.cases) / count
        half = stats.t_quantile(degrees, confidence) * np.sqrt(np.maximum(variances, within) / count)
        bounds = np.exp(mean - half), np.exp(mean), np.exp(mean + half)
    known = (count >= _LEAST_PROCESSES) & np.isfinite(variances) & np.isfinite(half)
    moderated = (np.where(known, new, old) for new, old in zip(bounds, (low, point, high), strict=True))
    first, middle, last = moderated
    return first, middle, last
