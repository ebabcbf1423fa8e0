"""Records -> pandas: a row a case, a row a call, what to ship. Nothing is rounded here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from benchbox.numerics.stats import Floats, Ints
from benchbox.results import columns, lines, store, timings
from benchbox.results.calls import Calls
from benchbox.results.gather import Gathered
from benchbox.results.recommend import Ranking, Recommendation
from benchbox.results.store import Results
from benchbox.schema.asked import plan_number
from benchbox.schema.seen import Record

if TYPE_CHECKING:
    import pandas as pd


# pandas' integer that knows "absent": a skipped case has no samples, which is not 0 samples.
_COUNTS = (
    "batch", "samples", "replicates", "rounds", "disturbed_blocks", "opset",
    "nan_count", "inf_count", "parity_samples",
)  # fmt: skip

# The columns that are computed here, over all records at once.
_OWN = (
    "run", "case_id", "group", "machine", "p50_ms", "p50_low_ms", "p50_high_ms", "mean_ms", "min_ms",
    "p90_ms", "p99_ms", "throughput_per_s", "samples", "ratio", "ratio_low", "ratio_high", "verdict",
)  # fmt: skip

_READING_ORDER = {"ok": 0, "mismatch": 0, "failed": 1, "skipped": 2}

# What tells one way to end from another.
_ENDED = ("outcome", "stage", "reason", "hint")

# Numbers even where no case has one: a column of None would be a column of objects.
_FLOATS = ("_ms", "_mib", "_seconds", "_share", "_joules", "_error", "cosine", "sqnr_db", "noise_floor")


@dataclass(frozen=True)
class Runs:
    """What one or more runs left behind, and the tables that are derived from it.

    `gathered` is what was taken from the records as they were read, where that is done already.
    """

    results: tuple[Results, ...]
    gathered: Gathered | None = field(default=None, repr=False, compare=False)

    SAMPLE_COLUMNS: ClassVar = (
        "run", "case_id", "replicate", "round", "kind", "index", "latency_ns", "disturbed",
    )  # fmt: skip

    @property
    def rows(self) -> Iterator[tuple[Results, Record]]:
        """Every record with its run, in the order of the table."""
        return ((results, record) for results in self.results for record in results.records)

    @property
    def groups(self) -> Sequence[tuple[str, str]]:
        """Of each row of the table the run and the group, whose cases are compared with each other."""
        return self._ranking.groups

    def to_pandas(self) -> pd.DataFrame:
        """A row a case: what it is, how it ended, latency with its interval, memory, parity, command.

        Times of calls are in ms, `ratio` is the latency over the baseline's: 0.5 is twice as fast. A cell
        is absent (NA) where nothing was measured. The frame is the caller's to change.
        """
        return self._frame.copy()

    @property
    def table(self) -> pd.DataFrame:
        """What `to_pandas` gives, and not to be changed: for reporters, for whom a copy is memory lost."""
        return self._frame

    def samples(self) -> pd.DataFrame:
        """A row a call: raw latencies in nanoseconds, of warm-up, first (cold) and timed calls.

        `index` counts the calls of a block from 0; `disturbed` says why a block was measured again.
        """
        import pandas as pd

        runs, ids = self._run_names, self._all.case_ids
        rows = [
            (runs[b.case], ids[b.case], b.replicate, b.round, kind, index, latency_ns, b.disturbed)
            for b in self.calls.blocks()
            for kind, index, latency_ns in b.calls()
        ]
        return pd.DataFrame(rows, columns=list(self.SAMPLE_COLUMNS))

    @property
    def calls(self) -> Calls:
        """Every call; case i is row i of the table."""
        return self._all.calls

    def record(self, row: int) -> Record:
        """The record behind a row of the table."""
        for results in self.results:
            if row < len(results.records):
                return results.records[row]
            row -= len(results.records)
        raise IndexError(row)

    def reading_order(self) -> list[int]:
        """The rows as a reader wants them: what was measured, then what failed, then what cannot run here.

        Within that, the order of the table, which is that of the suite.
        """
        outcomes = self._all.outcomes
        return sorted(range(len(outcomes)), key=lambda row: _READING_ORDER[outcomes[row]])

    def not_ok(self) -> tuple[tuple[int, ...], ...]:
        """The rows that are not ok, those together that ended alike: outcome, stage, reason and hint.

        What failed comes first, then mismatches, then what was skipped.
        """
        found: dict[tuple[str, ...], list[int]] = {}
        ended = zip(*(self._frame[name].tolist() for name in _ENDED), strict=True)
        for row, key in enumerate(ended):
            if key[0] != "ok":
                found.setdefault(key, []).append(row)
        order = ("failed", "mismatch", "skipped")
        alike = sorted(found.items(), key=lambda item: order.index(item[0][0]))
        return tuple(tuple(rows) for _, rows in alike)

    def recommend(self) -> tuple[Recommendation, ...]:
        """The fastest case that agrees with the reference, for every group of every run."""
        return self._ranking.recommendations

    def recommended(self) -> pd.DataFrame:
        """The rows that can be recommended, with `decided`: whether theirs is the only one of its group."""
        chosen = [(row, advice.decided) for advice in self.recommend() for row in advice.rows]
        rows = self._frame.iloc[[row for row, _ in chosen]]
        return rows.assign(decided=[decided for _, decided in chosen])

    @property
    def metric_columns(self) -> tuple[str, ...]:
        """The columns of the table that hold task metrics: shares that agree, errors and losses."""
        return tuple(self._found.metrics)

    @cached_property
    def _all(self) -> Gathered:
        if self.gathered is not None:
            return self.gathered
        gathered = Gathered()
        for _, record in self.rows:
            gathered.add(record)
        return gathered

    @cached_property
    def _found(self) -> columns.Found:
        return columns.found(self._all.named, RESERVED)

    @cached_property
    def _run_names(self) -> list[str]:
        return [results.name for results in self.results for _ in range(len(results.records))]

    @cached_property
    def _ranking(self) -> Ranking:
        numbers = {name: self._plan_numbers(name) for name in ("confidence", "margin")}
        return Ranking(self._all, self._run_names, **numbers)

    def _plan_numbers(self, name: str) -> Floats:
        """What each record's suite says under `measure`."""
        said = [plan_number(results.suite, name) for results in self.results]
        return np.repeat(np.array(said, dtype=np.float64), [len(r.records) for r in self.results])

    @cached_property
    def _frame(self) -> pd.DataFrame:
        with store.without_collecting():
            return self._tabulate()

    def _tabulate(self) -> pd.DataFrame:
        import pandas as pd

        identity = {"run": self._run_names, "case_id": self._all.case_ids, "group": self._all.groups}
        of_run = np.repeat(np.arange(len(self.results)), [len(run.records) for run in self.results])
        fixed = self._all.cells(_repeated) | {
            "run": _repeated([run.name for run in self.results], of_run),
            "machine": _repeated([run.environment.machine for run in self.results], of_run),
        }
        timed = self._timing_columns(fixed)
        found = self._found
        cells = {**identity, **fixed, **timed, **found.sizes, **found.metrics, **found.nodes}
        # Before pandas makes floats of what has gaps: 2^63 - 1 is none.
        counts = {
            name: pd.array(of, dtype="Int64")
            for name, of in cells.items()
            if name in _COUNTS or name in found.nodes
        }
        frame = pd.DataFrame(cells | counts)
        floats = [name for name in cells if name.endswith(_FLOATS)]
        return frame.astype(dict.fromkeys(floats, "float64"))[_in_order(list(cells))]

    def _timing_columns(self, fixed: Mapping[str, Any]) -> dict[str, Any]:
        ranking, size = self._ranking, len(self._all.case_ids)
        (low, point, high), (ratio_low, ratio, ratio_high) = ranking.medians_ns, ranking.ratios
        spread = timings.spread(ranking.timings)
        batch = np.array(fixed["batch"], dtype=np.float64)
        return {
            "p50_ms": point / 1e6,
            "p50_low_ms": low / 1e6,
            "p50_high_ms": high / 1e6,
            "mean_ms": spread.mean_ns[:size] / 1e6,
            "min_ms": spread.min_ns[:size] / 1e6,
            "p90_ms": spread.p90_ns[:size] / 1e6,
            "p99_ms": spread.p99_ns[:size] / 1e6,
            "throughput_per_s": batch / (point / 1e9),
            "samples": [
                None if session is None else n
                for n, session in zip(spread.samples.tolist(), self._all.sessions, strict=False)
            ],
            "ratio": ratio,
            "ratio_low": ratio_low,
            "ratio_high": ratio_high,
            "verdict": ranking.verdicts,
        }


