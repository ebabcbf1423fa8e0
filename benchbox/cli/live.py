"""What the terminal shows while a run goes: a table on a terminal, a line an event elsewhere.

The display is redrawn only when the run tells something, and by the run's own thread: a
spinner would wake a core twelve times a second beside the model that is being timed.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from benchbox.cli.tables import STYLES
from benchbox.numerics import calm, stats
from benchbox.reporters import labels, numbers, quietness
from benchbox.reporters.foreign import clean
from benchbox.schema.asked import Case, Stage
from benchbox.schema.seen import Measurement, Neighbours, Record

if TYPE_CHECKING:
    from benchbox.runner.observer import Observer

# A redraw of 40 rows takes about 15 ms: twice a second it costs the time between blocks 3 %, not the blocks.
_SECONDS_BETWEEN_REDRAWS = 0.5

# A log is not to fill with it: a neighbour's burst ends within seconds.
_SECONDS_BETWEEN_WAITS = 10.0

# Lines of the display that are no cases: heading, column names, a blank, the bar, the hint, the prompt.
_OTHER_LINES = 6

_DOING: Mapping[Stage, str] = {
    "plan": "planning",
    "reference": "reference",
    "build": "building",
    "load": "loading",
    "verify": "verifying",
    "measure": "measuring",
}
_BUILDING = (_DOING["reference"], _DOING["build"])
_RUNNING = "Ctrl-C stops after what is in hand"
_STOPPING = "stopping after what is in hand; Ctrl-C again stops at once"


@dataclass(frozen=True)
class State:
    """How far a case is: `word` is what it waits for, is doing, or ended as."""

    title: str
    word: str = "waiting"
    latency_ns: float | None = None
    rounds: int = 0
    replicate: int | None = None
    finished: bool = False

    @property
    def active(self) -> bool:
        """Whether something happens with the case now."""
        return not self.finished and self.word not in ("waiting", "built")


@dataclass(frozen=True)
class Board:
    """The whole run at one moment; every event makes a new one."""

    states: Mapping[str, State]
    done_before: int = 0
    elapsed_seconds: float = 0.0
    remaining_seconds: float | None = None

    @classmethod
    def of(cls, cases: Sequence[Case], done: Sequence[Record]) -> Board:
        """The board before anything happened; `done` was finished before (on resume)."""
        titles = labels.short_titles(cases)
        return cls({case.id: State(clean(titles[case.id])) for case in cases}, len(done))

    @property
    def finished(self) -> int:
        """How many cases have ended, in this run and before it."""
        return self.done_before + sum(state.finished for state in self.states.values())

    @property
    def total(self) -> int:
        """How many cases there are."""
        return self.done_before + len(self.states)

    def entered(self, case: Case, stage: Stage) -> Board:
        """The board after a case entered a stage. One is built at a time, so the one before it is done."""
        states = {
            id_: replace(state, word="built") if state.word in _BUILDING else state
            for id_, state in self.states.items()
        }
        return replace(self, states=states)._with(case, word=_DOING[stage])

    def measured(self, case: Case, latency_ns: float, rounds: int, replicate: int) -> Board:
        """The board after a block."""
        return self._with(
            case, word=_DOING["measure"], latency_ns=latency_ns, rounds=rounds, replicate=replicate
        )

    def recorded(self, record: Record) -> Board:
        """The board after a case ended."""
        return self._with(record.case, word=record.outcome, finished=True)

    def at(self, elapsed_seconds: float, remaining_seconds: float | None) -> Board:
        """The board later."""
        return replace(self, elapsed_seconds=elapsed_seconds, remaining_seconds=remaining_seconds)

    def _with(self, case: Case, **changes: object) -> Board:
        """A case that is measured only as a baseline for others was finished before, and has no row."""
        if case.id not in self.states or self.states[case.id].finished:
            return self
        state = replace(self.states[case.id], **changes)  # type: ignore[arg-type]  # names are State's own
        return replace(self, states={**self.states, case.id: state})


class Display(Protocol):
    """An observer that opens and closes, and knows where the run's folder is once it has begun."""

    folder: Path | None

    def __enter__(self) -> Observer:
        """Begins to show."""

    def __exit__(self, *_: object) -> None:
        """Leaves the terminal as it was found."""


