"""Dataclass <-> plain values, as JSON has them, by the type hints: what two processes tell each other.

    decode(encode(case), Case) == case

What a hint says is checked, and an error names the field (`case.backend.threads: intra_op is missing`). A
field that this version does not know is passed over, one that is missing has its default: so does a worker of
another version understand, and so does msgspec, which reads records in bulk (results/lines.py). Only the
standard library is imported, because a worker in a foreign interpreter imports this file.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Hashable, Mapping, Sequence, Set
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

_T = TypeVar("_T")
_Decode = Callable[[Any, str], Any]
"""From a plain value, and the name of where it stands, to what a hint says."""
_Encode = Callable[[Any], Any]

_LARGEST_WHOLE_FLOAT = 2**1023
_SCALARS = (int, float, str, bool, type(None))


class WireError(ValueError):
    """A value that is not what its type hint says; the message names the field."""


def encode(value: Any) -> Any:
    """A dataclass as the mapping of its fields, a path as text, whatever they stand in as it was.

    Numbers, text, and what holds nothing else by its hint are not copied: 10,000 latencies cost nothing.
    """
    return _encoder_of(cast(Hashable, type(value)))(value)


def decode(value: Any, of: type[_T], where: str = "") -> _T:
    """The value of a type that `encode` wrote. Raises WireError, in which the value is called `where`."""
    return cast(_T, _decoder_of(cast(Hashable, of))(value, where or _name(of).lower()))


@cache
def _encoder_of(hint: Any) -> _Encode:
    """How a value of this hint is written; parts of which it says nothing are asked for their own type."""
    if dataclasses.is_dataclass(hint):
        return _dataclass_encoder(hint)
    if hint in _SCALARS or get_origin(hint) is Literal:
        return _as_it_is
    origin, parts = get_origin(hint) or hint, [part for part in get_args(hint) if part is not Ellipsis]
    if origin in (Any, Union, types.UnionType):  # only the value knows what it is
        return _as_it_is if parts and _are_plain(parts) else encode
    return _container_encoder(origin, parts)


def _container_encoder(origin: type, parts: Sequence[Any]) -> _Encode:
    if issubclass(origin, Path):
        return str
    if issubclass(origin, Set):
        return sorted
    if parts and _are_plain(parts):
        return _as_it_is
    if issubclass(origin, Mapping):
        inner = _encoder_of(parts[1]) if parts else encode
        return lambda value: {name: inner(held) for name, held in value.items()}
    if issubclass(origin, tuple | list):
        each = _encoder_of(parts[0]) if len(parts) == 1 else encode
        return lambda value: [each(held) for held in value]
    return _as_it_is


def _are_plain(hints: Sequence[Any]) -> bool:
    return all(_encoder_of(hint) is _as_it_is for hint in hints)


def _dataclass_encoder(of: Any) -> _Encode:
    hints = get_type_hints(of)
    fields = [(field.name, _encoder_of(hints[field.name])) for field in dataclasses.fields(of)]
    return lambda value: {name: write(getattr(value, name)) for name, write in fields}


def _as_it_is(value: Any) -> Any:
    return value


@cache
def _decoder_of(hint: Any) -> _Decode:
    if dataclasses.is_dataclass(hint):
        return _dataclass_decoder(hint)
    if hint in _PLAIN:
        return _PLAIN[hint]
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return partial(_one_of, parts)
    if origin in (Union, types.UnionType):
        return _union_decoder(parts)
    return _container_decoder(hint, origin, parts)


def _container_decoder(hint: Any, origin: Any, parts: tuple[Any, ...]) -> _Decode:
    if origin is tuple and len(parts) == 2 and parts[1] is Ellipsis:
        return _tuple_decoder(parts[0])
    if origin is frozenset:
        items = _tuple_decoder(parts[0])
        return lambda value, where: frozenset(items(value, where))
    if origin is Mapping and parts:
        return _mapping_decoder(*parts)
    raise TypeError(f"no value of {hint} goes over the wire: schema/wire.py knows no such type")


def _dataclass_decoder(of: Any) -> _Decode:
    hints = get_type_hints(of)
    fields = {field.name: _decoder_of(hints[field.name]) for field in dataclasses.fields(of)}
    required = frozenset(f.name for f in dataclasses.fields(of) if _has_no_default(f))

    def read(value: Any, where: str) -> Any:
        if type(value) is not dict:
            raise _unlike("a mapping", value, where)
        if absent := required.difference(value):
            raise WireError(f"{where}: {', '.join(sorted(absent))} is missing")
        given = {
            name: inner(value[name], f"{where}.{name}") for name, inner in fields.items() if name in value
        }
        return of(**given)

    return read


def _has_no_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _tuple_decoder(part: Any) -> _Decode:
    inner = _decoder_of(part)

    def read(value: Any, where: str) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise _unlike("a list", value, where)
        # All at once where they are numbers or words, because a block has thousands of latencies.
        if part in _SCALARS and set(map(type, value)) <= {part}:
            return tuple(value)
        return tuple(inner(held, f"{where}[{index}]") for index, held in enumerate(value))

    return read


def _mapping_decoder(key: Any, part: Any) -> _Decode:
    name_of, inner = _decoder_of(key), _decoder_of(part)

    def read(value: Any, where: str) -> dict[Any, Any]:
        if type(value) is not dict:
            raise _unlike("a mapping", value, where)
        if part is Any and key is str:
            return value
        return {name_of(name, where): inner(held, f"{where}.{name}") for name, held in value.items()}

    return read


def _union_decoder(parts: tuple[Any, ...]) -> _Decode:
    """The first of the types that takes the value; of a single one beside None, its own error says more."""
    others = [part for part in parts if part is not type(None)]
    readers = [_decoder_of(part) for part in others]
    optional = len(others) < len(parts)

    def read(value: Any, where: str) -> Any:
        if value is None and optional:
            return None
        if len(readers) == 1:
            return readers[0](value, where)
        for reader in readers:
            try:
                return reader(value, where)
            except WireError:
                continue
        raise _unlike(" or ".join(map(_name, parts)), value, where)

    return read


def _checked(of: type, value: Any, where: str) -> Any:
    """Exactly of this type: True is no integer."""
    if type(value) is not of:
        raise _unlike(_name(of), value, where)
    return value


def _float(value: Any, where: str) -> float:
    """JSON writes 1.0 as it likes."""
    if type(value) is int and abs(value) <= _LARGEST_WHOLE_FLOAT:
        return float(value)
    return cast(float, _checked(float, value, where))


def _one_of(allowed: tuple[Any, ...], value: Any, where: str) -> Any:
    if value not in allowed:
        raise WireError(f"{where} is {_shown(value)}, and not one of {', '.join(map(str, allowed))}")
    return value


def _unlike(wanted: str, value: Any, where: str) -> WireError:
    return WireError(f"{where} is {_shown(value)}, and not {wanted}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _name(of: Any) -> str:
    return "null" if of is type(None) else getattr(of, "__name__", str(of))


def _path(value: Any, where: str) -> Path:
    return Path(_checked(str, value, where))


def _anything(value: Any, _where: str) -> Any:
    return value


_PLAIN: Mapping[Any, _Decode] = {
    Any: _anything,
    float: _float,
    Path: _path,
    **{of: partial(_checked, of) for of in _SCALARS if of is not float},
}
