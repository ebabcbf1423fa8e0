"""What to ship: latencies and ratios to the baseline, verdicts, and the fastest of each group that agrees.

A function of records, without pandas: tables and reports ask it, and so can who has just measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from benchbox.numerics import stats
from benchbox.numerics.stats import Floats, Ints
from benchbox.results import timings
from benchbox.results.gather import Gathered
from benchbox.results.timings import Bounds, Timings
from benchbox.schema.asked import MeasurePlan
from benchbox.schema.seen import Record

# An interval that reaches so many times its point is none.
_BOUNDLESS = 1e6


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
        return timings.timings(self.gathered.calls, self.gathered.companion_calls)

    @cached_property
    def medians_ns(self) -> Bounds:
        """The median of each record, with its interval."""
        both = np.concatenate([self.confidence, self.confidence])
        low, point, high = timings.medians(self.timings, both)
        size = len(self.groups)
        return _bounded((low[:size], point[:size], high[:size]))

    @cached_property
    def ratios(self) -> Bounds:
        """Median latency over the baseline's; NaN for the baseline, and where none was timed in the same
        rounds."""
        theirs = self._baselines
        ours = np.flatnonzero(theirs >= 0)
        pairs = _bounded(timings.ratios(self.timings, ours, theirs[ours], self.confidence[ours]))
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
                theirs[number] = len(groups) + number
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


def _bounded(bounds: Bounds) -> Bounds:
    """Without the intervals that say nothing: of two processes, at a high confidence."""
    low, point, high = bounds
    boundless = ~(high <= _BOUNDLESS * point)
    return np.where(boundless, np.nan, low), point, np.where(boundless, np.nan, high)
