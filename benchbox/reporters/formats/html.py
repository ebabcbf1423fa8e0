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
from typing import TYPE_CHECKING, Any

from benchbox.numerics.stats import Floats
from benchbox.reporters import (
    across,
    charts,
    foreign,
    labels,
    machines,
    numbers,
    pictures,
    quietness,
    templates,
    timeline,
    wording,
)
from benchbox.reporters.wording import Group

if TYPE_CHECKING:
    import pandas as pd

    from benchbox.results.runs import Runs

REQUIRES = ("jinja2", "plotly")

# A row takes 2 kB of HTML: at these limits the file has 9 MB, of which plotly.js takes 4.8. The rest
# is in summary.csv, and the page says so.
MAX_ROWS = 2000
MAX_GROUPS = 200
# Cases that are named under one reason.
MAX_LABELS = 200


@dataclass(frozen=True)
class Missing:
    """Cases that are not ok for one reason: what happened, where, and what to type."""

    outcome: str
    stage: str
    reason: str
    hint: str
    labels: tuple[str, ...]
    count: int
    detail: str
    peak: str


def write(runs: Runs, folder: Path) -> list[Path]:
    """Writes report.html."""
    from plotly.offline import get_plotlyjs

    path = folder / "report.html"
    path.write_text(render(runs, get_plotlyjs()), encoding="utf-8")
    return [path]


def render(runs: Runs, plotly_js: str) -> str:
    """The page, with the given plotly.js in it."""
    from markupsafe import Markup

    frame = runs.table
    shown = wording.groups(runs, MAX_ROWS, MAX_GROUPS)
    return templates.html("html.j2").render(
        runs=runs.results,
        suites=[str(results.suite.get("name", results.name)) for results in runs.results],
        dates=sorted({frame["recorded_at"].min(), frame["recorded_at"].max()}) if len(frame) else [],
        groups=shown,
        total_rows=len(frame),
        shown_rows=sum(len(group.rows) for group in shown),
        across=across.of(shown),
        outcomes=_count(frame["outcome"]),
        missing=_missing(runs, shown),
        drifts=_drifts(runs, shown),
        attended=[pictures.of(runs, group) for group in shown],
        tolerances=_tolerances(runs),
        random=wording.random_weights(shown),
        quietness=quietness.of_runs(runs),
        timeline=timeline.of_runs(runs),
        w=wording,
        n=numbers,
        metric_name=labels.metric_name,
        facts=machines.facts,
        css=templates.verbatim("report.css"),
        js=templates.verbatim("report.js"),
        # plotly's own, and what json_for_script escaped: written as it is.
        plotly_js=Markup(plotly_js),  # noqa: S704
        charts=Markup(json_for_script([charts.of(g, plotly_text) for g in shown])),  # noqa: S704
    )


def json_for_script(value: Any) -> str:
    """JSON that cannot end its script element, nor begin a comment in it; NaN is null."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def plotly_text(value: str) -> str:
    """Text that plotly shows as it is: it reads tags and entities in labels."""
    return html.escape(foreign.clean(value), quote=False)


def _count(outcomes: pd.Series[str]) -> Mapping[str, int]:
    counts = outcomes.value_counts()
    return {outcome: int(counts.get(outcome, 0)) for outcome in wording.SYMBOLS}


def _missing(runs: Runs, shown: Sequence[Group]) -> list[Missing]:
    """Each reason once, with the cases it holds for; failures first."""
    alike = [list(rows) for rows in runs.not_ok()[:MAX_ROWS]]
    named = _named(runs.table, [row for rows in alike for row in rows[:MAX_LABELS]], shown)
    peaks = runs.table["peak_memory_mib"].where(runs.table["replicates"].isna()).to_numpy()
    return [_reason(runs, rows, named, peaks) for rows in alike]


def _named(table: pd.DataFrame, rows: Sequence[int], shown: Sequence[Group]) -> Mapping[int, str]:
    """As the page names a case that it shows; what tells it from its neighbours is not known of others."""
    named = {
        number: labels.in_full(group.heading, label)
        for group in shown
        for number, label in zip(group.numbers, group.labels, strict=True)
    }
    others = wording.table_rows(table, [row for row in rows if row not in named])
    return named | {number: wording.named_alone(row) for number, row in others.items()}


def _reason(runs: Runs, rows: Sequence[int], named: Mapping[int, str], peaks: Floats) -> Missing:
    record = runs.record(rows[0])
    known = [float(peak) for peak in peaks[rows] if peak == peak]  # noqa: PLR0124  # NaN is not itself
    return Missing(
        outcome=record.outcome,
        stage=wording.stage(record),
        reason=record.reason,
        hint=record.hint,
        labels=tuple(named[row] for row in rows[:MAX_LABELS]),
        count=len(rows),
        detail=record.detail,
        peak=wording.peak_until_then(max(known)) if known else "",
    )


def _drifts(runs: Runs, groups: Sequence[Group]) -> list[list[charts.Panel]]:
    """Per group, a panel for each timed case: block medians over rounds."""
    return [
        charts.panels(
            [
                (label, runs.record(number).measurement, row["p50_ms"])
                for number, row, label in list(zip(g.numbers, g.rows, g.labels, strict=True))[
                    : charts.MAX_PANELS
                ]
            ]
        )
        for g in groups
    ]


def _tolerances(runs: Runs) -> list[tuple[str, str]]:
    """The parity gates of the suites, by precision."""
    gates: dict[str, list[tuple[str, str]]] = {}
    for results in runs.results:
        parity = results.suite.get("parity")
        tolerances = parity.get("tolerances") if isinstance(parity, Mapping) else None
        for precision, gate in (tolerances if isinstance(tolerances, Mapping) else {}).items():
            asked = gate if isinstance(gate, Mapping) else {}
            text = ", ".join(f"{name} {value}" for name, value in asked.items() if value not in (None, {}))
            gates.setdefault(str(precision), []).append((text or "none", results.name))
    return [(precision, wording.told_apart(said)) for precision, said in gates.items()]
