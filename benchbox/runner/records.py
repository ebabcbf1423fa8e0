"""What came of a case -> its record, the same for a suite, for `measure_cases` and for the self-test."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from benchbox.errors import CaseError, StageError
from benchbox.machine import clock
from benchbox.measure import rounds
from benchbox.schema import paths
from benchbox.schema.asked import Case, Stage
from benchbox.schema.seen import Artifact, Measurement, Record


@dataclass(frozen=True)
class Provenance:
    """Whose records they are: the ids of the baselines among its cases; the suite's file and what the command
    line set in it, none of which there is for cases that were made by hand."""

    baselines: frozenset[str] = frozenset()
    file: str = ""
    overrides: tuple[str, ...] = ()


def measure_ready(
    ready: Sequence[rounds.Ready],
    settings: rounds.Settings,
    watcher: rounds.Watcher,
    provenance: Provenance,
    wanted: Collection[str] | None = None,
) -> tuple[Record, ...]:
    """Measures cases that are built, side by side; the records of those that are `wanted` (None: of all).

    Where the baseline is not wanted, because its record was taken before, each record carries how it was
    measured now. There is no record of a case that was asked to stop too early.
    """
    measured = rounds.measure_together(ready, settings, watcher)
    ids = measured.keys() if wanted is None else wanted
    baseline = measured.get(settings.baseline)
    companion = baseline.measurement if baseline and settings.baseline not in ids else None
    return tuple(
        replace(
            record_of_measured(item, measured[item.case.id], provenance, companion),
            seconds=settings.ledger.seconds(item.case.id),
        )
        for item in ready
        if item.case.id in ids and not _cut_short(measured[item.case.id], settings.plan.replicates)
    )


def record_of_measured(
    item: rounds.Ready,
    came_out: rounds.Measured,
    provenance: Provenance,
    companion: Measurement | None = None,
) -> Record:
    """The record of a case that was built, whether or not it could be measured then."""
    if came_out.error is not None or came_out.parity is None:
        error = came_out.error or StageError("the worker gave no parity")
        return record_of_error(item.case, came_out.stage or "verify", error, provenance, item.artifact)
    return Record(
        case=item.case,
        outcome="ok" if came_out.parity.passed else "mismatch",
        recorded_at=_now(),
        command=_command(item.case, provenance),
        is_baseline=item.case.id in provenance.baselines,
        reason="; ".join(came_out.parity.reasons),
        artifact=item.artifact,
        parity=came_out.parity,
        measurement=came_out.measurement,
        companion=companion,
    )


def record_of_error(
    case: Case, stage: Stage, error: CaseError, provenance: Provenance, artifact: Artifact | None = None
) -> Record:
    """The record of a case that was skipped or failed, with everything that is known of it."""
    return Record(
        case=case,
        outcome=error.outcome,
        recorded_at=_now(),
        command=_command(case, provenance),
        is_baseline=case.id in provenance.baselines,
        stage=stage,
        reason=paths.without_home(error.reason),
        hint=paths.without_home(error.hint),
        detail=paths.without_home(error.detail),
        artifact=artifact,
        peak_memory_bytes=error.peak_memory_bytes,
    )


def _cut_short(came_out: rounds.Measured, replicates: int) -> bool:
    """An interrupt came before two processes gave an interval: the case stays to be done."""
    if came_out.measurement is None:
        return False
    done = len(came_out.measurement.replicates)
    return done == 0 or (came_out.measurement.stopped_by == "interrupt" and done < min(2, replicates))


def _command(case: Case, provenance: Provenance) -> str:
    """What reproduces the row, where a suite's file does."""
    if not provenance.file:
        return ""
    sets = [part for text in provenance.overrides for part in ("--set", text)]
    return shlex.join(
        ["benchbox", "run", paths.without_home(provenance.file), *sets, "--only", f"id={case.id}"]
    )


def _now() -> str:
    return clock.now().isoformat(timespec="seconds")
