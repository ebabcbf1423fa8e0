"""report.html: one file that opens from disk without a network; tables, charts, reasons, commands.

plotly.js is written into the file once (4.8 MB): charts can be zoomed and read off, offline. Drift is drawn
as plain SVG. What we did not write is escaped: by Jinja in the page, by `json_for_script` in the data, and
by `plotly_text` in labels, for plotly reads tags in them.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchbox.reporters import _charts, _wording
from benchbox.reporters._wording import Group
from benchbox.schema import Record

REQUIRES = ("jinja2", "plotly")

# A row takes 2 kB of HTML: at these limits the file has 9 MB, of which plotly.js takes 4.8. The rest
# is in summary.csv, and the page says so.
MAX_ROWS = 2000
MAX_GROUPS = 200


@dataclass(frozen=True)
class Missing:
    """Cases that are not ok for one reason: what happened, where, and what to type."""

    outcome: str
    stage: str
    reason: str
    hint: str
    labels: tuple[str, ...]
    detail: str
    peak_memory_mib: float | None


def write(runs: Any, folder: Path) -> list[Path]:
    """Writes report.html."""
    from plotly.offline import get_plotlyjs

    path = folder / "report.html"
    path.write_text(render(runs, get_plotlyjs()), encoding="utf-8")
    return [path]


def render(runs: Any, plotly_js: str) -> str:
    """The page, with the given plotly.js in it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    here = Path(__file__).parent
    templates = Environment(
        loader=FileSystemLoader(here),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    groups = _wording.groups(runs)
    shown = _wording.within(groups[:MAX_GROUPS], MAX_ROWS)
    return templates.get_template("html.j2").render(
        runs=runs.results,
        suites=[str(results.suite.get("name", results.name)) for results in runs.results],
        dates=sorted(row["recorded_at"] for group in groups for row in group.rows),
        groups=shown,
        total_rows=sum(len(group.rows) for group in groups),
        shown_rows=sum(len(group.rows) for group in shown),
        outcomes=_count(groups),
        missing=_missing(runs, groups),
        unreadable=sum(len(results.unreadable) for results in runs.results),
        drifts=_drifts(runs, shown),
        tolerances=_tolerances(runs),
        random=_wording.RANDOM_WEIGHTS if any(g.weights == "random weights" for g in groups) else "",
        w=_wording,
        # Ours, or escaped by json_for_script: written as it is.
        css=Markup((here / "report.css").read_text(encoding="utf-8")),  # noqa: S704
        js=Markup((here / "report.js").read_text(encoding="utf-8")),  # noqa: S704
        plotly_js=Markup(plotly_js),  # noqa: S704
        charts=Markup(json_for_script([_charts.of(g, plotly_text) for g in shown])),  # noqa: S704
    )


def json_for_script(value: Any) -> str:
    """JSON that cannot end its script element, nor begin a comment in it; NaN is null."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def plotly_text(value: str) -> str:
    """Text that plotly shows as it is: it reads tags and entities in labels."""
    return html.escape(value, quote=False)


def _count(groups: Sequence[Group]) -> Mapping[str, int]:
    counts = dict.fromkeys(_wording.SYMBOLS, 0)
    for group in groups:
        for row in group.rows:
            counts[row["outcome"]] += 1
    return counts


def _missing(runs: Any, groups: Sequence[Group]) -> list[Missing]:
    """Each reason once, with the cases it holds for; failures first."""
    records = _records(runs)
    found: dict[tuple[str, str, str, str], list[tuple[str, Record]]] = {}
    for group in groups:
        for row, label in zip(group.rows, group.labels, strict=True):
            record = records[row["run"], row["case_id"]]
            if record.outcome != "ok":
                key = (record.outcome, record.stage or "", record.reason, record.hint)
                found.setdefault(key, []).append((f"{label} ({group.title})", record))
    order = ("failed", "mismatch", "skipped")
    ordered = sorted(found.items(), key=lambda item: order.index(item[0][0]))
    return [_reason(key, cases) for key, cases in ordered[:MAX_ROWS]]


def _reason(key: tuple[str, str, str, str], cases: Sequence[tuple[str, Record]]) -> Missing:
    peaks = [r.peak_memory_bytes for _, r in cases if r.peak_memory_bytes is not None]
    return Missing(
        *key,
        labels=tuple(label for label, _ in cases),
        detail=cases[0][1].detail,
        peak_memory_mib=max(peaks) / 2**20 if peaks else None,
    )


def _drifts(runs: Any, groups: Sequence[Group]) -> list[list[_charts.Panel]]:
    """Per group, a panel for each timed case: block medians over rounds."""
    records = _records(runs)
    return [
        _charts.panels(
            [
                (label, records[row["run"], row["case_id"]].measurement, row["p50_ms"])
                for row, label in zip(group.rows, group.labels, strict=True)
            ]
        )
        for group in groups
    ]


def _records(runs: Any) -> Mapping[tuple[str, str], Record]:
    ids = runs.to_pandas()["case_id"]
    return {(results.name, i): r for i, (results, r) in zip(ids, runs.rows, strict=True)}


def _tolerances(runs: Any) -> list[tuple[str, str]]:
    """The parity gates of the suite, by precision."""
    gates: dict[str, str] = {}
    for results in runs.results:
        parity = results.suite.get("parity")
        tolerances = parity.get("tolerances") if isinstance(parity, Mapping) else None
        for precision, gate in (tolerances if isinstance(tolerances, Mapping) else {}).items():
            asked = gate if isinstance(gate, Mapping) else {}
            text = ", ".join(f"{name} {value}" for name, value in asked.items() if value not in (None, {}))
            gates.setdefault(str(precision), text or "none")
    return list(gates.items())
