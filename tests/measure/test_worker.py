"""A real worker over a real pipe: what it answers, and what it does not load."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

import cases
import families
import places
from benchbox import plugins
from benchbox.errors import StageError, Unavailable
from benchbox.machine import clock
from benchbox.machine.child import Child, Limits
from benchbox.measure.disturbance import disturbance
from benchbox.measure.rounds import Ready
from benchbox.measure.worker import Worker, _readings
from benchbox.numerics import arrays, calm
from benchbox.schema import wire
from benchbox.schema.asked import DEFAULT_TOLERANCES, Case, Dataset
from benchbox.schema.seen import Block

MIB = 2**20


@pytest.fixture(scope="module")
def made(ready: Callable[[Case], Ready]) -> Ready:
    return ready(cases.case("onnx"))


@pytest.fixture(scope="module")
def worker(made: Ready) -> Iterator[Child]:
    """A worker that has opened the exported tiny model."""
    child = Child("benchbox.measure.worker", Limits(timeout_seconds=60))
    assert sorted(open_(child, made)) == ["load_seconds", "versions"]
    yield child
    child.kill()


def open_(child: Child, made: Ready, **changes: Any) -> dict[str, Any]:
    return child.ask(
        "open",
        **{
            "case": made.case,
            "artifact": made.artifact,
            "folder": made.folder,
            "reference": made.reference,
            "compiled": made.compiled,
            **changes,
        },
    )


def verify(child: Child, made: Ready) -> dict[str, Any]:
    parity: dict[str, Any] = verified(child, made)["parity"]
    return parity


def verified(child: Child, made: Ready) -> dict[str, Any]:
    return child.ask(
        "verify",
        tolerances=DEFAULT_TOLERANCES,
        noise_floor=0.0,
        samples=4,
        shapes=made.reference_content["shapes"],
    )


def verify_against(made: Ready, folder: Path, change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """The verdict of a fresh worker where the arrays of the first parity file have been changed."""
    (folder / "timing.npz").write_bytes((made.reference / "timing.npz").read_bytes())
    for index in range(len(made.reference_content["shapes"])):
        stored = arrays.load(made.reference / f"parity-{index}.npz")
        if index == 0:
            change(stored)
        np.savez(folder / f"parity-{index}.npz", **stored)
    child = Child("benchbox.measure.worker", Limits(timeout_seconds=60))
    try:
        open_(child, made, reference=folder)
        return verify(child, made)
    finally:
        child.kill()


def test_the_worker_of_onnx_runtime_has_loaded_no_other_framework(worker: Child) -> None:
    """Asked of the kernel: which files are mapped into the process after it has run."""
    worker.ask("block", round=0, block_seconds=0.001)
    maps = Path(f"/proc/{worker.pid}/maps").read_text()
    assert "onnxruntime" in maps
    foreign = ["libtorch", "/torch/", "/transformers/", "/tokenizers/", "/sklearn/", "/PIL/", "/pandas/"]
    assert [name for name in [*foreign, "/pydantic_core/", "/scipy/", "/onnx/"] if name in maps] == []


def test_a_worker_and_all_that_it_imports_need_the_standard_library_only() -> None:
    """`-S` leaves site-packages out; numpy comes when a case is opened."""
    rooms = "benchbox.measure.worker, benchbox.machine.child"
    code = f"import sys; sys.path.insert(0, sys.argv[1]); import {rooms}; print('ok')"
    root = str(places.ROOT)
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, root], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("ok\n", "")


def test_verifying_says_where_nodes_were_placed(worker: Child, made: Ready) -> None:
    """Not before: recording it costs memory, which would be in the peak."""
    placement = verified(worker, made)["placement"]
    assert list(placement) == ["CPUExecutionProvider"]
    assert placement["CPUExecutionProvider"] > 10


def test_opening_says_which_runtime_it_was_and_how_long_it_took(made: Ready) -> None:
    import onnxruntime

    child = Child("benchbox.measure.worker", Limits(timeout_seconds=60))
    try:
        opened = open_(child, made)
    finally:
        child.kill()
    assert opened["versions"] == {"onnxruntime": onnxruntime.__version__}
    assert opened["load_seconds"] > 0


def test_a_block_is_timed_calls_and_the_noise_beside_them(worker: Child) -> None:
    block = worker.ask("block", round=7, block_seconds=0.01)
    assert block["round"] == 7
    assert sum(block["latencies_ns"]) >= 9_000_000
    assert all(isinstance(ns, int) and ns > 0 for ns in [block["first_ns"], *block["latencies_ns"]])
    assert sorted(block["noise"]) == [
        "cpu_mhz",
        "energy_joules",
        "gpu_mhz",
        "gpu_throttle",
        "involuntary_switches",
        "others_cpu_seconds",
        "pressure_seconds",
        "steal_seconds",
        "stopped_count",
        "throttle_count",
    ]
    assert sum(block["slices"]) == len(block["latencies_ns"])
    assert len(block["waited_ns"]) == len(block["cpu_ns"]) == len(block["slices"])
    assert 0 < sum(block["cpu_ns"]) < 2e9


def test_a_worker_that_shares_its_core_knows_what_it_waited(worker: Child) -> None:
    """One core for the worker and for a process that never stops: about half of the time goes to each."""
    core = min(os.sched_getaffinity(0))
    alone = wire.decode(worker.ask("block", round=0, block_seconds=0.2), Block)
    loop = f"import os; os.sched_setaffinity(0, {{{core}}})\nwhile 1: 1"
    busy = subprocess.Popen([sys.executable, "-c", loop])
    tasks = [int(task.name) for task in Path(f"/proc/{worker.pid}/task").iterdir()]
    before = {task: os.sched_getaffinity(task) for task in tasks}
    try:
        for task in before:
            os.sched_setaffinity(task, {core})
        shared = wire.decode(worker.ask("block", round=1, block_seconds=0.5), Block)
    finally:
        busy.kill()
        busy.wait()
        for task, cores in before.items():
            os.sched_setaffinity(task, cores)
    waited, lasted = sum(shared.waited_ns), sum(shared.latencies_ns)
    assert waited > 0.2 * lasted
    assert sum(alone.waited_ns) / sum(alone.latencies_ns) < waited / lasted
    assert not calm.calm_calls(shared).all()


def test_a_worker_that_was_stopped_says_so(worker: Child) -> None:
    timer = threading.Timer(0.1, os.kill, (worker.pid, signal.SIGSTOP))
    again = threading.Timer(0.3, os.kill, (worker.pid, signal.SIGCONT))
    timer.start()
    again.start()
    block = wire.decode(worker.ask("block", round=0, block_seconds=0.4), Block)
    assert block.noise.stopped_count == 1
    assert disturbance(block, 2) == "the process was stopped for a while"


def test_warming_up_ends_when_it_has_settled_or_its_time_is_over(worker: Child) -> None:
    warm = worker.ask("warm_up", at_most_seconds=0.0, block_seconds=0.001)
    assert len(warm["blocks"]) >= 1
    assert isinstance(warm["settled"], bool)


def test_a_slow_model_warms_up_one_call_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The third call is 10 % below the second, and the fourth agrees with it: there is no fifth."""
    durations = iter([3200, 2900, 2600, 2500, 2500, 2500])
    now = 0

    def call() -> None:
        nonlocal now
        now += next(durations)

    for name in ("time_block", "time_call"):
        monkeypatch.setattr(clock, name, partial(getattr(clock, name), clock=lambda: now))
    slow = Worker()
    slow._call = call
    warm = slow.warm_up({"at_most_seconds": 60.0, "block_seconds": 1e-7})
    assert [(b.first_ns, b.latencies_ns) for b in warm.blocks] == [
        (3200, ()),
        (2900, ()),
        (2600, ()),
        (2500, ()),
    ]
    assert warm.settled


