"""compare.csv, compare.md and compare.html: a comparison on disk, with the look of the run's own reports."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchbox.comparison import wording
from benchbox.comparison.gates import Judgement
from benchbox.comparison.rows import Change, Comparison, Row, Versus
from benchbox.errors import DiskError
from benchbox.numerics.stats import Interval
from benchbox.reporters import foreign, labels, numbers, templates
from benchbox.reporters import wording as shared
from benchbox.reporters.formats.markdown import escape
from benchbox.schema.seen import Record

# As in the run's own reports: what a page, and a comment on a pull request, can hold.
MAX_ROWS_HTML = 2000
MAX_ROWS_MARKDOWN = 150

# Ratios are drawn on one logarithmic scale, at most from a quarter to four times: a wild interval may not
# make all others points.
_WIDEST_LOG = math.log(4)
_LEAST_LOG = math.log(1.1)
_WIDTH, _HEIGHT = 120, 14

_QUANTITIES = (
    ("latency", "p50_ms"),
    ("peak_memory", "peak_memory_mib"),
    ("peak_above_empty", "peak_above_empty_mib"),
    ("size", "artifact_size_mib"),
)


@dataclass(frozen=True)
class Forest:
    """A ratio's interval in pixels: a line, a dot, and the place of 1."""

    low: float
    point: float
    high: float
    one: float


@dataclass(frozen=True)
class Table:
    """The rows of one model and shape, of one run against the first, each with its picture."""

    heading: str
    rows: tuple[tuple[Row, Forest | None], ...]


