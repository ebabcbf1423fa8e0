"""What a comparison is made of: runs, and a row for every case of two of them. Values without behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from benchbox.comparison.facts import Fact
from benchbox.comparison.pairing import Pair
from benchbox.numerics.stats import Interval
from benchbox.reporters import labels
from benchbox.schema.asked import plan_number
from benchbox.schema.seen import Environment, Record

Anchored = Literal["anchored", "anchor", "plain", ""]
"""How a ratio was taken; empty where there is none. An anchor is a baseline that others are anchored by."""


@dataclass(frozen=True)
class Run:
    """One of the runs that are compared. `environment` is None for a records file that lies alone, `damage`
    what of it could not be read."""

    letter: str
    name: str
    records: tuple[Record, ...]
    environment: Environment | None
    suite: Mapping[str, Any]
    damage: str = ""

    @property
    def machine(self) -> str:
        """What the run was measured on, in a line."""
        return self.environment.machine if self.environment else "a machine that the file does not name"

    @property
    def confidence(self) -> float:
        """That of the run's intervals."""
        return plan_number(self.suite, "confidence")

    @property
    def margin(self) -> float:
        """The difference below which two latencies count as the same."""
        return plan_number(self.suite, "margin")


@dataclass(frozen=True)
class Change:
    """A quantity in both runs; None where it is not known. `ratio` is after over before, with its interval
    where the quantity varies between processes."""

    before: float | None = None
    after: float | None = None
    ratio: Interval | None = None

    @property
    def factor(self) -> float | None:
        """After over before, by the interval's point where there is one."""
        if self.ratio is not None:
            return self.ratio.point
        return self.after / self.before if self.before and self.after is not None else None


@dataclass(frozen=True)
class Row:
    """A case in both runs, or in one of them.

    `latency` is in ms; its ratio is the anchored one where `anchored` says so. `plain` is always the ratio
    of the two medians as they were measured. `parity` holds the worst cosine, the maximum absolute error
    and the task's metrics by name. `same_artifact`: whether the bytes are the same, None where
    there are none.
    """

    heading: str
    path: str
    runtime: str
    pair: Pair
    latency: Change
    plain: Interval | None
    anchored: Anchored
    why_plain: str
    verdict: str
    peak_memory: Change
    peak_above_empty: Change
    size: Change
    same_artifact: bool | None
    parity: Mapping[str, Change]

    @property
    def outcome(self) -> tuple[str, str]:
        """How the case ended in both runs; `missing` where it is not there."""
        before, after = self.pair.before, self.pair.after
        return before.outcome if before else "missing", after.outcome if after else "missing"

    @property
    def label(self) -> str:
        """`onnx + fp16 · onnxruntime CPU`."""
        return labels.label(self.path, self.runtime)

    @property
    def worsened(self) -> bool:
        """Whether the case was ok and is not any more."""
        return self.outcome[0] == "ok" and self.outcome[1] != "ok"


@dataclass(frozen=True)
class Versus:
    """One run against the first: a row a case; `would_pair` says what to ignore for more pairs."""

    before: Run
    after: Run
    rows: tuple[Row, ...]
    would_pair: Mapping[str, int]

    @property
    def reasons_plain(self) -> Mapping[str, int]:
        """Why ratios are not anchored: how many rows by reason."""
        counts: dict[str, int] = {}
        for row in self.rows:
            if row.anchored == "plain":
                counts[row.why_plain] = counts.get(row.why_plain, 0) + 1
        return counts


@dataclass(frozen=True)
class Comparison:
    """Every other run against the first, and what differs between them."""

    runs: tuple[Run, ...]
    environments: tuple[Fact, ...]
    settings: tuple[Fact, ...]
    versus: tuple[Versus, ...]

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the task metrics, in the order they were found."""
        names = (name for versus in self.versus for row in versus.rows for name in row.parity)
        return tuple(dict.fromkeys(name for name in names if name not in ("cosine", "max_abs_error")))
