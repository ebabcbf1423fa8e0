"""What reports say of a run, in words: groups of cases and what to ship of them, verdicts, reasons, settings.

Numbers are rounded in `numbers`, cases are called by `labels`, machines by `machines`. Nothing is escaped
here: each report escapes for its own language.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from benchbox.reporters import labels, numbers
from benchbox.reporters.labels import Ran
from benchbox.schema.asked import plan_number
from benchbox.schema.seen import Record

if TYPE_CHECKING:
    import pandas as pd

    from benchbox.results.runs import Runs
    from benchbox.results.store import Results

Row = Mapping[str, Any]
"""A row of the table, by column name; None where nothing was measured."""

RANDOM_WEIGHTS = (
    "Random weights: latency and memory are the architecture's, agreement is with the same random model, "
    "and accuracy means nothing."
)

# Symbols stand beside the words, so that colour is never the only carrier.
SYMBOLS = {"ok": "✓", "mismatch": "≠", "skipped": "○", "failed": "✕"}


UNDECIDED = "The fastest cannot be told apart"
MEASURE_LONGER = "Measure longer, or on a quieter machine."

# Of cases that cannot be told apart, so many are named.
_NAMED = 4

_HALF = 0.5


@dataclass(frozen=True)
class Group:
    """Cases that are compared with each other: one model, one shape, one run.

    `key` is the same for the same model and shape in any run; `numbers` are the rows' positions in the table;
    `runtimes` tell apart the rows of one path; `best` are the recommended rows, the fastest first; `metrics`
    are the columns of task metrics; `agree` is how many agree and were timed, shown or not.
    """

    key: str
    heading: str
    run: str
    machine: str
    rows: tuple[Row, ...]
    numbers: tuple[int, ...]
    runtimes: tuple[str, ...]
    best: tuple[int, ...]
    metrics: tuple[str, ...]
    agree: int

    @property
    def labels(self) -> tuple[str, ...]:
        """What each row is called among those of the group."""
        named = zip(self.rows, self.runtimes, strict=True)
        return tuple(labels.label(row["path"], runtime) for row, runtime in named)

    @property
    def random(self) -> bool:
        """Whether the model's weights are random; they are the same for all of its cases."""
        return any(row["weights"] == "random" for row in self.rows)

    @property
    def timed(self) -> int:
        """How many cases were timed."""
        return sum(row["p50_ms"] is not None for row in self.rows)

    def first(self, count: int) -> Group:
        """The group with at most `count` rows; what is recommended is among them, or another would be."""
        others = (number for number in range(len(self.rows)) if number not in set(self.best))
        kept = sorted([*self.best, *others][:count])
        return replace(
            self,
            rows=tuple(self.rows[number] for number in kept),
            numbers=tuple(self.numbers[number] for number in kept),
            runtimes=tuple(self.runtimes[number] for number in kept),
            best=tuple(kept.index(number) for number in self.best[:count]),
        )

    @property
    def conclusion(self) -> str:
        """Which artifact to ship, by how much it is faster, what it needs and how well it agrees.

        What would be faster and does not agree is named beside it, with the reason: the gate may be wrong.
        So is what is called quantized and mostly is not.
        """
        return f"{self._recommended}{self._left_out}{self._hardly_quantized}"

    @property
    def hardly_quantized(self) -> str:
        """Which cases have less than half of their products quantized; empty where none has."""
        found = [
            f"{label} ({_quantized(row)})"
            for row, label in zip(self.rows, self.labels, strict=True)
            if row["quantized_share"] is not None and row["quantized_share"] < _HALF
        ]
        if not found:
            return ""
        more = f", and {len(found) - _NAMED:,} more" if len(found) > _NAMED else ""
        return f"Less than half is quantized, the rest is not: {', '.join(found[:_NAMED])}{more}."

    @property
    def _hardly_quantized(self) -> str:
        return f" {self.hardly_quantized}" if self.hardly_quantized else ""

    @property
    def undecided(self) -> str:
        """`The fastest cannot be told apart, these 2 of the 5 that agree`."""
        if self.agree <= len(self.best):
            return UNDECIDED
        return f"{UNDECIDED}, these {len(self.best):,} of the {self.agree:,} that agree"

    @property
    def _left_out(self) -> str:
        best_ms = min((self.rows[number]["p50_ms"] for number in self.best), default=float("inf"))
        faster = [
            f"{label} ({row['reason']})" if row["reason"] else label
            for row, label in zip(self.rows, self.labels, strict=True)
            if row["outcome"] == "mismatch" and row["p50_ms"] is not None and row["p50_ms"] < best_ms
        ]
        if not faster:
            return ""
        more = f", and {len(faster) - _NAMED:,} more" if len(faster) > _NAMED else ""
        return f" Faster, and left out because it does not agree: {', '.join(faster[:_NAMED])}{more}."

    @property
    def _recommended(self) -> str:
        if not self.best:
            return "No case that agrees with the reference was timed."
        if len(self.best) > 1:
            names = ", ".join(self.labels[number] for number in self.best[:_NAMED])
            more = f" and {len(self.best) - _NAMED:,} more" if len(self.best) > _NAMED else ""
            return f"{self.undecided}: {names}{more}. {MEASURE_LONGER}"
        row, label = self.rows[self.best[0]], self.labels[self.best[0]]
        return (
            f"{label} is the fastest that agrees with the reference: {'; '.join(_facts(row, self.metrics))}."
        )


