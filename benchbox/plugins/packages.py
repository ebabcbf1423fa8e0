"""Packages that plug-ins REQUIRE: whether they are here, in which version, and what to type where they are
not.

Asked of the metadata that packages leave when they are installed: none is imported.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from benchbox.errors import Unavailable
from benchbox.plugins.contract import Plugin
from benchbox.schema.asked import Model

# Distributions whose name is not that of what is imported; of several, the first that is installed.
_DISTRIBUTIONS: Mapping[str, tuple[str, ...]] = {
    "PIL": ("pillow",),
    "sklearn": ("scikit-learn",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"),
    "pynvml": ("nvidia-ml-py",),
}


def required_by(model: Model) -> tuple[str, ...]:
    """Packages that a model needs beside those of its family."""
    return ("peft",) if model.lora else ()


def missing(plugin: Plugin) -> tuple[str, ...]:
    """The packages of `REQUIRES` that cannot be imported here, found without importing them."""
    return _absent(plugin.REQUIRES)


def require(plugin: Plugin, more: Sequence[str] = ()) -> None:
    """Raises Unavailable, with what to type, where a package is missing: the plug-in's, or one `more`."""
    require_all((*plugin.REQUIRES, *more))


def require_all(names: Sequence[str]) -> None:
    """Raises Unavailable, with what to type, where one of these packages is missing."""
    absent = _absent(names)
    if absent:
        raise Unavailable(f"needs {', '.join(absent)}", install_hint(absent))


def install_hint(packages: Sequence[str]) -> str:
    """`pip install "benchbox[cpu]"`: the extra that brings all packages, else the packages themselves."""
    wanted = {_normalised(_names(package)[0]) for package in packages}
    for extra, brings in _extras().items():
        if wanted <= brings:
            return f'pip install "benchbox[{extra}]"'
    return f"pip install {' '.join(sorted(wanted))}"


def versions(names: Sequence[str]) -> dict[str, str]:
    """Versions by import name; a package that is not installed is absent."""
    found = {name: _version(name) for name in names}
    return {name: version for name, version in found.items() if version is not None}


def installed(names: Sequence[str]) -> dict[str, list[str | int]]:
    """Of each package that is here its version, its place, and when it was put there (in ns): another
    distribution of the same version that brings the same module (onnxruntime-gpu) is another one."""
    found: dict[str, list[str | int]] = {}
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None and Path(spec.origin).exists():
            found[name] = [_version(name) or "", spec.origin, Path(spec.origin).stat().st_mtime_ns]
    return found


@cache
def _version(import_name: str) -> str | None:
    """That of the distribution which brings it: most are called as what is imported."""
    if _absent([import_name]):
        return None
    for name in _names(import_name):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    owners = _owners().get(import_name)
    return importlib.metadata.version(owners[0]) if owners else None


def _absent(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if importlib.util.find_spec(name) is None)


def _names(import_name: str) -> tuple[str, ...]:
    return _DISTRIBUTIONS.get(import_name, (import_name,))


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
