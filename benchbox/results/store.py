"""results/: one folder a run, one line a case, appended and fsynced; reading survives a torn last line."""

from __future__ import annotations

import gc
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchbox.errors import DiskError, StoreError, first_line
from benchbox.results import lines
from benchbox.schema import wire
from benchbox.schema.asked import SCHEMA_VERSION, digest
from benchbox.schema.seen import Environment, Record

RECORDS = "records.jsonl"
SUITE = "suite.json"
_PROBLEMS_SHOWN = 3
_LONGEST_SECONDS = 1e9
TIME = "time.jsonl"
ENVIRONMENT = "environment.json"
"""The environment is named by the run; hosts and users are not in it."""


@dataclass(frozen=True)
class Results:
    """What a run left behind. `unreadable` lists line numbers of records.jsonl that could not be read
    (a torn last line after a kill, a damaged disk); `newer` are the schema versions of those among them
    that a newer benchbox wrote, `problems` says of the first of the others what is wrong; `suite` is the
    suite as it was resolved, `wall_seconds` how long each time took in which the run was worked on."""

    name: str
    folder: Path
    records: Sequence[Record]
    environment: Environment
    suite: Mapping[str, Any]
    unreadable: tuple[int, ...] = ()
    newer: tuple[int, ...] = ()
    problems: tuple[str, ...] = ()
    wall_seconds: tuple[float, ...] = ()

    @property
    def damage(self) -> str:
        """What could not be read and why, in a sentence; empty where everything could."""
        return _damage(self.unreadable, self.newer, self.problems)


@dataclass(frozen=True)
class RunFolder:
    """A results folder that is being written."""

    folder: Path

    @property
    def name(self) -> str:
        """`vit-20261121T020304-1a2b3c`."""
        return self.folder.name

    def append(self, records: Sequence[Record]) -> None:
        """Appends the records in one write and fsyncs. Raises StoreError where the disk refuses."""
        text = "".join(_dump(wire.encode(record)) + "\n" for record in records)
        path = self.folder / RECORDS
        try:
            with path.open("a", encoding="utf-8", errors="replace") as file:
                file.write(_after_torn_line(path) + text)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise DiskError(
                f"cannot write {path}: {error.strerror}. Finished cases are safe; free the disk or mend "
                f"the permissions, then continue with: benchbox run --resume {self.folder}"
            ) from error

    def took(self, seconds: float) -> None:
        """Notes how long the run was worked on this time. A disk that refuses loses this and nothing else."""
        with suppress(OSError), (self.folder / TIME).open("a", encoding="utf-8") as file:
            file.write(_dump({"wall_seconds": seconds}) + "\n")


def create(
    results: Path, suite: Mapping[str, Any], environment: Environment, *, name: str, now: datetime
) -> RunFolder:
    """A new run folder `results/<suite>-<time>-<short hash>/` with the suite and the environment in it."""
    stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%S")
    short = digest([suite, wire.encode(environment), now.isoformat(), os.getpid()])[:6]
    folder = results / f"{safe_name(name)}-{stamp}-{short}"
    try:
        folder.mkdir(parents=True)
        _write(folder / SUITE, suite)
        _write(folder / ENVIRONMENT, wire.encode(environment))
        (folder / RECORDS).touch()
    except OSError as error:
        raise DiskError(f"cannot create {folder}: {error.strerror}") from error
    return RunFolder(folder)


def load(folder: Path) -> Results:
    """Everything a run folder holds. Raises StoreError where it is none."""
    folder = _checked(folder)
    records: dict[str, Record] = {}
    damaged = _Damaged()
    for _, record in _records_of(folder / RECORDS, damaged):
        records[record.case.id] = lines.whole(record)
    return _results(folder, tuple(records.values()), damaged)


def browse(folder: Path, see: Callable[[Record, bytes], str], reader: lines.Reader | None = None) -> Results:
    """As `load`, but the records stay on the disk: 100,000 of them take 1.5 GB as objects.

    `see` is called with every record as it passes, and with how its line spells the case; it returns the
    case's id. A case that was recorded twice is seen twice; the last record counts. Runs of the same suite
    are read in less time by one `reader`.
    """
    folder = _checked(folder)
    offsets: dict[str, int] = {}
    damaged = _Damaged()
    for line, record in _records_of(folder / RECORDS, damaged, reader):
        offsets[see(record, line.case_text)] = line.offset
    return _results(folder, lines.OnDisk(folder / RECORDS, tuple(offsets.values())), damaged)


