"""Passes: fp16 and int8 models load, keep their interface, and are quantized as the options say."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import places
from benchbox.errors import StageError
from benchbox.plugins import graphs
from benchbox.plugins.contract import PassJob
from benchbox.schema.asked import Step
from benchbox.schema.seen import Artifact, Host

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxconverter_common")

from benchbox.plugins.passes import _quantize, fp16, int8_dynamic, int8_static

VNNI = Host(cpu_features=frozenset({"avx2", "avx512_vnni"}))
AVX2 = Host(cpu_features=frozenset({"avx2"}))
INT8 = pytest.mark.parametrize("word", [int8_dynamic, int8_static], ids=["dynamic", "static"])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer ViT of hidden size 64, exported at opset 17 with a dynamic batch."""
    import warnings

    import torch
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        image_size=32,
        patch_size=8,
        num_labels=10,
    )

    class Adapter(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = ViTForImageClassification(config)

        def forward(self, pixel_values: Any) -> tuple[Any, ...]:
            return (self.model(pixel_values).logits,)

    folder = tmp_path_factory.mktemp("source")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Adapter().eval(),
            (torch.zeros(2, 3, 32, 32),),
            str(folder / "model.onnx"),
            dynamo=False,
            opset_version=17,
            input_names=["pixel_values"],
            output_names=["logits"],
            dynamic_axes={"pixel_values": {0: "batch"}, "logits": {0: "batch"}},
        )
    return folder


def pixels(batch: int, seed: int = 0) -> dict[str, Any]:
    values = np.random.default_rng(seed).standard_normal((batch, 3, 32, 32))
    return {"pixel_values": values.astype(np.float32)}


def calibration(samples: int, batch: int) -> Iterator[dict[str, Any]]:
    for index in range(0, samples, batch):
        yield pixels(batch, seed=index)


def job(source: Path, options: Any, host: Host = VNNI, **changes: Any) -> PassJob:
    artifact = Artifact(
        key="0",
        kind="onnx",
        precision="fp32",
        steps=(Step("onnx"),),
        files={},
        size_bytes=0,
        sha256="0",
        build_seconds=0.0,
    )
    fields = {
        "artifact": artifact,
        "source": source,
        "options": options,
        "host": host,
        "calibration": calibration,
    }
    return PassJob(**{**fields, **changes})


def load(folder: Path) -> Any:
    import onnx

    return onnx.load(str(folder / "model.onnx"))


def run(folder: Path, feeds: dict[str, Any]) -> Any:
    import onnxruntime

    path = str(folder / "model.onnx")
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feeds)[0]


def cosine(a: Any, b: Any) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(1) / norms).min())


def weights(folder: Path) -> dict[str, Any]:
    import onnx

    return {t.name: onnx.numpy_helper.to_array(t) for t in load(folder).graph.initializer}


def quantized_weights(folder: Path) -> dict[str, tuple[Any, Any, Any]]:
    """Matrices in 8 bits, with scale and zero point."""
    found = weights(folder)
    return {
        name.removesuffix("_quantized"): (
            value,
            found[name.replace("_quantized", "_scale")],
            found[name.replace("_quantized", "_zero_point")],
        )
        for name, value in found.items()
        if name.endswith("_quantized") and value.ndim == 2
    }


def io_types(folder: Path) -> list[int]:
    graph = load(folder).graph
    return [value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)]


def op_types(folder: Path) -> list[str]:
    return [node.op_type for node in load(folder).graph.node]


# fp16


def test_fp16_keeps_fp32_inputs_and_outputs_and_halves_the_file(source: Path, tmp_path: Path) -> None:
    facts = fp16.apply(job(source, fp16.Options()), tmp_path)
    assert io_types(tmp_path) == [1, 1]
    assert facts["size_bytes"] == (tmp_path / "model.onnx").stat().st_size
    assert 0.45 < facts["size_bytes"] / facts["size_bytes_before"] < 0.65
    assert {str(w.dtype) for w in weights(tmp_path).values() if w.size > 64} == {"float16"}
    assert facts["nodes_fp16"]["MatMul"] == 16
    assert cosine(run(tmp_path, pixels(3)), run(source, pixels(3))) > 0.9999
    assert not load(tmp_path).graph.value_info


