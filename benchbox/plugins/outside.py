"""Plug-ins that other packages bring, through entry points: `benchbox.models`, `benchbox.passes` ...

    [project.entry-points."benchbox.passes"]
    prune = "acme_benchbox.prune"

The name is the word in the suite, the value the module. A word that benchbox has itself stays benchbox's own;
one that two packages bring is nobody's until one of them goes. What goes wrong in such a plug-in is told with
the package's name, because it is that package's author who can mend it.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from benchbox.errors import BenchboxError, StageError, Unavailable, UsageError, named_line
from benchbox.plugins.sources import Root


@dataclass(frozen=True)
class Brought:
    """A plug-in of another package: its word, its module, and the distribution that brings it."""

    word: str
    module: str
    package: str
    version: str
    shares: frozenset[str]
    """The top-level modules that the distribution installs: what the plug-in shares with others of it."""

    @property
    def origin(self) -> str:
        """`acme-benchbox 1.2`."""
        return f"{self.package} {self.version}"

    def imported(self) -> ModuleType:
        """The module. Raises UsageError, with the package's name, for whatever goes wrong in it."""
        try:
            return importlib.import_module(self.module)
        except Exception as error:  # somebody else's code: whatever it raises is that package's affair
            raise self.unusable(named_line(error)) from error

    def unusable(self, reason: str) -> UsageError:
        """The error for a plug-in that cannot be used as it is."""
        return UsageError(f"{self.word!r} of the package {self.origin} cannot be used: {reason}")

    def source(self) -> tuple[Path, Root]:
        """The module's file, and where what it imports of its own package is found."""
        module = self.imported()
        if module.__file__ is None:
            raise self.unusable(f"{self.module} is no file")
        file = Path(module.__file__)
        package = file.name == "__init__.py"
        return file, Root(file.parents[self.module.count(".") + package], self.shares)


@cache
def brought(kind: str) -> tuple[Brought, ...]:
    """All that other packages bring of a kind, by word and package; nothing is imported."""
    found = [_brought(point) for point in metadata.entry_points(group=f"benchbox.{kind}")]
    return tuple(sorted(found, key=lambda each: (each.word, each.package)))


def _brought(point: metadata.EntryPoint) -> Brought:
    dist = point.dist
    installed = [] if dist is None else [file.parts[0].removesuffix(".py") for file in dist.files or ()]
    return Brought(
        word=point.name,
        module=point.module,
        package="an unnamed package" if dist is None else dist.name,
        version="" if dist is None else dist.version,
        shares=frozenset({point.module.partition(".")[0], *installed}),
    )


def told(function: Callable[..., Any], name: str, origin: str) -> Callable[..., Any]:
    """The function of that name, whose errors say whose they are.

    Stays what it is: a ValueError of `sizes`, which is about the suite, and want of memory.
    """
    through = (MemoryError, ValueError) if name == "sizes" else (MemoryError,)

    def tells(*args: Any, **named: Any) -> Any:
        try:
            result = function(*args, **named)
        except through:
            raise
        except Exception as error:  # somebody else's code, see above
            raise _named(error, name, origin) from error
        return _told_of(result, name, origin) if isinstance(result, Iterator) else result

    return tells


def _told_of(items: Iterator[Any], name: str, origin: str) -> Iterator[Any]:
    try:
        yield from items
    except MemoryError:
        raise
    except Exception as error:  # somebody else's code, see above
        raise _named(error, name, origin) from error


def _named(error: Exception, name: str, origin: str) -> BenchboxError:
    if isinstance(error, Unavailable):
        return Unavailable(f"{origin}: {error.reason}", error.hint)
    if isinstance(error, StageError):
        return StageError(f"{origin}: {error.reason}", detail=error.detail)
    return StageError(f"{origin}: {name} raised {named_line(error)}")


def differing(name: str, function: Any, declared: Callable[..., Any]) -> str:
    """How the parameters of a function differ from those that the contract declares; empty where they do
    not."""
    if not callable(function):
        return f"{name} is no function"
    wanted = list(inspect.signature(declared).parameters)[1:]
    try:
        given = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # a function in C has no signature to compare
        return ""
    if given == wanted:
        return ""
    return f"{name} takes ({', '.join(given)}), and ({', '.join(wanted)}) is what it is called with"
