"""The word in the YAML is the file name: what plug-ins exist, and each of them seen through its contract.

Files are listed without being imported, and nothing is registered anywhere. A file whose name starts with an
underscore is not a plug-in, but what several of them share. Other packages bring plug-ins through entry
points, and a suite may name a file of its own as a family: `outside` and `trusted` say how.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

from benchbox.errors import StageError, UsageError
from benchbox.plugins import outside, sources, trusted
from benchbox.plugins.contract import (
    BackendPlugin,
    DatasetPlugin,
    Exporter,
    Family,
    Pass,
    Plugin,
    Reporter,
)
from benchbox.plugins.packages import (
    install_hint,
    missing,
    require,
    required_by,
    versions,
)
from benchbox.schema import paths
from benchbox.schema.asked import Model

__all__ = ["install_hint", "missing", "require", "required_by", "versions"]  # of packages, to be had here

Kind = Literal["models", "datasets", "exporters", "passes", "backends", "reporters"]
KINDS: tuple[Kind, ...] = ("models", "datasets", "exporters", "passes", "backends", "reporters")

_CONTRACTS: Mapping[Kind, type[Plugin]] = {
    "models": Family,
    "datasets": DatasetPlugin,
    "exporters": Exporter,
    "passes": Pass,
    "backends": BackendPlugin,
    "reporters": Reporter,
}

# What draws reports is no part of what is measured, so it lies in another room.
_FOLDERS: Mapping[Kind, str] = {"reporters": "reporters/formats"}

# Asked before a suite's own file may run.
_NOT_IN_A_FILE = ("sizes", "fingerprint")


def folder(kind: Kind) -> Path:
    """Where our own plug-ins of a kind lie."""
    return sources.BENCHBOX / _FOLDERS.get(kind, f"plugins/{kind}")


@cache
def own(kind: Kind) -> tuple[str, ...]:
    """The words of a kind that benchbox itself brings, sorted."""
    return tuple(sorted(f.stem for f in folder(kind).glob("*.py") if not f.stem.startswith("_")))


@cache
def names(kind: Kind) -> tuple[str, ...]:
    """The words that exist for a kind of plug-in, sorted: ours, and those of other packages."""
    return tuple(sorted({*own(kind), *(each.word for each in outside.brought(kind))}))


def exists(kind: Kind, word: str) -> bool:
    """Whether there is such a word; other packages are looked through only for what we do not have."""
    return word in own(kind) or word in names(kind)


@cache
def load(kind: Kind, word: str) -> Plugin:
    """The plug-in. Raises UsageError with the names that exist and the nearest one, and where another
    package's plug-in cannot be used."""
    if word in own(kind):
        module = importlib.import_module(
            f"benchbox.{_FOLDERS.get(kind, f'plugins/{kind}').replace('/', '.')}.{word}"
        )
        return seen_as(kind, vars(module))
    each = _of_another_package(kind, word)
    return _checked(each, kind, vars(each.imported()))


def family(word: str) -> Family:
    """The model family of that word; of a model, `family_of`, whose family may be a file of the suite's."""
    return cast(Family, load("models", word))


def dataset(word: str) -> DatasetPlugin:
    """The dataset of that word."""
    return cast(DatasetPlugin, load("datasets", word))


def exporter(word: str) -> Exporter:
    """The exporter of that word."""
    return cast(Exporter, load("exporters", word))


def pass_(word: str) -> Pass:
    """The pass of that word."""
    return cast(Pass, load("passes", word))


def backend(word: str) -> BackendPlugin:
    """The backend of that word."""
    return cast(BackendPlugin, load("backends", word))


def reporter(word: str) -> Reporter:
    """The reporter of that word."""
    return cast(Reporter, load("reporters", word))


def family_of(model: Model) -> Family:
    """The family of a model, whose paths are absolute (`model.located_from(folder)`).

    One that is a file of the suite's is read here, and run when one of its functions is first called. Raises
    StageError where the file is not as `Family` says, and then where it is not trusted.
    """
    return family_in(Path(model.family), model) if is_file(model.family) else family(model.family)


