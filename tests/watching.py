"""Observers for tests of whole runs: they note what happens, and interfere at a given moment."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchbox.runner.observer import Silent
from benchbox.schema.asked import Case, Stage
from benchbox.schema.seen import Record

Event = tuple[str, str]


def name_of(case: Case) -> str:
    """`onnx/1`, `onnx:disable/2`: the path, options, a foreign interpreter, and the batch."""
    values = [*case.backend.options.values(), *filter(None, [case.backend.python])]
    options = "".join(f":{value}" for value in values)
    return f"{'+'.join(step.word for step in case.path)}{options}/{case.shape['batch']}"


def workers() -> list[psutil.Process]:
    """The live workers of this process, in the order in which they were started."""
    return _children("benchbox.measure.worker")


def builders() -> list[psutil.Process]:
    """The live builders of this process, in the order in which they were started."""
    return _children("benchbox.build.builder")


def _children(role: str) -> list[psutil.Process]:
    found = [p for p in psutil.Process().children() if p.status() != psutil.STATUS_ZOMBIE]
    return sorted((p for p in found if role in p.cmdline()), key=lambda p: p.create_time())


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that is about to has ten seconds. Nobody may have waited for it."""
    for _ in range(100):
        try:
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return True
            process.wait(timeout=0.1)
        except psutil.NoSuchProcess:
            return True
        except psutil.TimeoutExpired:
            continue
    return False


@dataclass
class Notes(Silent):
    """Keeps what it is told. `at_measured` is called after the first block of the run,
    `at_recorded` after its first record."""

    folder: Path = field(default_factory=Path)
    todo: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    at_measured: Callable[[], None] | None = None
    at_entered: Callable[[Case, Stage], None] | None = None
    at_recorded: Callable[[], object] | None = None

    def started(self, folder: Path, cases: Sequence[Case], done: Sequence[Record]) -> None:
        self.folder = folder
        self.todo = [name_of(case) for case in cases]
        self.done = [name_of(record.case) for record in done]

    def entered(self, case: Case, stage: Stage) -> None:
        self.events.append((name_of(case), stage))
        if self.at_entered is not None:
            self.at_entered(case, stage)

    def measured(self, case: Case, latency_ns: float, rounds: int, replicate: int) -> None:
        act, self.at_measured = self.at_measured, None
        if act is not None:
            act()

    def recorded(self, record: Record) -> None:
        self.events.append((name_of(record.case), "recorded"))
        self.records.append(record)
        act, self.at_recorded = self.at_recorded, None
        if act is not None:
            act()

    def outcomes(self) -> dict[str, str]:
        """How each case ended."""
        return {name_of(record.case): record.outcome for record in self.records}

    def record(self, name: str) -> Record:
        """The record of the case of that name."""
        (found,) = [record for record in self.records if name_of(record.case) == name]
        return found


def command(*words: str | Path) -> list[str]:
    """A command of benchbox for a process of its own."""
    return [sys.executable, "-c", "from benchbox.cli.commands import main; main()", *map(str, words)]
