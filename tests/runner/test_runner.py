"""A whole run on real workers: every case ends as a record, and a stopped run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import cases
from benchbox.build.client import Builder
from benchbox.errors import StageError, StoreError, UsageError
from benchbox.machine import environment
from benchbox.machine.clock import Stopwatch
from benchbox.measure.rounds import Ready
from benchbox.results import store
from benchbox.results.runs import load_results
from benchbox.runner import runner
from benchbox.runner.progress import Time
from benchbox.runner.runner import Finished
from benchbox.schema.asked import Case, Suite
from watching import Notes, builders, name_of, workers

CUDA = cases.case("onnx", backend=replace(cases.case("onnx").backend, providers=("CUDAExecutionProvider",)))
MATRIX = [
    cases.case("onnx"),
    cases.unfused(),
    CUDA,
    cases.case("onnx", batch=2),
    cases.unfused(batch=2),
]
PAIR = [cases.case("onnx"), cases.unfused()]

Go = Callable[..., Finished]


@pytest.fixture
def go(ready: Callable[[Case], Ready], cache_folder: Path, tmp_path: Path) -> Go:
    """Runs cases into this test's own results folder, artifacts taken from the shared cache."""

    prepared: set[str] = set()

    def run(suite: Suite, notes: Notes, **options: Any) -> Finished:
        for case in suite.cases:
            if case.id not in prepared:
                ready(case)
                prepared.add(case.id)
        return runner.run(
            suite,
            **{"results": tmp_path, "reports": None, "cache": cache_folder, "observer": notes, **options},
        )

    return run


@pytest.fixture(scope="module")
def whole(
    ready: Callable[[Case], Ready], cache_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Finished, Notes]:
    """One run of the matrix, looked at by many tests. Two processes a case."""
    for case in MATRIX:
        ready(replace(case, backend=cases.case("onnx").backend))
    notes, plan = Notes(), replace(cases.QUICK, replicates=2)
    folder = tmp_path_factory.mktemp("results")
    suite = cases.suite(MATRIX, plan)
    options: dict[str, Any] = {"results": folder, "reports": None, "cache": cache_folder}
    return runner.run(suite, observer=notes, **options), notes


def test_every_case_ends_as_a_record(whole: tuple[Finished, Notes]) -> None:
    finished, notes = whole
    assert notes.todo == [name_of(case) for case in MATRIX]
    assert [name_of(r.case) for r in finished.results.records] == [
        "onnx/1",  # on CUDA: skipped before anything is built
        "onnx/1",
        "onnx:disable/1",
        "onnx/2",
        "onnx:disable/2",
    ]
    assert [r.outcome for r in finished.results.records] == ["skipped", "ok", "ok", "ok", "ok"]
    assert {r.case.id for r in finished.results.records} == {case.id for case in MATRIX}
    assert (finished.interrupted, finished.reports, finished.problem) == (False, (), "")


def test_a_provider_that_is_not_there_is_skipped_with_what_to_install(whole: tuple[Finished, Notes]) -> None:
    """Never the CPU under another name: no measurement, no artifact, no parity."""
    if "CUDAExecutionProvider" in providers():
        pytest.skip("this onnxruntime has CUDA")
    (record,) = [r for r in whole[0].results.records if r.case == CUDA]
    assert (record.outcome, record.stage) == ("skipped", "plan")
    assert record.reason.startswith("CUDAExecutionProvider is not in onnxruntime ")
    assert record.hint == 'pip uninstall -y onnxruntime; pip install "benchbox[cuda]"'
    assert (record.measurement, record.artifact, record.parity) == (None, None, None)


def test_a_row_is_complete(whole: tuple[Finished, Notes]) -> None:
    """Latency, memory and parity of one hashed artifact, and the command that reproduces it."""
    for record in whole[0].results.records[1:]:
        assert record.artifact is not None
        assert record.measurement is not None
        assert record.parity is not None
        assert len(record.artifact.sha256) == 64
        assert [r.index for r in record.measurement.replicates] == [0, 1]
        assert all(block.latencies_ns for r in record.measurement.replicates for block in r.blocks)
        assert all(r.memory.peak_bytes > r.memory.idle_bytes > 0 for r in record.measurement.replicates)
        assert list(record.measurement.placement) == ["CPUExecutionProvider"]
        assert record.parity.passed
        assert 3 in [output.shape["batch"] for output in record.parity.outputs]
        assert record.command == f"benchbox run tiny.yaml --only id={record.case.id}"


