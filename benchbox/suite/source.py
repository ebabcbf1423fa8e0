"""A YAML text as plain values that know the line and column they were written at.

Only strings, numbers, booleans, null, lists and mappings come out: a tag that would make anything else is an
error, as are duplicate keys, NaN, aliases that expand beyond all measure and nesting without end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from benchbox.errors import SuiteError, UsageError, first_line

# The shipped suites have 2 KiB, five levels and 60 values: these bounds leave room for all that people write.
MAX_BYTES = 1 << 20
MAX_DEPTH = 24
MAX_VALUES = 100_000
MAX_INTEGER = 1 << 63  # what JSON readers and pydantic take without loss

_TAG = "tag:yaml.org,2002:"

Loc = tuple[str | int, ...]


@dataclass(frozen=True)
class Override:
    """`--set models.0.weights=pretrained`; `loc` is where it landed in the data."""

    text: str
    loc: Loc

    @property
    def place(self) -> str:
        """How an error names it."""
        return f"--set {self.text}"


@dataclass(frozen=True)
class Source:
    """Plain data, the file it is from, and the nodes that know where each value stands.

    `root` is None for data that were not read from a text.
    """

    file: str
    data: Any
    root: Node | None = None
    overrides: tuple[Override, ...] = ()

    def label(self, loc: Loc, *, missing: bool = False) -> str:
        """`models.0.weights`: the part of `loc` that the data have, or all of it where its end is missing."""
        found = _found(self.data, loc)
        rest = loc[_consumed(self.data, loc) :] if missing else ()
        return ".".join(printable(str(part)) for part in (*found, *rest))

    def override_at(self, loc: Loc) -> Override | None:
        """The override that wrote the value at `loc`, or that brought in what the file does not have."""
        found = _found(self.data, loc)
        written = _found_nodes(self.root, found)
        for override in reversed(self.overrides):
            if found[: len(override.loc)] == override.loc:
                return override
            if len(written) < len(found) and override.loc[: len(written) + 1] == found[: len(written) + 1]:
                return override
        return None

    def mark(self, loc: Loc, *, at_key: bool = False) -> tuple[int, int]:
        """Line and column, from 1, of the value at `loc` or of the deepest one around it; or of its key."""
        mark = (1, 1)
        node = self.root
        for part in _found(self.data, loc):
            step = _step(node, part)
            if step is None:
                return mark
            key, node = step
            mark = _mark(key if at_key else node)
        return mark if node is not self.root else _mark(node)


def read_text(path: Path) -> str:
    """The text of a suite file. Raises SuiteError for what is not a UTF-8 text file of sensible size."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)  # no more, because /dev/zero is a file too
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        raise SuiteError(_unreadable(error), file=str(path)) from error
    if len(raw) > MAX_BYTES:
        raise SuiteError(f"a suite has at most {MAX_BYTES} bytes; is this one?", file=str(path))
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        message = f"not a UTF-8 text (byte 0x{raw[error.start]:02x}); save it as UTF-8"
        raise SuiteError(message, file=str(path), line=line, column=column) from error


def parse(text: str, file: str) -> Source:
    """The data of a YAML text that holds one mapping. Raises SuiteError at the first thing that is wrong."""
    root = _compose(text, file)
    if root is None:
        raise SuiteError("the suite is empty: it needs models, paths, backends and inputs", file=file)
    data = _YamlReader(file).value(root)
    if not isinstance(data, dict):
        line, column = _mark(root)
        raise SuiteError(
            f"a suite is a mapping, and this is {kind(data)}: begin with 'models:', 'paths:', 'backends:'",
            file=file,
            line=line,
            column=column,
        )
    return Source(file=file, data=data, root=root)


def override(source: Source, texts: Sequence[str]) -> Source:
    """The source with `models.0.weights=pretrained` and the like written over it, in order.

    The value is YAML. Raises UsageError for what cannot be applied; whether a field exists is found out
    when the suite is validated.
    """
    for text in texts:
        dotted, equals, written = text.partition("=")
        keys = [key.strip() for key in dotted.split(".")]
        if not equals or not all(keys) or len(keys) > MAX_DEPTH:
            raise UsageError(
                f"--set {text}: write field=value, for example --set models.0.weights=pretrained"
            )
        data, loc = _written(source.data, keys, _value(written, text), _Stop(text))
        source = replace(source, data=data, overrides=(*source.overrides, Override(text, loc)))
    return source


def kind(value: Any) -> str:
    """`a list`, `a mapping`, `empty` or the value itself, cut short: for messages."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    if value is None:
        return "empty"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def printable(text: str) -> str:
    """The text with control characters written out, so that a message cannot steer a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _unreadable(error: OSError | ValueError) -> str:
    if isinstance(error, IsADirectoryError):
        return "this is a directory; name a suite file in it"
    reason = error.strerror if isinstance(error, OSError) else "not a file name"
    return f"cannot read the suite: {reason}"


