"""The conductor: plan, build, measure in interleaved rounds, record, report.

Every case ends as a record, whatever happens to it, and a record is on the disk before the next group
begins.
"""

from __future__ import annotations

import shlex
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from benchbox.build import builder as build
from benchbox.machine import environment, clock
from benchbox.schema import paths
from benchbox.runner import planning
from benchbox.measure import rounds
from benchbox.results import store
from benchbox.build.cache import Cache, Entry, default_folder
from benchbox.plugins.contract import Host
from benchbox.errors import ChildDied, ChildTimeout, StageError, StoreError, Unavailable
from benchbox.machine.child import Child, Limits
from benchbox.schema import Case, Environment, Outcome, Record, Stage, Suite

# What may be loaded side by side when the suite does not say: the rest is for the page cache and others.
_SHARE_OF_FREE_MEMORY = 0.7
# Loading and warming up one case, until the first replicate has shown how long it takes here.
_LOAD_SECONDS = 5.0


class Observer(Protocol):
    """Who is told how a run goes; every method is called from the conductor's thread."""

    def started(self, folder: Path, cases: Sequence[Case], done: Sequence[Record]) -> None:
        """The run's folder, the cases still to do, and those finished before (on resume)."""

    def entered(self, case: Case, stage: Stage) -> None:
        """A case entered a stage."""

    def measured(self, case: Case, latency_ns: float, rounds: int, replicate: int) -> None:
        """A block was measured: the median so far."""

    def time_left(self, elapsed_seconds: float, remaining_seconds: float | None) -> None:
        """How long it took so far and about how long it will take; None where nobody knows yet."""

    def recorded(self, record: Record) -> None:
        """A case is finished and on the disk."""

    def interrupted(self) -> None:
        """Ctrl-C was pressed once: what is in hand will be finished. Called from the signal handler."""


class Silent:
    """An observer that says nothing."""

    def started(self, folder: Path, cases: Sequence[Case], done: Sequence[Record]) -> None:
        """Says nothing."""

    def entered(self, case: Case, stage: Stage) -> None:
        """Says nothing."""

    def measured(self, case: Case, latency_ns: float, rounds: int, replicate: int) -> None:
        """Says nothing."""

    def time_left(self, elapsed_seconds: float, remaining_seconds: float | None) -> None:
        """Says nothing."""

    def recorded(self, record: Record) -> None:
        """Says nothing."""

    def interrupted(self) -> None:
        """Says nothing."""


@dataclass(frozen=True)
class Finished:
    """What a run left: its results, the report's files, and whether it was interrupted with cases to do.

    `problem` says why there are no reports where they were asked for: the results are there all the same.
    `cases` is how many there are in the suite, each of which should have its record.
    """

    results: store.Results
    reports: tuple[Path, ...]
    interrupted: bool = False
    problem: str = ""
    cases: int = 0


def run(  # noqa: PLR0913  # the front door: one keyword for each option of the command
    suite: Suite | str | Path,
    *,
    overrides: Sequence[str] = (),
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    results: str | Path = "results",
    reports: str | Path | None = "reports",
    cache: str | Path | None = None,
    resume: str | Path | None = None,
    observer: Observer | None = None,
) -> Finished:
    """Runs a suite (a path, or one already loaded) and writes its reports.

    `overrides`, `only` and `skip` are those of the command line; `resume` is a results folder whose
    unfinished cases are done, and then `suite` may be that folder's own (see `resumed`). `reports=None`
    writes none. Raises SuiteError and StoreError; whatever happens to a case becomes its record.
    """
    loaded, request = _resolve(suite, overrides, (only, skip))
    here = environment.describe()
    if resume is None:
        content = _suite_file(loaded, request, Path(results))
        book = store.create(Path(results), content, here, name=loaded.name, now=clock.now())
        before = None
    else:
        before = _reopen(Path(resume), here)
        book = store.Run(before.folder)
    done = before.records if before else ()
    finished = {record.case.id for record in done}
    todo = [case for case in loaded.cases if case.id not in finished]
    say = observer or Silent()
    say.started(book.folder, todo, done)
    with _Interrupt(say) as interrupt:
        work = _Work(
            suite=loaded,
            book=book,
            cache=Cache(Path(cache) if cache else default_folder()),
            host=environment.host(),
            say=say,
            interrupt=interrupt,
            request=request,
            time=_time(loaded, len(todo)),
        )
        work.do(todo)
    kept = before if before and not todo else store.load(book.folder)
    try:
        drawn, problem = _write_reports(book.folder, reports), ""
    except StoreError as error:
        drawn, problem = (), str(error)
    unfinished = len(kept.records) < len(loaded.cases)
    return Finished(kept, drawn, interrupt.asked and unfinished, problem, len(loaded.cases))


