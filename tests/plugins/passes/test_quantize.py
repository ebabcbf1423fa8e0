"""What both int8 passes share: scales and ranges of weights, what the CPU decides, which nodes are taken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchbox.errors import StageError
from benchbox.machine import environment
from benchbox.plugins import graphs
from benchbox.plugins.passes import _quantize, int8_dynamic, int8_static
from benchbox.schema.seen import Host
from onnx_files import AVX2, VNNI, Made, applied, graph, job, pixels, written

onnx = pytest.importorskip("onnx")

INT8 = pytest.mark.parametrize("word", [int8_dynamic, int8_static], ids=["dynamic", "static"])


@INT8
def test_int8_weights_are_8_bit_and_the_outputs_agree(make: Any, source: Path, word: Any) -> None:
    made = make(word)
    assert len(made.quantized) == 13
    assert {str(q.dtype) for q, _, _ in made.quantized.values()} == {"int8"}
    assert made.io_types == [1, 1]
    assert made.agrees(source, pixels(3, seed=99)) > 0.995
    assert made.facts["size_bytes"] < made.facts["size_bytes_before"]
    assert made.facts["shape_inference"] == "symbolic"


def test_nodes_are_counted_by_op_type(make: Any) -> None:
    """Twelve projections and the classifier; four products of two activations and the patches stay fp32."""
    dynamic, static = make(int8_dynamic), make(int8_static)
    left = {"Conv": 1, "MatMul": 4}
    assert (dynamic.facts["nodes_quantized"], dynamic.facts["nodes_fp32"]) == ({"MatMul": 13}, left)
    assert (static.facts["nodes_quantized"], static.facts["nodes_fp32"]) == ({"Gemm": 1, "MatMul": 12}, left)
    assert dynamic.op_types.count("MatMulInteger") == 13


@INT8
def test_how_many_products_are_quantized_is_a_fact(make: Any, word: Any) -> None:
    all_but_five, only_patches = make(word).facts, make(word, op_types=("Conv",)).facts
    assert (all_but_five["products_quantized"], all_but_five["products"]) == (13, 18)
    assert (only_patches["products_quantized"], only_patches["products"]) == (1, 18)


@INT8
def test_per_channel_has_a_scale_for_each_output_channel(make: Any, word: Any) -> None:
    channel, tensor = (make(word, per_channel=given).quantized.values() for given in (True, False))
    assert {s.size for _, s, _ in channel} == {64, 128, 10}
    assert {s.size for _, s, _ in tensor} == {1}


@INT8
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("weight_type", ["S8", "U8"])
def test_weight_range_bounds_the_weights_and_keeps_them_within_half_a_step(
    make: Any, source: Path, tmp_path: Path, word: Any, per_channel: bool, weight_type: Any
) -> None:
    made = make(word, weight_range=104, per_channel=per_channel, weight_type=weight_type)
    prepared = _quantize.prepare(source, tmp_path, gemm_as_matmul=word is int8_dynamic)
    originals = {t.name: onnx.numpy_helper.to_array(t) for t in prepared.model.graph.initializer}
    assert len(made.quantized) == 13
    for name, (quantized, scale, zero_point) in made.quantized.items():
        original = originals[name]
        shape = [1, 1]
        shape[0 if scale.size > 1 and word is int8_static and original.shape == (10, 64) else 1] = scale.size
        centred = quantized.astype(np.int64) - zero_point.astype(np.int64).reshape(shape)
        assert np.abs(centred).max() == 104
        restored = centred * scale.astype(np.float64).reshape(shape)
        assert np.all(np.abs(restored - original) <= scale.reshape(shape) / 2 * (1 + 1e-4))


@INT8
@pytest.mark.parametrize(
    ("host", "options", "largest", "begins", "ends"),
    [
        (
            VNNI,
            {},
            127,
            "cpu has avx512_vnni: int8 dot products do not saturate, so signed weights take the full range",
            " of 127, per channel",
        ),
        (AVX2, {}, 104, "cpu has neither VNNI nor dot-product instructions", ""),
        (VNNI, {"per_channel": False}, 127, "cpu has avx512_vnni", "; the suite sets per_channel=False"),
        (VNNI, {"reduce_range": True, "per_channel": True}, 64, "", "; the suite sets reduce_range=True"),
    ],
)
def test_the_range_is_what_the_cpu_takes_or_the_suite_sets_and_a_sentence_says_so(
    make: Any, word: Any, host: Host, options: dict[str, bool], largest: int, begins: str, ends: str
) -> None:
    """A CPU that saturates does not get the full range."""
    made = make(word, host, **options)
    assert made.facts["weight_range"] == made.largest == largest
    chosen = made.facts["chosen"]
    assert (chosen.startswith(begins), chosen.endswith(ends)) == (True, True), chosen
    if host is VNNI and not options:
        assert chosen == begins + ends


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


def of_opset(word: Any, opset: int, tmp_path: Path, host: Host = VNNI, **options: Any) -> Any:
    """A MatMul and a Gemm with 16 and 4 output channels; the facts, and how far the outputs agree on a CPU
    that does what `host` is said to do."""
    rng, floats = np.random.default_rng(0), onnx.TensorProto.FLOAT
    arrays = {"w": rng.standard_normal((8, 16)), "g": rng.standard_normal((4, 16)), "b": np.ones(4)}
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "w"], ["h"]),
        onnx.helper.make_node("Gemm", ["h", "g", "b"], ["y"], transB=1),
    ]
    weights = {name: array.astype(np.float32) for name, array in arrays.items()}
    ends = {"x": (floats, ["batch", 8])}, {"y": (floats, ["batch", 4])}
    before = written(tmp_path / "before", graph(nodes, *ends, weights, opset))
    feeds = [{"x": np.random.default_rng(i).standard_normal((2, 8)).astype(np.float32)} for i in range(4)]

    def agreement(host: Host, folder: str) -> tuple[Any, float]:
        given = vars(word.resolve(word.Options(**options), host))  # as the builder gives them
        calibrated = {"calibration": lambda samples, batch: iter(feeds)}
        made = applied(word, before, tmp_path / folder, host, calibrated, **given)
        return made.facts, made.agrees(before, feeds[0])

    facts, _ = agreement(host, "after")
    return facts, agreement(environment.host(), "here")[1]


@pytest.mark.parametrize("opset", [9, 11, 12])
@pytest.mark.parametrize("host", [VNNI, AVX2], ids=["vnni", "avx2"])
def test_static_scales_are_per_tensor_below_opset_13_and_the_facts_say_why(
    tmp_path: Path, opset: int, host: Host
) -> None:
    """DequantizeLinear has had an axis since opset 13."""
    facts, agreement = of_opset(int8_static, opset, tmp_path, host)
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
    """On a CPU that adds two products in 16 bits, those of dynamic quantization saturate a little."""
    facts, agreement = of_opset(word, opset, tmp_path, **options)
    assert facts["per_channel"] is True
    assert facts["chosen"].endswith("full range of 127, per channel")
    saturates = word is int8_dynamic and not environment.host().has_vnni
    assert agreement > (0.99 if saturates else 0.995)


def test_scales_per_channel_that_the_suite_asks_for_in_vain_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(StageError) as caught:
        of_opset(int8_static, 11, tmp_path, per_channel=True)
    assert caught.value.reason == (
        "per_channel needs opset 13 or newer, and this graph is of opset 11: write per_channel: false"
    )


def test_scales_per_tensor_that_the_suite_asks_for_are_the_suites_below_opset_13_too(tmp_path: Path) -> None:
    facts, _ = of_opset(int8_static, 11, tmp_path, per_channel=False)
    assert facts["per_channel"] is False
    assert facts["chosen"].endswith("; the suite sets per_channel=False")


@INT8
def test_unsigned_weights(make: Any, word: Any) -> None:
    assert {str(q.dtype) for q, _, _ in make(word, weight_type="U8").quantized.values()} == {"uint8"}


@INT8
def test_excluded_nodes_stay_fp32(make: Any, word: Any) -> None:
    """Both fully connected nodes of the first layer, by a wildcard."""
    made = make(word, nodes_to_exclude=("*.0/mlp/fc*/MatMul",))
    assert made.facts["nodes_fp32"]["MatMul"] == 4 + 2
    assert len(made.quantized) == 13 - 2


@INT8
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nodes_to_exclude": ("nowhere",)}, "no node of the graph matches 'nowhere'"),
        ({"op_types": ("LSTM",)}, "nothing was quantized: no node of LSTM can be taken"),
    ],
)
def test_names_and_types_that_no_node_has_are_an_error(
    make: Any, word: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(StageError, match=message):
        make(word, **options)


@INT8
def test_op_types_choose_what_is_quantized_and_convolutions_have_a_range_too(make: Any, word: Any) -> None:
    assert make(word, op_types=("Conv",)).facts["nodes_quantized"] == {"Conv": 1}
    made = make(word, op_types=("MatMul", "Gemm", "Conv"), weight_range=104)
    assert made.facts["nodes_quantized"]["Conv"] == 1
    kernel = next(w for n, w in made.weights.items() if n.endswith("_quantized") and w.ndim == 4)
    assert np.abs(kernel.astype(int)).max() == 104


@INT8
def test_int8_starts_from_fp32(source: Path, tmp_path: Path, word: Any) -> None:
    a_job = job(source, word.Options())
    half = replace(a_job, artifact=replace(a_job.artifact, precision="fp16"))
    with pytest.raises(StageError, match="starts from fp32, and this artifact is fp16 already"):
        word.apply(half, tmp_path)


@INT8
def test_the_same_input_gives_the_same_bytes(make: Any, source: Path, tmp_path: Path, word: Any) -> None:
    assert applied(word, source, tmp_path).bytes == make(word).bytes


@INT8
def test_domains_that_no_node_uses_are_not_in_the_file(make: Any, word: Any) -> None:
    model = make(word).model
    assert {e.domain for e in model.opset_import} <= {"", *(n.domain for n in model.graph.node)}
    assert {e.domain: e.version for e in model.opset_import}[""] == 17


@INT8
def test_a_model_above_the_protobuf_limit_is_quantized(
    source: Path, tmp_path: Path, word: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "MAX_PROTO_BYTES", 20_000)
    large = tmp_path / "large"
    large.mkdir()
    onnx.save_model(
        Made(source, {}).model,
        str(large / "model.onnx"),
        save_as_external_data=True,
        location="model.onnx.data",
    )
    made = applied(word, large, tmp_path / "out")
    assert sorted(p.name for p in made.folder.iterdir()) == ["model.onnx", "model.onnx.data"]
    assert made.agrees(source, pixels(3)) > 0.995


@INT8
def test_types_that_an_exporter_noted_for_weights_do_not_matter(
    source: Path, tmp_path: Path, word: Any
) -> None:
    """The torch.export exporter writes them; they are wrong once the classifier's weight is transposed."""
    model = Made(source, {}).model
    for tensor in model.graph.initializer:
        model.graph.value_info.append(
            onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        )
    assert len(applied(word, written(tmp_path / "before", model), tmp_path / "after").quantized) == 13
