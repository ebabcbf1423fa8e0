"""Faults, for real: whatever is killed, stopped, starved, torn or damaged: no case is lost, none is wrong."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import cases
import places
from benchbox.build import cache
from benchbox.build.keys import artifact_keys
from benchbox.machine import environment, memory
from benchbox.machine.child import Child, Limits
from benchbox.measure.rounds import Ready
from benchbox.results import store
from benchbox.runner import runner
from benchbox.runner.runner import Finished
from benchbox.schema.asked import Case, MeasurePlan, Step
from watching import Notes, builders, command, is_gone, name_of, workers

pytest.importorskip("torch")

MIB = 2**20
TRIO = [cases.case("onnx"), cases.unfused(), cases.case("onnx", options={"prepacking": False})]
VICTIM, OTHERS = "onnx:disable/1", ("onnx/1", "onnx:False/1")
# Blocks of 5 ms until the budget is spent: about forty rounds.
ROUNDS = replace(cases.QUICK, budget_seconds=0.3, precision=-1.0)
SLOW_ROUNDS = replace(ROUNDS, budget_seconds=1.0)

Make = Callable[[Case], Ready]


@pytest.fixture(scope="module")
def trio(ready: Make) -> None:
    """The three cases are built: no builder is needed."""
    for case in TRIO:
        ready(case)


def go(
    folder: Path, cache_folder: Path, notes: Notes, plan: MeasurePlan = ROUNDS, **options: Any
) -> Finished:
    suite = cases.suite(options.pop("of", TRIO), plan)
    given = {"results": folder, "reports": None, "cache": cache_folder, "observer": notes}
    return runner.run(suite, **{**given, **options})


def victim() -> psutil.Process:
    """The second of three workers: the one of the case without graph optimisation."""
    return workers()[1]


def assert_others_finished(notes: Notes) -> None:
    assert {name: notes.outcomes()[name] for name in OTHERS} == {name: "ok" for name in OTHERS}
    for name in OTHERS:
        assert notes.record(name).measurement is not None
    assert workers() == []


# --- Workers ---


@pytest.mark.usefixtures("trio")
def test_a_worker_that_is_killed_fails_its_case_and_no_other(cache_folder: Path, tmp_path: Path) -> None:
    notes = Notes(at_measured=lambda: victim().kill())
    go(tmp_path, cache_folder, notes)
    record = notes.record(VICTIM)
    assert (record.outcome, record.stage) == ("failed", "measure")
    assert record.reason.startswith("the process was killed by SIGKILL")
    assert record.artifact is not None
    assert (record.measurement, record.parity) == (None, None)
    assert_others_finished(notes)


@pytest.mark.usefixtures("trio")
def test_a_worker_that_exceeds_its_time_is_killed_and_fails_its_case(
    cache_folder: Path, tmp_path: Path
) -> None:
    stopped: list[psutil.Process] = []

    def stop() -> None:
        stopped.append(victim())
        stopped[0].suspend()

    notes = Notes(at_measured=stop)
    go(tmp_path, cache_folder, notes, replace(ROUNDS, timeout_seconds=3.0))
    record = notes.record(VICTIM)
    assert (record.outcome, record.stage) == ("failed", "measure")
    assert record.reason == "no answer within 3 s; the process group was killed"
    assert (record.peak_memory_bytes or 0) > 20 * MIB
    assert not stopped[0].is_running()
    assert_others_finished(notes)


@pytest.fixture(scope="module")
def greedy(ready: Make) -> Case:
    """The tiny model at 512 pixels: 4,097 tokens, whose attention scores alone take 256 MiB."""
    model = replace(cases.MODEL, name="vit-greedy", config={**cases.CONFIG, "image_size": 512})
    case = cases.case(
        "onnx",
        model=model,
        shape={"batch": 1, "image_size": 512},
        dynamic_axes=False,
        options={"execution_mode": "parallel"},
    )
    ready(case)
    return case


def address_space_of(made: Ready) -> int:
    """What a worker needs that has opened this case and run it, by the kernel's count."""
    child = Child("benchbox.measure.worker", Limits(timeout_seconds=60))
    try:
        files = {"folder": made.folder, "reference": made.reference, "compiled": made.compiled}
        child.ask(
            "open",
            case=made.case,
            artifact=made.artifact,
            **{name: str(path) for name, path in files.items()},
        )
        child.ask("block", round=0, block_seconds=0.001)
        peak = memory.parse_status(Path(f"/proc/{child.pid}/status").read_text(), "VmPeak")
    finally:
        child.kill()
    assert peak is not None
    return peak


