"""What the terminal shows at the end: values in, rich renderables out. Nothing is printed here.

Names come from users: they are put into `Text`, never into markup, and lose their control characters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from benchbox.reporters import labels, machines, numbers, wording
from benchbox.reporters.foreign import clean
from benchbox.reporters.labels import Ran
from benchbox.schema.seen import Environment, Host, Record

if TYPE_CHECKING:
    from benchbox.machine.doctor import Finding
    from benchbox.results.store import Results
    from benchbox.runner.planning import Capability, Planned

_T = TypeVar("_T")

STYLES = {
    "ok": "green",
    "mismatch": "yellow",
    "skipped": "dim",
    "failed": "red",
    "warning": "yellow",
    "note": "cyan",
    "faster": "green",
    "slower": "red",
    "ready": "green",
}

MOST_ROWS = 300
"""Cases that the final table shows; nobody scrolls through more, and the reports have them all."""

TITLES_SHOWN = 3
"""Titles listed under one reason; the report has them all."""

# Lines of a child's stderr shown under a failure; the record has more.
_DETAIL_LINES = 4


def results_table(groups: Sequence[wording.Group], *, several_runs: bool = False) -> RenderableType:
    """One table for each model and shape: its cases are compared with each other. Fits 80 columns."""
    parts: list[RenderableType] = []
    for group in groups:
        heading = wording.heading(group.rows[0], group.run if several_runs else "")
        parts += [Text(clean(heading), style="bold"), _group_table(group)]
        if group.timed > 1:
            parts.append(Text(clean(group.conclusion), style="green" if len(group.best) == 1 else ""))
        parts.append(Text())
    return Group(*parts)


def reading(runs: Sequence[Results]) -> Text:
    """What the intervals are."""
    return Text(clean(wording.intervals(wording.confidence(runs))), style="dim")


def notices(sentences: Sequence[str]) -> RenderableType:
    """What a reader must know before the numbers, a paragraph each."""
    return Group(*(Text(f"\n{clean(sentence)}", style="yellow") for sentence in sentences))


def left_out(count: int, file: str) -> RenderableType:
    """How many cases the table does not show, and where they are."""
    return Text(f"{wording.left_out(count, file)}\n") if count else Group()


def reasons(alike: Sequence[tuple[Sequence[Record], int]]) -> RenderableType:
    """Why rows are not ok, with what to type: some records that ended alike, and how many there are."""
    if not alike:
        return Group()
    table = plain_table(header=False)
    table.add_column(no_wrap=True, width=8)
    table.add_column(overflow="fold", ratio=1)
    for members, count in alike:
        table.add_row(_word(members[0].outcome), Group(*_because(members, count)))
    return Group(table, Text())


def places(results: Sequence[Path], reports: Sequence[Path]) -> Text:
    """Where the results and the reports are; for `soft_wrap`, so that a path can be copied."""
    return _lines(
        [("results", str(folder)) for folder in results] + [("report", str(file)) for file in reports]
    )


def next_steps(commands: Sequence[str]) -> Text:
    """What to type next; for `soft_wrap`, so that a command can be copied."""
    return _lines([("next", command) for command in dict.fromkeys(commands)])


def plan_table(planned: Sequence[Planned]) -> RenderableType:
    """The matrix: which steps are built already, and what cannot run here."""
    parts: list[RenderableType] = []
    for heading, members in grouped(planned, lambda item: labels.heading_of(item.case)):
        parts += [Text(clean(heading), style="bold"), _plan_group(members), Text()]
    parts.append(_unavailable([(item.unavailable, item.hint) for item in planned]))
    return Group(*parts)


def capabilities_table(capabilities: Sequence[Capability]) -> RenderableType:
    """Plug-ins by kind: word, what it is, whether it runs here."""
    parts: list[RenderableType] = []
    for kind, members in grouped(capabilities, lambda capability: capability.kind):
        table = plain_table(header=False)
        table.add_column(no_wrap=True, width=13)
        table.add_column(ratio=1)
        table.add_column(no_wrap=True, width=6)
        for capability in members:
            state = "ready" if capability.available else "absent"
            about = Group(*_about(capability))
            table.add_row(Text(capability.word, style="bold"), about, _word(state))
        parts += [Text(kind, style="bold underline"), table, Text()]
    return Group(*parts)


def machine_table(machine: Environment) -> RenderableType:
    """The environment, a fact a line; of the CPU's features what they mean for int8."""
    known = {"GPU driver": "no NVIDIA driver", **machines.facts(machine)}
    facts = [(name, known[name]) for name in machines.NAMES if name in known and name != "CPU features"]
    cpu, *others = facts
    return Group(_pairs([cpu, ("int8", _int8_kernels(machine.cpu_features)), *others]), Text())


def findings_table(findings: Sequence[Finding]) -> RenderableType:
    """What makes measurements worse, why, and what to type."""
    table = plain_table(header=False)
    table.add_column(no_wrap=True, width=8)
    table.add_column(overflow="fold", ratio=1)
    for finding in findings:
        lines = [Text(finding.what)]
        if finding.hurts:
            lines += [Text(finding.hurts, style="dim"), Text(f"-> {finding.do}", style="bold")]
        table.add_row(_word(finding.level), Group(*lines))
    return table