def test_fp16_changes_inputs_and_outputs_where_asked_to(source: Path, tmp_path: Path) -> None:
    fp16.apply(job(source, fp16.Options(keep_io_types=False)), tmp_path)
    assert io_types(tmp_path) == [10, 10]
    feeds = {"pixel_values": pixels(3)["pixel_values"].astype(np.float16)}
    assert cosine(run(tmp_path, feeds), run(source, pixels(3))) > 0.999


@pytest.mark.parametrize("op_type", ["LayerNormalization", "Softmax", "MatMul", "Conv", "Gemm"])
def test_a_blocked_op_type_computes_in_fp32(source: Path, tmp_path: Path, op_type: str) -> None:
    """Gemm makes the graph's output, Conv reads its input: both stay fp32 outside."""
    import onnx

    facts = fp16.apply(job(source, fp16.Options(op_block_list=(op_type,))), tmp_path)
    assert facts["nodes_fp32"][op_type] == op_types(source).count(op_type)
    assert io_types(tmp_path) == [1, 1]
    inferred = onnx.shape_inference.infer_shapes(load(tmp_path), strict_mode=True, check_type=True)
    types = {
        v.name: v.type.tensor_type.elem_type for v in (*inferred.graph.value_info, *inferred.graph.output)
    }
    made = [n.output[0] for n in inferred.graph.node if n.op_type == op_type]
    assert made
    assert {types[name] for name in made} == {onnx.TensorProto.FLOAT}
    assert cosine(run(tmp_path, pixels(3)), run(source, pixels(3))) > 0.9999


def test_one_node_can_be_blocked_by_name(source: Path, tmp_path: Path) -> None:
    name = next(n.name for n in load(source).graph.node if n.op_type == "Gemm")
    facts = fp16.apply(job(source, fp16.Options(node_block_list=(name,))), tmp_path)
    assert facts["nodes_fp32"] == {"Gemm": 1}


def test_a_blocked_node_that_does_not_exist_is_an_error(source: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="node_block_list names nodes that the graph has not: nowhere"):
        fp16.apply(job(source, fp16.Options(node_block_list=("nowhere",))), tmp_path)


def awkward_model(folder: Path) -> None:
    """A graph with what trips the converter: an exporter's Cast to float, a weight that a blocked and an
    unblocked node share, an output that another node reads, nodes without names."""
    import onnx
    from onnx import TensorProto as T
    from onnx import helper as h

    weight = onnx.numpy_helper.from_array(np.full((4, 4), 0.5, np.float32), "w")
    nodes = [
        h.make_node("Cast", ["ids"], ["x"], to=T.FLOAT),
        h.make_node("MatMul", ["x", "w"], ["hidden"]),
        h.make_node("Softmax", ["hidden"], ["p"]),
        h.make_node("Add", ["p", "w"], ["sum"]),
        h.make_node("Max", ["sum", "w"], ["out"]),
    ]
    inputs = [h.make_tensor_value_info("ids", T.INT64, [4, 4])]
    outputs = [h.make_tensor_value_info(name, T.FLOAT, [4, 4]) for name in ("hidden", "out")]
    graph = h.make_graph(nodes, "awkward", inputs, outputs, [weight])
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(folder / "model.onnx"))


def test_fp16_converts_casts_shared_weights_and_outputs_that_are_read_inside(tmp_path: Path) -> None:
    import onnxruntime

    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    after.mkdir()
    awkward_model(before)
    fp16.apply(job(before, fp16.Options()), after)
    feeds = {"ids": np.arange(16, dtype=np.int64).reshape(4, 4)}
    results = [
        onnxruntime.InferenceSession(str(f / "model.onnx"), providers=["CPUExecutionProvider"]).run(
            None, feeds
        )
        for f in (before, after)
    ]
    for expected, seen in zip(*results, strict=True):
        assert seen.dtype == np.float32
        assert np.allclose(seen, expected, rtol=1e-3)


def test_fp16_counts_the_weights_it_clips(tmp_path: Path) -> None:
    import onnx

    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    after.mkdir()
    awkward_model(before)
    model = load(before)
    values = np.full((4, 4), 0.5, np.float32)
    values[0, 0], values[0, 1], values[0, 2] = 1e-9, 1e5, -1e5
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(values, "w"))
    onnx.save(model, str(before / "model.onnx"))
    facts = fp16.apply(job(before, fp16.Options()), after)
    assert facts["clipped_weights"] == {"raised": 1, "lowered": 2}


