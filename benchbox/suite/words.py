"""Words of a suite that name plug-ins, the options below them, and options that are paths of files."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError, ValidationInfo
from pydantic_core import PydanticCustomError

from benchbox import plugins
from benchbox.errors import UsageError
from benchbox.schema import paths as local
from benchbox.suite.check import UNKNOWN_KEY, custom, cut_text, errors_below, refuse, unknown_keys, wrong
from benchbox.suite.source import kind, printable


def plugin(family: plugins.Kind, word: Any, *, what: str) -> Any:
    """The plug-in of that word; the error names the words that exist and the nearest one, or the package
    whose plug-in cannot be used."""
    if not isinstance(word, str):
        raise custom(f"should be a word, not {kind(word)}. Allowed: {', '.join(plugins.names(family))}.")
    if not plugins.exists(family, word):
        raise custom(plugins.unknown(cut_text(word), plugins.names(family), what=what))
    try:
        return plugins.load(family, word)
    except UsageError as error:
        raise custom(str(error)) from error


@cache
def adapter(options: type) -> TypeAdapter[Any]:
    """The validator of a plug-in's `Options`."""
    return TypeAdapter(options)


def options(module: Any, given: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What of `given` differs from the plug-in's defaults, validated, as plain values."""
    fields = () if module.Options is None else dataclasses.fields(module.Options)
    if module.Options is None or not fields:
        details = [
            wrong(f"unknown option: {cut_text(key)!r}. There are none.", key, of=UNKNOWN_KEY) for key in given
        ]
        return refuse(*details) if details else {}
    details = unknown_keys(given, [field.name for field in fields], what="option")
    known = {field.name: given[field.name] for field in fields if field.name in given}
    try:
        paths = paths_in(known, folder, always=("root",))
        value = adapter(module.Options).validate_json(json.dumps(paths), strict=True)
    except ValidationError as error:
        details += errors_below(error)
    if details:
        refuse(*details)
    plain = adapter(module.Options).dump_python(value, mode="json")
    return {f.name: plain[f.name] for f in fields if getattr(value, f.name) != _default(f)}


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def paths_in(
    given: Mapping[str, Any], folder: Path, *place: str, always: Collection[str] = ()
) -> dict[str, Any]:
    """The values, those that are paths checked to exist: what begins with `./`, `../` or `~/`, and `always`
    those of these names."""
    found: dict[str, Any] = homeless(dict(given))
    details = []
    for name, value in given.items():
        if isinstance(value, str) and (name in always or local.is_local(value)):
            try:
                found[name] = local_path(value, folder)
            except PydanticCustomError as error:
                details.append(wrong(str(error), *place, name))
    return refuse(*details) if details else found


def homeless(value: Any) -> Any:
    """The value, in which whatever lies in the home folder is written `~/x`, however deep it stands."""
    if isinstance(value, str):
        return local.written(value) if value.startswith("/") and local.without_home(value) != value else value
    if isinstance(value, dict):
        return {name: homeless(inner) for name, inner in value.items()}
    return [homeless(inner) for inner in value] if isinstance(value, list) else value


def local_path(text: str, folder: Path) -> str:
    """The path of something that exists, in the one way to write it."""
    path = text
    try:
        path = local.located(local.written(text), folder)
        found = Path(path).exists()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL in it, or no home folder
        found = False
    if not found:
        raise custom(f"{kind(text)} does not exist (looked for {printable(cut_text(path))})")
    return local.written(text)


def folder_of(info: ValidationInfo) -> Path:
    """The folder of the suite that is being validated."""
    folder: Path = info.context["folder"] if info.context else Path()
    return folder


def word_and_fields(data: Any, *, what: str) -> tuple[str, dict[str, Any]]:
    """`torch`, or `{int8_static: {samples: 64}}`, as a word and its fields."""
    if isinstance(data, str):
        return data, {}
    if not isinstance(data, dict):
        raise custom(f"should be the word of a {what}, or {{word: {{option: value}}}}, not {kind(data)}")
    if len(data) != 1:
        words = ", ".join(map(cut_text, data)) or "nothing"
        raise custom(f"names {words}; a {what} is one word, with its options indented below it")
    [(word, fields)] = data.items()
    if fields is not None and not isinstance(fields, dict):
        refuse(wrong(f"should be a mapping of options, not {kind(fields)}", word))
    return word, fields or {}


def with_options(
    family: plugins.Kind, data: Any, info: ValidationInfo, what: str
) -> tuple[Any, str, dict[str, Any]]:
    """The plug-in, its word, and what the suite says differently from its defaults."""
    word, fields = word_and_fields(data, what=what)
    module = plugin(family, word, what=what)
    try:
        return module, word, options(module, fields, folder_of(info))
    except ValidationError as error:
        refuse(*errors_below(error, word))