def test_one_baseline_a_group_and_one_session(whole: tuple[Finished, Notes]) -> None:
    records = whole[0].results.records[1:]
    assert [r.is_baseline for r in records] == [True, False, True, False]
    sessions = [r.measurement.session for r in records if r.measurement]
    assert sessions[0] == sessions[1] != sessions[2] == sessions[3]


def test_a_group_is_on_the_disk_before_the_next_one_begins(whole: tuple[Finished, Notes]) -> None:
    events = [event for event in whole[1].events if event[1] in ("load", "recorded")]
    assert events == [
        ("onnx/1", "recorded"),
        *[("onnx/1", "load"), ("onnx:disable/1", "load")] * 2,
        ("onnx/1", "recorded"),
        ("onnx:disable/1", "recorded"),
        *[("onnx/2", "load"), ("onnx:disable/2", "load")] * 2,
        ("onnx/2", "recorded"),
        ("onnx:disable/2", "recorded"),
    ]


def test_the_folder_says_what_was_asked_and_where(whole: tuple[Finished, Notes]) -> None:
    results = whole[0].results
    assert results.environment == environment.describe()
    assert results.suite["cases"] == [case.id for case in MATRIX]
    assert results.suite["request"] == {"overrides": [], "only": [], "skip": []}


def test_no_child_is_left(whole: tuple[Finished, Notes]) -> None:
    assert workers() == []


def test_a_finished_run_that_goes_on_does_nothing(go: Go) -> None:
    first = go(cases.suite(PAIR), Notes())
    before = (first.results.folder / store.RECORDS).read_bytes()
    notes = Notes()
    again = go(cases.suite(PAIR), notes, resume=first.results.folder)
    assert (notes.todo, notes.done) == ([], ["onnx/1", "onnx:disable/1"])
    assert notes.events == []
    assert (again.results.folder / store.RECORDS).read_bytes() == before


def keep_first_record(folder: Path) -> bytes:
    lines = (folder / store.RECORDS).read_bytes().splitlines(keepends=True)
    (folder / store.RECORDS).write_bytes(lines[0])
    return lines[0]


def test_a_case_that_is_done_later_carries_the_baseline_of_its_own_rounds(go: Go) -> None:
    """The baseline was recorded in another session: it is measured once more, and recorded no second time."""
    first = go(cases.suite(PAIR), Notes())
    kept = keep_first_record(first.results.folder)
    notes = Notes()
    go(cases.suite(PAIR), notes, resume=first.results.folder)
    assert notes.outcomes() == {"onnx:disable/1": "ok"}
    late = notes.record("onnx:disable/1")
    assert late.companion is not None
    assert late.measurement is not None
    assert late.companion.session == late.measurement.session
    early = store.load(first.results.folder).records[0].measurement
    assert early is not None
    assert early.session != late.measurement.session
    lines = (first.results.folder / store.RECORDS).read_bytes().splitlines(keepends=True)
    assert (lines[0], len(lines)) == (kept, 2)