def is_file(word: str) -> bool:
    """Whether the word of a family is the path of a file."""
    return paths.is_local(word) or word.startswith("/")


def usable(kind: Kind) -> tuple[str, ...]:
    """The words of a kind but those of another package's plug-in that cannot be used."""
    return tuple(word for word in names(kind) if not problem(kind, word))


def problem(kind: Kind, word: str) -> str:
    """Why a plug-in of another package cannot be used, with the package's name; empty where it can."""
    try:
        if word not in own(kind):
            load(kind, word)
    except UsageError as error:
        return str(error)
    return ""


def unknown(word: str, allowed: Sequence[str], *, what: str) -> str:
    """A message for a word that does not exist: what is allowed, and the nearest match."""
    near = difflib.get_close_matches(word, allowed, n=1, cutoff=0.5)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {what}: {word!r}.{guess} Allowed: {', '.join(allowed)}."


def origin(kind: Kind, word: str) -> str:
    """`acme-benchbox 1.2`, for a plug-in that another package brings; `benchbox` for ours."""
    if word in own(kind):
        return "benchbox"
    return " and ".join(each.origin for each in outside.brought(kind) if each.word == word)


def hidden_by(kind: Kind, word: str) -> tuple[str, ...]:
    """The packages that bring a word of ours too: ours counts."""
    return tuple(each.origin for each in outside.brought(kind) if each.word == word and word in own(kind))


def summary(kind: Kind, word: str) -> str:
    """The first line of the plug-in's docstring, read without importing a plug-in of ours."""
    file, *_ = _source(kind, word)
    return sources.outline(file).docstring.partition("\n")[0]


def requires(kind: Kind, word: str) -> tuple[str, ...]:
    """The plug-in's REQUIRES, read without importing a plug-in of ours: a reporter takes half a second."""
    if word in own(kind):
        return tuple(sources.outline(folder(kind) / f"{word}.py").constants["REQUIRES"])
    return load(kind, word).REQUIRES


@cache
def source_digest(kind: Kind, word: str) -> str:
    """A hash of the plug-in's source and of what it imports: an edited plug-in builds anew, and no other."""
    return sources.digest(*_source(kind, word))


def family_digest(model: Model) -> str:
    """`source_digest` of a model's family; of a file, of its bytes and of what it imports from beside it."""
    if is_file(model.family):
        file = Path(model.family)
        return sources.digest(file, sources.Root(file.parent))
    return source_digest("models", model.family)


def options(plugin: Plugin, given: Mapping[str, Any]) -> Any:
    """The plug-in's `Options` made from a mapping; None for a plug-in without options."""
    return None if plugin.Options is None else plugin.Options(**given)


# --- Seen through the contract ---


def seen_as(kind: Kind, defined: Mapping[str, Any]) -> Plugin:
    """The plug-in that these names make, in place of the contract's defaults; only its names are taken."""
    view = _CONTRACTS[kind]()
    vars(view).update({name: defined[name] for name in _declared(type(view)) if name in defined})
    return view


def _declared(contract: type[Plugin]) -> Mapping[str, Any]:
    """Every name of a contract with its default; `...` for a constant that has none."""
    bases = contract.__mro__[-2::-1]  # from Plugin up, without object
    known: dict[str, Any] = {}
    for base in bases:
        known.update({name: ... for name, _ in _annotations(base)})
        known.update({name: value for name, value in vars(base).items() if not name.startswith("_")})
    return known


def _is_required(default: Any) -> bool:
    """Whether a plug-in must say it: a constant without a default, or an abstract function."""
    return default is ... or (inspect.isfunction(default) and "__isabstractmethod__" in vars(default))


def _functions(contract: type[Plugin]) -> frozenset[str]:
    """The names of a contract that are functions, those too that a plug-in may lack."""
    known = {
        name for base in contract.__mro__ for name, of in _annotations(base) if of.startswith("Callable")
    }
    return frozenset(known | {n for n, default in _declared(contract).items() if inspect.isfunction(default)})


