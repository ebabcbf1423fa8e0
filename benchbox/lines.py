"""records.jsonl -> records, one line at a time: what cannot be a record is passed over, not believed."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

from benchbox.schema import SCHEMA_VERSION, Record

if TYPE_CHECKING:
    from pydantic_core import SchemaValidator

_T = TypeVar("_T")

# What a line must keep to, beyond its types: every integer fits the 64 bits that arrays and tables have,
# every number is finite and can be squared and scaled without becoming infinite, no call takes no time.
_LARGEST_INT = 2**63 - 1
_LARGEST_FLOAT = 1e100
_DURATIONS = frozenset({"latencies_ns", "first_ns"})

# A line has 5 to 25 kB: the usual buffer of 8 kB would be filled once or twice for each.
_BUFFER_BYTES = 2**20

# How `store` begins a line, and what comes after the case in it.
_CASE_BEGINS, _CASE_ENDED = b'{"case":', b',"outcome":'


class Line(NamedTuple):
    """A line: where it begins, and its record; None where it could not be read.

    `case_text` is how the line spells its case, empty where it is not in the form that `store` writes.
    `newer` is the schema version of a line that a newer benchbox wrote.
    """

    number: int
    offset: int
    record: Record | None
    case_text: bytes
    newer: int | None


def read(path: Path) -> Iterator[Line]:
    """The lines that are not empty. Raises OSError."""
    offset = 0
    with path.open("rb", buffering=_BUFFER_BYTES) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                record = parse(line)
                yield Line(number, offset, record, _case_text(line), None if record else _newer(line))
            offset += len(line)


def parse(line: bytes) -> Record | None:
    """The record; None where the line is none, or is one of a newer benchbox, which is not guessed at."""
    from pydantic import ValidationError

    try:
        record: Record = validator(Record).validate_json(line)
    except (ValidationError, RecursionError):
        return None
    return record if record.schema_version <= SCHEMA_VERSION else None


class OnDisk(Sequence[Record]):
    """Records that are read when they are asked for. Raises OSError where the file has gone."""

    def __init__(self, path: Path, offsets: Sequence[int]) -> None:
        self._path = path
        self._offsets = array("q", offsets)

    def __len__(self) -> int:
        return len(self._offsets)

    @overload
    def __getitem__(self, at: int) -> Record: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Record]: ...
    def __getitem__(self, at: int | slice) -> Record | Sequence[Record]:
        if isinstance(at, slice):
            return OnDisk(self._path, self._offsets[at])
        return next(self._read([self._offsets[at]]))

    def __iter__(self) -> Iterator[Record]:
        return self._read(self._offsets)

    def _read(self, offsets: Sequence[int]) -> Iterator[Record]:
        with self._path.open("rb") as file:
            for offset in offsets:
                file.seek(offset)
                record = parse(file.readline())
                if record is None:
                    raise OSError(f"{self._path} was changed while it was read")
                yield record


@cache
def validator(of: type[Any]) -> SchemaValidator:
    """Makes values of a dataclass of schema.py from JSON; raises pydantic's ValidationError."""
    from pydantic import TypeAdapter
    from pydantic_core import SchemaValidator

    return SchemaValidator(_bounded(TypeAdapter(of).core_schema, at_least=-_LARGEST_INT))


def _bounded(schema: Any, *, at_least: int) -> Any:
    """The same pydantic core schema, with the bounds in it that schema.py's plain types cannot say."""
    if isinstance(schema, list):
        return [_bounded(item, at_least=at_least) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") == "dataclass-field" and schema["name"] in _DURATIONS:
        at_least = 1
    bounded = {key: _bounded(value, at_least=at_least) for key, value in schema.items()}
    if schema.get("type") == "int":
        return bounded | {"ge": at_least, "le": _LARGEST_INT}
    if schema.get("type") == "float":
        return bounded | {"ge": -_LARGEST_FLOAT, "le": _LARGEST_FLOAT, "allow_inf_nan": False}
    return bounded


def _case_text(line: bytes) -> bytes:
    end = line.find(_CASE_ENDED)
    return line[len(_CASE_BEGINS) : end] if end > 0 and line.startswith(_CASE_BEGINS) else b""


def _newer(line: bytes) -> int | None:
    """The schema version that a line claims, where it is newer than what is known here."""
    from pydantic_core import from_json

    try:
        value = from_json(line)
    except (ValueError, RecursionError):
        return None
    version = value.get("schema_version") if isinstance(value, dict) else None
    newer = isinstance(version, int) and SCHEMA_VERSION < version <= _LARGEST_INT
    return version if newer else None