def resumed(folder: str | Path) -> tuple[Suite, Mapping[str, Any]]:
    """The suite of a stopped run as it was resolved then, and what else the command line had said."""
    from benchbox import suite

    kept = store.read_suite(Path(folder))
    try:
        beside = Path(folder).absolute().parent / paths.expanded(kept.get("folder", "."))
        file = paths.expanded(kept["file"])
        loaded = suite.from_source(kept["source"], file, beside if beside.is_dir() else None)
        request = {name: list(kept["request"][name]) for name in ("overrides", "only", "skip")}
    except (KeyError, TypeError) as error:
        raise StoreError(f"{folder}/{store.SUITE} is not a suite that benchbox wrote: {error}") from error
    return loaded, request


@dataclass(frozen=True)
class _Request:
    """What the command line said beside the suite; it is part of the command that reproduces a row."""

    overrides: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()


def _resolve(
    suite: Suite | str | Path, overrides: Sequence[str], terms: tuple[Sequence[str], Sequence[str]]
) -> tuple[Suite, _Request]:
    from benchbox import suite as suites

    loaded = suite if isinstance(suite, Suite) else suites.load_suite(suite, overrides)
    only, skip = terms
    cases = suites.select(loaded.cases, only, skip)
    return replace(loaded, cases=cases), _Request(
        tuple(map(paths.without_home, overrides)), tuple(only), tuple(skip)
    )


def _suite_file(suite: Suite, request: _Request, results: Path) -> Mapping[str, Any]:
    return {
        "name": suite.name,
        "file": paths.without_home(suite.file),
        "folder": paths.way(suite.folder, results.absolute()),
        "source": suite.source,
        "request": asdict(request),
        "measure": asdict(suite.measure),
        "parity": asdict(suite.parity),
        "cases": [case.id for case in suite.cases],
    }


def _reopen(folder: Path, here: Environment) -> store.Results:
    kept = store.load(folder)
    if kept.environment.machine != here.machine:
        raise StoreError(
            f"{folder} was measured on {kept.environment.machine}, and this is {here.machine}: numbers of "
            "two machines do not belong in one run. Start a new one, and compare the two."
        )
    return kept


def _time(suite: Suite, cases: int) -> _Time:
    plan = suite.measure
    guess = plan.budget_seconds / plan.replicates + _LOAD_SECONDS
    return _Time(clock.Stopwatch.start(), guess, plan.replicates, cases)


def _write_reports(folder: Path, reports: str | Path | None) -> tuple[Path, ...]:
    if reports is None:
        return ()
    from benchbox.results import runs

    return tuple(runs.write_reports(runs.load_results(folder), Path(reports) / folder.name))


class _Interrupt:
    """Ctrl-C once asks to finish what is in hand; twice stops at once."""

    def __init__(self, say: Observer) -> None:
        self.asked = False
        self._say = say

    def __enter__(self) -> _Interrupt:
        self._in_main = threading.current_thread() is threading.main_thread()
        if self._in_main:
            self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        if self._in_main:
            signal.signal(signal.SIGINT, self._before)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self._say.interrupted()


