"""What a few processes of several cases say together: variances that borrow from each other, and hits set
aside.

Three processes know next to nothing of how processes of a case scatter: Student's t is 4.30, where infinitely
many would have 1.96. But the cases of a group were measured on one machine in one hour, and their variances
have much in common. So each case's variance is moderated by those of the others (empirical Bayes: Smyth 2004,
"Linear Models and Empirical Bayes Methods for Assessing Differential Expression in Microarray Experiments",
Statistical Applications in Genetics and Molecular Biology 3:1, doi:10.2202/1544-6115.1027): with prior s0^2
and d0 degrees of freedom, fitted to the group, the variance is (d0 s0^2 + d s^2) / (d0 + d), with d0 + d
degrees of freedom.

What is bounded, so that intervals cover what they say where cases do differ
(tests/numerics/test_moderation.py):

* d0 by one and a half times the case's own degrees of freedom, and by half of what all others of the group
have together; * the variance from below by most of what the case itself has shown.

A process of which all calls are slower by far than those of the other processes, and not of the other cases
in the same replicate, was hit: it is set aside, as long as most processes remain. One that is faster by far,
or too many that are slower, is nothing that a neighbour does: then the case has no variance that anybody
knows, and no interval but Student's own.

A replicate as a whole may be slower: that is in the interval of a median, where the next replicate may be so
too, and cancels in a ratio.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchbox.numerics import stats
from benchbox.numerics.stats import Floats, Ints

# Deviations of a hit process, in robust standard deviations of the group's residuals: 12 residuals of four
# cases in three processes know their own scale to a factor of two. Neighbours that cost 10 to 30 % are at 10
# to 30.
_HIT = 20.0
_MAD_TO_SIGMA = 1.4826
# How much may be borrowed, and how little a case's own variance may count (simulated: see the tests).
TIMES_OWN = 1.5
_SHARE_OF_OTHERS = 0.5
_LEAST_OF_OWN = 0.9
_SWEEPS = 12
_LEAST_VARIANCE = 1e-18
# Below three cases nobody can say which of them scatters; below two processes nobody knows that any does.
_LEAST_CASES, _LEAST_PROCESSES = 3, 2


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
    means, replicates = _two_ways(centres, counts)
    residuals = np.where(counts, centres - means[..., None] - replicates[:, None, :], 0.0)
    cases = centres.shape[1]
    own = np.maximum(counts.sum(axis=2) - 1, 0) * (1 - 1 / cases)
    known = (own > 0) & ~unfit
    with np.errstate(divide="ignore", invalid="ignore"):
        variances = np.where(known, np.maximum((residuals**2).sum(axis=2) / own, _LEAST_VARIANCE), np.nan)
    prior, prior_degrees = _fit(variances, own, known)
    others = np.where(known, own, 0.0).sum(axis=1, keepdims=True) - 2 * own
    bound = np.minimum(TIMES_OWN * own, np.maximum(_SHARE_OF_OTHERS * others, 0.0))
    borrowed = np.minimum(prior_degrees[:, None], bound)
    with np.errstate(invalid="ignore"):
        moderated = (borrowed * prior[:, None] + own * variances) / (borrowed + own)
        moderated = np.maximum(moderated, _LEAST_OF_OWN * variances)
    ran: npt.NDArray[np.bool_] = np.any(there, axis=1)
    spread = _variance(replicates, ran)
    of_cases = np.where(known, moderated, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1) / cases
    return Moderated(counts, moderated, borrowed + own, np.maximum(spread - of_cases, 0.0))


def _without_hits(
    centres: Floats, there: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which processes count, and of which cases that cannot be said."""
    cases = _median(centres, 2)
    replicates = np.zeros((centres.shape[0], centres.shape[2]))
    for _ in range(2):  # Tukey's median polish
        replicates = np.nan_to_num(_median(centres - cases[..., None], 1))
        cases = _median(centres - replicates[:, None, :], 2)
    residuals = centres - cases[..., None] - replicates[:, None, :]
    flat = np.abs(residuals).reshape(len(residuals), -1)
    processes = np.maximum(there.sum(axis=2).max(axis=1), 2)
    scale = _MAD_TO_SIGMA * _median(flat, 1) * np.sqrt(processes / (processes - 1))
    far = _HIT * np.maximum(np.nan_to_num(scale), 1e-9)[:, None, None]
    with np.errstate(invalid="ignore"):
        kept = there & ~(residuals > far)
        faster = (residuals < -far).any(axis=2)
    unfit = (2 * kept.sum(axis=2) <= there.sum(axis=2)) | faster
    return np.where(unfit[..., None], there, kept), unfit


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
    """s0^2 and d0 of each group, by the moments of log s^2 (Smyth 2004, section 6.2); d0 may be infinite."""
    from scipy.special import digamma, polygamma

    halves = np.where(known, own, 1.0) / 2
    logs = np.log(np.where(known, variances, 1.0)) - digamma(halves) + np.log(halves)
    count = np.maximum(known.sum(axis=1), 1)
    mean = np.where(known, logs, 0.0).sum(axis=1) / count
    about = np.where(known, (logs - mean[:, None]) ** 2, 0.0).sum(axis=1) / np.maximum(count - 1, 1)
    more = about - np.where(known, polygamma(1, halves), 0.0).sum(axis=1) / count
    half = _trigamma_inverse(np.where(more > 0, more, 1.0))
    spread = np.exp(mean + digamma(half) - np.log(half))
    weights = np.where(known, own, 0.0)
    pooled = (weights * np.where(known, variances, 0.0)).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-9)
    return np.where(more > 0, spread, pooled), np.where(more > 0, 2 * half, np.inf)


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


def _median(values: Floats, axis: int) -> Floats:
    """As `np.nanmedian`, which takes a Python call for each of many short rows."""
    ordered = np.sort(values, axis=axis)
    count = np.sum(~np.isnan(values), axis=axis, keepdims=True)
    low, high = np.maximum((count - 1) // 2, 0), count // 2
    high = np.minimum(high, values.shape[axis] - 1)
    both = np.take_along_axis(ordered, low, axis) + np.take_along_axis(ordered, high, axis)
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
    own, common = scatter.variances, scatter.of_replicates
    variances = own + common
    with np.errstate(divide="ignore", invalid="ignore"):
        # Satterthwaite 1946, "An Approximate Distribution of Estimates of Variance Components".
        degrees = variances**2 / (
            own**2 / scatter.degrees + common**2 / np.maximum(scatter.replicates - 1, 1)
        )
    return _intervals(processes, variances, degrees, confidence)


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
