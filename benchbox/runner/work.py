"""One run: every case built, measured and recorded, model by model and group by group."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from benchbox.build.artifacts import artifact_of
from benchbox.build.cache import Cache, Entry
from benchbox.build.client import Builder
from benchbox.errors import StageError, Unavailable
from benchbox.machine import clock, environment
from benchbox.machine.child import Limits
from benchbox.measure import rounds
from benchbox.results import store
from benchbox.runner import planning
from benchbox.runner.interrupt import Interrupt
from benchbox.runner.observer import Observer
from benchbox.runner.progress import Time, Watcher
from benchbox.schema import paths
from benchbox.schema.asked import Case, Outcome, Stage, Suite
from benchbox.schema.seen import Host, Record

# What may be loaded side by side when the suite does not say: the rest is for the page cache and others.
_SHARE_OF_FREE_MEMORY = 0.7


@dataclass(frozen=True)
class Request:
    """What the command line said beside the suite; it is part of the command that reproduces a row."""

    overrides: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()


@dataclass
class Work:
    """One run: what is needed at every step."""

    suite: Suite
    book: store.Run
    cache: Cache
    host: Host
    say: Observer
    interrupt: Interrupt
    request: Request
    time: Time

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
            artifact=artifact_of(entry),
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
            watcher = Watcher(self.say, self.interrupt, self.time)
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


def _by(items: Sequence[Any], key: Any) -> Iterator[list[Any]]:
    """The items in lists of one key each, keys in the order of their first item."""
    groups: dict[str, list[Any]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    yield from groups.values()