def test_memory_grows_from_idle_to_loaded_to_peak(worker: Child) -> None:
    memory = worker.ask("memory")
    assert 10 * MIB < memory["idle_bytes"] < memory["loaded_bytes"] <= memory["peak_bytes"]
    assert memory["device_bytes"] is None


def test_an_export_agrees_with_torch_at_every_shape(worker: Child, made: Ready) -> None:
    """Batch 3 is one that no exporter saw."""
    found = verify(worker, made)
    assert (found["passed"], found["reasons"], found["precision"]) == (True, [], "fp32")
    assert [(o["output"], o["shape"]["batch"]) for o in found["outputs"]] == [("logits", 3), ("logits", 1)]
    assert all(o["max_abs_error"] < 1e-5 for o in found["outputs"])
    assert found["metrics"] == {"top1_agreement": 1.0, "top5_agreement": 1.0}


def test_another_value_is_a_mismatch(made: Ready, tmp_path: Path) -> None:
    def change(arrays: dict[str, Any]) -> None:
        arrays["out:logits"][2, 3] += 0.5

    found = verify_against(made, tmp_path, change)
    assert found["passed"] is False
    assert found["reasons"][0].startswith("logits at batch=3 image_size=32: max abs error 0.5 > 0.0001")
    assert found["outputs"][0]["max_abs_error"] == pytest.approx(0.5, abs=1e-4)


