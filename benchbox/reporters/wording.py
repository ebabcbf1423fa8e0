"""The words, figures and groups that the Markdown and the HTML report share. Rounding happens here.

Nothing is escaped here: each report escapes for its own language.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchbox.schema.asked import plan_number
from benchbox.schema.seen import Environment

Row = Mapping[str, Any]
"""A row of the table, by column name; None where nothing was measured."""

RANDOM_WEIGHTS = (
    "Random weights: latency and memory are the architecture's, agreement is with the same random model, "
    "and accuracy means nothing."
)

# Symbols stand beside the words, so that colour is never the only carrier.
SYMBOLS = {"ok": "✓", "mismatch": "≠", "skipped": "○", "failed": "✕"}


@dataclass(frozen=True)
class Group:
    """Cases that are compared with each other: one model, one shape, one run.

    `key` is the same for the same model and shape in any run; `numbers` are the rows' positions in the table;
    `labels` tell them apart; `best` are the recommended rows, the fastest first; `metrics` are the columns of
    task metrics.
    """

    key: str
    title: str
    weights: str
    run: str
    machine: str
    rows: tuple[Row, ...]
    numbers: tuple[int, ...]
    labels: tuple[str, ...]
    best: tuple[int, ...]
    metrics: tuple[str, ...]

    @property
    def baseline(self) -> str:
        """The label of the case that the others are compared with, or an empty string."""
        return next((label for r, label in zip(self.rows, self.labels, strict=True) if r["is_baseline"]), "")

    def first(self, count: int) -> Group:
        """The group with at most `count` rows; what is recommended is among them, or another would be."""
        others = (number for number in range(len(self.rows)) if number not in set(self.best))
        kept = sorted([*self.best, *others][:count])
        return replace(
            self,
            rows=tuple(self.rows[number] for number in kept),
            numbers=tuple(self.numbers[number] for number in kept),
            labels=tuple(self.labels[number] for number in kept),
            best=tuple(kept.index(number) for number in self.best[:count]),
        )

    @property
    def conclusion(self) -> str:
        """Which artifact to ship, by how much it is faster, what it needs and how well it agrees."""
        if not self.best:
            return "No case that agrees with the reference was timed."
        if len(self.best) > 1:
            names = ", ".join(self.labels[number] for number in self.best)
            return f"The fastest cannot be told apart: {names}."
        row, label = self.rows[self.best[0]], self.labels[self.best[0]]
        return (
            f"{label} is the fastest that agrees with the reference: {'; '.join(_facts(row, self.metrics))}."
        )


def groups(runs: Any, max_rows: int = sys.maxsize, max_groups: int = sys.maxsize) -> list[Group]:
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
        _group(
            [rows[number] for number in numbers],
            numbers,
            [numbers.index(b) for b in best[key]],
            runs.metric_columns,
        ).first(max_rows)
        for key, numbers in shown
    ]


def table_rows(frame: Any, numbers: Sequence[int]) -> dict[int, Row]:
    """These rows of the table, by position."""
    chosen = frame.iloc[list(numbers)].astype(object)
    rows = chosen.where(chosen.notna(), None).to_dict("records")
    return dict(zip(numbers, rows, strict=True))


def _within(groups: Sequence[tuple[Any, list[int]]], max_rows: int) -> list[tuple[Any, list[int]]]:
    shown: list[tuple[Any, list[int]]] = []
    rows = 0
    for key, numbers in groups:
        rows += len(numbers)
        if shown and rows > max_rows:
            break
        shown.append((key, numbers))
    return shown


def _group(rows: Sequence[Row], numbers: Sequence[int], best: Sequence[int], metrics: Sequence[str]) -> Group:
    first = rows[0]
    weights = "random weights" if first["weights"] == "random" else f"{first['weights']} weights"
    return Group(
        key=first["group"],
        title=title(first),
        weights=weights,
        run=first["run"],
        machine=first["machine"],
        rows=tuple(rows),
        numbers=tuple(numbers),
        labels=_labels(rows),
        best=tuple(best),
        metrics=tuple(name for name in metrics if any(row[name] is not None for row in rows)),
    )


def _labels(rows: Sequence[Row]) -> tuple[str, ...]:
    """`onnx + fp16 · onnxruntime CPU`, and whatever else tells the rows of the group apart."""
    plain = [plain_label(row) for row in rows]
    extras: Sequence[tuple[str, Callable[[Row], str]]] = (
        ("threads", lambda r: f"{r['threads']} thread{'s' if r['threads'] != 1 else ''}"),
        ("threads_inter_op", lambda r: f"{r['threads_inter_op']} inter-op"),
        ("provider_options", lambda r: r["provider_options"]),
        ("dynamic_axes", lambda r: "dynamic axes" if r["dynamic_axes"] else "static axes"),
        ("opset_asked", lambda r: f"opset {r['opset_asked']}"),
    )
    differ = [say for column, say in extras if len({row[column] for row in rows}) > 1]
    return tuple(
        ", ".join(filter(None, [label, *(say(row) for say in differ)]))
        for label, row in zip(plain, rows, strict=True)
    )


def plain_label(row: Row) -> str:
    """`onnx + fp16 · onnxruntime CPU`."""
    return f"{row['path']} · {row['backend']} {short_provider(row['provider'])}".strip()


def title(row: Row) -> str:
    """Which group a row belongs to."""
    return f"{row['model']}, {row['shape']}"


def short_provider(provider: str) -> str:
    """`CUDA` for `CUDAExecutionProvider`."""
    return provider.removesuffix("ExecutionProvider") or provider


def number(value: Any, digits: int = 4) -> str:
    """Significant digits without an exponent, thousands apart; empty where not known."""
    if value is None:
        return ""
    if not math.isfinite(value) or value == 0:
        return str(value)
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(decimals, 6)}f}"


def integer(value: Any) -> str:
    """A whole number with thousands apart; empty where not known."""
    return f"{round(value):,}" if value is not None else ""


def interval(low: Any, high: Any, like: float, digits: int = 4) -> str:
    """`133.0 to 148.9`, with as many decimals as the point has; empty where there is none."""
    if low is None or high is None:
        return ""
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(like)))) if like else digits
    return f"{low:,.{decimals}f} to {high:,.{decimals}f}"


def latency(row: Row) -> str:
    """`140.7 (133.0 to 148.9)`, in ms."""
    return _with_interval(row, "p50_ms", "p50_low_ms", "p50_high_ms", 4)


def ratio(row: Row) -> str:
    """`0.453 (0.441 to 0.466)`: time over the baseline's."""
    return _with_interval(row, "ratio", "ratio_low", "ratio_high", 3)