@pytest.mark.usefixtures("trio")
def test_a_worker_that_is_out_of_memory_fails_its_case_and_no_other(
    ready: Make, greedy: Case, cache_folder: Path, tmp_path: Path
) -> None:
    """RLIMIT_AS leaves 160 MiB above what the small cases need."""
    limit = address_space_of(ready(TRIO[0])) + 160 * MIB
    notes = Notes()
    go(tmp_path, cache_folder, notes, replace(ROUNDS, memory_limit_bytes=limit), of=[*TRIO, greedy])
    record = notes.record("onnx:parallel/1")
    assert (record.outcome, record.stage in ("load", "measure")) == ("failed", True)
    assert record.reason.startswith("out of memory")
    assert (record.peak_memory_bytes or 0) > 20 * MIB
    assert notes.outcomes()[VICTIM] == "ok"
    assert_others_finished(notes)


@pytest.mark.usefixtures("trio")
def test_an_interpreter_that_is_not_there_fails_its_case_and_no_other(
    cache_folder: Path, tmp_path: Path
) -> None:
    foreign = replace(TRIO[1], backend=replace(TRIO[1].backend, python="/no/such/python"))
    notes = Notes()
    go(tmp_path, cache_folder, notes, of=[TRIO[0], foreign, TRIO[2]])
    record = notes.record("onnx:disable:/no/such/python/1")
    assert (record.outcome, record.stage) == ("failed", "plan")
    assert record.reason == "cannot start /no/such/python: No such file or directory"
    assert_others_finished(notes)


def test_a_planted_nan_is_a_mismatch_that_is_timed_all_the_same(own_cache: Path, tmp_path: Path) -> None:
    """One NaN in a weight, under a manifest that vouches for it."""
    import onnx
    from onnx import numpy_helper

    key = artifact_keys(TRIO[0], environment.host())[-1]
    folder = own_cache / "entries" / key
    model = onnx.load(folder / "model.onnx")
    weight = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    array = np.array(numpy_helper.to_array(weight))
    array.flat[0] = np.nan
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    onnx.save(model, folder / "model.onnx")
    vouch_for(folder)
    notes = Notes()
    go(tmp_path, own_cache, notes, of=TRIO[:2])
    for record in notes.records:
        assert record.outcome == "mismatch"
        assert re.search(r"logits at batch=3 image_size=32: \d+ NaN", record.reason)
        assert record.parity is not None
        assert record.parity.outputs[0].nan_count > 0
        assert record.measurement is not None
    assert [r.outcome for r in store.load(notes.folder).records] == ["mismatch"] * 2


def vouch_for(folder: Path) -> None:
    manifest = folder / cache.MANIFEST
    stored = json.loads(manifest.read_bytes())
    stored["files"] = {name: cache.hash_file(folder / name) for name in stored["files"]}
    manifest.write_text(json.dumps(stored))


# --- The cache and the builder ---


def test_an_artifact_whose_bytes_changed_is_found_by_its_hash_and_built_again(
    ready: Make, own_cache: Path, tmp_path: Path
) -> None:
    """One bit of a weight: it would load, run, and be a little wrong."""
    made = ready(TRIO[0]).artifact
    file = own_cache / "entries" / made.key / "model.onnx"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    notes = Notes()
    go(tmp_path, own_cache, notes, of=[TRIO[0]])
    (record,) = notes.records
    assert record.outcome == "ok"
    assert record.artifact is not None
    assert record.artifact.sha256 == made.sha256 == cache.hash_file(file)


def broken_model(tmp_path: Path) -> Case:
    """A folder that claims to hold pretrained weights."""
    (tmp_path / "model").mkdir()
    model = replace(
        cases.MODEL, name="broken", source=str(tmp_path / "model"), weights="pretrained", config={}
    )
    return cases.case("onnx", model=model)


class Kill:
    """Kills the first builder that is there once the timer was started and was not when this was made.

    It is stopped first, so that it cannot have answered: what it was asked stays open until it is killed,
    half a second later."""

    def __init__(self) -> None:
        self._before = {child.pid for child in builders()}
        self.pids: list[int] = []
        self.thread = threading.Thread(target=self._kill, daemon=True)

    def _kill(self) -> None:
        builder = self._first()
        builder.suspend()
        self.pids.append(builder.pid)
        threading.Event().wait(0.5)
        builder.kill()

    def _first(self) -> psutil.Process:
        while True:
            for child in builders():
                if child.pid not in self._before:
                    return child