class Answers:
    """A session whose outputs are given, one after another."""

    def __init__(self, *outputs: dict[str, Any]) -> None:
        self._outputs = iter(outputs)

    def run(self, _feeds: Any) -> dict[str, Any]:
        return next(self._outputs)


def compared(
    folder: Path, family: Any, *pairs: tuple[Any, Any, Any], read: Mapping[int, Any] = MappingProxyType({})
) -> Any:
    """What a worker finds in batches of (reference, candidate, labels); `read` says where some are read."""
    one = Worker()
    one._case, one._reference = cases.case("onnx"), folder
    for index, (reference, _, labels) in enumerate(pairs):
        known = {} if labels is None else {"labels": np.array(labels)}
        known |= {"read:logits": read[index]} if index in read else {}
        np.savez(folder / f"parity-{index}.npz", **{"out:logits": np.array(reference, np.float32), **known})
    one._session = Answers(*({"logits": np.array(candidate, np.float32)} for _, candidate, _ in pairs))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchbox.measure.worker.plugins.load", lambda kind, word: family)
        return one._compare([{"batch": len(reference)} for reference, _, _ in pairs])


def test_a_candidate_with_nan_is_judged_and_its_metrics_are_not_asked(tmp_path: Path) -> None:
    """Metrics of NaN raise, or are NaN, which no message may hold: the timings would be lost with them."""

    def metrics(_model: Any, evidence: Any) -> dict[str, float]:
        assert np.isfinite(evidence.candidate["logits"]).all()
        return {"top1_agreement": 1.0}

    good, bad = [[1.0, 2.0]], [[float("nan"), 2.0]]
    found = compared(
        tmp_path, plugins.seen_as("models", {"metrics": metrics}), (good, bad, None), (good, good, None)
    )
    assert found.outputs[0].nan_count == 1
    assert found.metrics == {"top1_agreement": 1.0}


def test_a_metric_that_is_not_finite_is_a_reason_and_no_metric(tmp_path: Path) -> None:
    found_metrics = {"cross_entropy": float("inf"), "share": 0.5}
    family = plugins.seen_as("models", {"metrics": lambda _model, _evidence: found_metrics})
    found = compared(tmp_path, family, ([[1.0]], [[1.0]], None))
    assert (found.metrics, found.reasons) == ({"share": 0.5}, ["cross_entropy is not finite"])


def test_accuracy_is_over_the_samples_that_have_a_label(tmp_path: Path) -> None:
    """Two samples with labels, both right, and one without."""

    def metrics(_model: Any, evidence: Any) -> dict[str, float]:
        if evidence.labels is None:
            return {}
        return {"accuracy": float((evidence.candidate["logits"].argmax(1) == evidence.labels).mean())}

    two, one = [[1.0, 2.0], [2.0, 1.0]], [[1.0, 2.0]]
    found = compared(
        tmp_path, plugins.seen_as("models", {"metrics": metrics}), (two, two, [1, 0]), (one, one, None)
    )
    assert found.metrics == {"accuracy": 1.0}


@pytest.fixture(scope="module")
def texts(ready: Callable[[Case], Ready]) -> Ready:
    """A two-layer BERT, exported, its texts of other lengths."""
    bert = families.small("bert-small-features").model
    shape = {"batch": 1, "sequence_length": 16}
    return ready(cases.case("onnx", model=bert, shape=shape, dataset=Dataset("sample_texts")))


def tokens(stored: dict[str, Any], read: bool) -> Any:
    """Which positions of the first file are read, or are not, beside its hidden states."""
    mask = stored["in:attention_mask"].astype(bool)
    assert (mask.any(), mask.all()) == (True, False)
    return stored["out:last_hidden_state"], mask if read else ~mask