def _compose(text: str, file: str) -> Node | None:
    """The node tree of a single document, by the rules of YAML 1.2 (so that 1e-4 is a number)."""
    yaml = YAML(typ="safe", pure=True)
    yaml.max_depth = MAX_DEPTH
    yaml.composer.warn_double_anchors = False  # a later anchor replaces the first: so says the standard
    try:
        node: Node | None = yaml.compose(text)
    except ReaderError as error:
        raise _control_character(text, file, error) from error
    except MarkedYAMLError as error:
        raise _syntax_error(text, file, error) from error
    except (YAMLError, OverflowError, ValueError, RecursionError) as error:
        # OverflowError and ValueError: ruamel.yaml passes the escape "\UFFFFFFFF" on to chr().
        raise SuiteError(f"not YAML: {first_line(error)}", file=file) from error
    return node


def _control_character(text: str, file: str, error: ReaderError) -> SuiteError:
    character = error.character if isinstance(error.character, int) else ord(error.character)
    position = max(text.find(chr(character)), 0)
    name = "a NUL byte" if character == 0 else f"the control character U+{character:04X}"
    return SuiteError(
        f"{name} is not allowed in a suite",
        file=file,
        line=text.count("\n", 0, position) + 1,
        column=position - text.rfind("\n", 0, position),
    )


def _syntax_error(text: str, file: str, error: MarkedYAMLError) -> SuiteError:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    lines = text.splitlines()
    written = lines[line - 1] if line <= len(lines) else ""
    indentation = written[: len(written) - len(written.lstrip())]
    return SuiteError(_problem(error, indentation), file=file, line=line, column=column)


def _problem(error: MarkedYAMLError, indentation: str) -> str:
    problem = " ".join(str(error.problem or error.context or "not YAML").split())
    if "\t" in indentation or "'\\t'" in problem:
        return "a tab cannot indent YAML: use spaces"
    if "another document" in problem:
        return "a second document begins here; a suite file holds one"
    if "maximum depth" in problem:
        return f"nested too deeply; at most {MAX_DEPTH} levels"
    if "undefined alias" in problem:
        return (
            f"{problem}: an anchor (&name) comes before its alias (*name); quote a text that begins with '*'"
        )
    return f"not YAML: {problem}"


class _YamlReader:
    """Makes plain values of nodes, counting them, so that a few aliases cannot become a billion values."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._values = 0
        self._open: list[Node] = []

    def value(self, node: Node) -> Any:
        self._values += 1
        if self._values > MAX_VALUES:
            self._fail(node, f"its aliases expand to more than {MAX_VALUES} values")
        if any(node is parent for parent in self._open):
            self._fail(node, "an alias (*name) stands inside its own anchor (&name)")
        if len(self._open) > MAX_DEPTH:
            self._fail(node, f"nested too deeply; at most {MAX_DEPTH} levels")
        return self._plain(node)

    def _plain(self, node: Node) -> Any:
        tag = str(node.tag)
        if isinstance(node, ScalarNode) and tag in _SCALARS:
            return self._scalar(node, _SCALARS[tag])
        if isinstance(node, MappingNode) and tag == _TAG + "map":
            return self._mapping(node)
        if isinstance(node, SequenceNode) and tag == _TAG + "seq":
            self._open.append(node)
            items = [self.value(item) for item in node.value]
            self._open.pop()
            return items
        shown = tag.replace(_TAG, "!!")
        return self._fail(node, f"the tag {shown!r} is not allowed: a suite holds plain values only")

    def _scalar(self, node: ScalarNode, read: Callable[[str], Any]) -> Any:
        try:
            value = read(node.value)
        except (ValueError, KeyError):
            self._fail(node, f"{kind(node.value)} is not {_article(node)}")
        if isinstance(value, float) and not math.isfinite(value):
            self._fail(node, f"{node.value} is not a finite number")
        if type(value) is int and abs(value) >= MAX_INTEGER:
            self._fail(node, "this number is too large")
        if isinstance(value, str) and not _is_unicode(value):
            self._fail(node, "this text holds half a surrogate pair, which is no character")
        return value

    def _mapping(self, node: MappingNode) -> dict[str, Any]:
        self._open.append(node)
        first: dict[str, Node] = {}
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node)
            if key in first:
                line = _mark(first[key])[0]
                self._fail(key_node, f"{printable(key)}: duplicate key; it was first written in line {line}")
            first[key] = key_node
            mapping[key] = self.value(value_node)
        self._open.pop()
        return mapping

    def _key(self, node: Node) -> str:
        if str(node.tag) == _TAG + "merge":
            self._fail(node, "merge keys (<<) are not part of YAML 1.2: write the fields out")
        if not isinstance(node, ScalarNode) or str(node.tag) != _TAG + "str":
            self._fail(node, f"a key is a text, and this is {_article(node)}: quote it")
        key: str = self._scalar(node, str)
        if len(key) > 200:
            self._fail(node, "a key has at most 200 characters")
        return key

    def _fail(self, node: Node, message: str) -> NoReturn:
        line, column = _mark(node)
        raise SuiteError(message, file=self._file, line=line, column=column)


def _integer(text: str) -> int:
    digits = text.replace("_", "")
    if len(digits) > 40:  # int() takes quadratic time, and refuses more than 4300 digits
        return MAX_INTEGER
    return int(digits, 0 if digits.lstrip("+-")[:2].lower() in {"0x", "0o", "0b"} else 10)


def _float(text: str) -> float:
    special = {".inf": math.inf, ".nan": math.nan}
    bare = text.lower().lstrip("+-")
    return special[bare] if bare in special else float(text.replace("_", ""))


_SCALARS: dict[str, Callable[[str], Any]] = {
    _TAG + "str": str,
    _TAG + "int": _integer,
    _TAG + "float": _float,
    _TAG + "bool": lambda text: {"true": True, "false": False}[text.lower()],
    _TAG + "null": lambda _: None,
    _TAG + "timestamp": str,  # a suite knows no dates: 2024-01-01 is a text
}


def _article(node: Node) -> str:
    name = str(node.tag).replace(_TAG, "")
    names = {"map": "a mapping", "seq": "a list", "null": "empty", "int": "a whole number"}
    return names.get(name, f"a {name}")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _mark(node: Node | None) -> tuple[int, int]:
    if node is None or node.start_mark is None:
        return (1, 1)
    return (node.start_mark.line + 1, node.start_mark.column + 1)


def _step(node: Node | None, part: str | int) -> tuple[Node, Node] | None:
    """The key node and the value node below `node`; a list's item is its own key."""
    if isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if key.value == part:
                return key, value
    return None


