"""Quantiles with intervals, ratios of interleaved cases, verdicts: pure functions of arrays.

The sampling unit is the process. Calls within a process share its memory layout and its place on the
cores, blocks within it share the machine's mood, so neither are independent draws of "the latency of this
case"; processes nearly are. Latencies are compared as logarithms: noise multiplies, and the ratio of A to
B is then the mirror image of that of B to A.

Why not the percentile interval of a hierarchical bootstrap (processes, then blocks): with three processes
it has ten distinct outcomes, never leaves the range of what was seen, and covers about 75 % where it says
95 % (tests/measure/test_guarantees.py measures it). What is used instead is the closed form of that
bootstrap's variance, with its small-sample bias removed, and Student's t for so few processes:

* variance of the centre of n processes: max(s2, v) / n, where s2 is the sample variance of the processes'
  centres and v the mean variance of a centre within its process. s2 holds v already (a bootstrap at both
  levels would count it twice: Davison & Hinkley 1997, "Bootstrap Methods and their Application", 3.8), so
  v is only the floor under an s2 that came out small by chance.
* the bootstrap's variance is too small by (n - 1) / n and its tails are those of a normal; t with n - 1
  degrees of freedom mends both (Hesterberg 2015, "What Teachers Should Know About the Bootstrap", The
  American Statistician 69:4).

More rounds narrow v, only more processes narrow s2: at a given budget six short processes prove more than
three long ones (t is 2.57 in place of 4.30; tests/measure/test_guarantees.py measures it).

What is here is of one case, or one pair, alone. Where at least three cases were measured in the same rounds,
`moderation` moderates their s2 by those of the others (Smyth 2004, doi:10.2202/1544-6115.1027) and sets aside
processes that were hit; how much is borrowed is bounded, because runtimes differ in how far their processes
scatter, and a value from a calmer one would make false alarms. Its intervals fall back to those here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Hierarchy = Sequence[Sequence[npt.NDArray[Any]]]
"""Processes -> rounds -> latencies; an empty array is a round that was not measured."""

Verdict = Literal["faster", "slower", "equivalent", "inconclusive"]

# Makes the median absolute deviation an estimate of a normal's standard deviation
# (Rousseeuw & Croux 1993, "Alternatives to the Median Absolute Deviation").
_MAD_TO_SIGMA = 1.4826
# A round whose ratio is so many standard deviations off the session's median was hit by a burst. Of normal
# rounds it sets aside one in two million; simulated, anything from 4 to 8 serves.
_BURST = 5.0
# A process keeps its rounds, burst or not, where fewer than this share would be left: what most of its
# rounds say is then how this process is, and must widen the interval.
_LEAST_LEFT = 1 / 3
# So many rounds a session must have, or nobody knows what is usual in it.
_ROUNDS_TO_KNOW_BURSTS = 10
# Log ratios that differ by less are the same: it is far below what a clock that counts nanoseconds can tell.
_SAME = 1e-9
# Asymptotic variance of the median of n normal values, in units of sigma^2 / n (Kendall & Stuart, 14.12).
_VARIANCE_OF_MEDIAN = math.pi / 2
# exp of more overflows a double (1.8e308).
_LARGEST_LOG = 709.0


@dataclass(frozen=True)
class Interval:
    """A value and the bounds that hold the true one with the confidence that was asked for."""

    low: float
    point: float
    high: float

    @property
    def relative_half_width(self) -> float:
        """Half the width over the point: 0.02 is an interval of plus or minus 2 %."""
        return (self.high - self.low) / 2 / self.point


@dataclass(frozen=True)
class Centres:
    """One value a process: the logarithm of its centre, and the variance that this is uncertain by.

    `between` is the variance between processes and `degrees` how well it is known, where the cases that were
    measured beside this one say so (`moderation`); NaN where there are only the values to go by.
    """

    values: Floats
    variances: Floats
    between: float = math.nan
    degrees: float = math.nan

    @property
    def degrees_of_freedom(self) -> float:
        """Of the variance of their mean."""
        return self.values.size - 1 if math.isnan(self.between) else self.degrees


def load() -> None:
    """Imports what the intervals need, so that the first of them costs no more than the others."""
    import scipy.special  # noqa: F401  # for `t_quantile`


def median_interval(values: npt.NDArray[Any], confidence: float = 0.95) -> Interval | None:
    """The median of independent values with its order-statistic interval; None below 6 values at 95 %."""
    return quantile_interval(values, 0.5, confidence)


def quantile_interval(values: npt.NDArray[Any], q: float, confidence: float = 0.95) -> Interval | None:
    """A quantile of independent values between two order statistics; None where n has no such two.

    The number of values below the true quantile is binomial(n, q), whatever the distribution (David &
    Nagaraja 2003, "Order Statistics", 7.1), so the coverage is at least `confidence`.
    """
    from scipy.stats import binom

    n = values.size
    if n == 0:
        return None
    tail = (1 - confidence) / 2
    # 1-based ranks: P(X_(low) > x_q) = P(B < low) <= tail and P(X_(high) < x_q) = P(B >= high) <= tail.
    # ppf gives the smallest k with P(B <= k) >= tail, so P(B < k) < tail.
    low, high = int(binom.ppf(tail, n, q)), int(binom.ppf(1 - tail, n, q)) + 1
    if low < 1 or high > n:
        return None
    ordered = np.sort(values)
    return Interval(float(ordered[low - 1]), float(np.quantile(ordered, q)), float(ordered[high - 1]))


def samples_needed(q: float, confidence: float = 0.95) -> int:
    """The least n whose largest value bounds the quantile from above: 299 for p99, 29 for p90 (95 %).

    1 - q^n >= confidence (Wilks 1941, "Determination of Sample Sizes for Setting Tolerance Limits").
    """
    return math.ceil(math.log(1 - confidence) / math.log(q))


def hierarchical_median(data: Hierarchy, confidence: float = 0.95) -> Interval | None:
    """The median of a case over processes, with its interval; None below two processes.

    The point is the geometric mean of the processes' medians: each process counts alike, however many
    calls it made. The interval is for the median of the next process on this machine in this session's
    mood; the machine's slow drift between replicates widens it.
    """
    return _interval_of(centres(data), confidence)


def process_median(rounds: Sequence[npt.NDArray[Any]], confidence: float = 0.95) -> Interval | None:
    """The median of one process, with an interval from its rounds; None below three rounds.

    It says how well this process is known, which is what further rounds can mend; it knows nothing of how
    the next process will differ, so it is for stopping and never for a report or a verdict.
    """
    return _interval_of_rounds(np.log([np.median(block) for block in rounds if block.size]), confidence)


def process_ratio(
    ours: Sequence[npt.NDArray[Any]], theirs: Sequence[npt.NDArray[Any]], confidence: float = 0.95
) -> Interval | None:
    """The ratio of two processes that took turns, round by round; None below three rounds of both.

    Like `process_median`, for stopping only. The machine's drift is not in it, so it says sooner that
    further rounds of these two processes have nothing more to tell.
    """
    return _interval_of_rounds(_log_ratios(ours, theirs), confidence)


def ratio_of_medians(data: Hierarchy, baseline: Hierarchy, confidence: float = 0.95) -> Interval | None:
    """Median latency over the baseline's, measured in interleaved rounds; None below two process pairs.

    Process i and round r of the one were measured within a second of those of the other, so the ratio is
    taken there, where the machine's drift cancels; bursts are set aside (`without_bursts`), and the median
    over the rounds of a process pair shrugs off what is left of them. The pairs, whose offsets do not
    cancel, are the sample.
    """
    return _interval_of(ratio_centres(data, baseline), confidence)


def ratio_of_independent(data: Hierarchy, baseline: Hierarchy, confidence: float = 0.95) -> Interval | None:
    """Median latency over that of a run at another time or place, see `independent_ratio`.

    None below two processes on either side. What hit all processes of one run alike (the machine's mood
    that hour) is not in the interval: no replicate of the run can show it.
    """
    return independent_ratio(centres(data), centres(baseline), confidence)


def independent_ratio(new: Centres, old: Centres, confidence: float = 0.95) -> Interval | None:
    """exp(mean of `new` - mean of `old`), the processes of both being independent samples.

    The standard error is Welch's, so that one run may be noisier than the other: the variances of the two
    means, each as in `process_intervals`, are added. Student's t has min(n) - 1 degrees of freedom and
    not those that Welch and Satterthwaite estimate: with two to five processes a side the estimate is itself
    so uncertain that up to 6 % of equal pairs fall outside the 95 % interval where one run is five times as
    noisy as the other, while min(n) - 1 never gives more than 5 % (Mickey & Brown 1966, "Bounds on the
    Distribution Functions of the Behrens-Fisher Statistic", Annals of Mathematical Statistics 37:3), and
    0.6 to 2.4 % where both are equally noisy (tests/test_compare.py). The price at three processes that
    differ by 1 %: a true 5 % is found in 86 %, not in 97 %. Two processes prove next to nothing: t is 12.7.
    Where the variances are moderated, the degrees of freedom are the fewer of both sides, by the same bound.
    """
    count = min(new.values.size, old.values.size)
    if count < 2:
        return None
    variance = _variance_of_mean(new) + _variance_of_mean(old)
    degrees = min(new.degrees_of_freedom, old.degrees_of_freedom)
    half = t_quantile(np.array([degrees]), confidence)[0] * math.sqrt(variance)
    point = float(new.values.mean() - old.values.mean())
    if not point + half <= _LARGEST_LOG:  # beyond what a float holds, or NaN: nothing is known
        return None
    return Interval(math.exp(point - half), math.exp(point), math.exp(point + half))


def centres(data: Hierarchy) -> Centres:
    """The log median of each process, and what it is uncertain by, from its rounds."""
    processes = [[block for block in process if block.size] for process in data]
    processes = [process for process in processes if process]
    values = np.array([np.log(np.median(np.concatenate(process))) for process in processes])
    return Centres(values, _variances_of_medians([_log_medians(process) for process in processes]))


def ratio_centres(data: Hierarchy, baseline: Hierarchy) -> Centres:
    """The log ratio of each process pair, from the rounds that both have, and what it is uncertain by."""
    pairs = [_log_ratios(ours, theirs) for ours, theirs in zip(data, baseline, strict=False)]
    pairs = [pair for pair in pairs if pair.size]
    rounds = np.array([pair.size for pair in pairs], dtype=np.int64)
    return calm_centres(np.concatenate([*pairs, np.empty(0)]), rounds, np.zeros_like(rounds))


def ratio_intervals(
    log_ratios: Floats, rounds: Ints, owner: Ints, cases: int, confidence: float | Floats
) -> tuple[Floats, Floats, Floats]:
    """Low, point and high of many ratios at once (`ratio_of_medians`), each an array of length `cases`.

    `log_ratios` has a value a round, the rounds of a process pair and the process pairs of a case one after
    another; `rounds` says how many each process pair has, `owner` which case it belongs to, ascending.
    """
    found = calm_centres(log_ratios, rounds, owner)
    return process_intervals(found.values, found.variances, owner, cases, confidence)


def calm_centres(log_ratios: Floats, rounds: Ints, owner: Ints) -> Centres:
    """The log ratio of each process pair, bursts set aside, and what it is uncertain by.

    Arguments as of `ratio_intervals`.
    """
    calm = without_bursts(log_ratios, rounds, owner)
    log_ratios, rounds = log_ratios[calm], _sums(calm, rounds)
    values = segment_quantiles(log_ratios, rounds, [0.5])[:, 0]
    return Centres(values, segment_variances_of_medians(log_ratios, rounds))


def without_bursts(log_ratios: Floats, rounds: Ints, owner: Ints) -> npt.NDArray[np.bool_]:
    """Which rounds count: those near the median of all rounds of their case, by the Hampel identifier.

    A slow model has a handful of rounds in a process, and two or three that a neighbour spoilt unseen carry
    their median away; all processes together know what is usual. A process of which less than a third
    would be left is not spoilt but different, and keeps all its rounds. Arguments as of `ratio_intervals`.
    """
    sizes = np.bincount(owner, rounds).astype(np.int64)
    of_case = np.repeat(np.arange(sizes.size), sizes)
    distances = np.abs(log_ratios - segment_quantiles(log_ratios, sizes, [0.5])[of_case, 0])
    scales = _MAD_TO_SIGMA * segment_quantiles(distances, sizes, [0.5])[:, 0]
    near = distances <= np.maximum(_BURST * scales, _SAME)[of_case]
    near |= (sizes < _ROUNDS_TO_KNOW_BURSTS)[of_case]
    different = _sums(near, rounds) < _LEAST_LEFT * rounds
    calm: npt.NDArray[np.bool_] = near | np.repeat(different, rounds)
    return calm


def verdict(interval: Interval | None, margin: float = 0.02) -> Verdict:
    """What the interval of a latency ratio (candidate over baseline) proves, see `verdicts`."""
    if interval is None:
        return "inconclusive"
    low, point, high = (np.array([v]) for v in (interval.low, interval.point, interval.high))
    word: Verdict = verdicts(low, point, high, margin)[0]
    return word


def verdicts(low: Floats, point: Floats, high: Floats, margin: float | Floats) -> npt.NDArray[np.object_]:
    """Verdicts of many ratios at once; NaN (no interval) is inconclusive.

    * equivalent: the whole interval is within the margin, 1 / (1 + margin) to 1 + margin. Also where it
      excludes 1: a difference that is proven, and proven too small to matter.
    * faster: the whole interval is below 1 (there is a difference) and the point is beyond the margin (it
      matters). slower: the mirror image. The whole interval need not be beyond the margin: at a margin of
      2 % a true 3 % would then ask for three times the processes.
    * inconclusive: anything else.

    A case compared with itself is called faster or slower only where chance carries the interval off 1
    and the point off the margin at once: at most 5 % at 95 %; simulated, 1 % where processes differ
    by 1.5 %, under 3 % where they differ by as much as the margin (tests/test_stats.py).
    """
    upper = 1 + np.asarray(margin)
    words = np.full(point.shape, "inconclusive", dtype=object)
    words[(high < 1) & (point <= 1 / upper)] = "faster"
    words[(low > 1) & (point >= upper)] = "slower"
    words[(low >= 1 / upper) & (high <= upper)] = "equivalent"
    return words


def process_intervals(
    centres: Floats, variances: Floats, owner: Ints, cases: int, confidence: float | Floats
) -> tuple[Floats, Floats, Floats]:
    """Low, point and high for many cases at once, each an array of length `cases`.

    `centres` holds the log centre of each process, `variances` what it is uncertain by, `owner` the
    case it belongs to. NaN bounds below two processes, for one says nothing of how the next will differ, and
    where no float holds them, which two processes at a high confidence can give.
    """
    count = np.bincount(owner, minlength=cases)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        mean = np.bincount(owner, centres, cases) / count
        between = np.bincount(owner, (centres - mean[owner]) ** 2, cases) / (count - 1)
        within = np.bincount(owner, variances, cases) / count
        half = t_quantile(count - 1, confidence) * np.sqrt(np.maximum(between, within) / count)
        low, high = np.exp(mean - half), np.exp(mean + half)
    unknown = (count < 2) | ~(mean + half <= _LARGEST_LOG)
    low[unknown], high[unknown] = np.nan, np.nan
    return low, np.exp(mean), high


def segment_quantiles(values: npt.NDArray[Any], lengths: Ints, qs: Sequence[float]) -> Floats:
    """Quantiles of consecutive segments of `values`, shape (segments, quantiles); NaN where empty.

    Segments of one length are sorted together as the rows of a matrix: 8.6 million values in 860,000
    segments took 0.12 s.
    """
    starts = np.cumsum(lengths) - lengths
    found = np.full((lengths.size, len(qs)), np.nan)
    for length in np.unique(lengths[lengths > 0]):
        rows = np.flatnonzero(lengths == length)
        block = values[starts[rows, None] + np.arange(length)]
        found[rows] = np.quantile(block, qs, axis=1).T
    return found


def segment_variances_of_medians(values: Floats, lengths: Ints) -> Floats:
    """How uncertain the median of each segment is: its variance, from the median absolute deviation.

    0 where a segment has a single value, which says nothing.
    """
    medians = segment_quantiles(values, lengths, [0.5])[:, 0]
    deviations = np.abs(values - np.repeat(medians, lengths))
    sigma = _MAD_TO_SIGMA * segment_quantiles(deviations, lengths, [0.5])[:, 0]
    variances: Floats = _VARIANCE_OF_MEDIAN * sigma**2 / np.maximum(lengths, 1)
    return np.nan_to_num(variances)


def _log_ratios(ours: Sequence[npt.NDArray[Any]], theirs: Sequence[npt.NDArray[Any]]) -> Floats:
    """Of the rounds that both have."""
    both = [(a, b) for a, b in zip(ours, theirs, strict=False) if a.size and b.size]
    return np.log([float(np.median(a)) / float(np.median(b)) for a, b in both])


def _log_medians(rounds: Sequence[npt.NDArray[Any]]) -> Floats:
    return np.log([np.median(block) for block in rounds])


def _interval_of(found: Centres, confidence: float) -> Interval | None:
    if not found.values.size:
        return None
    zeros = np.zeros(found.values.size, dtype=np.int64)
    return _only(process_intervals(found.values, found.variances, zeros, 1, confidence))


def _variance_of_mean(found: Centres) -> float:
    """As in `process_intervals`: the within-process variance is the floor under that between them."""
    between = float(found.values.var(ddof=1)) if math.isnan(found.between) else found.between
    return max(between, float(found.variances.mean())) / found.values.size


def _interval_of_rounds(logs: Floats, confidence: float) -> Interval | None:
    if logs.size < 3:
        return None
    spread = math.sqrt(_variances_of_medians([logs])[0])
    half = float(t_quantile(np.array([logs.size - 1]), confidence)[0]) * spread
    centre = float(np.median(logs))
    return Interval(math.exp(centre - half), math.exp(centre), math.exp(centre + half))


def _sums(values: npt.NDArray[Any], lengths: Ints) -> Ints:
    """The sum of each of the consecutive segments, none of which is empty."""
    if lengths.size == 0:
        return np.zeros(0, dtype=np.int64)
    starts = np.cumsum(lengths) - lengths
    sums: Ints = np.add.reduceat(values.astype(np.int64), starts)
    return sums


def _variances_of_medians(groups: Sequence[npt.NDArray[Any]]) -> Floats:
    if not groups:
        return np.zeros(0)
    lengths = np.array([group.size for group in groups], dtype=np.int64)
    return segment_variances_of_medians(np.concatenate(groups), lengths)


def t_quantile(degrees: Ints | Floats, confidence: float | Floats) -> Floats:
    """Half the width, in standard errors, of Student's two-sided interval."""
    from scipy.special import stdtrit

    quantile: Floats = stdtrit(np.maximum(degrees, 1), 0.5 + np.asarray(confidence) / 2)
    return quantile


def _only(bounds: tuple[Floats, Floats, Floats]) -> Interval | None:
    low, point, high = (float(bound[0]) for bound in bounds)
    return None if math.isnan(low) else Interval(low, point, high)