@dataclass
class _Work:
    """One run: what is needed at every step."""

    suite: Suite
    book: store.Run
    cache: Cache
    host: Host
    say: Observer
    interrupt: _Interrupt
    request: _Request
    time: _Time

    def do(self, todo: Sequence[Case]) -> None:
        """Every case that is left, model by model: build all its artifacts, then measure group by group."""
        runnable = self._skip_what_cannot_run(todo)
        if not runnable:
            return
        left = {case.id for case in todo}
        baselines = self._baselines
        companions = [c for c in self.suite.cases if c.id in baselines and c.id not in left]
        for cases in _by(runnable, key=lambda case: str(case.model)):
            groups = {case.group for case in cases}
            extra = [case for case in companions if case.group in groups]
            wanted = {case.id for case in cases}
            ready = self._build([*extra, *cases], wanted)
            for group in _by(ready, key=lambda item: item.case.group):
                if self.interrupt.asked:
                    return
                if any(item.case.id in wanted for item in group):
                    self._measure(group, baselines, wanted)

    @cached_property
    def _baselines(self) -> frozenset[str]:
        """Of the whole suite, for each case is asked whether it is one."""
        return planning.baselines(self.suite.cases)

    def _skip_what_cannot_run(self, cases: Sequence[Case]) -> list[Case]:
        runnable = []
        with planning.Availability(self.suite.folder) as availability:
            for case in cases:
                reason = availability.why_not(case)
                if reason is None:
                    runnable.append(case)
                else:
                    self._drop(case, "plan", reason)
        return runnable

    def _drop(self, case: Case, stage: Stage, error: StageError | Unavailable) -> None:
        self.time.cases_waiting -= 1
        self._record([self._ended(case, stage, error)])

    def _reference(self, builder: Builder, case: Case) -> Entry:
        plan = self.suite.parity
        return builder.reference(case, plan.samples, plan.gradient_directions)

    def _build(self, cases: Sequence[Case], wanted: set[str]) -> list[rounds.Ready]:
        """Those that could be built. A baseline that was recorded before and fails now keeps its record."""
        plan = self.suite.measure
        limits = Limits(None, plan.memory_limit_bytes, plan.timeout_seconds)
        ready = []
        with Builder(limits, self.cache, self.host, self.suite.folder) as builder:
            for case in cases:
                if self.interrupt.asked:
                    break
                stage: Stage = "reference"
                try:
                    self.say.entered(case, stage)
                    reference = self._reference(builder, case)
                    stage = "build"
                    self.say.entered(case, stage)
                    entry = builder.artifact(case)
                except (StageError, Unavailable) as error:
                    if case.id in wanted:
                        self._drop(case, stage, error)
                    continue
                ready.append(self._ready(case, entry, reference))
                self.time.tell(self.say, building=True)
        return ready

    def _ready(self, case: Case, entry: Entry, reference: Entry) -> rounds.Ready:
        return rounds.Ready(
            case=case,
            artifact=build.artifact_of(entry),
            folder=entry.folder,
            reference=reference.folder,
            reference_content=reference.content,
            compiled=self.cache.folder / "compiled",
        )

    def _measure(self, group: Sequence[rounds.Ready], baselines: frozenset[str], wanted: set[str]) -> None:
        baseline = next((item for item in group if item.case.id in baselines), None)
        for sitting in rounds.sittings(group, baseline, self._memory_budget_bytes()):
            if self.interrupt.asked:
                return
            session = f"{self.book.name}/{clock.now():%Y%m%dT%H%M%S.%f}"  # a run that goes on sits anew
            compared_with = baseline.case.id if baseline else ""
            settings = rounds.Settings(
                self.suite.measure, self.suite.parity, session, compared_with, self.suite.folder
            )
            watcher = _Watcher(self.say, self.interrupt, self.time)
            self.time.began(len(sitting), sum(item.case.id in wanted for item in sitting))
            measured = rounds.measure_together(sitting, settings, watcher)
            self.time.group_ended(len(sitting))
            records = self._records(sitting, measured, baseline, wanted)
            self._record(records)
            wanted = wanted - {record.case.id for record in records}

    def _records(
        self,
        sitting: Sequence[rounds.Ready],
        measured: Mapping[str, rounds.Measured],
        baseline: rounds.Ready | None,
        wanted: set[str],
    ) -> list[Record]:
        """One for each wanted case; where the baseline is recorded elsewhere, each carries a copy."""
        taken = measured[baseline.case.id].measurement if baseline else None
        carries = baseline is not None and baseline.case.id not in wanted
        return [
            self._measured(item, measured[item.case.id], taken if carries else None)
            for item in sitting
            if item.case.id in wanted and not self._cut_short(measured[item.case.id])
        ]

    def _cut_short(self, came_out: rounds.Measured) -> bool:
        """An interrupt came before two processes gave an interval: the case stays to be done."""
        if came_out.measurement is None:
            return False
        done = len(came_out.measurement.replicates)
        return done == 0 or (
            came_out.measurement.stopped_by == "interrupt" and done < min(2, self.suite.measure.replicates)
        )

    def _measured(self, item: rounds.Ready, came_out: rounds.Measured, companion: Any) -> Record:
        if came_out.error is not None or came_out.parity is None:
            error = came_out.error or StageError("the worker gave no parity")
            return self._ended(item.case, came_out.stage or "verify", error, item)
        outcome: Outcome = "ok" if came_out.parity.passed else "mismatch"
        return Record(
            case=item.case,
            outcome=outcome,
            recorded_at=clock.now().isoformat(timespec="seconds"),
            command=self._command(item.case),
            is_baseline=item.case.id in self._baselines,
            reason="; ".join(came_out.parity.reasons),
            artifact=item.artifact,
            parity=came_out.parity,
            measurement=came_out.measurement,
            companion=companion,
        )

    def _ended(
        self,
        case: Case,
        stage: Stage,
        error: StageError | Unavailable,
        item: rounds.Ready | None = None,
    ) -> Record:
        """A record of a case that was skipped or failed, with everything that is known of it."""
        unavailable = isinstance(error, Unavailable)
        return Record(
            case=case,
            outcome="skipped" if unavailable else "failed",
            recorded_at=clock.now().isoformat(timespec="seconds"),
            command=self._command(case),
            is_baseline=case.id in self._baselines,
            stage=stage,
            reason=paths.without_home(error.reason),
            hint=paths.without_home(getattr(error, "hint", "")),
            detail=paths.without_home(getattr(error, "detail", "")),
            artifact=item.artifact if item else None,
            peak_memory_bytes=getattr(error, "peak_memory_bytes", None),
        )

    def _record(self, records: Sequence[Record]) -> None:
        if records:
            self.book.append(records)
        for record in records:
            self.say.recorded(record)

    def _command(self, case: Case) -> str:
        sets = [part for text in self.request.overrides for part in ("--set", text)]
        file = paths.without_home(self.suite.file)
        return shlex.join(["benchbox", "run", file, *sets, "--only", f"id={case.id}"])

    def _memory_budget_bytes(self) -> int:
        given = self.suite.measure.memory_budget_bytes
        return given or int(environment.available_memory_bytes() * _SHARE_OF_FREE_MEMORY)


