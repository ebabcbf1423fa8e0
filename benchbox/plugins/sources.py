"""Python files read without being run: what they define, what they import, one hash for all of it.

What a plug-in makes is decided by its own file and by the files that it imports, and by no other: so that is
what its keys hold. Imports are followed through the syntax tree, those inside functions too, with the
packages they lie in, whose `__init__` runs as well; what only a type checker reads is not followed.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

BENCHBOX = Path(__file__).parents[1]

# Where following stops: what passes between plug-ins and the rest, in form and not in content. Words and
# values (schema, errors), the contract and the loader; and the machine, which tells what is and makes
# nothing. Who changes there what is built (a default, an option) changes a value that is in the key itself.
_INTERFACE = (
    "__init__.py",
    "errors.py",
    "machine",
    "schema",
    "plugins/__init__.py",
    "plugins/contract.py",
    "plugins/outside.py",
    "plugins/packages.py",
    "plugins/sources.py",
)


@dataclass(frozen=True)
class Root:
    """A folder in which imports are looked for; `names` are the packages there that count, None: all."""

    folder: Path
    names: frozenset[str] | None = None


OURS = Root(BENCHBOX.parent, frozenset({"benchbox"}))


@dataclass(frozen=True)
class Outline:
    """What a module defines at its top: literals by name, and the names of everything else."""

    docstring: str
    constants: Mapping[str, Any]
    others: frozenset[str]


def outline(file: Path) -> Outline:
    """What a file defines. Raises OSError and SyntaxError."""
    tree = _parsed(file.read_bytes())
    constants: dict[str, Any] = {}
    others: set[str] = set()
    for name, value in (defined for node in tree.body for defined in _defined(node)):
        if value is None:
            others.add(name)
            continue
        try:
            constants[name] = ast.literal_eval(value)
        except ValueError:  # no literal
            others.add(name)
    constants = {name: value for name, value in constants.items() if name not in others}
    return Outline(ast.get_docstring(tree) or "", constants, frozenset(others))


def digest(file: Path, *roots: Root) -> str:
    """A hash of a file and of everything of ours, or below the other roots, that it imports."""
    content = hashlib.sha256()
    for name, path in imported_files(file, *roots):
        content.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return content.hexdigest()


def imported_files(file: Path, *roots: Root) -> tuple[tuple[str, Path], ...]:
    """The file and all that it imports, directly or not, each after its name below its root, sorted."""
    looked_in = (*roots, OURS)
    found: dict[Path, str] = {}
    waiting = [file]
    while waiting:
        path = waiting.pop()
        if path not in found and not _is_interface(path):
            found[path] = _name(path, looked_in)
            waiting += _imports(path, looked_in)
    return tuple(sorted((name, path) for path, name in found.items()))


def _is_interface(file: Path) -> bool:
    if not file.is_relative_to(BENCHBOX):
        return False
    name = file.relative_to(BENCHBOX).as_posix()
    return name in _INTERFACE or name.partition("/")[0] in _INTERFACE


def _name(file: Path, roots: Sequence[Root]) -> str:
    """The same for the same file on every machine."""
    inside = (root.folder for root in roots if file.is_relative_to(root.folder))
    return next((file.relative_to(folder).as_posix() for folder in inside), file.name)


def _imports(file: Path, roots: Sequence[Root]) -> Iterator[Path]:
    content = file.read_bytes()
    package = _name(file, roots).removesuffix(".py").split("/")[:-1]
    try:
        written = _written_imports(content)
    except SyntaxError:  # who imports it says so; its bytes are in the hash
        return
    for level, module in written:
        above = package[: len(package) + 1 - level] if level else []
        parts = [*above, *filter(None, module.split("."))]
        for end in range(1, len(parts) + 1):
            path = _module_file(parts[:end], roots)
            if path is not None:
                yield path


def _module_file(parts: Sequence[str], roots: Sequence[Root]) -> Path | None:
    for root in roots:
        if root.names is None or parts[0] in root.names:
            place = root.folder.joinpath(*parts)
            for path in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
                if path.is_file():
                    return path
    return None


@cache
def _parsed(content: bytes) -> ast.Module:
    return ast.parse(content)


@cache
def _written_imports(content: bytes) -> tuple[tuple[int, str], ...]:
    """Each import as (leading dots, dotted name); of `from a import b` both `a` and `a.b`, if it is a
    module."""
    return tuple(_imports_below(_parsed(content)))


def _imports_below(node: ast.AST) -> Iterator[tuple[int, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((0, alias.name) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from ((child.level, f"{child.module or ''}.{alias.name}") for alias in child.names)
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for other in child.orelse:
                yield from _imports_below(other)
        elif not isinstance(child, ast.expr):  # no import stands inside an expression
            yield from _imports_below(child)


def _defined(node: ast.stmt) -> Iterator[tuple[str, ast.expr | None]]:
    """Names that a statement at the top defines, with the expression where it is one of one name."""
    match node:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.AsyncFunctionDef(name=name):
            yield name, None
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            yield name, value
        case ast.AnnAssign(target=ast.Name(id=name), value=value) if value is not None:
            yield name, value
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            yield from ((alias.asname or alias.name.partition(".")[0], None) for alias in names)