# What a size, a metric or a provider cannot be called: all columns that every table has.
RESERVED = frozenset((*_OWN, *columns.NAMES))


def load_results(*folders: str | Path) -> Runs:
    """What the results folders hold. Raises StoreError where one of them is none.

    Of folders with the same name, `main/run` and `branch/run`, the runs are called by as much of their paths
    as tells them apart; a folder that is given twice counts twice.
    """
    gathered, reader = Gathered(), lines.Reader()
    with store.without_collecting():
        found = [store.browse(Path(folder), gathered.add, reader) for folder in folders]
    names = _told_apart([results.folder for results in found])
    results = tuple(replace(each, name=name) for each, name in zip(found, names, strict=True))
    if len(gathered.case_ids) > sum(len(run.records) for run in results):
        return Runs(results)  # a case was recorded twice: what counts is gathered when it is asked for
    return Runs(results, gathered)


def _told_apart(folders: Sequence[Path]) -> list[str]:
    """The last part of each path, and as many before it as it takes until no two are the same."""
    paths = [Path(os.path.abspath(folder)).parts for folder in folders]  # noqa: PTH100 - links keep their name
    longest = max(map(len, paths), default=1)
    return ["/".join(path[-_parts_needed(path, paths, longest) :]) for path in paths]


def _parts_needed(path: Sequence[str], paths: Sequence[Sequence[str]], longest: int) -> int:
    others = [other for other in paths if other != path]
    ends = range(1, longest)
    return next((n for n in ends if all(other[-n:] != path[-n:] for other in others)), longest)


def _repeated(values: Sequence[Any], numbers: Ints) -> Any:
    """`values[number]` of every number as pandas holds them, which looks at every value that it is given."""
    import pandas as pd

    return pd.Series(values).array.take(numbers)


# What a reader looks for first stands first; the rest follows as it comes.
_FIRST = (
    "run", "case_id", "group", "model", "weights", "family", "source", "task", "shape", "path", "precision",
    "backend", "provider", "provider_options", "batch", "threads", "threads_inter_op", "dataset",
    "dynamic_axes", "outcome", "stage", "reason", "hint", "p50_ms", "p50_low_ms", "p50_high_ms", "ratio",
    "ratio_low", "ratio_high", "verdict", "is_baseline", "throughput_per_s", "mean_ms", "min_ms",
    "p90_ms", "p99_ms",
)  # fmt: skip


def _in_order(names: Sequence[str]) -> list[str]:
    first = [name for name in _FIRST if name in names]
    return first + [name for name in names if name not in first]