def display(console: Console, environ: Mapping[str, str]) -> LiveTable | PlainLines:
    """A table where a person watches; lines where a file, a dumb terminal or CI does."""
    asked_for_lines = environ.get("NO_COLOR") or environ.get("CI") or environ.get("TERM") in ("dumb", "")
    if console.is_terminal and not asked_for_lines:
        return LiveTable(console)
    return PlainLines(console)


class LiveTable:
    """Cases with their state, the median so far, and a bar with the time left."""

    folder: Path | None = None

    def __init__(self, console: Console) -> None:
        self.open_console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._board = Board({})
        self._drawn_at = 0.0
        self._footer = _RUNNING
        self._waits = ""

    def __enter__(self) -> LiveTable:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def started(self, folder: Path, cases: Sequence[Case], done: Sequence[Record]) -> None:
        """Shows all cases as waiting."""
        self.folder = folder
        self._board = Board.of(cases, done)
        self._draw()

    def entered(self, case: Case, stage: Stage) -> None:
        """Shows the stage."""
        self._board = self._board.entered(case, stage)
        self._draw()

    def measured(self, case: Case, latency_ns: float, rounds: int, replicate: int) -> None:
        """Takes note; what is drawn follows with the time."""
        self._waits = ""
        self._board = self._board.measured(case, latency_ns, rounds, replicate)

    def time_left(self, elapsed_seconds: float, remaining_seconds: float | None) -> None:
        """Redraws, unless it was done a moment ago."""
        self._board = self._board.at(elapsed_seconds, remaining_seconds)
        if elapsed_seconds - self._drawn_at >= _SECONDS_BETWEEN_REDRAWS:
            self._draw()

    def waiting(self, neighbours: Neighbours) -> None:
        """Shows who uses the machine, until something is measured again."""
        self._waits = f"waiting for the machine: {quietness.busy(neighbours)}"
        self._draw()

    def recorded(self, record: Record) -> None:
        """Shows the outcome."""
        self._board = self._board.recorded(record)
        self._draw()

    def interrupted(self) -> None:
        """Says, with the next event, that Ctrl-C was understood: a signal may come while it draws."""
        self._footer = _STOPPING

    def _draw(self) -> None:
        self._drawn_at = self._board.elapsed_seconds
        width, height = self.open_console.size
        self._live.update(view(self._board, width, height, self._waits or self._footer), refresh=True)