def write(comparison: Comparison, judgement: Judgement, folder: Path) -> tuple[Path, ...]:
    """Writes the three files. Raises DiskError where the disk refuses."""
    pages = {
        "compare.html": html(comparison, judgement),
        "compare.md": markdown(comparison, judgement),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_csv(comparison, folder / "compare.csv")
        for name, text in pages.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise DiskError(f"cannot write the comparison into {folder}: {error.strerror or error}") from error
    return tuple(folder / name for name in ("compare.csv", *pages))


def html(comparison: Comparison, judgement: Judgement) -> str:
    """One page that opens from disk without a network."""
    return templates.html("compare.html.j2").render(
        **_values(comparison, judgement, MAX_ROWS_HTML),
        css=templates.verbatim("report.css"),
        js=templates.verbatim("report.js"),
        width=_WIDTH,
        height=_HEIGHT,
    )


def markdown(comparison: Comparison, judgement: Judgement) -> str:
    """The same for a pull request."""
    template = templates.text("compare.md.j2", escape)
    return template.render(**_values(comparison, judgement, MAX_ROWS_MARKDOWN))


def table_rows(comparison: Comparison) -> Iterator[dict[str, Any]]:
    """A row a case and later run, nothing rounded: what compare.csv holds. None: not known."""
    for versus in comparison.versus:
        for row in versus.rows:
            yield {
                **_identity(row, versus),
                **_latency(row),
                **{
                    key: value
                    for name, column in _QUANTITIES
                    for key, value in _change(column, getattr(row, name)).items()
                    if name != "latency"
                },
                "same_artifact": row.same_artifact,
                **_sides("artifact_sha256", _shas(row)),
                **{
                    key: value
                    for name in ("cosine", "max_abs_error", *comparison.metrics)
                    for key, value in _sides(name, _values_of(row.parity.get(name, Change()))).items()
                },
            }


def _write_csv(comparison: Comparison, path: Path) -> None:
    rows = list(table_rows(comparison))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writerow({name: foreign.cell(name) for name in writer.fieldnames})
        writer.writerows({name: foreign.cell(value) for name, value in row.items()} for row in rows)


def _identity(row: Row, versus: Versus) -> dict[str, Any]:
    case = (row.pair.before or row.pair.after or _nothing()).case
    return {
        "run_a": versus.before.name,
        "run_b": versus.after.name,
        "machine_a": versus.before.machine,
        "machine_b": versus.after.machine,
        "model": case.model.name,
        "weights": case.model.weights,
        "shape": case.shape_label,
        "path": case.path_label,
        "backend": case.backend.label,
        "provider": case.backend.provider,
        "threads": case.backend.threads.intra_op,
        **_sides("case_id", [r.case.id if r else None for r in (row.pair.before, row.pair.after)]),
        **_sides("outcome", row.outcome),
        "differences": "; ".join(wording.notes(row)),
    }


def _latency(row: Row) -> dict[str, Any]:
    return {
        **_sides("p50_ms", _values_of(row.latency)),
        **_bounds("ratio", row.latency.ratio),
        "verdict": row.verdict,
        "anchored": row.anchored,
        "why_not_anchored": row.why_plain,
        **_bounds("plain_ratio", row.plain),
    }


def _change(column: str, change: Change) -> dict[str, Any]:
    name = column.removesuffix("_mib")
    ratio = _bounds(f"{name}_ratio", change.ratio)
    if change.ratio is None:
        ratio[f"{name}_ratio"] = change.factor
    return {**_sides(column, _values_of(change)), **ratio}


def _sides(name: str, values: Sequence[Any]) -> dict[str, Any]:
    return {f"{name}_a": values[0], f"{name}_b": values[1]}


def _values_of(change: Change) -> tuple[float | None, float | None]:
    return change.before, change.after


def _bounds(name: str, interval: Interval | None) -> dict[str, Any]:
    found = (interval.point, interval.low, interval.high) if interval else (None, None, None)
    return dict(zip((name, f"{name}_low", f"{name}_high"), found, strict=True))


def _shas(row: Row) -> tuple[str | None, str | None]:
    before, after = (
        r.artifact.sha256 if r and r.artifact else None for r in (row.pair.before, row.pair.after)
    )
    return before, after


def _nothing() -> Record:
    raise ValueError("a pair of nothing")


# Pages


def _values(comparison: Comparison, judgement: Judgement, max_rows: int) -> Mapping[str, Any]:
    left = max_rows
    parts = []
    for versus in comparison.versus:
        parts.append((versus, _tables(versus, left)))
        left = max(0, left - len(versus.rows))
    total = sum(len(versus.rows) for versus in comparison.versus)
    return {
        "runs": comparison.runs,
        "facts": (*comparison.environments, *comparison.settings),
        "parts": parts,
        "left_out": max(0, total - max_rows),
        "metrics": comparison.metrics,
        "findings": wording.findings(judgement),
        "passed": sum(finding.state == "passed" for finding in judgement.findings),
        "judged": bool(judgement.findings or judgement.idle),
        "unreadable": wording.unreadable(comparison),
        "confidence": numbers.percent(comparison.runs[0].confidence),
        "margin": numbers.percent(comparison.runs[0].margin),
        "random": shared.RANDOM_WEIGHTS if _random(comparison) else "",
        "w": shared,
        "n": numbers,
        "c": wording,
        "metric_name": labels.metric_name,
        "unknown": Change(),
    }


def _tables(versus: Versus, max_rows: int) -> list[Table]:
    shown = versus.rows[:max_rows]
    reach = _reach([row.latency.ratio for row in shown])
    by_heading: dict[str, list[tuple[Row, Forest | None]]] = {}
    for row in shown:
        by_heading.setdefault(row.heading, []).append((row, _forest(row.latency.ratio, reach)))
    return [Table(heading, tuple(rows)) for heading, rows in by_heading.items()]


def _random(comparison: Comparison) -> bool:
    return any(record.case.model.weights == "random" for run in comparison.runs for record in run.records)


def _reach(ratios: Sequence[Interval | None]) -> float:
    """How far the scale goes from 1, as a logarithm: to the farthest point, and half as far again."""
    points = [abs(math.log(ratio.point)) for ratio in ratios if ratio and ratio.point > 0]
    return min(_WIDEST_LOG, max([_LEAST_LOG, *(1.5 * point for point in points)]))


def _forest(ratio: Interval | None, reach: float) -> Forest | None:
    if ratio is None:
        return None
    low, point, high = (_x(value, reach) for value in (ratio.low, ratio.point, ratio.high))
    return Forest(low, point, high, _WIDTH / 2)


def _x(value: float, reach: float) -> float:
    log = max(-reach, min(reach, math.log(value))) if value > 0 else -reach
    return round(_WIDTH / 2 + log / reach * (_WIDTH / 2 - 4), 1)