def test_what_cannot_be_built_fails_with_its_stage_and_the_next_case_is_built(
    own_cache: Path, tmp_path: Path
) -> None:
    """One run: weights that are not there, an opset that no exporter knows, a builder that is killed (a new
    one builds what comes after it), a pass that finds nothing to quantize; and a case that is well."""
    pretrained = broken_model(tmp_path)
    no_opset = cases.case("onnx", opset=99)
    killed = cases.case(Step("onnx", {"do_constant_folding": False}))
    nothing = cases.case("onnx", Step("int8_dynamic", {"nodes_to_exclude": ["no/such/node"]}))
    well = cases.case("onnx")
    kill = Kill()

    def kill_builder(case: Case, stage: str) -> None:
        if case == killed and stage == "build":
            kill.thread.start()

    notes = Notes(at_entered=kill_builder)
    go(tmp_path / "results", own_cache, notes, of=[pretrained, no_opset, killed, nothing, well])
    seen = {r.case.id: (r.outcome, r.stage) for r in notes.records}
    assert seen == {
        pretrained.id: ("failed", "reference"),
        no_opset.id: ("failed", "build"),
        killed.id: ("failed", "build"),
        nothing.id: ("failed", "build"),
        well.id: ("ok", None),
    }
    reasons = {r.case.id: r.reason for r in notes.records}
    assert "no config for" in reasons[pretrained.id] or "cannot be had" in reasons[pretrained.id]
    assert "opset 99" in reasons[no_opset.id]
    assert reasons[killed.id].startswith("the process was killed by SIGKILL")
    assert "no/such/node" in reasons[nothing.id]
    assert len(kill.pids) == 1
    assert len(store.load(notes.folder).records) == 5


# --- The run itself ---


@pytest.fixture
def suite_file(ready: Make, tmp_path: Path) -> Path:
    """Two groups of two cases each, as YAML; their artifacts are in the shared cache."""
    for batch in (1, 2):
        for case in (cases.case("onnx", batch=batch), cases.unfused(batch=batch)):
            ready(case)
    measure = {"budget_seconds": 0.3, "precision": 0.001, "block_seconds": 0.02}
    # A process more than Ctrl-C waits for: whenever it comes, something is left undone.
    suite = cases.written(**measure, replicates=3, most_replicates=3)
    suite["backends"].append({"onnxruntime": {"graph_optimization": "disable"}})
    suite["inputs"]["batch"] = [1, 2]
    path = tmp_path / "tiny.yaml"
    path.write_text(json.dumps(suite))
    return path


def start_run(suite_file: Path, tmp_path: Path, cache_folder: Path) -> subprocess.Popen[str]:
    script = places.TESTS / "children" / "run_suite.py"
    words = [sys.executable, str(script), str(suite_file), str(tmp_path / "results"), str(cache_folder)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def until(process: subprocess.Popen[str], *beginning: str) -> list[str]:
    """The words of the first line that begins so."""
    assert process.stdout is not None
    for line in process.stdout:
        words = line.split()
        if tuple(words[: len(beginning)]) == beginning:
            return words
    raise AssertionError(f"the run ended without saying {' '.join(beginning)!r}")


def test_a_run_that_is_killed_goes_on_where_it_was(
    suite_file: Path, cache_folder: Path, tmp_path: Path
) -> None:
    """SIGKILL in the middle of the second group: the first one's records stay as they are, byte for byte;
    none is repeated, none is lost; no worker is left."""
    with start_run(suite_file, tmp_path, cache_folder) as process:
        folder = Path(until(process, "folder")[1])
        until(process, "recorded", "1")
        children = [int(word) for word in until(process, "measured", "2")[2:]]
        process.kill()
    assert len(children) == 3  # two workers and the canary
    assert all(map(is_gone, children))
    before = (folder / store.RECORDS).read_bytes()
    assert before.count(b"\n") == 2

    suite, request = runner.resumed(folder)
    notes = Notes()
    finished = runner.run(
        suite, resume=folder, results=tmp_path, reports=None, cache=cache_folder, observer=notes, **request
    )
    assert (notes.done, notes.todo) == (["onnx/1", "onnx:disable/1"], ["onnx/2", "onnx:disable/2"])
    assert notes.outcomes() == {"onnx/2": "ok", "onnx:disable/2": "ok"}
    after = (folder / store.RECORDS).read_bytes()
    assert after.startswith(before)
    assert after.count(b"\n") == 4
    assert [r.outcome for r in finished.results.records] == ["ok"] * 4
    assert {r.case.id for r in finished.results.records} == {case.id for case in suite.cases}


@pytest.mark.usefixtures("trio")
def test_a_case_whose_line_is_torn_is_done_again_and_no_other(cache_folder: Path, tmp_path: Path) -> None:
    first = Notes()
    go(tmp_path, cache_folder, first)
    path = first.folder / store.RECORDS
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]) + lines[2][:200])
    again = Notes()
    finished = go(tmp_path, cache_folder, again, resume=first.folder)
    assert (again.done, again.todo) == (["onnx/1", VICTIM], ["onnx:False/1"])
    assert again.outcomes() == {"onnx:False/1": "ok"}
    assert path.read_bytes().startswith(b"".join(lines[:2]))
    assert ({name_of(r.case) for r in finished.results.records}, finished.results.unreadable) == (
        {"onnx/1", VICTIM, "onnx:False/1"},
        (3,),
    )


