"""What a run, or a report of several, shows at its end."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from benchbox.results.runs import Runs
    from benchbox.schema.seen import Record
from benchbox.cli.console import show, show_lines

# Of a report of several runs, whose folder is called by all of them; a file system takes 255 bytes.
_LONGEST_NAME = 200


def each_once(folders: Sequence[Path]) -> list[Path]:
    """The folders, without those that are named twice."""
    found: dict[Path, Path] = {}
    for folder in folders:
        found.setdefault(folder.resolve(), folder)
    return list(found.values())


def joined_name(names: Sequence[str]) -> str:
    """A folder's name for a report of these runs."""
    from benchbox.schema.asked import digest

    joined = "+".join(name.replace("/", "-") for name in names)
    if len(names) == 1 or len(joined) <= _LONGEST_NAME:
        return joined
    return f"{names[0].replace('/', '-')[:100]}+{len(names) - 1}-more-{digest(names)[:6]}"


def show_results(runs: Runs, reports: Sequence[Path]) -> None:
    """The final table, why rows are not ok, where everything is, and what to type next."""
    from benchbox.cli import tables
    from benchbox.reporters import foreign, quietness, wording

    groups = wording.groups(runs, tables.MOST_ROWS)
    show(tables.results_table(groups, several_runs=len(runs.results) > 1))
    show(tables.left_out(len(runs.table) - sum(len(group.rows) for group in groups), "summary.csv"))
    if any(group.timed for group in groups):
        show(tables.reading(runs.results))
        show(tables.notices(quietness.of_runs(runs)))
    alike = [
        ([runs.record(row) for row in rows[: tables.TITLES_SHOWN]], len(rows))
        for rows in runs.not_ok()[: tables.MOST_ROWS]
    ]
    show(tables.reasons(alike))
    for results in runs.results:
        if results.damage:
            typer.echo(f"warning: {results.folder}: {foreign.clean(results.damage)}", err=True)
    show_lines(tables.places([results.folder for results in runs.results], reports))
    show_lines(tables.next_steps(_commands([members[0] for members, _ in alike], reports)))


def _commands(records: Sequence[Record], reports: Sequence[Path]) -> list[str]:
    """A case that went wrong, to be run alone, and the report, to be read."""
    wrong = [record.command for record in records if record.outcome in ("failed", "mismatch")]
    pages = [
        shlex.join(["python", "-m", "webbrowser", str(page)]) for page in reports if page.suffix == ".html"
    ]
    return [*wrong[:1], *pages[:1]]
