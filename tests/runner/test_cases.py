"""Cases are measured without a suite's file and without a folder of results, as a run measures them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import benchbox
import cases
from benchbox.machine.child import Limits, Process
from benchbox.machine.launcher import Local
from benchbox.measure.rounds import Ready
from benchbox.schema.asked import Case, ParityPlan
from watching import Notes

CASE = cases.case("onnx")
ABSENT = replace(CASE, backend=replace(CASE.backend, providers=("OpenVINOExecutionProvider",)))
PARITY = ParityPlan(samples=cases.SAMPLES)


class Noting(Local):
    """Starts children here, and notes what it was asked for."""

    def __init__(self) -> None:
        self.workers: list[Limits] = []
        self.builders: list[Limits] = []

    def worker(self, limits: Limits, python: str | None = None) -> Process:
        self.workers.append(limits)
        return super().worker(limits, python)

    def builder(self, limits: Limits) -> Process:
        self.builders.append(limits)
        return super().builder(limits)


def test_cases_become_records_and_nothing_is_written(
    ready: Callable[[Case], Ready], cache_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready(CASE)
    ready(cases.unfused())
    monkeypatch.chdir(tmp_path)
    notes, launcher = Notes(), Noting()
    found = benchbox.measure_cases(
        [CASE, ABSENT, cases.unfused()],
        replace(cases.QUICK, replicates=2, most_replicates=2),
        PARITY,
        cache=cache_folder,
        launcher=launcher,
        observer=notes,
    )
    assert list(tmp_path.iterdir()) == []
    outcomes = {record.case.id: (record.outcome, record.stage, record.is_baseline) for record in found}
    assert outcomes == {
        CASE.id: ("ok", None, True),
        ABSENT.id: ("skipped", "plan", False),
        cases.unfused().id: ("ok", None, False),
    }
    base, other = (record.measurement for record in found if record.outcome == "ok")
    assert base is not None
    assert other is not None
    assert len(base.replicates) == len(other.replicates) == 2
    assert base.session == other.session
    assert {record.command for record in found} == {""}
    assert tuple(notes.records) == found
    # One that is asked what there is, and a fresh one for each process of a case; nothing had to be built.
    canary = [Limits()]
    measured = [Limits(None, cases.QUICK.timeout_seconds)] * 4
    assert sorted(launcher.workers, key=repr) == sorted([Limits(None, 120.0), *canary, *measured], key=repr)
    assert launcher.builders == []


def test_what_is_not_in_the_cache_is_built_by_the_launcher(tmp_path: Path) -> None:
    launcher = Noting()
    broken = replace(CASE, model=replace(CASE.model, source="./nothing", weights="pretrained"))
    (record,) = benchbox.measure_cases(
        [broken], cases.QUICK, PARITY, cache=tmp_path, folder=tmp_path, launcher=launcher
    )
    assert (record.outcome, record.stage, record.measurement) == ("failed", "reference", None)
    assert launcher.builders == [Limits(None, cases.QUICK.timeout_seconds)]


def test_no_cases_are_no_records(tmp_path: Path) -> None:
    assert benchbox.measure_cases([], cache=tmp_path) == ()


def test_measuring_cases_loads_no_pandas_and_no_framework() -> None:
    heavy = ["pandas", "torch", "onnxruntime", "ruamel", "plotly"]
    code = f"import sys, benchbox; benchbox.measure_cases; print([n for n in {heavy} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
