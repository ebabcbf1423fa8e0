"""What the terminal shows of a comparison: values in, rich renderables out, in 80 columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from benchbox.cli import tables
from benchbox.cli.tables import STYLES, plain_table, two_lines
from benchbox.comparison import wording
from benchbox.comparison.facts import Fact
from benchbox.comparison.gates import Judgement
from benchbox.comparison.rows import Change, Comparison, Row, Versus
from benchbox.reporters import numbers
from benchbox.reporters.foreign import clean

# More of what did not pass are in the reports.
_FINDINGS_SHOWN = 20

_STYLES = {**STYLES, "inconclusive": "yellow", "failed": "red", "grew": "red", "shrank": "green"}


def comparison_table(comparison: Comparison) -> RenderableType:
    """Which runs, what differs between them, and a table for each run against the first."""
    parts: list[RenderableType] = [_runs(comparison), Text()]
    if comparison.environments or comparison.settings:
        parts += [
            _facts("what differs", (*comparison.environments, *comparison.settings), comparison),
            Text(),
        ]
    for versus in comparison.versus:
        parts += _versus(versus)
    parts.append(Text(wording.reading(comparison.runs[0]), style="dim"))
    parts += [Text(line, style=STYLES["warning"]) for line in wording.unreadable(comparison)]
    return Group(*parts)


def judgement_table(judgement: Judgement, *, strict: bool) -> RenderableType:
    """What the gates say: what failed, what could not be decided."""
    found = wording.findings(judgement)
    table = plain_table(header=False)
    table.add_column(no_wrap=True, width=12)
    table.add_column(overflow="fold", ratio=1)
    for state, gate, text in found[:_FINDINGS_SHOWN]:
        table.add_row(Text(state, style=_STYLES[state]), Text(f"{clean(gate)}: {clean(text)}"))
    more = len(found) - _FINDINGS_SHOWN
    rest = [Text(f"and {numbers.integer(more)} more")] if more > 0 else []
    return Group(table, *rest, _conclusion(judgement, strict))


def _conclusion(judgement: Judgement, strict: bool) -> Text:
    failed, open_ = len(judgement.failed), len(judgement.inconclusive) + len(judgement.idle)
    passed = sum(finding.state == "passed" for finding in judgement.findings)
    text = f"--fail-on: {passed} passed, {failed} failed, {open_} inconclusive"
    if open_ and not strict:
        text += " (--strict fails on these)"
    style = "red" if not judgement.passes(strict=strict) else STYLES["warning"] if open_ else "green"
    return Text(text, style=style)


def _runs(comparison: Comparison) -> RenderableType:
    table = plain_table(header=False)
    table.add_column(no_wrap=True, width=2)
    table.add_column(overflow="fold", ratio=1)
    for run in comparison.runs:
        table.add_row(Text(run.letter, style="bold"), two_lines(Text(clean(run.name)), clean(run.machine)))
    return table


def _facts(heading: str, facts: Sequence[Fact], comparison: Comparison) -> RenderableType:
    table = plain_table()
    table.add_column(heading, overflow="fold", ratio=2)
    for run in comparison.runs:
        table.add_column(run.letter, overflow="fold", ratio=3)
    for fact in facts:
        table.add_row(Text(clean(fact.name), style="dim"), *(Text(clean(value)) for value in fact.values))
    return table


def _versus(versus: Versus) -> Iterator[RenderableType]:
    before, after = versus.before.letter, versus.after.letter
    for heading, rows in tables.grouped(versus.rows, lambda row: row.heading):
        yield Text(clean(heading), style="bold")
        yield _table(rows, versus)
        yield from _notes(rows)
        yield Text()
    yield Text(f"{after} against {before}: {wording.counts(versus)}", style="bold")
    yield from (Text(line, style="dim") for line in wording.drift(versus))
    yield from (Text(f"-> {line}") for line in wording.unpaired(versus))
    yield Text()


def _table(rows: Sequence[Row], versus: Versus) -> Table:
    """Two lines a case: the first run's values, then the other's."""
    before, after = versus.before.letter, versus.after.letter
    table = plain_table()
    table.add_column("path, runtime", overflow="fold", ratio=1)
    table.add_column("", no_wrap=True, width=1, style="dim")
    table.add_column("p50 ms", no_wrap=True, width=8, justify="right")
    table.add_column(f"{after} / {before}", no_wrap=True, width=16, justify="right")
    table.add_column("MiB", no_wrap=True, width=6, justify="right")
    table.add_column("file", no_wrap=True, width=6, justify="right")
    table.add_column("cosine", no_wrap=True, width=7, justify="right")
    for row in rows:
        table.add_row(
            two_lines(Text(clean(row.path)), clean(row.runtime)),
            f"{before}\n{after}",
            _latency(row),
            _ratio(row),
            _both(row.peak_memory, numbers.memory_mib, versus.before.margin),
            _both(row.size, numbers.file_mib, versus.before.margin),
            _cosines(row.parity["cosine"]),
        )
    return table


def _latency(row: Row) -> Text:
    """Both medians; where there is none, how the case ended."""
    sides = zip((row.latency.before, row.latency.after), row.outcome, strict=True)
    return Text("\n").join(
        Text(numbers.number(value, narrow=True))
        if value is not None
        else Text(outcome, style=STYLES.get(outcome, "dim"))
        for value, outcome in sides
    )


def _ratio(row: Row) -> Text:
    word = wording.verdict(row)
    verdict = Text(word, style=_STYLES.get(word, ""))
    ratio = row.latency.ratio
    if not (row.pair.before and row.pair.after):
        return Text()
    if ratio is None:
        return two_lines(verdict, "no interval" if row.latency.factor else "")
    return two_lines(verdict, wording.ratio(row.latency, narrow=True))


def _both(change: Change, say: Callable[[float | None], str], margin: float) -> Text:
    """Both values, the second marked where it is proven to be another."""
    first, second = say(change.before), say(change.after)
    moved = wording.proven(change.ratio, margin)
    return Text.assemble(first, "\n", (second, _STYLES.get(moved, "")))


def _cosines(change: Change) -> Text:
    return Text("\n".join(numbers.cosine(value, narrow=True) for value in (change.before, change.after)))


def _notes(rows: Sequence[Row]) -> Iterator[Text]:
    """Each note once, with the rows that it is for."""
    by_note: dict[str, list[Row]] = {}
    for row in rows:
        for note in wording.notes(row):
            by_note.setdefault(note, []).append(row)
    for note, members in by_note.items():
        of = "all rows" if len(members) == len(rows) > 1 else "; ".join(clean(row.label) for row in members)
        bad = note.startswith("outcome ok ->")
        yield Text(f"{clean(note)}: {of}", style="red" if bad else "dim")