class Builder:
    """A builder process, started when it is first needed and again after it died; ended before measuring.

    `folder` is that of the suite.
    """

    def __init__(self, limits: Limits, cache: Cache, host: Host, folder: Path = Path()) -> None:
        self._limits, self._cache, self._host, self._folder = limits, cache, host, folder.absolute()
        self._child: Child | None = None

    def __enter__(self) -> Builder:
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is not None:
            self._child.kill()

    def reference(self, case: Case, samples: int, directions: int = 0) -> Entry:
        """The reference's entry, from the cache or built now."""
        found = self._cache.find(build.reference_key(case, samples, directions, self._folder))
        return found or self._ask("reference", case, {"samples": samples, "directions": directions})

    def artifact(self, case: Case) -> Entry:
        """The artifact's entry, from the cache or built now."""
        found = self._cache.find(build.artifact_keys(case, self._host, self._folder)[-1])
        return found or self._ask("artifact", case, {"cpu_features": sorted(self._host.cpu_features)})

    def _ask(self, verb: str, case: Case, content: Mapping[str, Any]) -> Entry:
        if self._child is None:
            self._child = Child("benchbox.build.builder", self._limits)
        try:
            cache, folder = str(self._cache.folder.absolute()), str(self._folder)
            answer = self._child.ask(verb, case=asdict(case), cache=cache, folder=folder, **content)
        except (ChildDied, ChildTimeout):
            self._child.kill()
            self._child = None
            raise
        entry = self._cache.find(answer["key"])
        if entry is None:
            raise StageError(f"what was just built is not in the cache: {answer['key']}")
        return entry