class PlainLines:
    """One line an event, for logs: no colour, no width, nothing that moves."""

    folder: Path | None = None

    def __init__(self, console: Console) -> None:
        self.open_console = console
        self._board = Board({})
        self._said: set[tuple[str, Stage]] = set()
        self._said_waiting_at = -_SECONDS_BETWEEN_WAITS

    def __enter__(self) -> PlainLines:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to leave behind."""

    def started(self, folder: Path, cases: Sequence[Case], done: Sequence[Record]) -> None:
        """Says where results go."""
        self.folder = folder
        self._board = Board.of(cases, done)
        again = f", {len(done)} done before" if done else ""
        self._say(f"{folder}: {numbers.count(len(cases), 'case')}{again}")

    def entered(self, case: Case, stage: Stage) -> None:
        """Says the stage, the first time: every replicate loads and measures again."""
        self._board = self._board.entered(case, stage)
        self._once(case, stage)

    def measured(self, case: Case, latency_ns: float, rounds: int, replicate: int) -> None:
        """Says that it is measured, the first time: blocks come several a second."""
        self._once(case, "measure")
        self._board = self._board.measured(case, latency_ns, rounds, replicate)

    def time_left(self, elapsed_seconds: float, remaining_seconds: float | None) -> None:
        """Takes note."""
        self._board = self._board.at(elapsed_seconds, remaining_seconds)

    def waiting(self, neighbours: Neighbours) -> None:
        """Says who uses the machine, now and then."""
        elapsed = self._board.elapsed_seconds
        if elapsed - self._said_waiting_at >= _SECONDS_BETWEEN_WAITS:
            self._said_waiting_at = elapsed
            self._say(f"{clock(elapsed):>7}  waiting for the machine: {quietness.busy(neighbours)}")

    def recorded(self, record: Record) -> None:
        """Says the outcome, with the median or the reason."""
        self._board = self._board.recorded(record)
        said = f": {record.reason}" if record.reason else ""
        if record.measurement is not None and record.measurement.replicates:
            said = f": {_measured(record.measurement)}{said}"
        self._event(record.outcome, record.case, said)

    def interrupted(self) -> None:
        """Says that Ctrl-C was understood."""
        self._say(_STOPPING)

    def _once(self, case: Case, stage: Stage) -> None:
        if (case.id, stage) not in self._said:
            self._said.add((case.id, stage))
            self._event(_DOING[stage], case)

    def _event(self, word: str, case: Case, said: str = "") -> None:
        board = self._board
        self._say(
            f"{clock(board.elapsed_seconds):>7}  {board.finished}/{board.total}  {word:<9} {case.title}{said}"
        )

    def _say(self, line: str) -> None:
        self.open_console.print(Text(clean(line)), soft_wrap=True)


def _measured(measurement: Measurement) -> str:
    """The median over all processes, as the table has it."""
    import numpy as np

    data = [
        [np.array(block.latencies_ns)[calls] for block, calls in counting]
        for counting in calm.counting(measurement.replicates)
    ]
    median_ns = math.exp(stats.centres(data).values.mean())
    processes = numbers.count(len(measurement.replicates), "process", "processes")
    return f"p50 {numbers.number(median_ns / 1e6, narrow=True)} ms, {processes}"


def view(board: Board, width: int, height: int, footer: str = _RUNNING) -> RenderableType:
    """The board as it fits a terminal of this size: what is active first, then what comes, then what was."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), expand=True, header_style="dim")
    table.add_column("case", no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column("state", no_wrap=True, width=9)
    table.add_column("p50 ms", no_wrap=True, width=9, justify="right")
    table.add_column("rounds", no_wrap=True, width=6, justify="right")
    table.add_column("process", no_wrap=True, width=7, justify="right")
    for state in visible(tuple(board.states.values()), max(1, height - _OTHER_LINES)):
        table.add_row(
            Text(state.title, style="" if state.active else "dim"),
            Text(state.word, style=STYLES.get(state.word, "bold" if state.active else "dim")),
            "" if state.latency_ns is None else numbers.number(state.latency_ns / 1e6, narrow=True),
            str(state.rounds or ""),
            "" if state.replicate is None else str(state.replicate + 1),
        )
    return Group(table, Text(), _bar(board, width), Text(footer, style="dim"))


def visible(states: Sequence[State], count: int) -> tuple[State, ...]:
    """At most `count` states, in their order: active ones are kept longest, then the next, then the last."""
    if len(states) <= count:
        return tuple(states)
    indices = range(len(states))
    active = [i for i in indices if states[i].active]
    waiting = [i for i in indices if not states[i].active and not states[i].finished]
    ended = [i for i in reversed(indices) if states[i].finished]
    return tuple(states[i] for i in sorted([*active, *waiting, *ended][:count]))


def continue_command(folder: Path, options: Sequence[str] = ()) -> str:
    """What to type to go on with a stopped run; `options` are those that no results folder knows."""
    return shlex.join(["benchbox", "run", "--resume", str(folder), *options])


def clock(seconds: float) -> str:
    """`2:05`, or `1:02:05`."""
    minutes, left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"


def _bar(board: Board, width: int) -> RenderableType:
    left = "" if board.remaining_seconds is None else f", about {clock(board.remaining_seconds)} left"
    failed = sum(state.word in ("failed", "mismatch") for state in board.states.values())
    trouble = f", {failed} not ok" if failed else ""
    text = f"{board.finished}/{board.total} done{trouble}, {clock(board.elapsed_seconds)}{left}"
    table = Table.grid(padding=(0, 1, 0, 0))
    bar = ProgressBar(total=max(1, board.total), completed=board.finished, width=max(10, width - 45))
    table.add_row(bar, Text(text))
    return table
