"""What would be done, and what can be done here: the matrix, what is built already, what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from benchbox import plugins
from benchbox.build.cache import Cache, default_folder
from benchbox.build.keys import artifact_keys
from benchbox.errors import StageError, Unavailable
from benchbox.machine import environment
from benchbox.machine.child import Child, Limits
from benchbox.schema.asked import Backend, Case, Suite, digest
from benchbox.schema.seen import Host

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Planned:
    """A case before it runs: whether each step of its path is in the cache, and why it cannot run here."""

    case: Case
    built: tuple[bool, ...]
    unavailable: str
    hint: str
    is_baseline: bool


@dataclass(frozen=True)
class Capability:
    """A plug-in, and whether it can run here; `providers` only for backends."""

    kind: plugins.Kind
    word: str
    summary: str
    available: bool
    providers: tuple[str, ...] = ()
    reason: str = ""
    hint: str = ""


def plan(suite: Suite, cache: Path | None = None) -> tuple[Planned, ...]:
    """The matrix of a suite, in its order. Nothing is built and nothing measured."""
    store = Cache(cache or default_folder())
    host = environment.host()
    first = baselines(suite.cases)
    place = _Place(store, host, suite.folder)
    with Availability(suite.folder) as availability:
        return tuple(
            _planned(case, place, availability.why_not(case), case.id in first) for case in suite.cases
        )


def baselines(cases: Sequence[Case]) -> frozenset[str]:
    """Ids of the cases that others of their group are compared with, one a group.

    It is the unexported model in PyTorch with default options (eager, fp32) and the first provider; where
    the suite has none, the group's first case.
    """
    chosen: dict[str, Case] = {}
    for case in sorted(cases, key=_is_not_the_model_itself):
        chosen.setdefault(case.group, case)
    return frozenset(case.id for case in chosen.values())


def capabilities() -> tuple[Capability, ...]:
    """Every plug-in there is, backends asked in a process of their own for their providers."""
    return tuple(_capability(kind, word) for kind in plugins.KINDS for word in plugins.names(kind))


class Availability:
    """Answers why a case cannot run here; a runtime is asked in a worker, once for each backend.

    `folder` is that of the suite.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._answers: dict[str, Unavailable | StageError | None] = {}
        self._children: dict[tuple[str, str | None], Child] = {}

    def __enter__(self) -> Availability:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children.values():
            child.kill()

    def why_not(self, case: Case) -> Unavailable | StageError | None:
        """None where nothing is known to be in the way; a StageError where the runtime itself broke."""
        for kind, word in _plugins_of(case):
            missing = _missing(kind, word, plugins.required_by(case.model) if kind == "models" else ())
            if missing is not None:
                return missing
        key = digest(case.backend)
        if key not in self._answers:
            self._answers[key] = self._ask(case.backend)
        return self._answers[key]

    def _ask(self, written: Backend) -> Unavailable | StageError | None:
        backend = written.at(self._folder)
        place = (backend.word, backend.python)
        try:
            if place not in self._children:
                self._children[place] = Child("benchbox.measure.worker", Limits(backend.python, None, 120.0))
            self._children[place].ask("check", word=backend.word, backend=asdict(backend))
        except Unavailable as error:
            return _there(error, written.python)
        except StageError as error:
            broken = self._children.pop(place, None)
            if broken is not None:
                broken.kill()
            return error
        return None


def _there(error: Unavailable, python: str | None) -> Unavailable:
    """What to type, for an interpreter of its own."""
    if python is None or not error.hint.startswith("pip "):
        return error
    return Unavailable(error.reason, f"{python} -m {error.hint}")


@dataclass(frozen=True)
class _Place:
    """Where it would be built: the cache, the machine, the suite's folder."""

    cache: Cache
    host: Host
    folder: Path


def _planned(
    case: Case, place: _Place, why_not: Unavailable | StageError | None, is_baseline: bool
) -> Planned:
    if why_not is not None:
        hint = why_not.hint if isinstance(why_not, Unavailable) else ""
        return Planned(case, (False,) * len(case.path), why_not.reason, hint, is_baseline)
    try:
        keys = artifact_keys(case, place.host, place.folder)
    except StageError as error:
        return Planned(case, (False,) * len(case.path), error.reason, "", is_baseline)
    return Planned(case, tuple(place.cache.has(key) for key in keys), "", "", is_baseline)


@cache
def _missing(kind: plugins.Kind, word: str, more: tuple[str, ...]) -> Unavailable | None:
    try:
        plugins.require(plugins.load(kind, word), more)
    except Unavailable as error:
        return error
    return None


def _plugins_of(case: Case) -> Iterator[tuple[plugins.Kind, str]]:
    yield "models", case.model.family
    yield "datasets", case.dataset.word
    yield "exporters", case.path[0].word
    for step in case.path[1:]:
        yield "passes", step.word


def _is_not_the_model_itself(case: Case) -> bool:
    itself = [step.word for step in case.path] == ["torch"] and case.backend.word == "pytorch"
    return not (itself and not case.backend.options)


def _capability(kind: plugins.Kind, word: str) -> Capability:
    summary = plugins.summary(kind, word)
    try:
        plugins.require(plugins.load(kind, word))
        providers = _providers(word) if kind == "backends" else ()
    except Unavailable as error:
        return Capability(kind, word, summary, False, (), error.reason, error.hint)
    except StageError as error:
        return Capability(kind, word, summary, False, (), error.reason)
    return Capability(kind, word, summary, True, providers)


def _providers(word: str) -> tuple[str, ...]:
    with _worker() as child:
        return tuple(child.ask("check", word=word)["providers"])


@contextmanager
def _worker() -> Iterator[Child]:
    child = Child("benchbox.measure.worker", Limits(timeout_seconds=120.0))
    try:
        yield child
    finally:
        child.kill()