@dataclass
class _Time:
    """How long it took, and about how long the rest will take.

    A unit is one case in one process. Until the first has ended it is taken to last `guess_seconds`. How
    many processes a case will need nobody knows: it is taken to be as many as the cases before it needed,
    at first the fewest that the plan asks for.
    """

    watch: clock.Stopwatch
    guess_seconds: float
    fewest: int
    cases_waiting: int
    cases_done: int = 0
    units_in_hand: float = 0.0
    units_done: int = 0
    unit_seconds: float = 0.0
    since_seconds: float = 0.0

    def began(self, cases: int, waiting: int) -> None:
        """So many cases are measured together from now on, of which so many had been waiting."""
        self.cases_waiting -= waiting
        self.units_in_hand = cases * self._units_of_a_case
        self.since_seconds = self.watch.seconds()

    def ended(self, units: int, seconds: float, more: int | None) -> None:
        """So many units took so long, together; so many more of each are to come, if it is known."""
        left = max(0.0, self.units_in_hand - units)
        self.units_in_hand = left if more is None else units * more
        self.units_done += units
        self.unit_seconds += seconds
        self.since_seconds = self.watch.seconds()

    def group_ended(self, cases: int) -> None:
        """So many cases need no more units."""
        self.cases_done += cases
        self.units_in_hand = 0.0

    @property
    def _units_of_a_case(self) -> float:
        return max(self.fewest, self.units_done / self.cases_done) if self.cases_done else self.fewest

    def tell(self, say: Observer, *, building: bool = False) -> None:
        """Tells the observer; while building, nobody knows yet."""
        elapsed = self.watch.seconds()
        mean = self.unit_seconds / self.units_done if self.units_done else self.guess_seconds
        units = self.units_in_hand + self.cases_waiting * self._units_of_a_case
        left = units * mean - (elapsed - self.since_seconds)
        say.time_left(elapsed, None if building else max(0.0, left))


@dataclass
class _Watcher:
    """Passes on how a group goes."""

    say: Observer
    interrupt: _Interrupt
    time: _Time

    def entered(self, case: Case, stage: Stage) -> None:
        self.say.entered(case, stage)

    def measured(self, case: Case, latency_ns: float, rounds: int, replicate: int) -> None:
        self.say.measured(case, latency_ns, rounds, replicate)
        self.time.tell(self.say)

    def replicate_ended(self, cases: int, seconds: float, more: int | None) -> None:
        self.time.ended(cases, seconds, more)
        self.time.tell(self.say)

    def stopping(self) -> bool:
        return self.interrupt.asked


def _by(items: Sequence[Any], key: Any) -> Iterator[list[Any]]:
    """The items in lists of one key each, keys in the order of their first item."""
    groups: dict[str, list[Any]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    yield from groups.values()