def _found_nodes(root: Node | None, loc: Loc) -> Loc:
    node = root
    for depth, part in enumerate(loc):
        step = _step(node, part)
        if step is None:
            return loc[:depth]
        node = step[1]
    return loc


def _found(data: Any, loc: Loc) -> Loc:
    """The parts of `loc` that lead somewhere; an index into what was written as a single item is left out."""
    found: list[str | int] = []
    for part in loc[: _consumed(data, loc)]:
        if not _is_single(data, part):
            found.append(part)
            data = data[part]
    return tuple(found)


def _consumed(data: Any, loc: Loc) -> int:
    for depth, part in enumerate(loc):
        if _is_single(data, part):
            continue
        if not _has(data, part):
            return depth
        data = data[part]
    return len(loc)


def _has(data: Any, part: str | int) -> bool:
    if isinstance(data, list):
        return isinstance(part, int) and part < len(data)
    return isinstance(data, dict) and part in data


def _is_single(data: Any, part: str | int) -> bool:
    return part == 0 and isinstance(part, int) and not isinstance(data, list)


@dataclass(frozen=True)
class _Stop:
    """Ends an override that cannot be applied, naming it."""

    text: str

    def refuse_at(self, done: Loc, message: str) -> NoReturn:
        where = ".".join(str(part) for part in done) or "the suite"
        raise UsageError(f"--set {self.text}: {where} {message}")


def _value(written: str, text: str) -> Any:
    place = f"--set {text}"
    try:
        node = _compose(written, place)
        return None if node is None else _YamlReader(place).value(node)
    except SuiteError as error:
        raise UsageError(f"{place}: {error.message}") from error


def _written(data: Any, keys: Sequence[str], value: Any, stop: _Stop, done: Loc = ()) -> tuple[Any, Loc]:
    """A copy of `data` with the value at `keys`, and the keys as the data know them."""
    if not keys:
        return value, done
    key, *rest = keys
    if isinstance(data, list):
        index = _index(data, key, stop, done)
        item, loc = _written(data[index], rest, value, stop, (*done, index))
        return [*data[:index], item, *data[index + 1 :]], loc
    if key == "0" and not (isinstance(data, dict) and key in data):
        if not rest and isinstance(value, list):  # the one item of a list that was written short
            return [value], (*done, 0)
        return _written(data, rest, value, stop, done)
    if isinstance(data, str) and data == key:  # `pytorch` becomes `pytorch: {}`
        data = {key: None}
    if data is not None and not isinstance(data, dict):
        stop.refuse_at(done, f"is {kind(data)}, which has no field {key!r}; set it as a whole")
    fields = data or {}
    inner, loc = _written(fields.get(key), rest, value, stop, (*done, key))
    return {**fields, key: inner}, loc


def _index(items: Sequence[Any], key: str, stop: _Stop, done: Loc) -> int:
    if not (key.isascii() and key.isdigit() and len(key) < 10 and int(key) < len(items)):
        stop.refuse_at(done, f"is a list: write a number from 0 to {len(items) - 1} in place of {key!r}")
    return int(key)
