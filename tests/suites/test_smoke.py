"""The smoke suite end to end: every path, on every backend, from YAML to reports."""

from __future__ import annotations

from pathlib import Path

import pytest

import benchbox
import places
from benchbox.results import store
from benchbox.runner import runner
from benchbox.runner.runner import Finished
from benchbox.schema.seen import Record

pytest.importorskip("torch")

SUITE = places.SUITES / "smoke.yaml"
PATHS = ("torch", "onnx", "dynamo", "onnx + fp16", "onnx + int8_dynamic", "onnx + int8_static")
MIB = 2**20


@pytest.fixture(scope="module")
def finished(cache_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One run of the suite that users get, measured for a shorter time, into folders of its own."""
    folder = tmp_path_factory.mktemp("smoke")
    short = ["measure.budget_seconds=0.1", "measure.warm_up_seconds=0.05", "measure.block_seconds=0.01"]
    folders = {"results": folder / "results", "reports": folder / "reports", "cache": cache_folder}
    return runner.run(SUITE, overrides=short, **folders)


def by_path(finished: Finished, path: str) -> list[Record]:
    return [r for r in finished.results.records if r.case.path_label == path]


def test_every_case_is_ok(finished: Finished) -> None:
    seen = {r.case.path_label: (r.outcome, r.reason) for r in finished.results.records}
    assert seen == dict.fromkeys(PATHS, ("ok", ""))
    assert len(finished.results.records) == 6


def test_records_read_back_are_the_records_that_were_written(finished: Finished) -> None:
    assert store.load(finished.results.folder) == finished.results
    assert finished.results.unreadable == ()


def test_the_baseline_is_the_model_itself_in_pytorch(finished: Finished) -> None:
    assert [r.case.path_label for r in finished.results.records if r.is_baseline] == ["torch"]


def test_all_were_measured_together(finished: Finished) -> None:
    assert len({r.measurement.session for r in finished.results.records if r.measurement}) == 1


@pytest.mark.parametrize("path", ["onnx", "dynamo"])
def test_an_fp32_export_agrees_with_torch_to_1e_4_at_a_batch_that_was_not_exported(
    finished: Finished, path: str
) -> None:
    for record in by_path(finished, path):
        assert record.parity is not None
        assert record.parity.precision == "fp32"
        assert 3 in {output.shape["batch"] for output in record.parity.outputs}
        assert all((o.max_abs_error or 0.0) <= 1e-4 for o in record.parity.outputs)
        assert record.parity.metrics["top1_agreement"] == 1.0


@pytest.mark.parametrize(
    ("path", "precision"),
    [("onnx + fp16", "fp16"), ("onnx + int8_dynamic", "int8"), ("onnx + int8_static", "int8")],
)
def test_lower_precision_reports_cosine_sqnr_and_top_1_and_differs(
    finished: Finished, path: str, precision: str
) -> None:
    """It differs a little: no error at all would mean that nothing was converted."""
    for record in by_path(finished, path):
        assert record.parity is not None
        assert record.parity.precision == precision
        for output in record.parity.outputs:
            assert output.max_abs_error is not None
            assert output.max_abs_error > 0.0
            assert output.cosine is not None
            assert 0.99 < output.cosine < 1.0
            assert output.sqnr_db is not None
            assert 15 < output.sqnr_db < 90
        assert 0.0 <= record.parity.metrics["top1_agreement"] <= 1.0


def test_an_export_says_opset_17_and_a_symbolic_batch(finished: Finished) -> None:
    for record in by_path(finished, "onnx"):
        assert record.artifact is not None
        assert record.artifact.facts["opset"] == 17
        assert record.artifact.facts["inputs"][0]["axes"][0] == "batch"
        assert record.artifact.facts["outputs"][0]["axes"][0] == "batch"


def test_weights_of_8_bits_make_a_smaller_file(finished: Finished) -> None:
    sizes = {path: by_path(finished, path)[0].artifact.size_bytes for path in PATHS}  # type: ignore[union-attr]
    assert sizes["onnx + int8_dynamic"] < sizes["onnx"]
    assert sizes["onnx + fp16"] < sizes["onnx"]


def test_a_worker_of_onnx_runtime_is_far_smaller_than_one_of_pytorch(finished: Finished) -> None:
    """Because it imports no torch: measured 66 MiB against 390 MiB."""
    peaks = {
        path: max(
            m.memory.peak_bytes
            for r in by_path(finished, path)
            if r.measurement
            for m in r.measurement.replicates
        )
        for path in PATHS
    }
    assert peaks["torch"] > 200 * MIB
    assert all(peaks[path] < peaks["torch"] / 2 for path in PATHS if path != "torch")


def test_every_replicate_is_kept_raw(finished: Finished) -> None:
    for record in finished.results.records:
        assert record.measurement is not None
        assert [r.index for r in record.measurement.replicates] == [0, 1]
        for replicate in record.measurement.replicates:
            assert len(replicate.blocks) >= 2
            assert len(replicate.warm_up) >= 1
            assert all(isinstance(ns, int) for block in replicate.blocks for ns in block.latencies_ns)


def test_reports_are_written_under_the_same_name(finished: Finished) -> None:
    assert finished.problem == ""
    assert {path.parent.name for path in finished.reports} == {finished.results.name}
    assert {"summary.csv", "samples.csv", "report.html", "report.md"} <= {
        path.name for path in finished.reports
    }
    assert all(path.stat().st_size > 100 for path in finished.reports)


def test_results_become_a_frame_with_a_row_a_case(finished: Finished) -> None:
    frame = benchbox.load_results(finished.results.folder).to_pandas()
    assert len(frame) == 6


def test_nothing_in_the_results_names_the_machine_or_a_home(finished: Finished) -> None:
    import socket

    text = "".join(f.read_text() for f in finished.results.folder.iterdir())
    assert str(Path.home()) + "/" not in text or str(Path.home()) == "/root"
    assert f'"{socket.gethostname()}"' not in text
