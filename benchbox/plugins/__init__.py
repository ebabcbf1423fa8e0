"""The word in the YAML is the file name: what plug-ins exist, and loading one.

Files are listed without being imported, and nothing is registered anywhere. A file whose name starts
with an underscore is not a plug-in.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from benchbox.errors import Unavailable, UsageError
from benchbox.schema.asked import Model

Kind = Literal["models", "datasets", "exporters", "passes", "backends", "reporters"]
KINDS: tuple[Kind, ...] = ("models", "datasets", "exporters", "passes", "backends", "reporters")

# Import names that are not the name of the distribution that brings them.
_DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn"}


_HERE = Path(__file__).parent
_BENCHBOX = _HERE.parent
# Where a kind is, whose folder is not beside this file: what draws reports is no part of what is measured.
_PACKAGES: Mapping[Kind, str] = {"reporters": "benchbox.reporters.formats"}


def _folder(kind: Kind) -> Path:
    return _BENCHBOX / "reporters" / "formats" if kind == "reporters" else _HERE / kind


@cache
def names(kind: Kind) -> tuple[str, ...]:
    """The words that exist for a kind of plug-in, sorted."""
    folder = _folder(kind)
    return tuple(sorted(f.stem for f in folder.glob("*.py") if not f.stem.startswith("_")))


@cache
def load(kind: Kind, word: str) -> Any:
    """The plug-in's module. Raises UsageError with the names that exist and the nearest one."""
    if word not in names(kind):
        raise UsageError(unknown(word, names(kind), what=kind))
    return importlib.import_module(f"{_PACKAGES.get(kind, f'benchbox.plugins.{kind}')}.{word}")


def unknown(word: str, allowed: Sequence[str], *, what: str) -> str:
    """A message for a word that does not exist: what is allowed, and the nearest match."""
    near = difflib.get_close_matches(word, allowed, n=1, cutoff=0.5)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {what}: {word!r}.{guess} Allowed: {', '.join(allowed)}."


def summary(kind: Kind, word: str) -> str:
    """The first line of the plug-in's docstring, read without importing it."""
    source = (_folder(kind) / f"{word}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


@cache
def source_digest(kind: Kind, word: str) -> str:
    """A hash of the plug-in's source and of what its folder shares: an edited plug-in builds anew."""
    folder = _folder(kind)
    files = [folder / f"{word}.py", *sorted(folder.glob("_*.py"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


@cache
def shared_digest() -> str:
    """A hash of what all plug-ins build with: when it changes, so may everything that is built."""
    files = [
        _BENCHBOX / "numerics" / "arrays.py",
        _BENCHBOX / "numerics" / "gradient.py",
        _HERE / "graphs.py",
    ]
    files += sorted((_BENCHBOX / "build").glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def required_by(model: Model) -> tuple[str, ...]:
    """Packages that a model needs beside those of its family."""
    return ("peft",) if model.lora else ()


def missing(plugin: Any) -> tuple[str, ...]:
    """The packages of `REQUIRES` that cannot be imported here, found without importing them."""
    return tuple(name for name in plugin.REQUIRES if importlib.util.find_spec(name) is None)


def require(plugin: Any, more: Sequence[str] = ()) -> None:
    """Raises Unavailable, with what to type, where a package is missing: the plug-in's, or one `more`."""
    absent = (*missing(plugin), *(name for name in more if importlib.util.find_spec(name) is None))
    if absent:
        raise Unavailable(f"needs {', '.join(absent)}", install_hint(absent))


def install_hint(packages: Sequence[str]) -> str:
    """`pip install "benchbox[cpu]"`: the extra that brings all packages, else the packages themselves."""
    wanted = {_distribution(name) for name in packages}
    for extra, brings in _extras().items():
        if wanted <= brings:
            return f'pip install "benchbox[{extra}]"'
    return f"pip install {' '.join(sorted(wanted))}"


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Versions by import name; a package that is not installed is absent."""
    return {name: _version(name) for name in packages if name in _owners()}


def options(plugin: Any, given: Mapping[str, Any]) -> Any:
    """The plug-in's `Options` made from a mapping; None for a plug-in without options."""
    if not hasattr(plugin, "Options"):
        return None
    return plugin.Options(**given)


@cache
def _version(import_name: str) -> str:
    return importlib.metadata.version(_owners()[import_name][0])


def _distribution(import_name: str) -> str:
    return _normalised(_DISTRIBUTIONS.get(import_name, import_name))


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def _owners() -> Mapping[str, list[str]]:
    """Distributions by import name; half a second, because it reads what every package has installed."""
    return importlib.metadata.packages_distributions()


@cache
def _extras() -> dict[str, set[str]]:
    try:
        requirements = importlib.metadata.requires("benchbox") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    extras: dict[str, set[str]] = {}
    for line in requirements:
        package = re.match(r"[A-Za-z0-9._-]+", line)
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", line)
        if package and extra:
            extras.setdefault(extra.group(1), set()).add(_normalised(package.group()))
    return extras