def verdict(row: Row) -> str:
    """The verdict; `reference` for the baseline, `not ranked` for a mismatch."""
    if row["is_baseline"] and row["outcome"] == "ok":
        return "reference"
    return "not ranked" if row["outcome"] == "mismatch" else str(row["verdict"])


def cosine(value: Any) -> str:
    """Five decimals, rounded down: a candidate that differs never reads 1.00000."""
    return f"{math.floor(value * 1e5) / 1e5:.5f}" if value is not None else ""


def error(value: Any) -> str:
    """`2.0e-06`; empty where not known."""
    return f"{value:.1e}" if value is not None else ""


def percent(value: Any) -> str:
    """`99.5 %`, rounded down."""
    return f"{math.floor(value * 1000) / 10:g} %" if value is not None else ""


def form(name: str) -> Callable[[Any], str]:
    """How a task's metric reads: a share in percent, but for those that are none."""
    if name.endswith("_error"):
        return error
    return number if name.endswith("cross_entropy") else percent


def _with_interval(row: Row, point: str, low: str, high: str, digits: int) -> str:
    value = row[point]
    bounds = interval(row[low], row[high], value, digits) if value is not None else ""
    return f"{number(value, digits)} ({bounds})" if bounds else number(value, digits)


def _facts(row: Row, metrics: Sequence[str]) -> list[str]:
    facts = [f"{latency(row)} ms"]
    if row["ratio"] is not None:
        facts.append(f"{ratio(row)} times the latency of the reference, {times(row)}")
    if row["peak_above_empty_mib"] is not None:
        facts.append(f"{integer(row['peak_above_empty_mib'])} MiB at its peak above an empty process")
    if row["artifact_size_mib"] is not None:
        facts.append(f"{number(row['artifact_size_mib'], 3)} MiB on disk")
    if row["cosine"] is not None:
        facts.append(f"worst cosine {cosine(row['cosine'])}")
    facts += [f"{name.replace('_', ' ')} {form(name)(row[name])}" for name in metrics]
    return facts


