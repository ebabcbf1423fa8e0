"""results/: one folder a run, one line a case, appended and fsynced; reading survives a torn last line."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchbox.errors import StoreError
from benchbox.schema import SCHEMA_VERSION, Environment, Record, digest

if TYPE_CHECKING:
    from pydantic import TypeAdapter

RECORDS = "records.jsonl"
SUITE = "suite.json"
ENVIRONMENT = "environment.json"
"""The environment is named by the run; hosts and users are not in it."""


@dataclass(frozen=True)
class Results:
    """What a run left behind. `unreadable` lists line numbers of records.jsonl that could not be read
    (a torn last line after a kill, a damaged disk); `suite` is the suite as it was resolved."""

    name: str
    folder: Path
    records: tuple[Record, ...]
    environment: Environment
    suite: Mapping[str, Any]
    unreadable: tuple[int, ...] = ()


@dataclass(frozen=True)
class Run:
    """A results folder that is being written."""

    folder: Path

    @property
    def name(self) -> str:
        """`vit-20261121T020304-1a2b3c`."""
        return self.folder.name

    def append(self, records: Sequence[Record]) -> None:
        """Appends the records in one write and fsyncs. Raises StoreError where the disk refuses."""
        text = "".join(_dump(asdict(record)) + "\n" for record in records)
        path = self.folder / RECORDS
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(_after_torn_line(path) + text)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreError(
                f"cannot write {path}: {error.strerror}. Finished cases are safe; free the disk or mend "
                f"the permissions, then continue with: benchbox run --resume {self.folder}"
            ) from error


def create(
    results: Path, suite: Mapping[str, Any], environment: Environment, *, name: str, now: datetime
) -> Run:
    """A new run folder `results/<suite>-<time>-<short hash>/` with the suite and the environment in it."""
    stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%S")
    short = digest([suite, asdict(environment), now.isoformat(), os.getpid()])[:6]
    folder = results / f"{safe_name(name)}-{stamp}-{short}"
    try:
        folder.mkdir(parents=True)
        _write(folder / SUITE, suite)
        _write(folder / ENVIRONMENT, asdict(environment))
        (folder / RECORDS).touch()
    except OSError as error:
        raise StoreError(f"cannot create {folder}: {error.strerror}") from error
    return Run(folder)


def load(folder: Path) -> Results:
    """Everything a run folder holds. Raises StoreError where it is none."""
    if folder.is_file():
        folder = folder.parent
    if not (folder / RECORDS).is_file():
        raise StoreError(f"{folder} is not a results folder: it has no {RECORDS}")
    records, unreadable = _read_records(folder / RECORDS)
    return Results(
        name=folder.name,
        folder=folder,
        records=records,
        environment=_read_environment(folder / ENVIRONMENT),
        suite=_read_json(folder / SUITE),
        unreadable=unreadable,
    )


def safe_name(name: str) -> str:
    """A name that cannot leave its folder: letters, digits, dot, dash and underscore, no leading dot."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:80] or "unnamed"


def _read_records(path: Path) -> tuple[tuple[Record, ...], tuple[int, ...]]:
    """The last record of each case, and the numbers of the lines that are none."""
    records: dict[str, Record] = {}
    unreadable: list[int] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            record = _parse(line)
            if record is None:
                unreadable.append(number)
            else:
                records[record.case.id] = record
    return tuple(records.values()), tuple(unreadable)


def _parse(line: bytes) -> Record | None:
    from pydantic import ValidationError

    try:
        record = _records().validate_json(line)
    except (ValidationError, ValueError, RecursionError):
        return None
    return record if record.schema_version <= SCHEMA_VERSION else None


@cache
def _records() -> TypeAdapter[Record]:
    from pydantic import TypeAdapter

    return TypeAdapter(Record)


def _read_environment(path: Path) -> Environment:
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(Environment).validate_json(path.read_bytes())
    except (OSError, ValidationError, ValueError) as error:
        raise StoreError(f"{path} cannot be read: {_first_line(error)}") from error


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path} cannot be read: {_first_line(error)}") from error
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
    with path.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=2, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
