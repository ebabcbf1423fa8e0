"""What to ship: latencies and ratios to the baseline, verdicts, and the fastest of each group that agrees.

A function of records, without pandas: tables and reports ask it, and so can who has just measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from benchbox.numerics import stats
from benchbox.numerics.stats import Floats, Ints
from benchbox.results import timings
from benchbox.results.gather import Gathered
from benchbox.results.timings import Bounds, Timings
from benchbox.schema.asked import MeasurePlan
from benchbox.schema.seen import Record

# An interval that reaches so many times its point is none.
_BOUNDLESS = 1e6
# An interval whose end is so many times its beginning is none that a reader can use: three processes, one of
# them hit. A ratio's still tells faster from slower.
_WIDE = 3.0


@dataclass(frozen=True)
class Recommendation:
    """What to ship for one model and one shape on one machine.

    `rows` are positions among the records, which are those of `Runs.to_pandas()`: the fastest of the cases
    that agree with the reference, and after it those that cannot be told apart from it. Empty where nothing
    agreed.
    """

    run: str
    group: str
    rows: tuple[int, ...]

    @property
    def decided(self) -> bool:
        """Whether one case is proven to be the fastest."""
        return len(self.rows) == 1


@dataclass(frozen=True)
class Ranking:
    """Records beside each other: `gathered` holds them, the others have a value for each.

    Cases of one run and one group are compared with each other, at the confidence and the margin of the run.
    """

    gathered: Gathered
    runs: Sequence[str]
    confidence: Floats
    margin: Floats

    @cached_property
    def groups(self) -> Sequence[tuple[str, str]]:
        """Of each record the run and the group, whose cases are compared with each other."""
        return list(zip(self.runs, self.gathered.groups, strict=True))

    @cached_property
    def timings(self) -> Timings:
        """Of all records, and after them of the companions: the baselines that were taken beside them."""
        plain = timings.timings(self.gathered.calls, self.gathered.companion_calls)
        return replace(plain, groups=self._sat_together)

    @cached_property
    def _sat_together(self) -> Ints:
        """Which measurements in `timings` were taken in the same rounds of the same run: a number each.

        One baseline that stands beside many records as their companion is one measurement: the first of them
        counts for all, and the others have none (-1).
        """
        numbers: dict[tuple[str, str], int] = {}
        found: list[int] = []
        for run, session in zip(self.runs, self.gathered.sessions, strict=True):
            found.append(-1 if session is None else numbers.setdefault((run, session), len(numbers)))
        first = self._first_companions
        for number, (run, session) in enumerate(
            zip(self.runs, self.gathered.companion_sessions, strict=True)
        ):
            mine = session is not None and first[run, session] == number
            found.append(numbers.setdefault((run, session or ""), len(numbers)) if mine else -1)
        return np.array(found, dtype=np.int64)

    @cached_property
    def _first_companions(self) -> Mapping[tuple[str, str], int]:
        """By run and session, the first record that the baseline of other rounds stands beside."""
        found: dict[tuple[str, str], int] = {}
        for number, (run, session) in enumerate(
            zip(self.runs, self.gathered.companion_sessions, strict=True)
        ):
            if session is not None:
                found.setdefault((run, session), number)
        return found

    @cached_property
    def medians_ns(self) -> Bounds:
        """The median of each record, with its interval."""
        both = np.concatenate([self.confidence, self.confidence])
        low, point, high = timings.medians(self.timings, both)
        size = len(self.groups)
        found = (low[:size], point[:size], high[:size])
        return _known(found, says_nothing=_wide(found))

    @cached_property
    def ratios(self) -> Bounds:
        """Median latency over the baseline's; NaN for the baseline, and where none was timed in the same
        rounds."""
        theirs = self._baselines
        ours = np.flatnonzero(theirs >= 0)
        found = timings.ratios(self.timings, ours, theirs[ours], self.confidence[ours])
        with np.errstate(invalid="ignore"):
            undecided = (found[0] <= 1) & (found[2] >= 1)
        pairs = _known(found, says_nothing=_wide(found) & undecided)
        bounds = []
        for pair in pairs:
            column = np.full(theirs.size, np.nan)
            column[ours] = pair
            bounds.append(column)
        return bounds[0], bounds[1], bounds[2]

    @cached_property
    def verdicts(self) -> list[str]:
        """Of each record; empty for the baseline, for what was not timed, and for what does not agree."""
        words = stats.verdicts(*self.ratios, self.margin)
        return [
            word if outcome == "ok" and not is_baseline else ""
            for word, outcome, is_baseline in zip(
                words, self.gathered.outcomes, self.gathered.baselines, strict=True
            )
        ]

    @cached_property
    def recommendations(self) -> tuple[Recommendation, ...]:
        """The fastest case that agrees with the reference, for every group of every run."""
        members: dict[tuple[str, str], list[int]] = {group: [] for group in self.groups}
        for number in self._fastest_first():
            members[self.groups[number]].append(number)
        fit = {key: self._never_proven_slower(rows) for key, rows in members.items()}
        beaten = self._beaten([(rows[0], rival) for rows in fit.values() for rival in rows[1:]])
        return tuple(
            Recommendation(run, group, tuple(rows[:1] + [r for r in rows[1:] if r not in beaten]))
            for (run, group), rows in fit.items()
        )

    @cached_property
    def _baselines(self) -> Ints:
        """For each record the position of its baseline's measurement in `timings`, or -1."""
        groups = self.groups
        sessions, beside = self.gathered.sessions, self.gathered.companion_sessions
        baselines, outcomes = self.gathered.baselines, self.gathered.outcomes
        own = {
            group: number
            for number, group in enumerate(groups)
            if baselines[number] and outcomes[number] == "ok" and sessions[number] is not None
        }
        unfit = {
            group for number, group in enumerate(groups) if baselines[number] and outcomes[number] != "ok"
        }
        theirs = np.full(len(groups), -1, dtype=np.int64)
        for number, group in enumerate(groups):
            session = sessions[number]
            if session is None or baselines[number] or group in unfit:
                continue
            if beside[number] == session:
                theirs[number] = len(groups) + self._first_companions[self.runs[number], session]
            elif group in own and sessions[own[group]] == session:
                theirs[number] = own[group]
        return theirs

    def _fastest_first(self) -> list[int]:
        """The records that agree and were timed: by the ratio to the baseline, as each took turns with it.

        Where one of the group has none, all of the group are taken by their latencies.
        """
        (_, p50, _), (_, ratio, _) = self.medians_ns, self.ratios
        groups, outcomes, baselines = self.groups, self.gathered.outcomes, self.gathered.baselines
        timed = [n for n, outcome in enumerate(outcomes) if outcome == "ok" and not np.isnan(p50[n])]
        lacking = {groups[n] for n in timed if np.isnan(ratio[n]) and not baselines[n]}

        def time_taken(number: int) -> float:
            if groups[number] in lacking:
                return float(p50[number])
            return 1.0 if baselines[number] else float(ratio[number])

        return sorted(timed, key=time_taken)

    def _never_proven_slower(self, rows: Sequence[int]) -> list[int]:
        """Those of a group that are not slower than its baseline; the baseline where none is faster."""
        verdicts, baselines = self.verdicts, self.gathered.baselines
        faster = any(verdicts[row] == "faster" for row in rows)
        left = [row for row in rows if not (faster if baselines[row] else verdicts[row] == "slower")]
        return left or list(rows)  # the baseline's own record is not here

    def _beaten(self, pairs: Sequence[tuple[int, int]]) -> set[int]:
        """The rivals that the fastest of their group is proven to be faster than.

        Those that took no turns with each other are compared by their ratios to their own baselines.
        """
        if not pairs:
            return set()
        sessions, theirs = self.gathered.sessions, self._baselines
        ours, rivals = np.array(pairs, dtype=np.int64).T
        together = np.array([sessions[one] == sessions[other] for one, other in pairs])
        apart = ~together & (theirs[ours] >= 0) & (theirs[rivals] >= 0)
        a, b = ours[together], rivals[together]
        c, d = ours[apart], rivals[apart]
        confidence, margin = self.confidence, self.margin
        words = [
            *stats.verdicts(*timings.ratios(self.timings, a, b, confidence[a]), margin[a]),
            *stats.verdicts(
                *timings.ratios_of_ratios(self.timings, (c, theirs[c]), (d, theirs[d]), confidence[c]),
                margin[c],
            ),
        ]
        judged = [*b.tolist(), *d.tolist()]
        return {rival for rival, word in zip(judged, words, strict=True) if word == "faster"}


def rank(records: Sequence[Record], plan: MeasurePlan | None = None) -> Ranking:
    """The records of one run beside each other, at the confidence and the margin of its plan."""
    asked = plan or MeasurePlan()
    gathered = Gathered()
    for record in records:
        gathered.add(record)
    size = len(records)
    return Ranking(gathered, [""] * size, np.full(size, asked.confidence), np.full(size, asked.margin))


def recommend(records: Sequence[Record], plan: MeasurePlan | None = None) -> tuple[Recommendation, ...]:
    """The fastest that agrees with the reference, for every group of these records."""
    return rank(records, plan).recommendations


def _known(bounds: Bounds, *, says_nothing: npt.NDArray[np.bool_]) -> Bounds:
    """Without the intervals that say nothing; the points stay."""
    low, point, high = bounds
    boundless = ~(high <= _BOUNDLESS * point) | says_nothing
    return np.where(boundless, np.nan, low), point, np.where(boundless, np.nan, high)


def _wide(bounds: Bounds) -> npt.NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        wide: npt.NDArray[np.bool_] = bounds[2] > _WIDE * bounds[0]
    return wide
