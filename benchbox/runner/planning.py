"""What would be done, and what can be done here: the matrix, what is built already, what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchbox import plugins
from benchbox.build.cache import Cache, default_folder
from benchbox.build.keys import artifact_keys
from benchbox.errors import CaseError, StageError, Unavailable
from benchbox.machine.child import Limits, Process, ask_for
from benchbox.machine.doctor import Finding
from benchbox.machine.launcher import LOCAL, Launcher
from benchbox.measure.answers import Checked
from benchbox.plugins import packages
from benchbox.plugins.contract import Plugin
from benchbox.runner.answers import Answer, Answers, Question
from benchbox.schema.asked import Backend, Case, Suite, digest
from benchbox.schema.seen import Host

# Of a worker that is only asked what it has.
_LIMITS = Limits(timeout_seconds=120.0)


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
    """A plug-in, and whether it can run here; `providers` only for backends.

    `origin` is the package that brings it, with its version, or `benchbox`; `hides` are packages that bring
    one of the same name, which does not count.
    """

    kind: plugins.Kind
    word: str
    summary: str
    available: bool
    providers: tuple[str, ...] = ()
    reason: str = ""
    hint: str = ""
    origin: str = "benchbox"
    hides: tuple[str, ...] = ()


def plan(suite: Suite, cache: Path | None = None, launcher: Launcher = LOCAL) -> tuple[Planned, ...]:
    """The matrix of a suite, in its order. Nothing is built and nothing measured."""
    store = Cache(cache or default_folder())
    host = launcher.machine.host()
    first = baselines(suite.cases)
    place = _Place(store, host, suite.folder)
    with Availability(suite.folder, Answers(store.folder, host), launcher) as availability:
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


def capabilities(*kinds: plugins.Kind) -> tuple[Capability, ...]:
    """Every plug-in of some kinds, or of all; backends are asked for their providers, in a process of their
    own, where what they said before does not count any more."""
    answers = Answers(default_folder(), LOCAL.machine.host())
    with Availability(Path(), answers) as availability:
        return tuple(
            _capability(kind, word, availability)
            for kind in kinds or plugins.KINDS
            for word in plugins.names(kind)
        )


def name_clashes() -> tuple[Finding, ...]:
    """A warning for each plug-in of another package that has the name of one of ours, and does not count."""
    return tuple(
        Finding(
            level="warning",
            what=f"{packages} brings {word!r} of {kind}, which benchbox has itself",
            hurts="a suite that says this word gets benchbox's own",
            do=f"give it another name in the entry points of {packages}",
        )
        for kind in plugins.KINDS
        for word in plugins.own(kind)
        if (packages := " and ".join(plugins.hidden_by(kind, word)))
    )


class Availability:
    """Answers why a case cannot run here; a runtime is asked in a worker, once for each backend.

    `folder` is that of the suite. What a runtime said before counts where `answers` are given; before a run
    it is asked anew.
    """

    def __init__(self, folder: Path, answers: Answers | None = None, launcher: Launcher = LOCAL) -> None:
        self._folder, self._launcher = folder, launcher
        self._remembered = answers
        self._answers: dict[str, CaseError | None] = {}
        self._children: dict[tuple[str, str | None], Process] = {}
        self._present: set[tuple[str, ...]] = set()

    def __enter__(self) -> Availability:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children.values():
            child.kill()

    def why_not(self, case: Case) -> CaseError | None:
        """None where nothing is known to be in the way; a StageError where the runtime itself broke, or where
        the suite's own file is no family any more."""
        try:
            self._require_packages(case)
        except CaseError as error:
            return error
        key = digest(case.backend)
        if key not in self._answers:
            self._answers[key] = self._why_no_runtime(case.backend)
        return self._answers[key]

    def _require_packages(self, case: Case) -> None:
        """Raises Unavailable where a plug-in of the case lacks a package, StageError where its family is a
        file that is none."""
        self._require(
            plugins.family_of(case.model.located_from(self._folder)), plugins.required_by(case.model)
        )
        self._require(plugins.dataset(case.dataset.word))
        self._require(plugins.exporter(case.path[0].word))
        for step in case.path[1:]:
            self._require(plugins.pass_(step.word))

    def _require(self, plugin: Plugin, more: tuple[str, ...] = ()) -> None:
        """Packages that are all here are looked for once: every case asks."""
        needed = (*plugin.REQUIRES, *more)
        if needed not in self._present:
            packages.require_all(needed)
            self._present.add(needed)

    def _why_no_runtime(self, written: Backend) -> CaseError | None:
        try:
            self._providers(
                written.word, written.located_from(self._launcher.machine.path_there(self._folder))
            )
        except Unavailable as error:
            return _there(error, written.python)
        except StageError as error:
            return error
        return None

    def providers(self, word: str) -> tuple[str, ...]:
        """The providers that a runtime has here. Raises Unavailable and StageError."""
        return self._providers(word, None)

    def _providers(self, word: str, backend: Backend | None) -> tuple[str, ...]:
        """What is remembered or, of a runtime in our interpreter, will be: the packages of another are not
        known here."""
        memory = None if backend is not None and backend.python else self._remembered
        question = Question(word, backend)
        answer = memory.find(question) if memory else None
        if answer is None:
            answer = self._ask(question)
            if memory:
                memory.keep(question, answer)
        if answer.unavailable is not None:
            raise answer.unavailable
        return answer.providers

    def _ask(self, question: Question) -> Answer:
        backend = question.backend
        place = (question.word, backend.python if backend else None)
        try:
            if place not in self._children:
                self._children[place] = self._launcher.worker(_LIMITS, place[1])
            checked = ask_for(Checked, self._children[place], "check", word=question.word, backend=backend)
        except Unavailable as error:
            return Answer(unavailable=error)
        except StageError:
            broken = self._children.pop(place, None)
            if broken is not None:
                broken.kill()
            raise
        return Answer(checked.providers)


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


def _planned(case: Case, place: _Place, why_not: CaseError | None, is_baseline: bool) -> Planned:
    if why_not is not None:
        return Planned(case, (False,) * len(case.path), why_not.reason, why_not.hint, is_baseline)
    try:
        keys = artifact_keys(case, place.host, place.folder)
    except StageError as error:
        return Planned(case, (False,) * len(case.path), error.reason, "", is_baseline)
    return Planned(case, tuple(place.cache.has(key) for key in keys), "", "", is_baseline)


def _is_not_the_model_itself(case: Case) -> bool:
    itself = [step.word for step in case.path] == ["torch"] and case.backend.word == "pytorch"
    return not (itself and not case.backend.options)


def _capability(kind: plugins.Kind, word: str, availability: Availability) -> Capability:
    problem = plugins.problem(kind, word)
    known = Capability(
        kind=kind,
        word=word,
        summary="" if problem else plugins.summary(kind, word),
        available=False,
        reason=problem,
        origin=plugins.origin(kind, word),
        hides=plugins.hidden_by(kind, word),
    )
    if problem:
        return known
    try:
        packages.require_all(plugins.requires(kind, word))
        providers = availability.providers(word) if kind == "backends" else ()
    except CaseError as error:
        return replace(known, reason=error.reason, hint=error.hint)
    return replace(known, available=True, providers=providers)