def test_a_model_with_fp16_weights_is_refused(tmp_path: Path) -> None:
    import onnx

    awkward_model(tmp_path)
    model = load(tmp_path)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.ones((4, 4), np.float16), "w"))
    onnx.save(model, str(tmp_path / "model.onnx"))
    with pytest.raises(StageError, match="has fp16 weights already"):
        fp16.apply(job(tmp_path, fp16.Options()), tmp_path)


def test_limits_that_fp16_cannot_hold_are_refused() -> None:
    with pytest.raises(ValueError, match="65504"):
        fp16.Options(max_finite_val=1e5)


# int8


@INT8
def test_int8_weights_are_8_bit_and_the_outputs_agree(source: Path, tmp_path: Path, word: Any) -> None:
    facts = word.apply(job(source, word.Options()), tmp_path)
    found = quantized_weights(tmp_path)
    assert len(found) == 13
    assert {str(q.dtype) for q, _, _ in found.values()} == {"int8"}
    assert io_types(tmp_path) == [1, 1]
    assert cosine(run(tmp_path, pixels(3, seed=99)), run(source, pixels(3, seed=99))) > 0.995
    assert facts["size_bytes"] < facts["size_bytes_before"]
    assert facts["shape_inference"] == "symbolic"


def test_nodes_are_counted_by_op_type(source: Path, tmp_path: Path) -> None:
    """Twelve projections and the classifier; four products of two activations and the patches stay fp32."""
    (tmp_path / "d").mkdir()
    (tmp_path / "s").mkdir()
    dynamic = int8_dynamic.apply(job(source, int8_dynamic.Options()), tmp_path / "d")
    static = int8_static.apply(job(source, int8_static.Options(samples=2)), tmp_path / "s")
    assert (dynamic["nodes_quantized"], dynamic["nodes_fp32"]) == ({"MatMul": 13}, {"Conv": 1, "MatMul": 4})
    assert (static["nodes_quantized"], static["nodes_fp32"]) == (
        {"Gemm": 1, "MatMul": 12},
        {"Conv": 1, "MatMul": 4},
    )
    assert op_types(tmp_path / "d").count("MatMulInteger") == 13


@INT8
def test_per_channel_has_a_scale_for_each_output_channel(source: Path, tmp_path: Path, word: Any) -> None:
    for name, per_channel in (("channel", True), ("tensor", False)):
        (tmp_path / name).mkdir()
        word.apply(job(source, word.Options(per_channel=per_channel)), tmp_path / name)
    channels = {s.size for _, s, _ in quantized_weights(tmp_path / "channel").values()}
    assert channels == {64, 128, 10}
    assert {s.size for _, s, _ in quantized_weights(tmp_path / "tensor").values()} == {1}


@INT8
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("weight_type", ["S8", "U8"])
def test_weight_range_bounds_the_weights_and_keeps_them_within_half_a_step(
    source: Path, tmp_path: Path, word: Any, per_channel: bool, weight_type: Any
) -> None:
    options = word.Options(weight_range=104, per_channel=per_channel, weight_type=weight_type)
    word.apply(job(source, options), tmp_path)
    originals = prepared_weights(source, tmp_path, word)
    found = quantized_weights(tmp_path)
    assert len(found) == 13
    for name, (quantized, scale, zero_point) in found.items():
        original = originals[name]
        axis = 0 if scale.size > 1 and word is int8_static and original.shape == (10, 64) else 1
        shape = [1, 1]
        shape[axis] = scale.size
        centred = quantized.astype(np.int64) - zero_point.astype(np.int64).reshape(shape)
        assert np.abs(centred).max() == 104
        restored = centred * scale.astype(np.float64).reshape(shape)
        assert np.all(np.abs(restored - original) <= scale.reshape(shape) / 2 * (1 + 1e-4))


def prepared_weights(source: Path, tmp_path: Path, word: Any) -> dict[str, Any]:
    import onnx

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    prepared = _quantize.prepare(source, scratch, gemm_as_matmul=word is int8_dynamic)
    return {t.name: onnx.numpy_helper.to_array(t) for t in prepared.model.graph.initializer}