def times(row: Row) -> str:
    """`2.21x as fast`: the reference's time over this one's."""
    return f"{1 / row['ratio']:.2f}x as fast" if row["ratio"] else ""


def details(row: Row) -> list[tuple[str, str]]:
    """What the table has no column for, a name and a value each; what is not known is left out."""
    pairs = [
        ("precision", row["precision"]),
        ("opset", integer(row["opset"])),
        ("threads", f"{row['threads']} intra-op, {row['threads_inter_op']} inter-op"),
        ("data", row["dataset"]),
        ("p90 ms", number(row["p90_ms"])),
        ("p99 ms", number(row["p99_ms"])),
        ("minimum ms", number(row["min_ms"])),
        ("mean ms", number(row["mean_ms"])),
        ("first call ms", number(row["first_call_ms"])),
        ("first call of a block ms", number(row["cold_ms"])),
        ("calls timed", integer(row["samples"])),
        ("processes, rounds", _both(row["replicates"], row["rounds"])),
        ("disturbed blocks", integer(row["disturbed_blocks"]) if row["disturbed_blocks"] else None),
        ("stopped by", row["stopped_by"]),
        ("load seconds", number(row["load_seconds"], 3)),
        ("peak MiB in all", integer(row["peak_memory_mib"])),
        ("device MiB", integer(row["device_memory_mib"])),
        ("build seconds", number(row["build_seconds"], 3)),
        ("SQNR dB", number(row["sqnr_db"], 3)),
        ("mean abs error", error(row["mean_abs_error"])),
        ("max rel error", error(row["max_rel_error"])),
        ("fp32 noise floor", error(row["noise_floor"])),
        ("parity", row["parity_reasons"]),
        ("note", row["notes"]),
        ("nodes", row["nodes"]),
        ("hub commit", row["commit"]),
        ("artifact SHA-256", row["artifact_sha256"]),
        ("case", row["case_id"]),
    ]
    return [(name, value) for name, value in pairs if value]


def _both(replicates: int | None, rounds: int | None) -> str:
    return "" if replicates is None else f"{replicates}, {rounds}"


def facts(environment: Environment) -> list[tuple[str, str]]:
    """The machine and what is installed on it, a name and a value each; what is not known is left out."""
    limits = []
    if environment.cpu_limit is not None:
        limits.append(f"{environment.cpu_limit:g} cores")
    if environment.memory_limit_bytes is not None:
        limits.append(f"{environment.memory_limit_bytes / 2**30:.1f} GiB")
    pairs = [
        ("machine", environment.machine),
        ("container limits", ", ".join(limits)),
        ("virtualized", environment.virtualized),
        ("frequency governor", environment.governor),
        ("GPU driver", environment.driver),
        ("kernel", environment.kernel),
        ("CPU features", " ".join(environment.cpu_features)),
        ("Python", environment.python),
        ("packages", ", ".join(f"{name} {version}" for name, version in environment.packages.items())),
        ("benchbox", environment.benchbox),
        ("commit", environment.git_commit),
    ]
    return [(name, value) for name, value in pairs if value]


def plan(runs: Sequence[Any], name: str) -> str:
    """`95 %`: the `confidence` or the `margin` of runs; where they differ, each with the runs it is of."""
    return told_apart([(f"{plan_number(run.suite, name) * 100:g} %", run.name) for run in runs])


def told_apart(values: Sequence[tuple[str, str]]) -> str:
    """What all say; where they differ, each value with the names of those who say it."""
    by_value: dict[str, list[str]] = {}
    for value, name in values:
        by_value.setdefault(value, []).append(name)
    if len(by_value) < 2:
        return next(iter(by_value), "")
    return ", ".join(f"{value} ({', '.join(names)})" for value, names in by_value.items())
