"""int8_static: calibration in every method and format, activations, and memory that does not grow."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import places
from benchbox.errors import StageError
from benchbox.plugins.passes import int8_static
from onnx_files import applied, calibration, graph, pixels, written

onnx = pytest.importorskip("onnx")


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_every_calibration_in_both_formats(make: Any, source: Path, method: Any, form: Any) -> None:
    made = make(int8_static, calibration=method, format=form, samples=4, histogram_bins=256)
    assert ("QLinearMatMul" in made.op_types) is (form == "QOperator")
    assert made.facts["calibration"]["method"] == method
    assert made.facts["calibration"]["samples"] == 4
    assert made.facts["nodes_quantized"] == {"Gemm": 1, "MatMul": 12}
    assert made.agrees(source, pixels(3, seed=99)) > (0.98 if method == "entropy" else 0.99)


@pytest.mark.parametrize("method", ["minmax", "percentile"])
def test_ranges_are_those_of_all_batches_together(source: Path, tmp_path: Path, method: Any) -> None:
    """The outlier in the third of four batches widens the range of what the patches' Conv reads."""

    def with_outlier(samples: int, batch: int) -> Iterator[dict[str, Any]]:
        assert (samples, batch) == (8, 2)
        for index, feeds in enumerate(calibration(samples, batch)):
            if index == 2:
                feeds["pixel_values"][0, 0, :8, :8] = 50.0
            yield feeds

    options = {"op_types": ("Conv",), "samples": 8, "batch": 2, "calibration": method}
    changes = {"calibration": with_outlier}
    found = applied(int8_static, source, tmp_path, changes=changes, **options).weights
    scale, zero_point = found["pixel_values_scale"], int(found["pixel_values_zero_point"])
    assert (255 - zero_point) * float(scale) == pytest.approx(50.0, rel=0.01)


def test_only_tensors_that_are_quantized_are_calibrated(make: Any) -> None:
    """Two layers: one input of query, key and value, then those of output, fc1 and fc2; the classifier's."""
    assert make(int8_static, samples=2).facts["calibration"]["tensors"] == 2 * 4 + 1


def test_activations_are_symmetric_or_signed_where_asked_to(make: Any) -> None:
    """With the zero point in the middle; of the type that was asked for."""
    for options, of in (
        ({"activation_symmetric": True}, int),
        ({"activation_type": "S8"}, lambda z: z.dtype),
    ):
        made = make(int8_static, samples=2, **options)
        points = {
            of(made.weights[n.input[2]]) for n in made.model.graph.node if n.op_type == "QuantizeLinear"
        }
        assert points == ({128} if of is int else {np.dtype("int8")})


def test_products_of_activations_and_outputs_are_quantized_only_where_asked(make: Any) -> None:
    default, outputs, attention = (
        make(int8_static, samples=2, **changes)
        for changes in ({}, {"quantize_outputs": True}, {"activation_matmuls": True})
    )
    assert (default.facts["nodes_quantized"]["MatMul"], default.op_types.count("QuantizeLinear")) == (12, 9)
    assert attention.facts["nodes_quantized"]["MatMul"] == 16
    assert outputs.op_types.count("QuantizeLinear") > 9


def test_a_residual_beside_a_quantized_projection_stays_fp32(tmp_path: Path) -> None:
    """Post-norm models (BERT): the LayerNorm's output feeds a projection and the residual."""
    rng, floats = np.random.default_rng(0), onnx.TensorProto.FLOAT
    node = onnx.helper.make_node
    nodes = [
        node("LayerNormalization", ["x", "g", "b"], ["norm"], name="norm", axis=-1),
        node("MatMul", ["norm", "w"], ["projected"], name="projection"),
        node("Add", ["projected", "norm"], ["y"], name="residual"),
    ]
    weights = {"w": rng.standard_normal((8, 8)), "g": np.ones(8), "b": np.zeros(8)}
    ends = [{name: (floats, ["batch", 3, 8])} for name in "xy"]
    model = graph(nodes, *ends, {name: array.astype(np.float32) for name, array in weights.items()})
    feeds = [{"x": rng.standard_normal((2, 3, 8)).astype(np.float32)} for _ in range(2)]
    changes = {"calibration": lambda samples, batch: iter(feeds)}
    before = written(tmp_path / "before", model)
    made = applied(int8_static, before, tmp_path / "after", changes=changes, samples=4, batch=2).model
    makers = {name: node.op_type for node in made.graph.node for name in node.output}
    nodes = {node.name: node for node in made.graph.node}
    assert [makers.get(name) for name in nodes["projection"].input] == ["DequantizeLinear"] * 2
    assert "DequantizeLinear" not in [makers.get(name) for name in nodes["residual"].input]


@pytest.mark.filterwarnings("ignore:All-NaN:RuntimeWarning")
@pytest.mark.parametrize(
    ("method", "values", "message"),
    [
        ("minmax", [np.inf], "not finite"),
        ("percentile", [np.inf], "not finite"),
        ("minmax", [], "no samples to"),
    ],
)
def test_values_that_are_not_finite_or_not_there_calibrate_nothing(
    source: Path, tmp_path: Path, method: Any, values: list[float], message: str
) -> None:
    given = [{"pixel_values": np.full((1, 3, 32, 32), value, np.float32)} for value in values]
    with pytest.raises(StageError, match=message):
        changes = {"calibration": lambda samples, batch: iter(given)}
        applied(int8_static, source, tmp_path, changes=changes, calibration=method)


def test_calibration_prints_nothing(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    applied(int8_static, source, tmp_path, calibration="percentile", samples=2)
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
from benchbox.plugins.passes import int8_static
from onnx_files import applied, peak_kib
method, source, out = sys.argv[1:]
applied(int8_static, Path(source), Path(out, "bytes"), samples=4, batch=16)
for samples in (32, 512):
    applied(int8_static, Path(source), Path(out, str(samples)), calibration=method, samples=samples, batch=16)
    print(peak_kib())
"""
FRESH = (("minmax", "1"), ("percentile", "2"))


@pytest.fixture(scope="module")
def in_fresh_processes(
    source: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[bytes, int, int]]:
    """A model's bytes, and the peaks after few and many samples in KiB: by method and hash seed."""
    return [in_fresh_process(*each, source, tmp_path_factory.mktemp("fresh")) for each in FRESH]


def in_fresh_process(method: str, seed: str, source: Path, out: Path) -> tuple[bytes, int, int]:
    done = subprocess.run(
        [sys.executable, "-c", _STATIC, method, str(source), str(out)],
        env={"PYTHONPATH": f"{places.ROOT}:{places.TESTS}", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    )
    few, many = map(int, done.stdout.split())
    return (out / "bytes" / "model.onnx").read_bytes(), few, many


def test_bytes_do_not_depend_on_the_hash_seed(in_fresh_processes: list[tuple[bytes, int, int]]) -> None:
    one, other = (content for content, _, _ in in_fresh_processes)
    assert one == other


def test_memory_does_not_grow_with_the_number_of_samples(
    in_fresh_processes: list[tuple[bytes, int, int]],
) -> None:
    """Batches of 16: two, and then thirty-two of them. What a batch leaves in the quantized nodes' inputs is
    1 MB; kept until the end, as the library does by itself, they measured 36 MB."""
    assert [
        method
        for (method, _), (_, few, many) in zip(FRESH, in_fresh_processes, strict=True)
        if many - few >= 8 * 1024
    ] == []