@INT8
def test_the_full_range_is_used_where_the_cpu_does_not_saturate(
    source: Path, tmp_path: Path, word: Any
) -> None:
    largest = {}
    for name, host in (("vnni", VNNI), ("avx2", AVX2)):
        (tmp_path / name).mkdir()
        facts = word.apply(job(source, word.Options(), host=host), tmp_path / name)
        largest[name] = max(
            np.abs(q.astype(int)).max() for q, _, _ in quantized_weights(tmp_path / name).values()
        )
        assert facts["weight_range"] == largest[name]
    assert largest == {"vnni": 127, "avx2": 104}


@INT8
def test_what_was_chosen_by_the_cpu_is_said_in_a_sentence(source: Path, tmp_path: Path, word: Any) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    chosen = word.apply(job(source, word.Options()), tmp_path / "a")["chosen"]
    assert chosen == (
        "cpu has avx512_vnni: int8 dot products do not saturate, so signed weights take the full range "
        "of 127, per channel"
    )
    chosen = word.apply(job(source, word.Options(), host=AVX2), tmp_path / "b")["chosen"]
    assert chosen.startswith("cpu has neither VNNI nor dot-product instructions")
    chosen = word.apply(job(source, word.Options(per_channel=False)), tmp_path / "c")["chosen"]
    assert chosen.endswith("; the suite sets per_channel=False")


@INT8
def test_resolve_fills_in_what_the_cpu_decides_and_keeps_what_was_set(word: Any) -> None:
    """What int8_static does per channel by default, the graph decides."""
    vnni, avx2 = word.resolve(word.Options(), VNNI), word.resolve(word.Options(), AVX2)
    per_channel = None if word is int8_static else True
    assert (vnni.weight_type, vnni.per_channel, vnni.weight_range) == ("S8", per_channel, 127)
    assert (avx2.weight_type, avx2.per_channel, avx2.weight_range) == ("S8", per_channel, 104)
    assert [name for name, value in vars(vnni).items() if value is None] == ["per_channel"] * (
        word is int8_static
    )
    assert word.resolve(vnni, AVX2) == vnni
    kept = word.resolve(word.Options(weight_type="U8", per_channel=False), AVX2)
    assert (kept.weight_type, kept.per_channel, kept.weight_range) == ("U8", False, 127)


def graph_of_opset(folder: Path, opset: int) -> Path:
    """A MatMul and a Gemm with 16 and 4 output channels."""
    import onnx
    from onnx import TensorProto as T
    from onnx import helper as h

    rng = np.random.default_rng(0)
    arrays = {"w": rng.standard_normal((8, 16)), "g": rng.standard_normal((4, 16)), "b": np.ones(4)}
    graph = h.make_graph(
        [h.make_node("MatMul", ["x", "w"], ["h"]), h.make_node("Gemm", ["h", "g", "b"], ["y"], transB=1)],
        "two",
        [h.make_tensor_value_info("x", T.FLOAT, ["batch", 8])],
        [h.make_tensor_value_info("y", T.FLOAT, ["batch", 4])],
        [onnx.numpy_helper.from_array(a.astype(np.float32), name) for name, a in arrays.items()],
    )
    folder.mkdir()
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", opset)], ir_version=6)
    onnx.save(model, str(folder / "model.onnx"))
    return folder


def quantized_graph(word: Any, opset: int, tmp_path: Path, host: Host = VNNI, **options: Any) -> Any:
    """The facts, and the worst cosine between the outputs of the graph and of what the pass made of it."""
    before = graph_of_opset(tmp_path / "before", opset)
    after = tmp_path / "after"
    after.mkdir()
    feeds = [{"x": np.random.default_rng(i).standard_normal((2, 8)).astype(np.float32)} for i in range(4)]
    given = word.resolve(word.Options(**options), host)  # as build.py gives them
    work = job(before, given, host, calibration=lambda samples, batch: iter(feeds))
    facts = word.apply(work, after)
    return facts, cosine(run(after, feeds[0]), run(before, feeds[0]))


