"""What `benchbox selftest` shows: a bar while it runs, a table at the end.

The bar is redrawn only when there is something to tell: a spinner would wake a core beside the network that
is being timed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from benchbox.cli.tables import STYLES
from benchbox.machine.clock import Stopwatch
from benchbox.numerics.stats import Interval
from benchbox.reporters import numbers
from benchbox.runner.selftest import Say, SelfTest, Trial, advice

_SECONDS_BETWEEN_REDRAWS = 0.5


@contextmanager
def progress(console: Console) -> Iterator[Say]:
    """Whom to tell how far it is: a bar where a person watches, nothing where a file does."""
    if not console.is_terminal:
        yield lambda _words, _share: None
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        watch, drawn_at = Stopwatch.start(), -_SECONDS_BETWEEN_REDRAWS

        def say(words: str, share: float) -> None:
            nonlocal drawn_at
            if watch.seconds() - drawn_at >= _SECONDS_BETWEEN_REDRAWS:
                drawn_at = watch.seconds()
                live.update(_bar(words, share), refresh=True)

        yield say


def selftest_table(found: SelfTest) -> RenderableType:
    """A row for A against A, one for each slowed A, the smallest provable difference, and advice."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("compared", no_wrap=True)
    table.add_column("latency ratio, 95 %", no_wrap=True, justify="right")
    table.add_column("verdict")
    table.add_row("A against A", _widest(found.same), _same_verdict(found))
    for pair in found.slower:
        table.add_row(
            f"A + {numbers.percent(pair.truth - 1, 0)} against A", _ratio(pair.interval), _verdict(pair)
        )
    return Group(_heading(found), Text(), table, Text(), _smallest(found), *_advice(found))


def _bar(words: str, share: float) -> RenderableType:
    row = Table.grid(padding=(0, 1, 0, 0))
    row.add_row(
        ProgressBar(total=1.0, completed=share, width=20), Text(f"{numbers.percent(share, 0):>5}  {words}")
    )
    return row


def _heading(found: SelfTest) -> Text:
    return Text(
        f"{found.runtime}, {numbers.number(found.latency_ns / 1e6)} ms a call, "
        f"{found.replicates} processes a case, {found.seconds:.0f} s, "
        f"{numbers.percent(found.disturbed, 0)} of blocks disturbed",
        style="bold",
    )


def _widest(pairs: Sequence[Trial]) -> str:
    """The bounds that hold all of the pairs' intervals."""
    known = [pair.interval for pair in pairs if pair.interval is not None]
    if not known:
        return "not known"
    low, high = min(interval.low for interval in known), max(interval.high for interval in known)
    return f"within {numbers.interval(low, high, 1.0)}"


def _ratio(interval: Interval | None) -> str:
    if interval is None:
        return "not known"
    return numbers.ratio(interval.point, interval.low, interval.high, 4)


def _same_verdict(found: SelfTest) -> Text:
    text = f"told apart in {found.false_alarms} of {len(found.same)}"
    return Text(text, style="green" if found.passed else "red")


def _verdict(pair: Trial) -> Text:
    if pair.verdict == "slower":
        return Text("slower: found", style="green")
    return Text(f"{pair.verdict}: not found", style=STYLES["warning"])


def _smallest(found: SelfTest) -> Text:
    if found.smallest is None:
        return Text("What can be proven here is not known: too few processes.")
    return Text.assemble(
        "Smallest difference that is found in nine of ten runs of this length: ",
        (numbers.percent(found.smallest, 1), "bold"),
    )


def _advice(found: SelfTest) -> list[Text]:
    return [Text(line, style="" if found.passed else "red") for line in advice(found)]