def _group_table(group: wording.Group) -> Table:
    """Two lines a case: what it is and what came out, then where it ran and the intervals."""
    table = plain_table()
    table.add_column("path, runtime", overflow="fold", ratio=1)
    table.add_column("outcome", no_wrap=True, width=8)
    table.add_column("p50 ms", no_wrap=True, width=13, justify="right")
    table.add_column("time / baseline", no_wrap=True, width=16, justify="right")
    table.add_column("MiB", no_wrap=True, width=6, justify="right")
    table.add_column("cosine", no_wrap=True, width=7, justify="right")
    for row, runtime in zip(group.rows, group.runtimes, strict=True):
        p50_ms, verdict = row["p50_ms"], wording.verdict(row)
        bounds = numbers.interval(row["p50_low_ms"], row["p50_high_ms"], p50_ms, narrow=True)
        table.add_row(
            two_lines(Text(clean(row["path"])), clean(runtime)),
            _word(row["outcome"]),
            two_lines(Text(numbers.number(p50_ms, narrow=True)), bounds),
            two_lines(Text(verdict, style=STYLES.get(verdict, "")), wording.ratio(row, narrow=True)),
            numbers.memory_mib(row["peak_memory_mib"]),
            numbers.cosine(row["cosine"], narrow=True),
        )
    return table


def two_lines(first: Text, second: str) -> Text:
    """A cell of two lines, the second dim; of one where there is nothing for the second."""
    return Text.assemble(first, "\n", (second, "dim")) if second else first


def _because(members: Sequence[Record], count: int) -> Iterator[Text]:
    first = members[0]
    titles = [clean(record.case.title) for record in members[:TITLES_SHOWN]]
    more = count - len(titles)
    yield Text(clean(": ".join(filter(None, (wording.stage(first), first.reason)))))
    yield from (Text(f"  {title}", style="dim") for title in titles)
    if more:
        yield Text(f"  and {numbers.integer(more)} more", style="dim")
    yield from (Text(f"  | {line}", style="dim") for line in _end_of(first.detail))
    peak = first.peak_memory_bytes
    if peak is not None:
        yield Text(f"  {wording.peak_until_then(peak / numbers.MIB)}", style="dim")
    if first.hint:
        yield Text(f"-> {clean(first.hint)}", style="bold")


def _end_of(detail: str) -> list[str]:
    lines = [clean(line) for line in detail.splitlines() if line.strip()]
    return lines[-_DETAIL_LINES:]


def _plan_group(members: Sequence[Planned]) -> Table:
    table = plain_table()
    table.add_column("path", overflow="fold", ratio=1)
    table.add_column("runtime", overflow="fold", ratio=1)
    table.add_column("artifact", no_wrap=True, width=16)
    runtimes = labels.runtimes([Ran.of_case(item.case) for item in members])
    for item, runtime in zip(members, runtimes, strict=True):
        table.add_row(Text(clean(item.case.path_label)), Text(clean(runtime)), Text(_state_of(item)))
    return table


def _state_of(item: Planned) -> str:
    if item.unavailable:
        return "cannot run here"
    if all(item.built):
        return "built"
    return f"{sum(item.built)} of {len(item.built)} steps"


def _unavailable(reasons_and_hints: Iterable[tuple[str, str]]) -> RenderableType:
    counts: dict[tuple[str, str], int] = {}
    for reason, hint in reasons_and_hints:
        if reason:
            counts[reason, hint] = counts.get((reason, hint), 0) + 1
    lines = []
    for (reason, hint), count in counts.items():
        lines.append(Text(f"{numbers.count(count, 'case')} cannot run here: {clean(reason)}"))
        if hint:
            lines.append(Text(f"-> {clean(hint)}", style="bold"))
    return Group(*lines)


def _about(capability: Capability) -> Iterator[Text]:
    yield Text(clean(capability.summary))
    if capability.origin != "benchbox":
        yield Text(f"from {clean(capability.origin)}", style="dim")
    if capability.hides:
        yield Text(f"counts before that of {clean(', '.join(capability.hides))}", style="yellow")
    if capability.providers:
        yield Text(", ".join(capability.providers), style="dim")
    if not capability.available:
        yield Text(clean(capability.reason), style="yellow")
    if capability.hint:
        yield Text(f"-> {clean(capability.hint)}", style="bold")


def _int8_kernels(features: Sequence[str]) -> str:
    if Host(cpu_features=frozenset(features)).has_vnni:
        return "VNNI: int8 products neither saturate nor take two instructions"
    if "avx2" in features:
        return "AVX2 without VNNI: unsigned-times-signed products saturate, passes clip weights"
    return "no vector instructions for int8 that are known to benchbox"


def plain_table(*, header: bool = True) -> Table:
    """A table without lines, as wide as the terminal."""
    return Table(
        box=None, pad_edge=False, padding=(0, 1, 0, 0), expand=True, show_header=header, header_style="dim"
    )


def _pairs(facts: Iterable[tuple[str, str]]) -> Table:
    table = plain_table(header=False)
    table.add_column(no_wrap=True, width=14, style="dim")
    table.add_column(overflow="fold", ratio=1)
    for name, value in facts:
        table.add_row(name, Text(clean(value)))
    return table


def _lines(named: Sequence[tuple[str, str]]) -> Text:
    return Text("\n").join(Text.assemble((f"{name:<8} ", "dim"), clean(value)) for name, value in named)


def grouped(items: Sequence[_T], key: Callable[[_T], str]) -> Iterator[tuple[str, list[_T]]]:
    """The items by key, keys in the order of their first item."""
    groups: dict[str, list[_T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    yield from groups.items()


def _word(word: str) -> Text:
    return Text(word, style=STYLES.get(word, ""))
