"""Who is told how a run goes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from benchbox.schema.asked import Case, Stage
from benchbox.schema.seen import Neighbours, Record


class Observer(Protocol):
    """Who is told how a run goes; every method is called from the thread that runs."""

    def started(self, folder: Path, cases: Sequence[Case], done: Sequence[Record]) -> None:
        """The run's folder, the cases still to do, and those finished before (on resume)."""

    def entered(self, case: Case, stage: Stage) -> None:
        """A case entered a stage."""

    def measured(self, case: Case, latency_ns: float, rounds: int, replicate: int) -> None:
        """A block was measured: the median so far."""

    def time_left(self, elapsed_seconds: float, remaining_seconds: float | None) -> None:
        """How long it took so far and about how long it will take; None where nobody knows yet."""

    def waiting(self, neighbours: Neighbours) -> None:
        """Measuring waits: others use the machine."""

    def recorded(self, record: Record) -> None:
        """A case is finished and on the disk."""

    def interrupted(self) -> None:
        """Ctrl-C was pressed once: what is in hand will be finished. Called from the signal handler."""


class Silent:
    """An observer that says nothing."""

    def started(self, folder: Path, cases: Sequence[Case], done: Sequence[Record]) -> None:
        """Says nothing."""

    def entered(self, case: Case, stage: Stage) -> None:
        """Says nothing."""

    def measured(self, case: Case, latency_ns: float, rounds: int, replicate: int) -> None:
        """Says nothing."""

    def time_left(self, elapsed_seconds: float, remaining_seconds: float | None) -> None:
        """Says nothing."""

    def waiting(self, neighbours: Neighbours) -> None:
        """Says nothing."""

    def recorded(self, record: Record) -> None:
        """Says nothing."""

    def interrupted(self) -> None:
        """Says nothing."""
