"""What the HTML report draws: plotly traces as plain data, and the drift panels as SVG paths.

Layout, fonts and colours are in report.js, which knows whether the page is light or dark.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchbox.numerics import calm
from benchbox.reporters import numbers, wording
from benchbox.reporters.wording import Group, Row
from benchbox.schema.seen import Measurement

# More bars than this cannot be read; the table has them all.
MAX_BARS = 40
MAX_PANELS = 24

# 1 - cosine below this is drawn at this value: a logarithmic axis has no zero. float32 resolves 6e-8.
_LEAST_DISTANCE = 1e-8

_WIDTH, _HEIGHT, _PAD = 220, 64, 4


@dataclass(frozen=True)
class Panel:
    """Block medians of one case over its rounds; `paths` has one polyline a process, `crosses` are
    disturbed blocks; `spread` says how far the blocks are apart."""

    label: str
    paths: tuple[str, ...]
    crosses: tuple[tuple[float, float], ...]
    middle_y: float
    spread: str


def of(group: Group, escape: Callable[[str], str]) -> dict[str, Any]:
    """The charts of a group: one entry a timed case, the fastest first, as report.js wants them."""
    timed = [
        (row, label) for row, label in zip(group.rows, group.labels, strict=True) if row["p50_ms"] is not None
    ]
    timed.sort(key=lambda item: item[0]["p50_ms"])
    shown = timed[:MAX_BARS]
    baseline = [item for item in timed[MAX_BARS:] if item[0]["is_baseline"]]
    return {
        "left_out": len(timed) - len(shown) - len(baseline),
        "cases": [_case(row, escape(label)) for row, label in shown + baseline],
    }


def panels(cases: Sequence[tuple[str, Measurement | None, float | None]]) -> list[Panel]:
    """A panel for each timed case, all on one scale: relative to the case's own median."""
    shown = [(label, m, p50_ms) for label, m, p50_ms in cases[:MAX_PANELS] if m is not None and p50_ms]
    series = [(label, _relative(measurement, p50_ms)) for label, measurement, p50_ms in shown]
    if pace := _pace([measurement for _, measurement, _ in shown]):
        series.append(("the canary, over the best that it took", [pace]))
    values = [value for _, lines in series for line in lines for value, _ in line]
    if not values:
        return []
    # At least 5 % each way, so that a calm machine does not look like a wild one.
    reach = max(0.05, *(abs(value) for value in values))
    return [_panel(label, lines, reach) for label, lines in series]


def _pace(measurements: Sequence[Measurement]) -> list[tuple[float, bool]]:
    """How much longer the canary took than at its best, in the order of time, and where the machine was
    slow."""
    blocks = [b for m in measurements for replicate in m.replicates for b in replicate.blocks]
    known = sorted((b.started_ns, b.pace, calm.is_slow(b)) for b in blocks if b.pace is not None)
    return [(pace - 1, slow) for _, pace, slow in known]


def _case(row: Row, label: str) -> dict[str, Any]:
    kind = "baseline" if row["is_baseline"] else row["outcome"]
    distance = None if row["cosine"] is None else max(1 - row["cosine"], _LEAST_DISTANCE)
    return {
        "label": label,
        "kind": kind,
        "p50": row["p50_ms"],
        "low": row["p50_low_ms"],
        "high": row["p50_high_ms"],
        "said": f"{wording.latency(row)} ms",
        "times": _times(row),
        "distance": distance,
        "cosine": numbers.cosine(row["cosine"]),
        "peak": row["peak_above_empty_mib"],
        "file": row["artifact_size_mib"],
        "verdict": wording.verdict(row),
    }


def _times(row: Row) -> str:
    if row["is_baseline"]:
        return "baseline"
    return f"{wording.ratio(row)} of the baseline" if row["ratio"] is not None else ""


def _relative(measurement: Measurement, p50_ms: float) -> list[list[tuple[float, bool]]]:
    """Per process, each block's median as a deviation from the case's (0.1: 10 % above), and whether it
    was disturbed."""
    return [
        [
            (median(block.latencies_ns) / 1e6 / p50_ms - 1, calm.is_disturbed(block))
            for block in replicate.blocks
            if block.latencies_ns
        ]
        for replicate in measurement.replicates
    ]


def _panel(label: str, lines: Sequence[Sequence[tuple[float, bool]]], reach: float) -> Panel:
    count = sum(len(line) for line in lines) + len(lines) - 1
    step = (_WIDTH - 2 * _PAD) / max(count - 1, 1)
    paths, crosses, at = [], [], 0
    for line in lines:
        points = []
        for value, disturbed in line:
            x, y = _PAD + at * step, _y(value, reach)
            points.append(f"{x:.1f},{y:.1f}")
            crosses += [(round(x, 1), round(y, 1))] if disturbed else []
            at += 1
        at += 1
        paths.append(" ".join(points))
    values = [value for line in lines for value, _ in line]
    spread = f"{numbers.signed_percent(min(values))} to {numbers.signed_percent(max(values))}"
    return Panel(label, tuple(paths), tuple(crosses), _y(0, reach), spread)


def _y(value: float, reach: float) -> float:
    return _HEIGHT / 2 - value / reach * (_HEIGHT / 2 - _PAD)