def two_groups() -> list[Case]:
    return [cases.case("onnx"), cases.unfused(), cases.case("onnx", batch=2)]


@pytest.fixture(scope="module")
def groups(ready: Make) -> None:
    for case in two_groups():
        ready(case)


@pytest.mark.usefixtures("groups")
def test_ctrl_c_once_finishes_what_is_in_hand_and_the_rest_is_done_on_resume(
    cache_folder: Path, tmp_path: Path
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    told: list[str] = []

    class Told(Notes):
        def interrupted(self) -> None:
            told.append("interrupted")

    notes = Told(at_measured=lambda: signal.raise_signal(signal.SIGINT))
    plan = replace(SLOW_ROUNDS, replicates=3)
    finished = go(tmp_path, cache_folder, notes, plan, of=two_groups())
    assert (finished.interrupted, told) == (True, ["interrupted"])
    assert notes.outcomes() == {"onnx/1": "ok", "onnx:disable/1": "ok"}
    for record in notes.records:
        assert record.measurement is not None
        assert record.measurement.stopped_by == "interrupt"
        assert len(record.measurement.replicates) == 2  # the fewest that give an interval
    assert signal.getsignal(signal.SIGINT) is handler
    assert workers() == []

    again = Notes()
    rest = go(tmp_path, cache_folder, again, plan, of=two_groups(), resume=notes.folder)
    assert (again.todo, again.outcomes(), rest.interrupted) == (["onnx/2"], {"onnx/2": "ok"}, False)


@pytest.mark.usefixtures("groups")
def test_ctrl_c_while_building_records_nothing_and_loses_nothing(cache_folder: Path, tmp_path: Path) -> None:
    def interrupt(case: Case, stage: str) -> None:
        if stage == "build":
            signal.raise_signal(signal.SIGINT)

    notes = Notes(at_entered=interrupt)
    finished = go(tmp_path, cache_folder, notes, of=[cases.case("onnx")])
    assert (finished.interrupted, notes.records, workers()) == (True, [], [])
    again = Notes()
    go(tmp_path, cache_folder, again, of=[cases.case("onnx")], resume=notes.folder)
    assert again.outcomes() == {"onnx/1": "ok"}


@pytest.mark.usefixtures("groups")
def test_ctrl_c_twice_stops_at_once_and_leaves_no_process(cache_folder: Path, tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGINT)

    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    notes = Notes(at_measured=twice)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, cache_folder, notes, SLOW_ROUNDS, of=two_groups())
    assert (notes.records, workers(), signal.getsignal(signal.SIGINT) is handler) == ([], [], True)
    assert store.load(notes.folder).records == ()


def run_command(suite: Path, folder: Path, cache: Path) -> list[str]:
    places = {"--results": folder / "results", "--reports": folder / "reports", "--cache": cache}
    return command("run", suite, *(word for option in places.items() for word in option))


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_at_the_command_line_exits_with_130_and_says_how_to_go_on(
    suite_file: Path, cache_folder: Path, tmp_path: Path, times: int
) -> None:
    """From another process, as a terminal sends it: after the first group is recorded, once or twice."""
    with subprocess.Popen(
        run_command(suite_file, tmp_path, cache_folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = [next(line for line in process.stdout if "ok" in line.split())]
        process.send_signal(signal.SIGINT)
        if times == 2:
            said.append(next(line for line in process.stdout if re.search("(?i)interrupt|ctrl-c", line)))
            process.send_signal(signal.SIGINT)
        said += process.stdout.readlines()
    text = "".join(said)
    (folder,) = (tmp_path / "results").iterdir()
    assert (process.returncode, "Traceback" in text) == (130, False), text
    assert f"--resume {folder}" in text.replace("\n", " ").replace("  ", " ")
    assert len(store.load(folder).records) >= 1


def test_a_command_line_run_with_a_failed_case_exits_with_1(
    suite_file: Path, cache_folder: Path, tmp_path: Path
) -> None:
    """And writes its reports: a failure is a row. The interpreter of one case ends without a word."""
    text = suite_file.read_text().replace('"disable"}}', '"disable", "python": "/bin/false"}}')
    suite_file.write_text(text)
    words = [*run_command(suite_file, tmp_path, cache_folder), "--only", "batch=1"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    (folder,) = (tmp_path / "results").iterdir()
    records = store.load(folder).records
    assert {name_of(r.case): (r.outcome, r.reason) for r in records} == {
        "onnx/1": ("ok", ""),
        "onnx:disable:/bin/false/1": ("failed", "the process ended with exit code 1 and no answer"),
    }
    assert (tmp_path / "reports" / folder.name / "summary.csv").is_file()