def read_records(path: Path) -> tuple[tuple[Record, ...], str]:
    """The last record of each case in a records file, and what of it could not be read, in a sentence."""
    damaged = _Damaged()
    records = {record.case.id: lines.whole(record) for _, record in _records_of(path, damaged)}
    said = _damage(damaged.numbers, sorted(damaged.versions), damaged.problems)
    return tuple(records.values()), said


def read_suite(folder: Path) -> Mapping[str, Any]:
    """The suite of a run as it was resolved, its records unread. Raises StoreError."""
    return _read_json(_checked(folder) / SUITE)


def safe_name(name: str) -> str:
    """A name that cannot leave its folder: letters, digits, dot, dash and underscore, no leading dot."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:80] or "unnamed"


@dataclass
class _Damaged:
    """Lines that could not be read, as they come."""

    numbers: list[int] = field(default_factory=list)
    versions: set[int] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    def note(self, line: lines.Line) -> None:
        """Counts a line without a record."""
        self.numbers.append(line.number)
        if line.newer is not None:
            self.versions.add(line.newer)
        elif len(self.problems) < _PROBLEMS_SHOWN:
            self.problems.append(f"line {line.number}: {line.problem}")


def _damage(unreadable: Sequence[int], newer: Sequence[int], problems: Sequence[str]) -> str:
    if not unreadable:
        return ""
    count = len(unreadable)
    text = f"{count:,} line{'s' if count > 1 else ''} of {RECORDS} could not be read"
    if problems:
        text = f"{text} ({'; '.join(problems)})"
    if not newer:
        return text
    versions = ", ".join(map(str, newer))
    return f"{text}: a newer benchbox wrote schema version {versions}, this one knows {SCHEMA_VERSION}"


def _checked(folder: Path) -> Path:
    if folder.is_file():
        folder = folder.parent
    if not (folder / RECORDS).is_file():
        raise StoreError(f"{folder} is not a results folder: it has no {RECORDS}")
    return folder


def _records_of(
    path: Path, damaged: _Damaged, reader: lines.Reader | None = None
) -> Iterator[tuple[lines.Line, Record]]:
    try:
        with without_collecting():
            for line in lines.read(path, reader or lines.Reader()):
                if line.record is None:
                    damaged.note(line)
                else:
                    yield line, line.record
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}") from error


@contextmanager
def without_collecting() -> Iterator[None]:
    """Keeps Python from looking for cycles among what is read: there are none, and to look at 10,000 records
    again and again takes longer (1.5 s) than to read them (0.5 s)."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _wall_seconds(path: Path) -> tuple[float, ...]:
    """Of a file that anybody may have edited, what is a time."""
    found: list[float] = []
    with suppress(OSError, ValueError):
        for line in path.read_text(encoding="utf-8").splitlines():
            seconds = json.loads(line).get("wall_seconds")
            if isinstance(seconds, int | float) and 0 <= seconds < _LONGEST_SECONDS:
                found.append(float(seconds))
    return tuple(found)


def _results(folder: Path, records: Sequence[Record], damaged: _Damaged) -> Results:
    return Results(
        name=os.path.basename(os.path.abspath(folder)),  # noqa: PTH100, PTH119 - of `.` too, and of a link
        folder=folder,
        records=records,
        environment=_read_environment(folder / ENVIRONMENT),
        suite=_read_json(folder / SUITE),
        wall_seconds=_wall_seconds(folder / TIME),
        unreadable=tuple(damaged.numbers),
        newer=tuple(sorted(damaged.versions)),
        problems=tuple(damaged.problems),
    )


def _read_environment(path: Path) -> Environment:
    try:
        return lines.decode(path.read_bytes(), Environment)
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path} cannot be read: {first_line(error)}") from error


def _read_json(path: Path) -> Mapping[str, Any]:
    from pydantic_core import from_json

    try:
        # Unlike json.loads it refuses half surrogates, which no report could write, and NaN.
        value = from_json(path.read_bytes(), allow_inf_nan=False)
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path} cannot be read: {first_line(error)}") from error
    if not isinstance(value, dict):
        raise StoreError(f"{path} cannot be read: it holds no mapping")
    return value


def _after_torn_line(path: Path) -> str:
    """A line feed where a killed run left a line without one, so that it spoils no other."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return ""
        file.seek(-1, os.SEEK_END)
        return "" if file.read(1) == b"\n" else "\n"


def _write(path: Path, value: Any) -> None:
    with path.open("w", encoding="utf-8", errors="replace") as file:
        json.dump(value, file, indent=2, allow_nan=False, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())


def _dump(value: Any) -> str:
    """Of bytes that are no UTF-8 (a file's name, in a message) there is a `?`: no reader would take them."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
