"""The words, figures and groups that the Markdown and the HTML report share. Rounding happens here.

Nothing is escaped here: each report escapes for its own language.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
"""A row of the table, by column name."""

RANDOM_WEIGHTS = (
    "Random weights: latency and memory are the architecture's, agreement is with the same random model, "
    "and accuracy means nothing."
)

# Symbols stand beside the words, so that colour is never the only carrier.
SYMBOLS = {"ok": "✓", "mismatch": "≠", "skipped": "–", "failed": "✕"}


@dataclass(frozen=True)
class Group:
    """Cases that are compared with each other: one model, one shape, one run.

    `labels` tell the rows apart; `best` are the recommended rows, the fastest first.
    """

    title: str
    weights: str
    machine: str
    rows: tuple[Row, ...]
    labels: tuple[str, ...]
    best: tuple[int, ...]

    @property
    def baseline(self) -> str:
        """The label of the case that the others are compared with, or an empty string."""
        return next((l for r, l in zip(self.rows, self.labels, strict=True) if r["is_baseline"]), "")

    @property
    def conclusion(self) -> str:
        """Which artifact to ship, by how much it is faster, what it needs and how well it agrees."""
        if not self.best:
            return "No case that agrees with the reference was timed."
        if len(self.best) > 1:
            names = ", ".join(self.labels[number] for number in self.best)
            return f"The fastest cannot be told apart: {names}."
        row, label = self.rows[self.best[0]], self.labels[self.best[0]]
        return f"{label} is the fastest that agrees with the reference: {'; '.join(_facts(row))}."


def groups(runs: Any) -> tuple[Group, ...]:
    """The groups of all runs in the order of the table."""
    rows: list[Row] = runs.to_pandas().to_dict("records")
    members: dict[tuple[str, str], list[int]] = {}
    for number, row in enumerate(rows):
        members.setdefault((row["run"], row["group"]), []).append(number)
    best = {(advice.run, advice.group): advice.rows for advice in runs.recommend()}
    return tuple(
        _group([rows[number] for number in numbers], [numbers.index(b) for b in best[key]])
        for key, numbers in members.items()
    )


def _group(rows: Sequence[Row], best: Sequence[int]) -> Group:
    first = rows[0]
    weights = "random weights" if first["weights"] == "random" else f"{first['weights']} weights"
    return Group(
        title=f"{first['model']}, {shape(first)}",
        weights=weights,
        machine=first["machine"],
        rows=tuple(rows),
        labels=_labels(rows),
        best=tuple(best),
    )


def shape(row: Row) -> str:
    """`batch 1, image_size 224`."""
    sizes = [("batch", row["batch"]), *((name, row[name]) for name in row["size_columns"])]
    return ", ".join(f"{name} {integer(size)}" for name, size in sizes if known(size))


def _labels(rows: Sequence[Row]) -> tuple[str, ...]:
    """`onnx + fp16 · onnxruntime CPU`, and whatever else tells the rows of the group apart."""
    plain = [f"{r['path']} · {r['backend']} {short_provider(r['provider'])}".strip() for r in rows]
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


def short_provider(provider: str) -> str:
    """`CUDA` for `CUDAExecutionProvider`."""
    return provider.removesuffix("ExecutionProvider") or provider


def known(value: Any) -> bool:
    """Whether a cell holds something: pandas says None, NaN or NA where nothing was measured."""
    try:
        return value is not None and bool(value == value)
    except TypeError:  # pandas.NA has no truth value
        return False


def number(value: Any, digits: int = 4) -> str:
    """Significant digits without an exponent, thousands apart; empty where not known."""
    if not known(value):
        return ""
    if not math.isfinite(value) or value == 0:
        return str(value)
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(decimals, 6)}f}"


def integer(value: Any) -> str:
    """A whole number with thousands apart; empty where not known."""
    return f"{round(value):,}" if known(value) else ""


def interval(low: Any, high: Any, like: float, digits: int = 4) -> str:
    """`133.0 – 148.9`, with as many decimals as the point has; empty where there is none."""
    if not (known(low) and known(high)):
        return ""
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(like)))) if like else digits
    return f"{low:,.{decimals}f} – {high:,.{decimals}f}"


def latency(row: Row) -> str:
    """`140.7 (133.0 – 148.9)`, in ms."""
    return _with_interval(row, "p50_ms", "p50_low_ms", "p50_high_ms", 4)


def ratio(row: Row) -> str:
    """`0.453 (0.441 – 0.466)`: time over the baseline's."""
    return _with_interval(row, "ratio", "ratio_low", "ratio_high", 3)


def verdict(row: Row) -> str:
    """The verdict; `reference` for the baseline, `not ranked` for a mismatch."""
    if row["is_baseline"] and row["outcome"] == "ok":
        return "reference"
    return "not ranked" if row["outcome"] == "mismatch" else str(row["verdict"])


def cosine(value: Any) -> str:
    """Five decimals, rounded down: a candidate that differs never reads 1.00000."""
    return f"{math.floor(value * 1e5) / 1e5:.5f}" if known(value) else ""


def error(value: Any) -> str:
    """`2.0e-06`; empty where not known."""
    return f"{value:.1e}" if known(value) else ""


def percent(value: Any) -> str:
    """`99.5 %`, rounded down."""
    return f"{math.floor(value * 1000) / 10:g} %" if known(value) else ""


def metric_names(rows: Sequence[Row]) -> tuple[str, ...]:
    """The task metrics that any of the rows has."""
    names = rows[0]["metric_columns"] if rows else ()
    return tuple(name for name in names if any(known(row[name]) for row in rows))


def _with_interval(row: Row, point: str, low: str, high: str, digits: int) -> str:
    value = row[point]
    bounds = interval(row[low], row[high], value, digits) if known(value) else ""
    return f"{number(value, digits)} ({bounds})" if bounds else number(value, digits)


def _facts(row: Row) -> list[str]:
    facts = [f"{latency(row)} ms"]
    if known(row["ratio"]):
        facts.append(f"{ratio(row)} times the latency of the reference, {_times(row)}")
    if known(row["peak_above_empty_mib"]):
        facts.append(f"{integer(row['peak_above_empty_mib'])} MiB at its peak above an empty process")
    if known(row["artifact_size_mib"]):
        facts.append(f"{number(row['artifact_size_mib'], 3)} MiB on disk")
    if known(row["cosine"]):
        facts.append(f"worst cosine {cosine(row['cosine'])}")
    facts += [
        f"{name.replace('_', ' ')} {percent(row[name])}" for name in metric_names([row])
    ]
    return facts


def _times(row: Row) -> str:
    """`2.21x as fast`."""
    return f"{1 / row['ratio']:.2f}x as fast" if row["ratio"] > 0 else ""
