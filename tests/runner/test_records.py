"""What came of a case is its record: skipped, failed, measured, or none, where it was stopped too early."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import cases
from benchbox.errors import CaseError, ChildDied, StageError, Unavailable
from benchbox.machine import clock
from benchbox.measure import rounds
from benchbox.measure.rounds import Measured, Ready, Settings
from benchbox.runner.records import Provenance, measure_ready, record_of_error
from benchbox.schema.asked import MeasurePlan, ParityPlan
from benchbox.schema.seen import Measurement, Record
from full_record import FULL, NOW

BASE, OTHER = cases.case("onnx"), cases.unfused()
PROVENANCE = Provenance(frozenset({BASE.id}), "~/suites/tiny.yaml", ("measure.budget=1 s",))
COMMAND = "benchbox run '~/suites/tiny.yaml' --set 'measure.budget=1 s' --only id="
assert FULL.measurement is not None
assert FULL.artifact is not None
PARITY, MEASUREMENT, ARTIFACT = FULL.parity, FULL.measurement, FULL.artifact


@pytest.fixture(autouse=True)
def at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOW)


def measured(replicates: int = 2, **values: Any) -> Measured:
    (one,) = MEASUREMENT.replicates
    taken = Measurement("s", (one,) * replicates, values.pop("stopped_by", "budget"))
    return Measured(**{"measurement": taken, "parity": replace(PARITY, passed=True, reasons=()), **values})


def records(
    monkeypatch: pytest.MonkeyPatch, came_out: dict[str, Measured], wanted: set[str] | None = None
) -> tuple[Record, ...]:
    """Of the baseline and another case that came out so, where the baseline is measured with it."""
    monkeypatch.setattr(rounds, "measure_together", lambda *_: came_out)
    ready = [Ready(case, ARTIFACT, Path(), Path(), {}, Path()) for case in (BASE, OTHER)]
    settings = Settings(MeasurePlan(), ParityPlan(), "s", BASE.id)
    return measure_ready(ready, settings, None, PROVENANCE, wanted)  # type: ignore[arg-type]  # nobody watches


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            Unavailable("needs torch", "pip install torch"),
            {"outcome": "skipped", "reason": "needs torch", "hint": "pip install torch"},
        ),
        (
            ChildDied("killed by SIGKILL", detail="Traceback", peak_memory_bytes=7),
            {
                "outcome": "failed",
                "reason": "killed by SIGKILL",
                "detail": "Traceback",
                "peak_memory_bytes": 7,
            },
        ),
    ],
)
def test_an_error_becomes_a_record_with_all_that_it_knows(error: CaseError, expected: dict[str, Any]) -> None:
    assert record_of_error(OTHER, "build", error, PROVENANCE, ARTIFACT) == Record(
        case=OTHER,
        recorded_at="2026-11-21T02:03:04+00:00",
        command=f"{COMMAND}{OTHER.id}",
        stage="build",
        artifact=ARTIFACT,
        **expected,
    )


def test_no_record_names_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/alice")
    error = StageError("no /home/alice/x", detail="in /home/alice/y")
    record = record_of_error(OTHER, "load", error, Provenance(file="/home/alice/s.yaml"))
    assert (record.reason, record.detail) == ("no ~/x", "in ~/y")
    assert record.command == f"benchbox run '~/s.yaml' --only id={OTHER.id}"


def test_a_case_that_no_suite_asked_for_has_no_command() -> None:
    assert record_of_error(OTHER, "load", StageError("x"), Provenance()).command == ""


def test_a_measured_case_is_ok_or_a_mismatch(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = replace(PARITY, passed=False, reasons=("cosine 0.9 < 0.99", "x is not finite"))
    base, other = records(monkeypatch, {BASE.id: measured(), OTHER.id: measured(parity=wrong)})
    assert (base.outcome, base.reason, base.is_baseline) == ("ok", "", True)
    assert (other.outcome, other.reason, other.is_baseline) == (
        "mismatch",
        "cosine 0.9 < 0.99; x is not finite",
        False,
    )
    assert (other.artifact, other.parity, other.companion) == (ARTIFACT, wrong, None)
    assert other.measurement == measured().measurement


def test_a_worker_that_failed_ends_its_case_where_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Measured(stage="load", error=StageError("out of memory"))
    mute = Measured(measurement=measured().measurement)
    base, other = records(monkeypatch, {BASE.id: broken, OTHER.id: mute})
    assert (base.outcome, base.stage, base.reason) == ("failed", "load", "out of memory")
    assert (other.outcome, other.stage, other.reason) == ("failed", "verify", "the worker gave no parity")


def test_a_baseline_that_has_its_record_is_the_companion_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    came_out = {BASE.id: measured(3), OTHER.id: measured()}
    (record,) = records(monkeypatch, came_out, {OTHER.id, "of another sitting"})
    assert record.case == OTHER
    assert record.companion == measured(3).measurement


def test_a_baseline_that_failed_beside_it_is_no_companion(monkeypatch: pytest.MonkeyPatch) -> None:
    came_out = {BASE.id: Measured(stage="load", error=StageError("x")), OTHER.id: measured()}
    (record,) = records(monkeypatch, came_out, {OTHER.id})
    assert record.companion is None


@pytest.mark.parametrize(
    ("replicates", "stopped_by", "kept"),
    [(0, "budget", 0), (0, "interrupt", 0), (1, "interrupt", 0), (2, "interrupt", 1), (1, "precision", 1)],
)
def test_a_case_that_was_stopped_before_it_had_an_interval_has_no_record(
    monkeypatch: pytest.MonkeyPatch, replicates: int, stopped_by: str, kept: int
) -> None:
    early = measured(replicates, stopped_by=stopped_by)
    assert len(records(monkeypatch, {BASE.id: early, OTHER.id: measured()}, {BASE.id})) == kept
