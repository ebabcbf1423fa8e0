"""Exporters: what comes out is what the signature says, and does what the module does."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cases
from benchbox.errors import StageError
from benchbox.plugins import graphs
from benchbox.plugins.contract import ExportJob, Family
from benchbox.plugins.exporters import dynamo, onnx, torch
from benchbox.schema.tensors import Signature, TensorSpec
from onnx_files import pixels, run, tiny_vit

t = pytest.importorskip("torch")
o = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

SIGNATURE = Signature(
    inputs=(TensorSpec("pixel_values", "float32", ("batch", 3, 32, 32)),),
    outputs=(TensorSpec("logits", "float32", ("batch", 10)),),
)


class FakeFamily(Family):
    """Saves what it is given, and notes where."""

    def save(self, module: Any, folder: Path) -> None:
        (folder / "config.json").write_text("{}")


def job(exporter: Any, **changes: Any) -> ExportJob:
    fields = {
        "model": cases.MODEL,
        "family": FakeFamily(),
        "module": None,
        "signature": SIGNATURE,
        "example": pixels(2),
        "unseen": pixels(3, seed=1),
        "opset": 17,
        "dynamic_axes": True,
        "options": exporter.Options() if hasattr(exporter, "Options") else None,
        **changes,
    }
    return ExportJob(**{**fields, "module": fields["module"] or tiny_vit()})


def module_of(forward: Any) -> Any:
    """A module without weights whose one output is `forward` of its one input."""

    class Forward(t.nn.Module):
        def forward(self, x: Any) -> tuple[Any, ...]:
            return (forward(x),)

    return Forward().eval()


def difference(folder: Path, module: Any, feeds: dict[str, Any]) -> Any:
    with t.inference_mode():
        expected = module(t.from_numpy(feeds["pixel_values"]))[0].numpy()
    return np.abs(run(folder, feeds)[0] - expected)


def axes(value: Any) -> list[Any]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


BOTH = pytest.mark.parametrize("exporter", [onnx, dynamo], ids=["onnx", "dynamo"])


@dataclasses.dataclass(frozen=True)
class Exported:
    """What came of a job, once for all tests that look at it."""

    job: ExportJob
    folder: Path
    facts: Mapping[str, Any]


Make = Callable[..., Exported]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """`made(dynamo, opset=18)`: the tiny ViT as that exporter gives it."""

    @functools.cache
    def make(exporter: Any, opset: int = 17) -> Exported:
        a_job, folder = job(exporter, opset=opset), tmp_path_factory.mktemp("made")
        return Exported(a_job, folder, exporter.export(a_job, folder))

    return make


def test_torch_exporter_saves_through_the_family_and_counts_parameters(tmp_path: Path) -> None:
    facts = torch.export(job(torch), tmp_path)
    assert (tmp_path / "config.json").read_text() == "{}"
    assert facts == {
        "exporter": "torch",
        "parameters": 81226,
        "buffers": 0,
        "dtypes": ["float32"],
    }


def test_opset_17_with_symbolic_batch_is_what_the_file_says(made: Make) -> None:
    folder, facts = made(onnx).folder, made(onnx).facts
    model = o.load(folder / "model.onnx")
    assert [(e.domain, e.version) for e in model.opset_import] == [("", 17)]
    assert axes(model.graph.input[0]) == ["batch", 3, 32, 32]
    assert axes(model.graph.output[0]) == ["batch", 10]
    assert facts["opset"] == 17
    assert facts["opsets"] == {"ai.onnx": 17}
    assert facts["inputs"] == [{"name": "pixel_values", "dtype": "float32", "axes": ["batch", 3, 32, 32]}]
    assert facts["outputs"] == [{"name": "logits", "dtype": "float32", "axes": ["batch", 10]}]
    assert facts["nodes"] == len(model.graph.node) == sum(facts["op_types"].values())
    assert facts["op_types"]["Softmax"] == 2
    assert facts["full_check"] is True
    assert facts["external_data"] is False
    assert facts["verified"]["sizes"] == {"batch": 3}
    assert sorted(p.name for p in folder.iterdir()) == ["model.onnx"]


@BOTH
def test_a_batch_that_was_not_exported_agrees_to_1e_4(made: Make, exporter: Any) -> None:
    export = made(exporter)
    for batch in (1, 3, 5):
        found = difference(export.folder, export.job.module, pixels(batch, seed=7))
        assert found.shape == (batch, 10)
        assert found.max() < 1e-4
    assert export.facts["verified"]["max_abs_error"] < 1e-4


@BOTH
def test_without_dynamic_axes_another_batch_is_refused(tmp_path: Path, exporter: Any) -> None:
    from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

    facts = exporter.export(job(exporter, dynamic_axes=False), tmp_path)
    assert facts["inputs"][0]["axes"] == [2, 3, 32, 32]
    assert facts["outputs"][0]["axes"] == [2, 10]
    assert facts["verified"]["traced"] is True
    assert run(tmp_path, pixels(2))[0].shape == (2, 10)
    with pytest.raises(InvalidArgument, match="invalid dimensions"):
        run(tmp_path, pixels(3))


@pytest.mark.parametrize("opset", [17, 18])
def test_dynamo_states_the_opset_that_came_out(made: Make, opset: int) -> None:
    export = made(dynamo, opset=opset)
    model = o.load(export.folder / "model.onnx")
    assert export.facts["opset"] == {e.domain: e.version for e in model.opset_import}[""]
    assert export.facts["requested_opset"] == opset


def test_dynamo_traces_the_other_batch_where_the_example_has_one_sample(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """torch.export takes an axis of size 1 for a constant. And nothing is printed."""
    facts = dynamo.export(job(dynamo, example=pixels(1)), tmp_path)
    assert capsys.readouterr().out == ""
    assert facts["inputs"][0]["axes"] == ["batch", 3, 32, 32]
    assert facts["verified"]["sizes"] == {"batch": 1}
    assert run(tmp_path, pixels(4))[0].shape == (4, 10)


@BOTH
def test_the_file_names_no_path_of_the_exporting_machine(made: Make, exporter: Any) -> None:
    content = (made(exporter, opset=18).folder / "model.onnx").read_bytes()
    assert b"site-packages" not in content
    assert str(Path(__file__).parent).encode() not in content


@BOTH
def test_an_axis_that_the_graph_does_not_have_is_an_error(tmp_path: Path, exporter: Any) -> None:
    wrong = Signature(inputs=SIGNATURE.inputs, outputs=(TensorSpec("logits", "float32", ("batch", 11)),))
    with pytest.raises(StageError, match=r"logits has the axes \['batch', 10\] .* \['batch', 11\]"):
        exporter.export(job(exporter, signature=wrong), tmp_path)


def test_a_batch_that_the_trace_made_constant_is_an_error(tmp_path: Path) -> None:
    """The graph claims a dynamic batch, and has the traced one baked into a Reshape."""

    def baked(x: Any) -> Any:
        flat = x.reshape(int(x.shape[0]) * 3, 1024).sum(1)
        return flat.reshape(int(x.shape[0]), 3).repeat(1, 4)[:, :10]

    with pytest.raises(StageError, match=r"does not run the exported graph at \{'batch': 3\}"):
        onnx.export(job(onnx, module=module_of(baked)), tmp_path)
    (tmp_path / "dynamo").mkdir()
    with pytest.raises(StageError, match=r"pixel_values has the axes \[2, 3, 32, 32\]"):
        dynamo.export(job(dynamo, module=module_of(baked)), tmp_path / "dynamo")


def test_an_axis_that_the_exporter_left_anonymous_is_filled_in_from_the_signature(tmp_path: Path) -> None:
    """The TorchScript exporter calls the second axis of this output `Slicelogits_dim_1`."""
    sliced = module_of(lambda x: x.reshape(-1, 3, 1024).mean(2).repeat(1, 4)[:, :10])
    facts = onnx.export(job(onnx, module=sliced), tmp_path)
    assert facts["outputs"] == [{"name": "logits", "dtype": "float32", "axes": ["batch", 10]}]


def test_a_signature_that_the_module_does_not_keep_is_an_error(tmp_path: Path) -> None:
    narrow = module_of(lambda x: x.reshape(-1, 3, 1024).mean(2).repeat(1, 4)[:, :9])
    with pytest.raises(StageError, match=r"logits has the shape \(3, 9\), .* \('batch', 10\)"):
        onnx.export(job(onnx, module=narrow), tmp_path)


def test_a_graph_that_computes_something_else_is_an_error(tmp_path: Path) -> None:
    """A choice that depends on values is frozen by tracing: here, on the sign of the mean."""

    def branch(x: Any) -> Any:
        pooled = x.mean((2, 3)).repeat(1, 4)[:, :10]
        return pooled + 1 if bool(x.mean() > 0) else pooled - 1

    positive = {"pixel_values": np.abs(pixels(2)["pixel_values"])}
    negative = {"pixel_values": -np.abs(pixels(3)["pixel_values"])}
    with pytest.raises(StageError, match="logits of the exported graph differs from the module's by up to 2"):
        onnx.export(job(onnx, module=module_of(branch), example=positive, unseen=negative), tmp_path)


def test_a_module_that_cannot_be_exported_is_an_error_with_its_reason(tmp_path: Path) -> None:
    unsupported = module_of(t.linalg.eigvalsh)
    with pytest.raises(StageError, match=r"torch\.onnx\.export at opset 17: UnsupportedOperatorError"):
        onnx.export(job(onnx, module=unsupported), tmp_path)


@BOTH
def test_weights_beyond_what_a_protobuf_holds_lie_in_one_file_beside_it(
    tmp_path: Path, exporter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "MAX_PROTO_BYTES", 50_000)
    a_job = job(exporter)
    facts = exporter.export(a_job, tmp_path)
    assert facts["external_data"] is True
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    assert (tmp_path / "model.onnx").stat().st_size < (tmp_path / "model.onnx.data").stat().st_size
    assert difference(tmp_path, a_job.module, pixels(3)).max() < 1e-4


def test_external_data_can_be_asked_for(tmp_path: Path) -> None:
    facts = onnx.export(job(onnx, options=onnx.Options(external_data=True)), tmp_path)
    assert facts["external_data"] is True
    assert (tmp_path / "model.onnx.data").stat().st_size > 300_000


def test_constant_folding_can_be_switched_off(made: Make, tmp_path: Path) -> None:
    plain = onnx.export(job(onnx, options=onnx.Options(do_constant_folding=False)), tmp_path)
    assert plain["op_types"]["Transpose"] > made(onnx).facts["op_types"]["Transpose"]


@BOTH
def test_the_same_module_gives_the_same_bytes(made: Make, tmp_path: Path, exporter: Any) -> None:
    exporter.export(job(exporter), tmp_path)
    one, other = ((folder / "model.onnx").read_bytes() for folder in (made(exporter).folder, tmp_path))
    assert one == other


def test_options_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        onnx.Options().external_data = True  # type: ignore[misc]
