"""records.jsonl -> records, one line at a time: what cannot be a record is passed over, not believed."""

from __future__ import annotations

import dataclasses
import math
import types
from array import array
from codecs import BOM_UTF8
from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import (
    Annotated,
    Any,
    BinaryIO,
    NamedTuple,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

from benchbox.errors import first_line
from benchbox.schema.asked import SCHEMA_VERSION, Case
from benchbox.schema.seen import Artifact, Record

_T = TypeVar("_T")

# What a line must keep to, beyond its types: every integer fits the 64 bits that arrays and tables have,
# every number is finite and can be squared and scaled without becoming infinite, no call takes no time.
_LARGEST_INT = 2**63 - 1
_LARGEST_FLOAT = 1e100
_DURATIONS = frozenset({"latencies_ns", "first_ns"})

# What a quantity can be, wherever it stands: an edited record, or a flipped bit, is told and not believed.
# A cosine may miss 1 by the rounding of its norms.
_ROUNDING = 1e-6
_POSSIBLE: Mapping[str, tuple[float, float]] = {
    "cosine": (-1 - _ROUNDING, 1 + _ROUNDING),
    "share": (0, 1),
    **dict.fromkeys(
        (
            "max_abs_error", "mean_abs_error", "max_rel_error", "rel_l2_error", "gradient_error",
            "noise_floor", "scale",
            "atol", "build_seconds", "load_seconds", "steal_seconds", "others_cpu_seconds", "cpu_mhz",
            "gpu_mhz",
            "nan_count", "inf_count", "samples", "size_bytes", "idle_bytes", "loaded_bytes", "peak_bytes",
            "device_bytes", "peak_memory_bytes", "memory_bytes", "involuntary_switches",
            "throttle_count", "round", "index",
        ),
        (0, math.inf),
    ),
}  # fmt: skip
# What a task's metric is called that is a share of what agrees.
_SHARES = ("agreement", "accuracy")

# A line has 5 to 25 kB: the usual buffer of 8 kB would be filled once or twice for each.
_BUFFER_BYTES = 2**20
# The calls of a millisecond in the default budget take 0.3 MB. As objects, a line takes thirty times its
# bytes: one of 115 MB took 3.5 GB.
_LONGEST_LINE_BYTES = 32 * 2**20

# What a hint that is made of others is rebuilt with.
_GENERIC: Mapping[Any, Any] = {tuple: tuple, Mapping: dict, Union: Union, types.UnionType: Union}

# What is written the same in many lines, and made once for all of them: as many as a suite may have cases.
_REPEATED = (Case, Artifact)
_MOST_KEPT = 10_000


class Line(NamedTuple):
    """A line: where it begins, and its record; None where it could not be read.

    `case_text` is how the line spells its case. `newer` is the schema version of a line that a newer
    benchbox wrote; `problem` says what is wrong with a line that is none.
    """

    number: int
    offset: int
    record: Record | None
    case_text: bytes
    newer: int | None
    problem: str = ""


def read(path: Path, reader: Reader) -> Iterator[Line]:
    """The lines that are not empty. Raises OSError.

    A record here has the attributes of `Record`, but is none: that takes four times as long (`whole`).
    """
    offset = 0
    with path.open("rb", buffering=_BUFFER_BYTES) as file:
        for number, (line, size) in enumerate(_lines(file), start=1):
            # An editor on Windows puts a mark before the first line, which is no part of it.
            mark = len(BOM_UTF8) if number == 1 and line.startswith(BOM_UTF8) else 0
            text = line[mark:]
            if size > _LONGEST_LINE_BYTES:
                most = _LONGEST_LINE_BYTES / 2**20
                problem = f"{size / 2**20:.0f} MiB in one line, and {most:.0f} are the most that is read"
                yield Line(number, offset, None, b"", None, problem)
            elif text.strip():
                record, case_text = reader.record(text)
                if record is None:
                    yield Line(number, offset + mark, None, b"", _newer(text), reader.problem)
                else:
                    yield Line(number, offset + mark, record, case_text, None)
            offset += size


def _lines(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Each line and its size; of one that is too long its beginning only is held."""
    while line := file.readline(_LONGEST_LINE_BYTES + 1):
        size, rest = len(line), line
        while len(rest) >= _LONGEST_LINE_BYTES and not rest.endswith(b"\n"):
            rest = file.readline(_LONGEST_LINE_BYTES)
            size += len(rest)
        yield line, size


def whole(record: Record) -> Record:
    """The same record as the dataclass that `schema` defines."""
    import msgspec

    return msgspec.convert(record, Record, from_attributes=True)


def parse(line: bytes) -> Record | None:
    """The record; None where the line is none, or is one of a newer benchbox, which is not guessed at."""
    record, _ = Reader().record(line)
    return None if record is None else whole(record)


def decode(text: bytes, of: type[_T]) -> _T:
    """A value of a dataclass of schema from JSON, within the bounds. Raises ValueError, RecursionError."""
    import msgspec

    decoder = _decoder(cast(Hashable, of))
    return msgspec.convert(decoder.decode(text), of, from_attributes=True)


class Reader:
    """Makes records of lines; remembers the cases and the artifacts that it has seen, in other files too.

    `problem` says what was wrong with the last line that was no record.
    """

    def __init__(self) -> None:
        self._known: dict[type[Any], dict[bytes, Any]] = {of: {} for of in _REPEATED}
        self._decoder = _decoder(Record)
        self.problem = ""

    def record(self, line: bytes) -> tuple[Record | None, bytes]:
        """The record and how its case is spelt; None where the line is no record of this schema version."""
        try:
            if not line.isascii():
                line.decode()  # the decoder does not look at bytes that it skips: names that it does not know
            record = self._decoder.decode(line)
            case_text, artifact_text = bytes(record.case), bytes(record.artifact)
            record.case = self._made(case_text, Case)
            record.artifact = None if artifact_text == b"null" else self._made(artifact_text, Artifact)
            _require_sense(record)
        except (ValueError, RecursionError) as error:
            self.problem = first_line(error)
            return None, b""
        return (record if record.schema_version <= SCHEMA_VERSION else None), case_text

    def _made(self, text: bytes, of: type[_T]) -> _T:
        known = self._known[of]
        value = known.get(text)
        if value is None:
            value = decode(text, of)
            if len(known) < _MOST_KEPT:
                known[text] = value
        return cast(_T, value)


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
def _decoder(of: Any) -> Any:
    """Of JSON, into structs: they are made in a quarter of the time that dataclasses take."""
    import msgspec

    return msgspec.json.Decoder(_struct(of))


@cache
def _struct(of: Any) -> Any:
    """A struct with the fields of a dataclass of schema, and bounds that plain types cannot say."""
    import msgspec

    hints = get_type_hints(of)
    fields = [(f.name, _bounded(hints[f.name], of, f.name), _default(f)) for f in dataclasses.fields(of)]
    derived = {name: value for name, value in vars(of).items() if isinstance(value, property)}
    # Without the collector's header: a record has no cycles.
    return msgspec.defstruct(of.__name__, fields, kw_only=True, gc=False, namespace=derived)


def _bounded(hint: Any, owner: Any, name: str) -> Any:
    """The type of a field of a dataclass, with bounds in it."""
    import msgspec

    inner = get_args(hint)
    if owner is Record and any(part in _REPEATED for part in (hint, *inner)):
        return msgspec.Raw
    low, high = _POSSIBLE.get(name, (-math.inf, math.inf))
    if hint is int:
        least = 1 if name in _DURATIONS else max(low, -_LARGEST_INT)
        return Annotated[int, msgspec.Meta(ge=int(least), le=_LARGEST_INT)]
    if hint is float:
        return Annotated[float, msgspec.Meta(ge=max(low, -_LARGEST_FLOAT), le=min(high, _LARGEST_FLOAT))]
    if dataclasses.is_dataclass(hint):
        return _struct(cast(Hashable, hint))
    generic = _GENERIC.get(get_origin(hint))
    return hint if generic is None else generic[tuple(_bounded(part, owner, name) for part in inner)]


def _require_sense(record: Record) -> None:
    """Raises ValueError for what each field could be, and the record as a whole cannot."""
    parity = record.parity
    if record.outcome == "ok" and parity is not None and not parity.passed:
        raise ValueError("the outcome is ok, and its parity did not pass")
    for name, value in (parity.metrics if parity is not None else {}).items():
        if name.endswith(_SHARES) and not -_ROUNDING <= value <= 1 + _ROUNDING:
            raise ValueError(f"{name} is {value:g}, and a share is from 0 to 1")


def _default(field: dataclasses.Field[Any]) -> Any:
    import msgspec

    if field.default_factory is not dataclasses.MISSING:
        made: Any = field.default_factory
        factory = _struct(cast(Hashable, made)) if dataclasses.is_dataclass(made) else made
        return msgspec.field(default_factory=factory)
    if field.default is dataclasses.MISSING:
        return msgspec.field()
    return msgspec.Raw(b"null") if field.name == "artifact" else field.default


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