def test_a_bert_whose_padding_is_noise_agrees_and_the_noise_is_shown(texts: Ready, tmp_path: Path) -> None:
    def change(stored: dict[str, Any]) -> None:
        states, padding = tokens(stored, read=False)
        states[padding] = np.random.default_rng(0).standard_normal(states[padding].shape) * 100

    found = verify_against(texts, tmp_path, change)
    assert (found["passed"], found["reasons"]) == (True, [])
    assert found["metrics"] == {"pooled_cosine": pytest.approx(1.0, abs=1e-9)}
    states, pooled = found["outputs"][:2]
    assert states["max_abs_error"] < 1e-5
    assert states["padding"]["max_abs_error"] > 100
    assert 0 < states["padding"]["share"] < 0.7
    assert (pooled["output"], pooled["padding"]) == ("pooler_output", None)


def test_a_bert_that_is_off_before_its_padding_does_not_agree(texts: Ready, tmp_path: Path) -> None:
    """In one number of one token."""

    def change(stored: dict[str, Any]) -> None:
        states, read = tokens(stored, read=True)
        row, at = np.argwhere(read)[-1]
        states[row, at, 5] += 0.5

    found = verify_against(texts, tmp_path, change)
    assert found["passed"] is False
    where = "last_hidden_state at batch=3 sequence_length=8: "
    assert [reason.partition(" > ")[0] for reason in found["reasons"][:1]] == [f"{where}max abs error 0.5"]
    assert found["metrics"]["pooled_cosine"] < 0.99999
    assert found["outputs"][0]["padding"]["max_abs_error"] < 1e-5


def test_nan_behind_the_mask_takes_no_metric_away(tmp_path: Path) -> None:
    """One that a batch has in its padding, and another that has none."""

    def metrics(_model: Any, evidence: Any) -> dict[str, float]:
        return {"rows": float(len(evidence.candidate["logits"]))}

    good, bad = [[1.0, 2.0]], [[1.0, float("nan")]]
    read = np.array([[True, False]])
    family = plugins.seen_as("models", {"metrics": metrics})
    found = compared(tmp_path, family, (good, bad, None), (good, good, None), read={0: read})
    assert found.metrics == {"rows": 1.0}
    (output,) = found.outputs
    assert (output.nan_count, output.padding.nan_count, output.padding.share) == (0, 1, 0.25)


def test_an_output_that_is_missing_is_a_mismatch(made: Ready, tmp_path: Path) -> None:
    found = verify_against(made, tmp_path, lambda arrays: arrays.update({"out:boxes": np.zeros((3, 4))}))
    assert found["passed"] is False
    assert found["reasons"] == ["at batch=3 image_size=32: output 'boxes' is missing"]


def test_an_output_of_another_shape_is_a_mismatch(made: Ready, tmp_path: Path) -> None:
    found = verify_against(made, tmp_path, lambda arrays: arrays.update({"out:logits": np.zeros((3, 11))}))
    assert found["passed"] is False
    assert found["reasons"] == ["at batch=3 image_size=32: logits has shape [3, 10], the reference [3, 11]"]


def test_a_damaged_model_fails_and_says_so(made: Ready, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    child = Child("benchbox.measure.worker", Limits(timeout_seconds=60))
    with pytest.raises(StageError, match="InvalidProtobuf"):
        open_(child, made, folder=tmp_path)
    child.kill()


def test_a_provider_that_is_not_there_is_unavailable(worker: Child) -> None:
    backend = replace(cases.case("onnx").backend, providers=("OpenVINOExecutionProvider",))
    with pytest.raises(Unavailable) as caught:
        worker.ask("check", word="onnxruntime", backend=backend)
    assert caught.value.reason.startswith("OpenVINOExecutionProvider is not in onnxruntime ")
    assert caught.value.hint == "make an environment with onnxruntime-openvino and name it in `python:`"


def test_a_check_says_which_providers_there_are(worker: Child) -> None:
    assert "CPUExecutionProvider" in worker.ask("check", word="onnxruntime")["providers"]


def test_arrays_with_objects_in_them_are_refused(tmp_path: Path) -> None:
    """Objects in an .npz are pickles."""
    np.savez(tmp_path / "x.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        arrays.load(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("first", "latencies", "readings"),
    [(9, (5,), [9, 5]), (9, (), [9]), (9, (5, 7, 6), [6]), (9, (5, 8), [6.5])],
)
def test_a_slow_model_is_read_call_by_call(
    first: int, latencies: tuple[int, ...], readings: list[float]
) -> None:
    assert _readings(Block(0, 0, first, latencies)) == readings
