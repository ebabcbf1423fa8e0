"""The exceptions of benchbox: every one is a message for the user, none is a crash.

BenchboxError                 what happened, where, what exists, what to type next
|-- UsageError                the command line or the suite is wrong: exit code 2
|   |-- SuiteError            the suite: file, line, column, field, allowed, nearest match
|   `-- StoreError            a results folder that cannot be read, or is none
|       `-- DiskError         the disk refuses what is written: full, read-only, not ours; exit code 3
`-- CaseError                 ends a case, and becomes its record
    |-- Unavailable           cannot run here: the case becomes `skipped`, with what to install
    `-- StageError            a stage of a case failed: the case becomes `failed`, with its stage
        |-- ChildDied         a worker or a builder ended without an answer (signal, exit code)
        |-- ChildTimeout      a worker or a builder exceeded its time
        `-- CorruptArtifact   bytes in the cache are not what was stored
"""

from __future__ import annotations

from typing import ClassVar, Literal


class BenchboxError(Exception):
    """Base of all errors that benchbox raises on purpose; `str()` is a sentence for the user."""


class UsageError(BenchboxError):
    """The command line or an input file is wrong: the CLI prints it and exits with `exit_code`."""

    exit_code: ClassVar[int] = 2


class SuiteError(UsageError):
    """A suite is wrong. `str()` starts with `file:line:column:` and says what is allowed."""

    def __init__(self, message: str, *, file: str, line: int = 1, column: int = 1) -> None:
        super().__init__(f"{file}:{line}:{column}: {message}")
        self.message = message
        self.file = file
        self.line = line
        self.column = column


class StoreError(UsageError):
    """A results folder cannot be read; the message names the folder and the cause."""


class DiskError(StoreError):
    """Results cannot be written: nothing is wrong with the suite, and what is on the disk stays."""

    exit_code: ClassVar[int] = 3


class CaseError(BenchboxError):
    """What ends a case without a measurement, and all that its record says of it.

    `hint` is what to type, or empty; `detail` the end of the child's stderr; `peak_memory_bytes` what the
    child had used at most. `outcome` is what the case becomes.
    """

    outcome: ClassVar[Literal["skipped", "failed"]]

    def __init__(
        self, reason: str, hint: str = "", *, detail: str = "", peak_memory_bytes: int | None = None
    ) -> None:
        super().__init__(f"{reason}: {hint}" if hint else reason)
        self.reason = reason
        self.hint = hint
        self.detail = detail
        self.peak_memory_bytes = peak_memory_bytes


class Unavailable(CaseError):
    """Something the case needs is not on this machine; the case becomes `skipped`.

    `hint` is what to type to get it, or an empty string where nothing can be typed.
    """

    outcome = "skipped"

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason, hint)


class StageError(CaseError):
    """A stage of a case failed; the case becomes `failed` with this reason."""

    outcome = "failed"

    def __init__(self, reason: str, *, detail: str = "", peak_memory_bytes: int | None = None) -> None:
        super().__init__(reason, detail=detail, peak_memory_bytes=peak_memory_bytes)


class ChildDied(StageError):
    """A child process ended without an answer; the reason names the signal or the exit code."""


class ChildTimeout(StageError):
    """A child process did not answer in time; its whole process group has been killed."""


class CorruptArtifact(StageError):
    """An artifact's bytes do not have the hash that its manifest states."""


def first_line(error: Exception) -> str:
    """The first line of what an exception says."""
    return str(error).partition("\n")[0]


def named_line(error: Exception) -> str:
    """What an exception of somebody else's package says, in a line, after its type."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no message'}"