@pytest.mark.parametrize("opset", [9, 11, 12])
@pytest.mark.parametrize("host", [VNNI, AVX2], ids=["vnni", "avx2"])
def test_static_scales_are_per_tensor_below_opset_13_and_the_facts_say_why(
    tmp_path: Path, opset: int, host: Host
) -> None:
    """DequantizeLinear has had an axis since opset 13."""
    facts, agreement = quantized_graph(int8_static, opset, tmp_path, host)
    assert (facts["per_channel"], facts["nodes_quantized"]) == (False, {"Gemm": 1, "MatMul": 1})
    assert facts["chosen"].endswith(
        f", per channel; but per tensor, as that needs opset 13 and the graph is of {opset}"
    )
    assert agreement > 0.995


@pytest.mark.parametrize(
    ("word", "opset", "options"),
    [
        (int8_static, 13, {}),
        (int8_static, 11, {"format": "QOperator"}),
        (int8_dynamic, 11, {}),
        (int8_dynamic, 11, {"per_channel": True}),
    ],
)
def test_scales_are_per_channel_where_the_operators_can_hold_them(
    tmp_path: Path, word: Any, opset: int, options: Any
) -> None:
    facts, agreement = quantized_graph(word, opset, tmp_path, **options)
    assert facts["per_channel"] is True
    assert facts["chosen"].endswith("full range of 127, per channel")
    assert agreement > 0.995


def test_scales_per_channel_that_the_suite_asks_for_in_vain_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(StageError) as caught:
        quantized_graph(int8_static, 11, tmp_path, per_channel=True)
    assert caught.value.reason == (
        "per_channel needs opset 13 or newer, and this graph is of opset 11: write per_channel: false"
    )


def test_scales_per_tensor_that_the_suite_asks_for_are_the_suites_below_opset_13_too(tmp_path: Path) -> None:
    facts, _ = quantized_graph(int8_static, 11, tmp_path, per_channel=False)
    assert facts["per_channel"] is False
    assert facts["chosen"].endswith("; the suite sets per_channel=False")


@INT8
def test_reduce_range_takes_seven_bits(source: Path, tmp_path: Path, word: Any) -> None:
    facts = word.apply(job(source, word.Options(reduce_range=True, per_channel=True)), tmp_path)
    assert max(np.abs(q.astype(int)).max() for q, _, _ in quantized_weights(tmp_path).values()) == 64
    assert facts["weight_range"] == 64
    assert facts["chosen"].endswith("; the suite sets reduce_range=True")


@INT8
def test_unsigned_weights(source: Path, tmp_path: Path, word: Any) -> None:
    word.apply(job(source, word.Options(weight_type="U8")), tmp_path)
    assert {str(q.dtype) for q, _, _ in quantized_weights(tmp_path).values()} == {"uint8"}


@INT8
def test_excluded_nodes_stay_fp32(source: Path, tmp_path: Path, word: Any) -> None:
    """Both fully connected nodes of the first layer, by a wildcard."""
    pattern = "*.0/mlp/fc*/MatMul"
    facts = word.apply(job(source, word.Options(nodes_to_exclude=(pattern,))), tmp_path)
    assert facts["nodes_fp32"]["MatMul"] == 4 + 2
    assert len(quantized_weights(tmp_path)) == 13 - 2


@INT8
def test_a_pattern_that_matches_no_node_is_an_error(source: Path, tmp_path: Path, word: Any) -> None:
    with pytest.raises(StageError, match="no node of the graph matches 'nowhere'"):
        word.apply(job(source, word.Options(nodes_to_exclude=("nowhere",))), tmp_path)


@INT8
def test_op_types_choose_what_is_quantized(source: Path, tmp_path: Path, word: Any) -> None:
    facts = word.apply(job(source, word.Options(op_types=("Conv",))), tmp_path)
    assert facts["nodes_quantized"] == {"Conv": 1}


@INT8
def test_convolutions_can_be_quantized_within_a_range_too(source: Path, tmp_path: Path, word: Any) -> None:
    options = word.Options(op_types=("MatMul", "Gemm", "Conv"), weight_range=104)
    facts = word.apply(job(source, options), tmp_path)
    assert facts["nodes_quantized"]["Conv"] == 1
    kernel = next(w for n, w in weights(tmp_path).items() if n.endswith("_quantized") and w.ndim == 4)
    assert np.abs(kernel.astype(int)).max() == 104


