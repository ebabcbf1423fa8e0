"""A user's own .onnx file: what is read from its graph, how it is fed, and what is said of an unfit one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cases
from benchbox.build.artifacts import artifact_of, build_artifact
from benchbox.build.cache import Cache
from benchbox.build.feeds import parity_shapes
from benchbox.errors import StageError, SuiteError
from benchbox.plugins.contract import Sample
from benchbox.plugins.models import _declared, onnx_file
from benchbox.runner import runner
from benchbox.schema.asked import Case, Dataset, Model
from benchbox.schema.seen import Host
from benchbox.schema.tensors import Signature, TensorSpec
from benchbox.suite.load import parse_suite
from onnx_files import Axes, graph

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402  # after the skip

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
WEIGHT = np.linspace(-1, 1, 8 * 4, dtype=np.float32).reshape(8, 4)


def proto(
    axes: Axes = ("N", 8),
    out: Axes | None = ("N", 4),
    *,
    op: str = "MatMul",
    weights: Any = {"W": WEIGHT},  # noqa: B006  # never changed
    dtype: int = FLOAT,
) -> Any:
    """x times W, of the shape (8, 4)."""
    return graph(
        [helper.make_node(op, ["x", "W"], ["y"])], {"x": (dtype, axes)}, {"y": (dtype, out)}, weights
    )


def two_inputs(first: Axes, second: Axes) -> Any:
    """ids and mask, both int64, to their product."""
    node = helper.make_node("Mul", ["ids", "mask"], ["y"])
    return graph([node], {"ids": (INT64, first), "mask": (INT64, second)}, {"y": (INT64, first)})


def written(folder: Path, model: Any, **config: Any) -> Model:
    path = folder / "m.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return Model("m", "onnx_file", str(path), "inference", weights="pretrained", config=config)


def external(folder: Path, entries: Mapping[str, str]) -> Model:
    """A file whose weight lies where `entries` say."""
    weight = TensorProto(name="W", data_type=FLOAT, dims=[8, 4], data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        weight.external_data.add(key=key, value=value)
    return written(folder, proto(weights=[weight]))


def refused(model: Model) -> str:
    with pytest.raises(StageError) as caught:
        onnx_file.load(model)
    return caught.value.reason


# --- what is read from the graph ---


@pytest.mark.parametrize(
    ("model", "config", "axes"),
    [
        (proto((None, 8), (None, 4)), {}, [("batch", 8)]),
        (proto((0, 8), (0, 4)), {}, [("batch", 8)]),
        (proto((2, 8), (2, 4)), {}, [(2, 8)]),
        (two_inputs((1, "T"), (1, "T")), {}, [(1, "T")] * 2),
        (two_inputs(("T", 4), ("T", 4)), {"sizes": {"T": 16}}, [("T", 4)] * 2),
        (two_inputs(("T", "N"), ("T", "N")), {"batch": "N"}, [("T", "batch")] * 2),
        (two_inputs(("T", "batch"), ("T", "batch")), {}, [("T", "batch")] * 2),
        (two_inputs((None, None), (None, 1)), {}, [("batch", "ids_dim_1"), ("batch", 1)]),
    ],
    ids=["nameless", "zero", "fixed", "later", "a size", "in the suite", "called batch", "two nameless"],
)
def test_every_axis_has_a_size_or_a_name(
    model: Any, config: Mapping[str, Any], axes: list[Any], tmp_path: Path
) -> None:
    found = onnx_file.signature(written(tmp_path, model, **config), {})
    assert [spec.axes for spec in found.inputs] == axes


def test_weights_among_the_inputs_are_no_inputs(tmp_path: Path) -> None:
    """As files of before 2019 have it."""
    model = proto()
    model.graph.input.append(helper.make_tensor_value_info("W", FLOAT, [8, 4]))
    model.ir_version = 3
    m = written(tmp_path, model)
    assert [spec.name for spec in onnx_file.signature(m, {}).inputs] == ["x"]
    assert [value.name for value in onnx_file.graph(m).graph.input] == ["x"]


@pytest.mark.parametrize("out", [("N", 4), None])
def test_the_first_dynamic_axis_is_the_batch_and_an_output_without_a_shape_gets_the_one_that_is_inferred(
    out: Axes | None, tmp_path: Path
) -> None:
    assert onnx_file.signature(written(tmp_path, proto(out=out)), {}) == Signature(
        inputs=(TensorSpec("x", "float32", ("batch", 8)),),
        outputs=(TensorSpec("y", "float32", ("batch", 4)),),
    )


def test_the_graph_has_the_axes_of_the_signature_and_its_weights(tmp_path: Path) -> None:
    found = onnx_file.graph(written(tmp_path, proto())).graph
    dims = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in found.input]
    assert dims == [["batch", 8]]
    assert np.array_equal(numpy_helper.to_array(found.initializer[0]), WEIGHT)


def test_the_module_is_the_file_at_any_number_of_threads(tmp_path: Path) -> None:
    module = onnx_file.load(written(tmp_path, proto()))
    x = torch.linspace(0, 1, 24).reshape(3, 8)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            (y,) = module(x)
            assert np.allclose(y.numpy(), x.numpy() @ WEIGHT, atol=1e-6)
    finally:
        torch.set_num_threads(before)


def test_a_number_without_axes_is_an_output(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["p"]),
        helper.make_node("ReduceSum", ["p"], ["s"], keepdims=0),
    ]
    model = written(tmp_path, graph(nodes, {"x": (FLOAT, ("N", 8))}, {"s": (FLOAT, ())}, {"W": WEIGHT}))
    (total,) = onnx_file.load(model)(torch.ones(2, 8))
    assert (total.shape, round(total.item(), 4)) == ((), round(2 * float(WEIGHT.sum()), 4))
    entry = build_artifact(case(model), Cache(tmp_path / "cache"), Host(frozenset()))
    assert artifact_of(entry).facts["outputs"][0]["axes"] == []


def test_a_graph_without_outputs_is_called_so(tmp_path: Path) -> None:
    mute = proto()
    del mute.graph.output[:]
    with pytest.raises(StageError, match=r"^m\.onnx has no outputs, so there is nothing to compare$"):
        onnx_file.signature(written(tmp_path, mute), {"batch": 1})


def test_the_only_dynamic_axis_cannot_have_a_size_and_be_the_batch(tmp_path: Path) -> None:
    model = written(tmp_path, proto(), sizes={"N": [1, 2]})
    with pytest.raises(StageError) as caught:
        onnx_file.feeds(model, [Sample(text="a")], {"batch": 1, "N": 1})
    assert caught.value.reason == (
        "m has no axis left that is the batch: leave N out of sizes, "
        "or write config: {batch: N} under the model"
    )


def test_a_file_has_no_derivatives_and_says_so(tmp_path: Path) -> None:
    module = onnx_file.load(written(tmp_path, proto()))
    with pytest.raises(StageError, match="a graph that is a file has no derivatives to compare with"):
        module(torch.ones(2, 8, requires_grad=True))


# --- feeds ---

IDS = two_inputs(("N", "T"), ("N", "T"))
DECLARED: Mapping[str, Any] = {"sizes": {"T": [16, 11]}, "ranges": {"ids": [5, 7], "mask": [1, 1]}}


def test_whole_numbers_are_drawn_from_their_range_both_ends_included(tmp_path: Path) -> None:
    model = written(tmp_path, IDS, **DECLARED)
    feeds = onnx_file.feeds(model, [Sample(text="a"), Sample(text="b")], {"batch": 2, "T": 40})
    assert {name: (a.shape, str(a.dtype)) for name, a in feeds.items()} == {
        "ids": ((2, 40), "int64"),
        "mask": ((2, 40), "int64"),
    }
    assert set(np.unique(feeds["ids"])) == {5, 6, 7}
    assert set(np.unique(feeds["mask"])) == {1}


def test_a_mask_is_the_length_of_a_text_and_then_padding(tmp_path: Path) -> None:
    """Declared, or called as transformers calls them; one that may only be 1 is."""
    declared = {**DECLARED, "ranges": {"ids": [5, 7], "mask": [0, 1]}, "masks": ["mask"]}
    texts = [Sample(text=text) for text in "abcdef"]
    mask = onnx_file.feeds(written(tmp_path, IDS, **declared), texts, {"batch": 6, "T": 40})["mask"]
    lengths = mask.sum(axis=1)
    assert [row.tolist() for row in mask] == [[1] * n + [0] * (40 - n) for n in lengths]
    assert len(set(lengths.tolist())) > 3
    assert lengths.min() >= 1
    spec = TensorSpec("attention_mask", "int64", ("batch", "T"))
    (drawn,) = _declared.draw([spec], {}, texts, {"batch": 6, "T": 40}).values()
    assert (np.diff(drawn, axis=1) <= 0).all()
    (ones,) = _declared.draw([spec], {spec.name: (1.0, 1.0)}, texts, {"batch": 6, "T": 40}).values()
    assert ones.all()


def test_what_is_drawn_belongs_to_the_sample(tmp_path: Path) -> None:
    """So calibration, which sees other samples than parity, sees other numbers too."""
    model = written(tmp_path, proto())
    first, second = Sample(text="a"), Sample(text="b")
    both = onnx_file.feeds(model, [first, second], {"batch": 2})["x"]
    alone = onnx_file.feeds(model, [second], {"batch": 1})["x"]
    assert np.array_equal(both[1], alone[0])
    assert not np.array_equal(both[0], both[1])


@pytest.mark.parametrize(("axes", "shape"), [(("N", 3, 6, 9), (1, 3, 6, 9)), (("N", 6, 9, 3), (1, 6, 9, 3))])
def test_a_batch_of_pictures_gets_pictures_divided_by_255(axes: Axes, shape: Any, tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    model = written(tmp_path, proto(axes, None, op="Identity", weights=()))
    red = np.zeros((20, 30, 3), np.uint8)
    red[..., 0] = 51
    x = onnx_file.feeds(model, [Sample(image=red)], {"batch": 1})["x"]
    assert (x.shape, str(x.dtype), x.flags.c_contiguous) == (shape, "float32", True)
    channel = x[:, 0] if axes[1] == 3 else x[..., 0]
    assert np.allclose(channel, 0.2)
    assert x.sum() == pytest.approx(0.2 * 6 * 9, rel=1e-5)


@pytest.mark.parametrize(
    ("dtype", "limits", "said"),
    [
        ("int8", (0.0, 300.0), "[0, 300], is none of int8, whose values lie in [-128, 127]"),
        ("uint8", (-5.0, 5.0), "[-5, 5], is none of uint8, whose values lie in [0, 255]"),
        ("int32", (0.0, 1e12), "[0, 1e+12], is none of int32"),
        ("int64", (1.0, 2.0**63), "[1, 9.22337e+18], is none of int64"),
        ("int64", (0.2, 0.7), "int64, whose values lie in [-9.22337e+18, 9.22337e+18] and are whole"),
        ("float16", (0.0, 1e6), "[0, 1e+06], is none of float16, whose values lie in [-65504, 65504]"),
        ("bool", (0.0, 2.0), "[0, 2], is none of bool, whose values lie in [0, 1]"),
    ],
)
def test_a_range_that_the_type_does_not_hold_is_refused(
    dtype: str, limits: tuple[float, float], said: str
) -> None:
    spec = TensorSpec("k", dtype, ("batch",))
    with pytest.raises(StageError) as caught:
        _declared.draw([spec], {"k": limits}, [Sample(text="a")], {"batch": 1})
    assert said in caught.value.reason


def test_whole_numbers_without_a_range_are_not_guessed(tmp_path: Path) -> None:
    model = written(tmp_path, IDS, sizes={"T": 4})
    with pytest.raises(
        StageError, match=r"^the input ids is int64, and nothing says which values it may have"
    ):
        onnx_file.feeds(model, [Sample(text="a")], {"batch": 1, "T": 4})


def test_an_axis_without_a_size_says_what_to_write(tmp_path: Path) -> None:
    model = written(tmp_path, IDS)
    with pytest.raises(StageError) as caught:
        onnx_file.feeds(model, [Sample(text="a")], {"batch": 1})
    assert caught.value.reason == (
        "the input ids has the axis 'T', and the suite gives it no size: "
        "write config: {sizes: {T: [16, 11]}} under the model"
    )


def test_a_file_without_dynamic_axes_takes_its_own_batch_only(tmp_path: Path) -> None:
    model = written(tmp_path, proto((2, 8), (2, 4)))
    pair = [Sample(text="a"), Sample(text="b")]
    rows = onnx_file.feeds(model, pair, {"batch": 2})["x"]
    assert rows.shape == (2, 8)
    assert not np.array_equal(rows[0], rows[1])
    with pytest.raises(StageError) as caught:
        onnx_file.feeds(model, [*pair, Sample(text="c")], {"batch": 3})
    assert caught.value.reason == (
        "m takes a batch of 2 and no other: write dynamic_axes: false, and batch: 2 under inputs (or, where "
        "a dynamic axis is the batch, config: {batch: its name})"
    )


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"sizes": {"S": 4}}, "m.onnx has no axis called 'S'; it has: T"),
        ({"ranges": {"id": [0, 1]}}, "m.onnx has no input called 'id'; it has: ids, mask"),
        ({"masks": ["m"]}, "m.onnx has no input of two axes called 'm'; it has: ids, mask"),
        ({"batch": "B"}, "m.onnx has no axis called 'B'; dynamic axes that have a name: N, T"),
    ],
)
def test_what_the_config_speaks_of_is_in_the_file(
    config: Mapping[str, Any], reason: str, tmp_path: Path
) -> None:
    assert refused(written(tmp_path, IDS, **config)) == reason


# --- files that are not fit ---

WHOLE = proto().SerializeToString()


@pytest.mark.parametrize(
    "content",
    [WHOLE[: len(WHOLE) // 2], WHOLE[:20], b"", b"a text, and no file of ONNX at all\n" * 9, b"\x00" * 64],
    ids=["half", "beginning", "nothing", "text", "zeros"],
)
def test_what_is_no_onnx_file_or_half_of_one_is_called_so(content: bytes, tmp_path: Path) -> None:
    said = refused(written(tmp_path, content))
    assert said.startswith(f"m.onnx is not an ONNX file, or was cut off ({len(content):,} bytes): ")


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({"location": "nowhere.bin"}, "in 'nowhere.bin', which is not there; put it beside the file"),
        (
            {"location": "w.bin", "offset": "0", "length": "256"},
            "in 'w.bin', bytes 0 to 256, and that file has 128: cut off?",
        ),
        *(
            ({"location": location}, f"in {location!r}, which is outside of its own folder: it is not read")
            for location in ("../../../../../etc/passwd", "/etc/passwd", "", "sub/../../w.bin")
        ),
    ],
)
def test_external_data_that_is_missing_cut_off_or_outside_of_the_folder_is_named(
    entries: Mapping[str, str], reason: str, tmp_path: Path
) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    for folder in (tmp_path, inner):
        (folder / "w.bin").write_bytes(WEIGHT.tobytes())
    assert refused(external(inner, entries)) == f"m.onnx keeps the weight 'W' {reason}"


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes())
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "w.bin").symlink_to(tmp_path / "w.bin")
    assert "outside of its own folder" in refused(external(tmp_path / "inner", {"location": "w.bin"}))


def test_what_is_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "w.bin")
    weights = external(tmp_path, {"location": "w.bin"})
    assert refused(weights).endswith("which is not there; put it beside the file")
    assert len(onnx_file.fingerprint(weights)) == 64
    (tmp_path / "m.onnx").unlink()
    os.mkfifo(tmp_path / "m.onnx")
    assert refused(weights) == "m.onnx is no file"
    assert onnx_file.fingerprint(weights) == ""


def test_an_operator_that_nobody_knows_is_named(tmp_path: Path) -> None:
    said = refused(written(tmp_path, proto(op="FooBar")))
    assert said.startswith("ONNX Runtime does not take m.onnx: ")
    assert "No Op registered for FooBar" in said


def test_there_are_no_random_weights_and_no_torch_module(tmp_path: Path) -> None:
    model = written(tmp_path, proto())
    assert refused(replace(model, weights="random")) == (
        "m is a file with the weights that it has: write weights: pretrained"
    )
    with pytest.raises(StageError, match=r"no torch module: take a path that begins with onnx$"):
        onnx_file.save(None, tmp_path)


# --- as part of a suite ---


def case(model: Model, dynamic_axes: bool = True, **shape: int) -> Case:
    noise = Dataset("random", {"height": 8, "width": 8})
    return cases.case(
        "onnx", model=model, shape={"batch": 1, **shape}, dataset=noise, dynamic_axes=dynamic_axes
    )


def test_a_run_goes_on_after_files_that_are_not_fit(tmp_path: Path, cache_folder: Path) -> None:
    """Each ends as a failed row that says why; the one that is fit is measured."""
    (tmp_path / "cut.onnx").write_bytes(WHOLE[:50])
    Path(written(tmp_path, proto(op="FooBar")).source).rename(tmp_path / "unknown.onnx")
    Path(external(tmp_path, {"location": "w.bin"}).source).rename(tmp_path / "without.onnx")
    Path(external(tmp_path, {"location": "../w.bin"}).source).rename(tmp_path / "outside.onnx")
    fit = written(tmp_path, proto())
    names = ("cut", "unknown", "without", "outside")
    unfit = [replace(fit, name=name, source=str(tmp_path / f"{name}.onnx")) for name in names]
    all_cases = cases.suite([case(model) for model in (*unfit, fit)])
    finished = runner.run(all_cases, results=tmp_path / "results", reports=None, cache=cache_folder)
    ended = {r.case.model.name: (r.outcome, r.stage, r.reason[:48]) for r in finished.results.records}
    assert ended == {
        "cut": ("failed", "reference", "cut.onnx is not an ONNX file, or was cut off (50"),
        "unknown": ("failed", "reference", "ONNX Runtime does not take unknown.onnx: Invalid"),
        "without": ("failed", "reference", "without.onnx keeps the weight 'W' in 'w.bin', wh"),
        "outside": ("failed", "reference", "outside.onnx keeps the weight 'W' in '../w.bin',"),
        "m": ("ok", None, ""),
    }


def test_the_file_is_built_with_its_own_opset_and_its_own_axes(tmp_path: Path) -> None:
    model = written(tmp_path, IDS, **DECLARED)
    entry = build_artifact(case(model, T=16), Cache(tmp_path / "cache"), Host(frozenset()))
    facts = artifact_of(entry).facts
    assert (facts["opset"], facts["exporter"]) == (17, "none: the source is a graph")
    assert [tensor["axes"] for tensor in facts["inputs"]] == [["batch", "T"], ["batch", "T"]]
    assert facts["verified"] == {"sizes": {"batch": 3, "T": 11}, "traced": False, "max_abs_error": 0.0}


def test_fixed_axes_are_fixed_in_the_graph(tmp_path: Path) -> None:
    model = written(tmp_path, proto())
    fixed = case(model, dynamic_axes=False)
    entry = build_artifact(fixed, Cache(tmp_path / "cache"), Host(frozenset()))
    assert [t["axes"] for t in artifact_of(entry).facts["inputs"]] == [[1, 8]]


def test_a_file_in_fp16_is_fp16(tmp_path: Path) -> None:
    half = proto(weights={"W": WEIGHT.astype(np.float16)}, dtype=TensorProto.FLOAT16)
    model = written(tmp_path, half)
    entry = build_artifact(case(model), Cache(tmp_path / "cache"), Host(frozenset()))
    assert artifact_of(entry).precision == "fp16"


def test_parity_is_judged_at_three_quarters_and_half_of_a_declared_size(tmp_path: Path) -> None:
    model = written(tmp_path, IDS, **DECLARED)
    assert parity_shapes(case(model, T=16), 4) == (
        {"batch": 3, "T": 8},
        {"batch": 1, "T": 16},
    )
    always = replace(model, config={**DECLARED, "sizes": {"T": 16}})
    assert parity_shapes(case(always, T=16), 4) == (
        {"batch": 3, "T": 16},
        {"batch": 1, "T": 16},
    )


def test_another_file_or_other_external_data_is_another_model(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes())
    model = external(tmp_path, {"location": "w.bin"})
    first = onnx_file.fingerprint(model)
    assert onnx_file.fingerprint(model) == first
    (tmp_path / "w.bin").write_bytes((WEIGHT * 2).tobytes() + b"\x00")
    second = onnx_file.fingerprint(model)
    (tmp_path / "m.onnx").write_bytes(proto().SerializeToString())
    assert len({first, second, onnx_file.fingerprint(model)}) == 3


SUITE = """
models: {family: onnx_file, source: ./m.onnx, config: CONFIG}
paths: onnx
backends: onnxruntime
inputs: {dataset: random, T: [16, 8]}
"""


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("{sizes: {T: x}}", "models.config: the size of T should be a number, or two: "),
        ("{sizes: {batch: 3}}", "models.config: 'batch' cannot be the name of a declared size; "),
        ("{ranges: {ids: 4}}", "models.config: the range of ids should be [lowest, highest], "),
        ("{ranges: {ids: [4, 3]}}", "models.config: the range of ids should be [lowest, highest], "),
        ("{size: {T: 3}}", "models.config: unknown setting of an ONNX file: 'size'. Did you mean 'sizes'?"),
        ("{batch: 3}", "models.config: batch should be the name of an axis of the file"),
    ],
)
def test_what_is_wrong_in_the_config_is_an_error_of_the_suite(config: str, said: str, tmp_path: Path) -> None:
    written(tmp_path, IDS)
    with pytest.raises(SuiteError) as caught:
        parse_suite(SUITE.replace("CONFIG", config), str(tmp_path / "s.yaml"))
    assert caught.value.message.startswith(said)
    assert caught.value.line == 2
