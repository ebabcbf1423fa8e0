"""fp16: half the bytes, the same interface, and what is blocked computes in fp32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchbox.errors import StageError
from benchbox.plugins import graphs
from benchbox.plugins.passes import fp16
from onnx_files import Made, applied, cosine, graph, pixels, run, written

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxconverter_common")


def test_inputs_and_outputs_stay_fp32_and_the_file_is_half_as_large(make: Any, source: Path) -> None:
    made = make(fp16)
    assert made.io_types == [1, 1]
    assert made.facts["size_bytes"] == (made.folder / "model.onnx").stat().st_size
    assert 0.45 < made.facts["size_bytes"] / made.facts["size_bytes_before"] < 0.65
    assert {str(w.dtype) for w in made.weights.values() if w.size > 64} == {"float16"}
    assert made.facts["nodes_fp16"]["MatMul"] == 16
    assert made.agrees(source, pixels(3)) > 0.9999
    assert not made.model.graph.value_info


def test_inputs_and_outputs_are_changed_where_asked_to(make: Any, source: Path) -> None:
    made = make(fp16, keep_io_types=False)
    assert made.io_types == [10, 10]
    feeds = {"pixel_values": pixels(3)["pixel_values"].astype(np.float16)}
    assert cosine(run(made.folder, feeds)[0], run(source, pixels(3))[0]) > 0.999


@pytest.mark.parametrize("op_type", ["LayerNormalization", "Softmax", "MatMul", "Conv", "Gemm"])
def test_a_blocked_op_type_computes_in_fp32(make: Any, source: Path, op_type: str) -> None:
    """Gemm makes the graph's output, Conv reads its input: both stay fp32 outside."""
    made = make(fp16, op_block_list=(op_type,))
    assert made.facts["nodes_fp32"][op_type] == Made(source, {}).op_types.count(op_type)
    assert made.io_types == [1, 1]
    inferred = onnx.shape_inference.infer_shapes(made.model, strict_mode=True, check_type=True)
    values = (*inferred.graph.value_info, *inferred.graph.output)
    types = {v.name: v.type.tensor_type.elem_type for v in values}
    outputs = [n.output[0] for n in inferred.graph.node if n.op_type == op_type]
    assert outputs
    assert {types[name] for name in outputs} == {onnx.TensorProto.FLOAT}
    assert made.agrees(source, pixels(3)) > 0.9999


def test_one_node_can_be_blocked_by_name(make: Any, source: Path) -> None:
    name = next(n.name for n in Made(source, {}).model.graph.node if n.op_type == "Gemm")
    assert make(fp16, node_block_list=(name,)).facts["nodes_fp32"] == {"Gemm": 1}


def test_a_blocked_node_that_does_not_exist_is_an_error(make: Any) -> None:
    with pytest.raises(StageError, match="node_block_list names nodes that the graph has not: nowhere"):
        make(fp16, node_block_list=("nowhere",))


def awkward(weight: Any) -> Any:
    """A graph with what trips the converter: an exporter's Cast to float, a weight that a blocked and an
    unblocked node share, an output that another node reads, nodes without names."""
    floats, node = onnx.TensorProto.FLOAT, onnx.helper.make_node
    nodes = [
        node("Cast", ["ids"], ["x"], to=floats),
        node("MatMul", ["x", "w"], ["hidden"]),
        node("Softmax", ["hidden"], ["p"]),
        node("Add", ["p", "w"], ["sum"]),
        node("Max", ["sum", "w"], ["out"]),
    ]
    outputs = {name: (floats, [4, 4]) for name in ("hidden", "out")}
    return graph(nodes, {"ids": (onnx.TensorProto.INT64, [4, 4])}, outputs, {"w": weight})


HALVES = np.full((4, 4), 0.5, np.float32)


def test_casts_shared_weights_and_outputs_that_are_read_inside_are_converted(tmp_path: Path) -> None:
    before = written(tmp_path / "before", awkward(HALVES))
    applied(fp16, before, tmp_path / "after")
    feeds = {"ids": np.arange(16, dtype=np.int64).reshape(4, 4)}
    for expected, seen in zip(run(before, feeds), run(tmp_path / "after", feeds), strict=True):
        assert seen.dtype == np.float32
        assert np.allclose(seen, expected, rtol=1e-3)


def test_the_weights_that_are_clipped_are_counted(tmp_path: Path) -> None:
    values = HALVES.copy()
    values[0, :3] = 1e-9, 1e5, -1e5
    before = written(tmp_path / "before", awkward(values))
    made = applied(fp16, before, tmp_path / "after")
    assert made.facts["clipped_weights"] == {"raised": 1, "lowered": 2}


def test_a_model_with_fp16_weights_is_refused(tmp_path: Path) -> None:
    before = written(tmp_path, awkward(np.ones((4, 4), np.float16)))
    with pytest.raises(StageError, match="has fp16 weights already"):
        applied(fp16, before, tmp_path)


def test_limits_that_fp16_cannot_hold_are_refused() -> None:
    with pytest.raises(ValueError, match="65504"):
        fp16.Options(max_finite_val=1e5)


def test_a_model_above_the_protobuf_limit_has_its_weights_beside_it(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "MAX_PROTO_BYTES", 20_000)
    made = applied(fp16, source, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    assert made.agrees(source, pixels(3)) > 0.9999