@INT8
def test_nothing_to_quantize_is_an_error(source: Path, tmp_path: Path, word: Any) -> None:
    with pytest.raises(StageError, match="nothing was quantized: no node of LSTM can be taken"):
        word.apply(job(source, word.Options(op_types=("LSTM",))), tmp_path)


@INT8
def test_int8_starts_from_fp32(source: Path, tmp_path: Path, word: Any) -> None:
    import dataclasses

    a_job = job(source, word.Options())
    half = dataclasses.replace(a_job.artifact, precision="fp16")
    with pytest.raises(StageError, match="starts from fp32, and this artifact is fp16 already"):
        word.apply(dataclasses.replace(a_job, artifact=half), tmp_path)


@INT8
def test_the_same_input_gives_the_same_bytes(source: Path, tmp_path: Path, word: Any) -> None:
    contents = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        word.apply(job(source, word.Options()), tmp_path / name)
        contents.append((tmp_path / name / "model.onnx").read_bytes())
    assert contents[0] == contents[1]


@INT8
def test_domains_that_no_node_uses_are_not_in_the_file(source: Path, tmp_path: Path, word: Any) -> None:
    word.apply(job(source, word.Options()), tmp_path)
    model = load(tmp_path)
    assert {e.domain for e in model.opset_import} <= {"", *(n.domain for n in model.graph.node)}
    assert {e.domain: e.version for e in model.opset_import}[""] == 17