def random_weights(groups: Sequence[Group]) -> str:
    """What stands over a whole report: only where it is true of all its groups. Else each says it for
    itself."""
    return RANDOM_WEIGHTS if groups and all(group.random for group in groups) else ""


def groups(runs: Runs, max_rows: int = sys.maxsize, max_groups: int = sys.maxsize) -> list[Group]:
    """The first groups of the table that have so many rows together; only the very first is ever cut.

    What was measured comes first. Rows are made of these alone: a page shows 2,000 of 100,000.
    """
    members: dict[tuple[str, str], list[int]] = {}
    for number in runs.reading_order():
        members.setdefault(runs.groups[number], []).append(number)
    shown = _within(list(members.items())[:max_groups], max_rows)
    best = {(advice.run, advice.group): advice.rows for advice in runs.recommend()}
    rows = table_rows(runs.table, [number for _, numbers in shown for number in numbers])
    return [
        group(
            {number: rows[number] for number in numbers},
            [numbers.index(b) for b in best[key]],
            runs.metric_columns,
        ).first(max_rows)
        for key, numbers in shown
    ]


def group(rows: Mapping[int, Row], best: Sequence[int], metrics: Sequence[str]) -> Group:
    """The group of these rows, which are given by their position in the table; `best` counts among them."""
    first = next(iter(rows.values()))
    return Group(
        key=first["group"],
        heading=heading(first),
        run=first["run"],
        machine=first["machine"],
        rows=tuple(rows.values()),
        numbers=tuple(rows),
        runtimes=labels.runtimes([Ran.of_row(row) for row in rows.values()]),
        best=tuple(best),
        metrics=tuple(name for name in metrics if any(row[name] is not None for row in rows.values())),
        agree=sum(row["outcome"] == "ok" and row["p50_ms"] is not None for row in rows.values()),
    )


def table_rows(frame: pd.DataFrame, numbers: Sequence[int]) -> dict[int, Row]:
    """These rows of the table, by position."""
    chosen = frame.iloc[list(numbers)].astype(object)
    rows: list[Row] = chosen.where(chosen.notna(), None).to_dict("records")  # type: ignore[assignment]  # named
    return dict(zip(numbers, rows, strict=True))


def _within(groups: Sequence[tuple[Any, list[int]]], max_rows: int) -> list[tuple[Any, list[int]]]:
    shown: list[tuple[Any, list[int]]] = []
    rows = 0
    for key, members in groups:
        rows += len(members)
        if shown and rows > max_rows:
            break
        shown.append((key, members))
    return shown


def heading(row: Row, run: str = "") -> str:
    """Which model and shape a row belongs to."""
    return labels.heading(row["model"], row["weights"], row["shape"], run)


def named_alone(row: Row) -> str:
    """A case by itself, where nothing is known of those beside it."""
    return labels.in_full(heading(row), labels.label(row["path"], labels.runtime(Ran.of_row(row))))


def latency(row: Row) -> str:
    """`140.7 (133.0 to 148.9)`, in ms."""
    return numbers.with_interval(row["p50_ms"], row["p50_low_ms"], row["p50_high_ms"])


def ratio(row: Row, *, narrow: bool = False) -> str:
    """`0.453 (0.441 to 0.466)`: time over the baseline's."""
    return numbers.ratio(row["ratio"], row["ratio_low"], row["ratio_high"], narrow=narrow)


def verdict(row: Row) -> str:
    """The verdict; `baseline` for what the others are timed against, `not ranked` for a mismatch."""
    if row["is_baseline"] and row["outcome"] == "ok":
        return "baseline"
    return "not ranked" if row["outcome"] == "mismatch" else row["verdict"] or ""


def _facts(row: Row, metrics: Sequence[str]) -> list[str]:
    facts = [f"{latency(row)} ms"]
    if row["ratio"] is not None:
        facts.append(f"{ratio(row)} times the latency of the baseline, {numbers.times_as_fast(row['ratio'])}")
    if row["peak_above_empty_mib"] is not None:
        facts.append(
            f"{numbers.memory_mib(row['peak_above_empty_mib'])} MiB at its peak above an empty process"
        )
    if row["artifact_size_mib"] is not None:
        facts.append(f"{numbers.file_mib(row['artifact_size_mib'])} MiB on disk")
    if row["cosine"] is not None:
        facts.append(f"worst cosine {numbers.cosine(row['cosine'])}")
    facts += [
        f"{labels.metric_name(name)} {numbers.metric(name)(row[name])}"
        for name in metrics
        if row[name] is not None
    ]
    return facts


def stage(record: Record) -> str:
    """`at build`: where a case ended. Empty where it is ok, and where it never began."""
    return f"at {record.stage}" if record.stage not in (None, "plan") else ""


