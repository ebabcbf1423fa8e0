"""What the terminal shows at the end: values in, rich renderables out. Nothing is printed here.

Names come from users: they are put into `Text`, never into markup, and lose their control characters.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from benchbox.schema.asked import Case
from benchbox.schema.seen import Environment, Host, Record

if TYPE_CHECKING:
    from benchbox.machine.doctor import Finding
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


@dataclass(frozen=True)
class Row:
    """What the final table says of one case; None: not known.

    `best`: it agrees with the reference, and none of its table is proven to be faster.
    """

    heading: str
    path: str
    runtime: str
    outcome: str
    p50_ms: float | None = None
    p50_low_ms: float | None = None
    p50_high_ms: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    verdict: str = ""
    peak_memory_mib: float | None = None
    cosine: float | None = None
    best: bool = False


def rows(
    frame_rows: Sequence[Mapping[Any, Any]], cases: Mapping[str, Case], best: Collection[int] = ()
) -> tuple[Row, ...]:
    """Rows of the frame, as the table wants them; `cases` by id, `best` by position."""
    runtimes = _runtimes(list(cases.values()))
    several_runs = len({values["run"] for values in frame_rows}) > 1
    return tuple(
        replace(
            _row(values, cases[values["case_id"]], runtimes),
            heading=_heading(cases[values["case_id"]], values["run"] if several_runs else ""),
            best=position in best,
        )
        for position, values in enumerate(frame_rows)
    )


def results_table(table_rows: Sequence[Row]) -> RenderableType:
    """One table for each model and shape: its cases are compared with each other. Fits 80 columns."""
    parts: list[RenderableType] = []
    for heading, members in grouped(table_rows, lambda row: row.heading):
        parts += [Text(heading, style="bold"), _group_table(members), *_choice(members), Text()]
    return Group(*parts)


def left_out(count: int, file: str) -> RenderableType:
    """How many cases the table does not show, and where they are."""
    return Text(f"and {count:,} more case{'s' if count > 1 else ''}, in {file}\n") if count else Group()


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
    runtimes = _runtimes([item.case for item in planned])
    for heading, members in grouped(planned, lambda item: _heading(item.case)):
        parts += [Text(heading, style="bold"), _plan_group(members, runtimes), Text()]
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
    """The environment, a fact a line."""
    memory = f"{machine.memory_bytes / 2**30:.1f} GiB"
    if machine.memory_limit_bytes:
        memory += f", limited to {machine.memory_limit_bytes / 2**30:.1f} GiB"
    cores = f"{machine.cpu_count} cores"
    if machine.cpu_limit:
        cores += f", limited to {machine.cpu_limit:g}"
    facts = [
        ("cpu", f"{machine.cpu_model}, {cores}"),
        ("int8", _int8_kernels(machine.cpu_features)),
        ("memory", memory),
        *(("gpu", _gpu(gpu)) for gpu in machine.gpus),
        ("driver", machine.driver or "no NVIDIA driver"),
        ("kernel", machine.kernel),
        ("python", machine.python),
        ("packages", " ".join(f"{name}={version}" for name, version in machine.packages.items())),
        ("benchbox", " at ".join(filter(None, (machine.benchbox, machine.git_commit)))),
    ]
    return Group(_pairs(facts), Text())


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


def clean(text: str) -> str:
    """The text without control characters: a name from a file must not drive the terminal."""
    return "".join(" " if unicodedata.category(sign) == "Cc" else sign for sign in text)


def milliseconds(value: float, like: float | None = None) -> str:
    """Four significant digits, or as many decimals as `like` gets."""
    return f"{value:,.{_decimals(value if like is None else like)}f}"


def short_provider(provider: str) -> str:
    """`CUDA` for `CUDAExecutionProvider`."""
    return provider.removesuffix("ExecutionProvider") or provider


def _row(values: Mapping[Any, Any], case: Case, runtimes: Mapping[str, str]) -> Row:
    return Row(
        heading="",
        path=clean(case.path_label),
        runtime=runtimes[case.id],
        outcome=values["outcome"],
        p50_ms=_known(values["p50_ms"]),
        p50_low_ms=_known(values["p50_low_ms"]),
        p50_high_ms=_known(values["p50_high_ms"]),
        ratio=_known(values["ratio"]),
        ratio_low=_known(values["ratio_low"]),
        ratio_high=_known(values["ratio_high"]),
        verdict=_verdict(values),
        peak_memory_mib=_known(values["peak_memory_mib"]),
        cosine=_known(values["cosine"]),
    )


def _verdict(values: Mapping[Any, Any]) -> str:
    if values["is_baseline"]:
        return "baseline"
    return values["verdict"] if isinstance(values["verdict"], str) else ""


def _known(value: Any) -> float | None:
    """None for what pandas says where it knows nothing."""
    return float(value) if isinstance(value, int | float) and not math.isnan(value) else None


def _heading(case: Case, run: str = "") -> str:
    weights = "random weights" if case.model.weights == "random" else case.model.weights
    return clean(": ".join(filter(None, (run, f"{case.model.name} ({weights}), {case.shape_label}"))))


def _choice(members: Sequence[Row]) -> Iterator[Text]:
    """Which case to ship, where more than one was measured."""
    best = [f"{row.path} on {row.runtime}" for row in members if row.best]
    timed = sum(row.p50_ms is not None for row in members)
    if timed > 1 and len(best) == 1:
        yield Text(f"fastest that agrees with the reference: {best[0]}", style="green")
    elif len(best) > 1:
        yield Text(f"no proven fastest among {len(best)} that agree: measure longer, or on a quieter machine")


def _runtimes(cases: Sequence[Case]) -> dict[str, str]:
    """`onnxruntime CPU` by case; threads, opset and axes are said where cases differ in them."""
    facts = {
        case.id: (
            _threads(case),
            f"opset {case.opset}",
            "dynamic axes" if case.dynamic_axes else "static axes",
        )
        for case in cases
    }
    differ = [len(set(column)) > 1 for column in zip(*facts.values(), strict=True)]
    return {
        case.id: ", ".join(
            [
                clean(f"{case.backend.label} {short_provider(case.backend.provider)}").strip(),
                *(fact for fact, differs in zip(facts[case.id], differ, strict=True) if differs),
            ]
        )
        for case in cases
    }


def _threads(case: Case) -> str:
    threads = case.backend.threads
    inter = f"+{threads.inter_op}" if threads.inter_op > 1 else ""
    return f"{threads.intra_op}{inter} thread{'s' if threads.intra_op > 1 else ''}"


def _group_table(members: Sequence[Row]) -> Table:
    """Two lines a case: what it is and what came out, then where it ran and the intervals."""
    table = plain_table()
    table.add_column("path, runtime", overflow="fold", ratio=1)
    table.add_column("outcome", no_wrap=True, width=8)
    table.add_column("p50 ms", no_wrap=True, width=13, justify="right")
    table.add_column("time / baseline", no_wrap=True, width=16, justify="right")
    table.add_column("MiB", no_wrap=True, width=6, justify="right")
    table.add_column("cosine", no_wrap=True, width=7, justify="right")
    for row in members:
        table.add_row(
            two_lines(Text(row.path), row.runtime),
            _word(row.outcome),
            _p50(row),
            _ratio(row),
            "" if row.peak_memory_mib is None else f"{row.peak_memory_mib:,.0f}",
            "" if row.cosine is None else cosine(row.cosine),
        )
    return table


def _p50(row: Row) -> Text:
    if row.p50_ms is None:
        return Text()
    point = Text(milliseconds(row.p50_ms))
    if row.p50_low_ms is None or row.p50_high_ms is None:
        return point
    low, high = (_bound(bound, row.p50_ms) for bound in (row.p50_low_ms, row.p50_high_ms))
    return two_lines(point, f"{low}-{high}")


def _bound(bound: float, point: float) -> str:
    """As many decimals as the point has, but no more than fit: an interval may reach far."""
    return milliseconds(bound, like=max(bound, point))


def _ratio(row: Row) -> Text:
    verdict = Text(row.verdict, style=STYLES.get(row.verdict, ""))
    if row.ratio is None:
        return verdict
    text = three_digits(row.ratio)
    if row.ratio_low is not None and row.ratio_high is not None:
        text += f" ({three_digits(row.ratio_low)}-{three_digits(row.ratio_high)})"
    return two_lines(verdict, text)


def two_lines(first: Text, second: str) -> Text:
    """A cell of two lines, the second dim."""
    return Text.assemble(first, "\n", (second, "dim"))


def three_digits(ratio: float) -> str:
    """Three significant digits in at most four signs."""
    if ratio >= 1000:  # an interval of two noisy processes can be as wide as that
        return ">999"
    return f"{ratio:.{max(0, min(2, 2 - math.floor(math.log10(ratio))))}f}" if ratio > 0 else "0.00"


def cosine(value: float) -> str:
    """Rounded down: a candidate that differs never reads 1.00000."""
    decimals = 5 if value >= 0 else 4  # as wide with the sign
    return f"{math.floor(value * 10**decimals) / 10**decimals:.{decimals}f}"


def _decimals(value: float) -> int:
    return min(4, max(0, 3 - math.floor(math.log10(value)))) if value > 0 else 3


def _because(members: Sequence[Record], count: int) -> Iterator[Text]:
    first = members[0]
    titles = [clean(record.case.title) for record in members[:TITLES_SHOWN]]
    more = count - len(titles)
    stage = first.stage if first.stage != "plan" else None
    yield Text(f"{stage}: {clean(first.reason)}" if stage else clean(first.reason))
    yield from (Text(f"  {title}", style="dim") for title in titles)
    if more:
        yield Text(f"  and {more} more", style="dim")
    yield from (Text(f"  | {line}", style="dim") for line in _end_of(first.detail))
    peak = first.peak_memory_bytes
    if peak is not None:
        yield Text(f"  peak memory {peak / 2**20:,.0f} MiB", style="dim")
    if first.hint:
        yield Text(f"-> {clean(first.hint)}", style="bold")


def _end_of(detail: str) -> list[str]:
    lines = [clean(line) for line in detail.splitlines() if line.strip()]
    return lines[-_DETAIL_LINES:]


def _plan_group(members: Sequence[Planned], runtimes: Mapping[str, str]) -> Table:
    table = plain_table()
    table.add_column("path", overflow="fold", ratio=1)
    table.add_column("runtime", overflow="fold", ratio=1)
    table.add_column("artifact", no_wrap=True, width=16)
    for item in members:
        table.add_row(Text(clean(item.case.path_label)), Text(runtimes[item.case.id]), Text(_state_of(item)))
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
        lines.append(Text(f"{count} case{'s' if count > 1 else ''} cannot run here: {clean(reason)}"))
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


def _gpu(gpu: Mapping[str, Any]) -> str:
    size_bytes = gpu.get("memory_bytes")
    memory = f"{size_bytes / 2**30:.0f} GiB" if size_bytes else "the machine's memory"
    return f"{gpu['name']}, {memory}, compute capability {gpu['compute_capability']}"


def plain_table(*, header: bool = True) -> Table:
    """A table without lines, as wide as the terminal."""
    return Table(
        box=None, pad_edge=False, padding=(0, 1, 0, 0), expand=True, show_header=header, header_style="dim"
    )


def _pairs(facts: Iterable[tuple[str, str]]) -> Table:
    table = plain_table(header=False)
    table.add_column(no_wrap=True, width=8, style="dim")
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