@INT8
def test_a_model_above_the_protobuf_limit_is_quantized(
    source: Path, tmp_path: Path, word: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx

    large, out = tmp_path / "large", tmp_path / "out"
    large.mkdir()
    out.mkdir()
    monkeypatch.setattr(graphs, "MAX_PROTO_BYTES", 20_000)
    model = load(source)
    onnx.save_model(model, str(large / "model.onnx"), save_as_external_data=True, location="model.onnx.data")
    word.apply(job(large, word.Options()), out)
    assert sorted(p.name for p in out.iterdir()) == ["model.onnx", "model.onnx.data"]
    assert cosine(run(out, pixels(3)), run(source, pixels(3))) > 0.995


def test_fp16_of_a_model_above_the_protobuf_limit(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "MAX_PROTO_BYTES", 20_000)
    fp16.apply(job(source, fp16.Options()), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    assert cosine(run(tmp_path, pixels(3)), run(source, pixels(3))) > 0.9999


def test_shapes_are_inferred_without_symbols_where_symbolic_inference_fails(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

    def fail(*args: Any, **kwargs: Any) -> None:
        raise Exception("Incomplete symbolic shape inference")

    monkeypatch.setattr(SymbolicShapeInference, "infer_shapes", fail)
    facts = int8_dynamic.apply(job(source, int8_dynamic.Options()), tmp_path)
    assert facts["shape_inference"] == (
        "without symbolic shapes, which failed: Exception: Incomplete symbolic shape inference"
    )
    assert facts["nodes_quantized"] == {"MatMul": 13}


def test_symbolic_inference_that_stays_incomplete_leaves_nothing_in_the_working_directory(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime writes the whole model there, as sym_shape_infer_temp.onnx; Swin and DETR have it so."""
    from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

    def incomplete(self: Any, *args: Any, **kwargs: Any) -> bool:
        self.run_ = False
        return False

    here, out = tmp_path / "here", tmp_path / "out"
    here.mkdir()
    out.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(SymbolicShapeInference, "_infer_impl", incomplete)
    facts = int8_dynamic.apply(job(source, int8_dynamic.Options()), out)
    assert facts["shape_inference"] == (
        "without symbolic shapes, which failed: Exception: Incomplete symbolic shape inference"
    )
    assert list(here.iterdir()) == []


@INT8
def test_types_that_an_exporter_noted_for_weights_do_not_matter(
    source: Path, tmp_path: Path, word: Any
) -> None:
    """The torch.export exporter writes them; they are wrong once the classifier's weight is transposed."""
    import onnx

    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    after.mkdir()
    model = load(source)
    for tensor in model.graph.initializer:
        model.graph.value_info.append(
            onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        )
    onnx.save(model, str(before / "model.onnx"))
    word.apply(job(before, word.Options()), after)
    assert len(quantized_weights(after)) == 13


def test_bytes_do_not_depend_on_the_hash_seed(source: Path, tmp_path: Path) -> None:
    contents = []
    for seed in ("1", "2"):
        out = tmp_path / seed
        out.mkdir()
        _in_fresh_process(_STATIC, "minmax", "4", str(source), str(out), PYTHONHASHSEED=seed)
        contents.append((out / "model.onnx").read_bytes())
    assert contents[0] == contents[1]


# static quantization


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_every_calibration_in_both_formats(source: Path, tmp_path: Path, method: Any, form: Any) -> None:
    options = int8_static.Options(calibration=method, format=form, samples=4, histogram_bins=256)
    facts = int8_static.apply(job(source, options), tmp_path)
    assert ("QLinearMatMul" in op_types(tmp_path)) is (form == "QOperator")
    assert facts["calibration"]["method"] == method
    assert facts["calibration"]["samples"] == 4
    assert facts["nodes_quantized"] == {"Gemm": 1, "MatMul": 12}
    least = 0.98 if method == "entropy" else 0.99
    assert cosine(run(tmp_path, pixels(3, seed=99)), run(source, pixels(3, seed=99))) > least


@pytest.mark.parametrize("method", ["minmax", "percentile"])
def test_ranges_are_those_of_all_batches_together(source: Path, tmp_path: Path, method: Any) -> None:
    """The outlier in the third of four batches widens the range of what the patches' Conv reads."""

    def with_outlier(samples: int, batch: int) -> Iterator[dict[str, Any]]:
        assert (samples, batch) == (8, 2)
        for index, feeds in enumerate(calibration(samples, batch)):
            if index == 2:
                feeds["pixel_values"][0, 0, :8, :8] = 50.0
            yield feeds

    options = int8_static.Options(op_types=("Conv",), samples=8, batch=2, calibration=method)
    a_job = job(source, options, calibration=with_outlier)
    int8_static.apply(a_job, tmp_path)
    found = weights(tmp_path)
    scale, zero_point = found["pixel_values_scale"], int(found["pixel_values_zero_point"])
    assert (255 - zero_point) * float(scale) == pytest.approx(50.0, rel=0.01)


def test_only_tensors_that_are_quantized_are_calibrated(source: Path, tmp_path: Path) -> None:
    """Two layers: one input of query, key and value, then those of output, fc1 and fc2; the classifier's."""
    facts = int8_static.apply(job(source, int8_static.Options(samples=2)), tmp_path)
    assert facts["calibration"]["tensors"] == 2 * 4 + 1


def test_symmetric_activations_have_their_zero_point_in_the_middle(source: Path, tmp_path: Path) -> None:
    int8_static.apply(job(source, int8_static.Options(samples=2, activation_symmetric=True)), tmp_path)
    quantize = [n for n in load(tmp_path).graph.node if n.op_type == "QuantizeLinear"]
    assert quantize
    assert {int(weights(tmp_path)[n.input[2]]) for n in quantize} == {128}


def test_signed_activations(source: Path, tmp_path: Path) -> None:
    int8_static.apply(job(source, int8_static.Options(samples=2, activation_type="S8")), tmp_path)
    quantize = [n for n in load(tmp_path).graph.node if n.op_type == "QuantizeLinear"]
    assert {str(weights(tmp_path)[n.input[2]].dtype) for n in quantize} == {"int8"}


def test_products_of_activations_and_outputs_are_quantized_only_where_asked(
    source: Path, tmp_path: Path
) -> None:
    counts = {}
    for name, changes in {
        "default": {},
        "outputs": {"quantize_outputs": True},
        "attention": {"activation_matmuls": True},
    }.items():
        (tmp_path / name).mkdir()
        facts = int8_static.apply(job(source, int8_static.Options(samples=2, **changes)), tmp_path / name)
        counts[name] = (facts["nodes_quantized"]["MatMul"], op_types(tmp_path / name).count("QuantizeLinear"))
    assert counts["default"] == (12, 9)
    assert counts["attention"][0] == 16
    assert counts["outputs"][1] > 9


def test_a_residual_beside_a_quantized_projection_stays_fp32(tmp_path: Path) -> None:
    """Post-norm models (BERT): the LayerNorm's output feeds a projection and the residual."""
    import onnx
    from onnx import TensorProto as T
    from onnx import helper as h

    rng = np.random.default_rng(0)
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    after.mkdir()
    arrays = {"w": rng.standard_normal((8, 8)), "g": np.ones(8), "b": np.zeros(8)}
    graph = h.make_graph(
        [
            h.make_node("LayerNormalization", ["x", "g", "b"], ["norm"], name="norm", axis=-1),
            h.make_node("MatMul", ["norm", "w"], ["projected"], name="projection"),
            h.make_node("Add", ["projected", "norm"], ["y"], name="residual"),
        ],
        "post_norm",
        [h.make_tensor_value_info("x", T.FLOAT, ["batch", 3, 8])],
        [h.make_tensor_value_info("y", T.FLOAT, ["batch", 3, 8])],
        [onnx.numpy_helper.from_array(a.astype(np.float32), name) for name, a in arrays.items()],
    )
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(before / "model.onnx"))
    feeds = [{"x": rng.standard_normal((2, 3, 8)).astype(np.float32)} for _ in range(2)]
    options = int8_static.Options(samples=4, batch=2)
    int8_static.apply(job(before, options, calibration=lambda samples, batch: iter(feeds)), after)
    makers = {name: node.op_type for node in load(after).graph.node for name in node.output}
    nodes = {node.name: node for node in load(after).graph.node}
    assert [makers.get(name) for name in nodes["projection"].input] == ["DequantizeLinear"] * 2
    assert "DequantizeLinear" not in [makers.get(name) for name in nodes["residual"].input]


@pytest.mark.filterwarnings("ignore:All-NaN:RuntimeWarning")
@pytest.mark.parametrize("method", ["minmax", "percentile"])
def test_calibration_on_values_that_are_not_finite_is_an_error(
    source: Path, tmp_path: Path, method: Any
) -> None:
    def broken(samples: int, batch: int) -> Iterator[dict[str, Any]]:
        yield {"pixel_values": np.full((1, 3, 32, 32), np.inf, np.float32)}

    with pytest.raises(StageError, match="not finite"):
        options = int8_static.Options(calibration=method)
        int8_static.apply(job(source, options, calibration=broken), tmp_path)


def test_calibration_without_samples_is_an_error(source: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no samples to calibrate on"):
        int8_static.apply(
            job(source, int8_static.Options(), calibration=lambda samples, batch: iter(())), tmp_path
        )


def test_calibration_prints_nothing(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    int8_static.apply(job(source, int8_static.Options(calibration="percentile", samples=2)), tmp_path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "samples and batch must be at least 1"),
        ({"percentile": 20}, "percentile must be above 50"),
        ({"histogram_bins": 64}, "histogram_bins must be at least 128"),
        ({"weight_range": 128}, "weight_range must be between 1 and 127"),
        ({"weight_range": 104, "reduce_range": True}, "exclude each other"),
        ({"op_types": ()}, "op_types must name"),
        ({"activation_type": "S8", "weight_type": "U8"}, "no kernels"),
        ({"format": "qdq"}, "QDQ or QOperator"),
        ({"calibration": "kl"}, "minmax, entropy, percentile"),
        ({"weight_type": "int8"}, "S8 or U8"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        int8_static.Options(**options)


_STATIC = """
import sys
from pathlib import Path
import test_passes as t
method, samples, source, out = sys.argv[1:]
options = t.int8_static.Options(calibration=method, samples=int(samples), batch=16)
t.int8_static.apply(t.job(Path(source), options), Path(out))
print(t.peak_kib())
"""


def _in_fresh_process(code: str, *arguments: str, **environment: str) -> str:
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=here,
        env={"PYTHONPATH": f"{places.ROOT}:{places.TESTS}:{here}", "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize("method", ["minmax", "percentile"])
def test_memory_does_not_grow_with_the_number_of_samples(source: Path, tmp_path: Path, method: str) -> None:
    """Batches of 16: two against thirty-two of them, in fresh processes. What a batch leaves in the quantized
    nodes' inputs is 1 MB; kept until the end, as the library does by itself, they measured 36 MB."""
    peaks = {}
    for samples in (32, 512):
        out = tmp_path / str(samples)
        out.mkdir()
        peaks[samples] = int(_in_fresh_process(_STATIC, method, str(samples), str(source), str(out)))
    assert peaks[512] - peaks[32] < 8 * 1024