def test_a_baseline_that_fails_the_second_time_keeps_its_record(
    go: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = go(cases.suite(PAIR), Notes())
    kept = keep_first_record(first.results.folder)
    original = Builder.artifact

    def broken(self: Any, case: Case) -> Any:
        if case.id == PAIR[0].id:
            raise StageError("the disk is full")
        return original(self, case)

    monkeypatch.setattr(Builder, "artifact", broken)
    notes = Notes()
    go(cases.suite(PAIR), notes, resume=first.results.folder)
    assert notes.outcomes() == {"onnx:disable/1": "ok"}
    assert notes.record("onnx:disable/1").companion is None
    table = load_results(first.results.folder).to_pandas()
    assert table["ratio"].isna().all()  # it took no turns with the one that was recorded before
    assert (first.results.folder / store.RECORDS).read_bytes().startswith(kept)
    assert len(store.load(first.results.folder).records) == 2


def test_cases_that_do_not_fit_together_sit_with_the_baseline_in_turn(go: Go) -> None:
    """A budget of one byte: one case at a time beside the baseline; later ones carry a copy of it."""
    third = cases.case("onnx", options={"spinning": False})
    plan = replace(cases.QUICK, memory_budget_bytes=1)
    notes = Notes()
    go(cases.suite([*PAIR, third], plan), notes)
    loads = [name for name, stage in notes.events if stage == "load"]
    assert loads == ["onnx/1", "onnx:disable/1", "onnx/1", "onnx:False/1"]
    assert notes.outcomes() == {"onnx/1": "ok", "onnx:disable/1": "ok", "onnx:False/1": "ok"}
    first, second, late = (notes.record(name) for name in ("onnx/1", "onnx:disable/1", "onnx:False/1"))
    assert (first.companion, second.companion) == (None, None)
    assert late.companion is not None
    assert late.companion.session == late.measurement.session  # type: ignore[union-attr]
    assert second.measurement.session == first.measurement.session  # type: ignore[union-attr]


def test_numbers_of_two_machines_do_not_belong_in_one_run(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    first = go(cases.suite(PAIR[:1]), Notes())
    elsewhere = replace(environment.describe(), cpu_model="Another CPU")
    monkeypatch.setattr(environment, "describe", lambda: elsewhere)
    with pytest.raises(StoreError, match="and this is Another CPU"):
        go(cases.suite(PAIR[:1]), Notes(), resume=first.results.folder)


def test_terms_narrow_the_matrix_and_stand_in_the_command(go: Go) -> None:
    notes = Notes()
    finished = go(
        cases.suite(PAIR),
        notes,
        only=["batch=1"],
        skip=[f"id={PAIR[0].id}"],
        overrides=["measure.replicates=1"],
    )
    (record,) = finished.results.records
    assert name_of(record.case) == "onnx:disable/1"
    assert record.command == (f"benchbox run tiny.yaml --set measure.replicates=1 --only id={record.case.id}")
    assert json.loads((finished.results.folder / store.SUITE).read_bytes())["request"] == {
        "overrides": ["measure.replicates=1"],
        "only": ["batch=1"],
        "skip": [f"id={PAIR[0].id}"],
    }


def test_terms_that_leave_no_case_make_no_folder(go: Go, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="matches no case"):
        go(cases.suite(PAIR), Notes(), only=["batch=99"])
    assert list(tmp_path.iterdir()) == []


def test_a_suite_that_benchbox_did_not_write_is_named(go: Go) -> None:
    folder = go(cases.suite(PAIR[:1]), Notes()).results.folder
    (folder / store.SUITE).write_text('{"source": 1}')
    with pytest.raises(StoreError, match=r"suite\.json is not a suite that benchbox wrote"):
        runner.resumed(folder)


def test_time_left_falls_to_nothing(whole: tuple[Finished, Notes], go: Go) -> None:
    told: list[float | None] = []

    class Clock(Notes):
        def time_left(self, elapsed_seconds: float, remaining_seconds: float | None) -> None:
            told.append(remaining_seconds)

    go(cases.suite(PAIR), Clock())
    assert told[-1] == 0.0
    assert all(left is None or left >= 0 for left in told)


def test_time_left_counts_the_processes_that_are_to_come() -> None:
    """Four cases in two groups, five processes each at least, at first taken to last 10 s."""
    now_seconds = 0
    told: list[float | None] = []

    class Clock(Notes):
        def time_left(self, elapsed_seconds: float, remaining_seconds: float | None) -> None:
            told.append(remaining_seconds)

    watch = Stopwatch.start(lambda: now_seconds * 10**9)
    time = Time(watch, guess_seconds=10.0, fewest=5, cases_waiting=4)
    time.tell(Clock())
    assert told[-1] == 4 * 5 * 10
    time.began(cases=2, waiting=2)
    now_seconds = 3
    time.tell(Clock())
    assert told[-1] == 4 * 5 * 10 - 3
    for count in range(1, 6):
        now_seconds = 8 * count
        time.ended(2, 8.0, None if count < 5 else 3)
        time.tell(Clock())
        assert told[-1] == 4 * (2 * (5 - count if count < 5 else 3) + 2 * 5)
    for more in (2, 1, 0):
        time.ended(2, 8.0, more)
    time.group_ended(2)
    time.tell(Clock())
    assert told[-1] == 4 * 2 * 8  # the first two took eight each, so it is thought of the others
    time.tell(Clock(), building=True)
    assert told[-1] is None


def test_a_cache_with_everything_in_it_starts_no_builder(go: Go) -> None:
    before = [builder.pid for builder in builders()]
    seen = []
    go(cases.suite(PAIR), Notes(at_measured=lambda: seen.append([b.pid for b in builders()])))
    assert seen == [before]


def providers() -> tuple[str, ...]:
    import onnxruntime

    return tuple(onnxruntime.get_available_providers())