def peak_until_then(peak_mib: float) -> str:
    """What a child that failed had used."""
    return f"peak memory until then: {numbers.memory_mib(peak_mib)} MiB"


def left_out(count: int, file: str, noun: str = "case") -> str:
    """`2 more cases are in summary.csv`: what is not shown, and where it is."""
    return f"{numbers.count(count, f'more {noun}')} {'is' if count == 1 else 'are'} in {file}"


def details(row: Row) -> list[tuple[str, str]]:
    """What the table has no column for, a name and a value each; what is not known is left out."""
    pairs = [
        ("precision", row["precision"]),
        ("opset", numbers.integer(row["opset"])),
        ("quantized", _quantized(row)),
        ("threads", f"{row['threads']} intra-op, {row['threads_inter_op']} inter-op"),
        ("data", row["dataset"]),
        ("p90 ms", numbers.number(row["p90_ms"])),
        ("p99 ms", numbers.number(row["p99_ms"])),
        ("minimum ms", numbers.number(row["min_ms"])),
        ("mean ms", numbers.number(row["mean_ms"])),
        ("first call ms", numbers.number(row["first_call_ms"])),
        ("first call of a block ms", numbers.number(row["cold_ms"])),
        ("calls timed", numbers.integer(row["samples"])),
        ("processes, rounds", _both(row["replicates"], row["rounds"])),
        ("disturbed blocks", numbers.integer(row["disturbed_blocks"]) if row["disturbed_blocks"] else None),
        ("calm", _share(row["calm_share"])),
        ("slow machine", _share(row["slow_share"]) if row["slow_share"] else None),
        ("CPU time ms", numbers.number(row["cpu_ms"])),
        ("energy J", numbers.number(row["energy_joules"], 3)),
        ("stopped by", row["stopped_by"]),
        ("load seconds", numbers.number(row["load_seconds"], 3)),
        ("peak MiB in all", numbers.memory_mib(row["peak_memory_mib"])),
        ("device MiB", numbers.memory_mib(row["device_memory_mib"])),
        ("build seconds", numbers.number(row["build_seconds"], 3)),
        ("SQNR dB", numbers.number(row["sqnr_db"], 3)),
        ("mean abs error", numbers.error(row["mean_abs_error"])),
        ("max rel error", numbers.error(row["max_rel_error"])),
        ("relative L2 error", numbers.error(row["rel_l2_error"])),
        ("behind the mask, not judged", _behind_the_mask(row)),
        ("fp32 noise floor", numbers.error(row["noise_floor"])),
        ("parity", row["parity_reasons"]),
        ("note", row["notes"]),
        ("nodes", row["nodes"]),
        ("hub commit", row["commit"]),
        ("artifact SHA-256", row["artifact_sha256"]),
        ("case", row["case_id"]),
    ]
    return [(name, value) for name, value in pairs if value]


def _quantized(row: Row) -> str:
    """`13 of 18 products (72 %)`: of its MatMul, Gemm and Conv nodes."""
    if row["quantized_share"] is None:
        return ""
    share = numbers.percent(row["quantized_share"], 0)
    return f"{row['products_quantized']:.0f} of {numbers.count(int(row['products']), 'product')} ({share})"


def _share(share: float | None) -> str:
    return "" if share is None else numbers.percent(share, 0)


def _behind_the_mask(row: Row) -> str:
    """`up to 21 % of the positions, max abs error 4.3e+00, cosine 0.96160`."""
    if row["padding_share"] is None:
        return ""
    facts = [
        f"up to {numbers.percent(row['padding_share'], 0)} of the positions",
        row["padding_max_abs_error"] is not None
        and f"max abs error {numbers.error(row['padding_max_abs_error'])}",
        row["padding_cosine"] is not None and f"cosine {numbers.cosine(row['padding_cosine'])}",
    ]
    return ", ".join(fact for fact in facts if fact)


def _both(replicates: int | None, rounds: int | None) -> str:
    return "" if replicates is None else f"{replicates}, {rounds}"


def confidence(runs: Sequence[Results]) -> str:
    """`95 %`: that of the intervals; where runs differ, each with the runs it is of."""
    return _plan(runs, "confidence")


def margin(runs: Sequence[Results]) -> str:
    """`2 %`: the difference below which two latencies count as the same, as `confidence` says it."""
    return _plan(runs, "margin")


def intervals(confidence: str) -> str:
    """What the intervals are, in a sentence."""
    return f"Intervals are at {confidence} confidence, over fresh processes."


def _plan(runs: Sequence[Results], name: str) -> str:
    return told_apart([(numbers.percent(plan_number(run.suite, name)), run.name) for run in runs])


def told_apart(values: Sequence[tuple[str, str]]) -> str:
    """What all say; where they differ, each value with the names of those who say it."""
    by_value: dict[str, list[str]] = {}
    for value, name in values:
        by_value.setdefault(value, []).append(name)
    if len(by_value) < 2:
        return next(iter(by_value), "")
    return ", ".join(f"{value} ({', '.join(names)})" for value, names in by_value.items())