def _annotations(base: type) -> Iterable[tuple[str, str]]:
    return vars(base).get("__annotations__", {}).items()  # type: ignore[no-any-return]


def _missing_names(contract: type[Plugin], defined: Container[str]) -> list[str]:
    return [n for n, default in _declared(contract).items() if _is_required(default) and n not in defined]


# --- Of other packages ---


def _of_another_package(kind: Kind, word: str) -> outside.Brought:
    found = [each for each in outside.brought(kind) if each.word == word]
    if not found:
        raise UsageError(unknown(word, names(kind), what=kind))
    if len(found) > 1:
        packages = " and ".join(each.origin for each in found)
        raise UsageError(f"{word!r} of {kind} is brought by {packages}: uninstall one of them")
    return found[0]


def _checked(each: outside.Brought, kind: Kind, defined: Mapping[str, Any]) -> Plugin:
    """The plug-in, whose errors are told with the package's name. Raises UsageError where it lacks something,
    or would be called with what it does not take."""
    contract = _CONTRACTS[kind]
    absent = _missing_names(contract, defined)
    if absent:
        raise each.unusable(f"{each.module} defines no {', '.join(absent)}")
    for name, declared in _declared(contract).items():
        if inspect.isfunction(declared) and name in defined:
            wrong = outside.differing(name, defined[name], declared)
            if wrong:
                raise each.unusable(wrong)
    tell = {n: outside.told(defined[n], n, each.origin) for n in _functions(contract) if defined.get(n)}
    return seen_as(kind, {**defined, **tell})


def _source(kind: Kind, word: str) -> tuple[Path, *tuple[sources.Root, ...]]:
    if word in own(kind):
        return (folder(kind) / f"{word}.py",)
    return _of_another_package(kind, word).source()


# --- In a file of the suite's ---


def family_in(file: Path, model: Model | None = None) -> Family:
    """The family that a file of a suite's is: constants as they are written, and functions that run the file
    when one is first called, for a model that is trusted. Raises StageError for a file that is no family."""
    try:
        outline = sources.outline(file)
    except OSError as error:
        raise StageError(f"{file.name} cannot be read: {error.strerror or error}") from error
    except SyntaxError as error:
        raise StageError(f"{file.name}:{error.lineno}: {error.msg}") from error
    problem = _why_no_family(outline)
    if problem:
        raise StageError(f"{file.name} {problem}")
    functions = {name: _run_when_called(file, model, name) for name in outline.others & _functions(Family)}
    return cast(Family, seen_as("models", {**outline.constants, **functions}))


def _why_no_family(outline: sources.Outline) -> str:
    """What a file lacks, or has and must not, to be read before it is run; empty where it is a family."""
    absent = _missing_names(Family, {*outline.constants, *outline.others})
    if absent:
        return f"is no model family: it defines no {', '.join(absent)}"
    early = [name for name in _NOT_IN_A_FILE if name in outline.others]
    if early:
        return (
            f"defines {', '.join(early)}, which is asked before the file may run: TASKS and DYNAMIC say sizes"
        )
    computed = sorted(outline.others & (set(_declared(Family)) - _functions(Family) - {"Options"}))
    if computed:
        return (
            f"computes {', '.join(computed)}: that is read before the file is run, so write it as a literal"
        )
    return ""


def _run_when_called(file: Path, model: Model | None, name: str) -> Callable[..., Any]:
    """A function of the file, which runs with the first call of one. Raises StageError where it may not."""

    def call(*args: Any, **named: Any) -> Any:
        if model is None:
            raise StageError("was read only")
        trusted.require(model)
        return _ran(file, sources.digest(file, sources.Root(file.parent)))[name](*args, **named)

    return outside.told(call, name, file.name)


@cache
def _ran(file: Path, _digest: str) -> Mapping[str, Any]:
    """What the file defines, run once for each content that it has."""
    return vars(trusted.imported(file))
