"""report.md: the table, what is missing and why, the environment; compact, for a pull request."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchbox.reporters import (
    across,
    foreign,
    labels,
    machines,
    numbers,
    quietness,
    templates,
    timeline,
    wording,
)

if TYPE_CHECKING:
    from benchbox.results.runs import Runs

REQUIRES = ("jinja2",)

# GitHub cuts a comment at 65,536 characters; a case takes about 400, in the table and with its command.
MAX_ROWS = 150


def write(runs: Runs, folder: Path) -> list[Path]:
    """Writes report.md."""
    path = folder / "report.md"
    path.write_text(render(runs), encoding="utf-8")
    return [path]


def render(runs: Runs) -> str:
    """The report's text."""
    groups = wording.groups(runs, MAX_ROWS)
    text = templates.text("markdown.j2", escape).render(
        runs=runs.results,
        groups=groups,
        across=across.of(groups),
        left_out=len(runs.table) - sum(len(g.rows) for g in groups),
        missing=[
            (row, wording.stage(runs.record(number)), labels.in_full(group.heading, label))
            for group in groups
            for row, number, label in zip(group.rows, group.numbers, group.labels, strict=True)
            if row["outcome"] != "ok"
        ],
        random=wording.random_weights(groups),
        quietness=quietness.of_runs(runs),
        timeline=timeline.of_runs(runs),
        w=wording,
        n=numbers,
        metric_name=labels.metric_name,
        in_full=labels.in_full,
        facts=machines.facts,
    )
    return re.sub(r"\n{3,}", "\n\n", text)


def escape(value: Any) -> str:
    """The value as text that GitHub shows as it is: one line, no markup, no HTML, no mention, no control."""
    line = " ".join(foreign.clean(str(value)).split())
    escaped = re.sub(r"([\\`*\[\]|#~])", r"\\\1", html.escape(line, quote=False))
    # Within a word an underscore is no emphasis.
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", escaped).replace("@", "&#64;")
