"""A reference: feeds and outputs at several shapes, and how much noise there is in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cases
from benchbox.build.artifacts import build_artifact
from benchbox.build.cache import Cache
from benchbox.build.reference import Floor, Once, _finite, _run, build_reference
from benchbox.errors import StageError
from benchbox.measure.rounds import Ready
from benchbox.numerics import arrays, parity
from benchbox.plugins import graphs
from benchbox.schema.asked import DEFAULT_TOLERANCES, Case, Dataset, Model
from benchbox.schema.seen import Host
from benchbox.schema.tensors import Feeds, Outputs, Signature, TensorSpec

torch = pytest.importorskip("torch")


def test_a_reference_has_feeds_and_outputs_at_every_shape(ready: Callable[[Case], Ready]) -> None:
    made = ready(cases.case("onnx", batch=2))
    content = made.reference_content
    assert [shape["batch"] for shape in content["shapes"]] == [3, 2, 1]
    assert content["samples"] == 6
    assert 0.0 <= content["noise_floor"] < 1e-5
    assert arrays.load(made.reference / "timing.npz")["pixel_values"].shape == (2, 3, 32, 32)
    first = arrays.load(made.reference / "parity-0.npz")
    assert {name: array.shape for name, array in first.items()} == {
        "in:pixel_values": (3, 3, 32, 32),
        "out:logits": (3, 10),
    }


def test_timing_and_parity_are_different_images(ready: Callable[[Case], Ready]) -> None:
    made = ready(cases.case("onnx"))
    timed = arrays.load(made.reference / "timing.npz")["pixel_values"][0]
    seen = [
        image
        for index in range(len(made.reference_content["shapes"]))
        for image in arrays.load(made.reference / f"parity-{index}.npz")["in:pixel_values"]
    ]
    assert len(seen) == 4
    assert len({image.tobytes() for image in [timed, *seen]}) == 5


X, Y = (TensorSpec(name, "float32", ("batch", 2)) for name in ("x", "y"))
WHOLE = {"w": TensorSpec("w", "float32", (2,)), "z": TensorSpec("z", "float32", (2,))}
FEEDS = {"x": np.ones((3, 2), np.float32), "w": np.ones(2, np.float32)}


def floor(run: Callable[[Feeds], Outputs], *, alone: bool = True, read: Any = None) -> Floor:
    """That of a model that takes x and the w that all samples share, and gives y and z."""
    once = Once(Signature((X, WHOLE["w"]), (Y, WHOLE["z"])), FEEDS, run(FEEDS), read or {})
    return Floor().and_of(run, once, alone=alone)


def test_the_noise_floor_is_what_another_number_of_threads_changes() -> None:
    """Whatever the batch; afterwards there are as many threads as before."""
    before = torch.get_num_threads()

    def run(feeds: Feeds) -> Outputs:
        return {"y": feeds["x"] + 1e-5 * (torch.get_num_threads() > 1), "z": feeds["w"]}

    assert floor(run, alone=False).error == pytest.approx(1e-5, rel=0.05)
    assert torch.get_num_threads() == before


def test_and_what_a_sample_alone_changes_with_either_number_of_threads() -> None:
    """What has no batch axis is the same for each sample, and is not looked at."""
    asked = []

    def run(feeds: Feeds) -> Outputs:
        asked.append((len(feeds["x"]), feeds["w"].shape, torch.get_num_threads()))
        alone, single = len(feeds["x"]) == 1, torch.get_num_threads() == 1
        return {"y": feeds["x"] + 1e-5 * alone + 2e-5 * (alone and single), "z": feeds["w"] * len(feeds["x"])}

    found = floor(run)
    assert (found.error, found.notes) == (pytest.approx(3e-5, rel=0.05), [])
    assert sorted(asked) == sorted([(1, (2,), 1), (1, (2,), 2)] * 3 + [(3, (2,), 1), (3, (2,), 2)])
    assert floor(run, alone=False).error == 0.0


def test_of_a_large_batch_four_samples_are_computed_alone_and_of_one_none() -> None:
    asked = []

    def run(feeds: Feeds) -> Outputs:
        asked.append(len(feeds["x"]))
        return {"y": feeds["x"]}

    for batch in (9, 1):
        feeds = {"x": np.ones((batch, 2), np.float32)}
        Floor().and_of(run, Once(Signature((X,), (Y,)), feeds, {"y": feeds["x"]}, {}), alone=True)
    assert asked == [1] * 4 + [9] + [1] * 4 + [1]


def test_an_output_whose_size_depends_on_the_batch_is_not_compared_with_itself_alone() -> None:
    """As that of a detector does, which finds as many as there are; y is."""

    def run(feeds: Feeds) -> Outputs:
        rows = len(feeds["x"])
        return {"y": feeds["x"] + 1e-5 * (rows == 1), "z": np.ones((rows, rows), np.float32)}

    found = TensorSpec("z", "float32", ("batch", "found"))
    once = Once(Signature((X,), (Y, found)), {"x": FEEDS["x"]}, run(FEEDS), {})
    assert Floor().and_of(run, once, alone=True).error == pytest.approx(1e-5, rel=0.05)


def test_a_model_that_mixes_its_samples_has_no_higher_floor_and_says_so() -> None:
    found = floor(lambda feeds: {"y": feeds["x"] / len(feeds["x"]), "z": feeds["w"]})
    assert found.error == 0.0
    assert found.notes == ["y of a sample moves by 0.67 with the samples beside it, which is no noise"]


def test_what_moves_behind_the_mask_is_in_no_floor() -> None:
    read = {"y": np.array([[True], [True], [False]])}

    def run(feeds: Feeds) -> Outputs:
        moved = 1e-4 * (torch.get_num_threads() > 1) * (np.arange(len(feeds["x"])) == 2)[:, None]
        return {"y": feeds["x"] + moved.astype(np.float32), "z": feeds["w"]}

    assert floor(run, alone=False).error == pytest.approx(1e-4, rel=0.05)
    assert floor(run, alone=False, read=read).error == 0.0


def test_a_file_agrees_with_itself_whose_sums_another_batch_orders_otherwise(tmp_path: Path) -> None:
    """Large sums that cancel, in a product that ONNX Runtime computes otherwise for one row than for several,
    and where it may prepare the weights: by more than 1e-4 of the output, on any number of threads."""
    onnx = pytest.importorskip("onnx")
    made, weights = onnx.helper, np.random.default_rng(0).standard_normal((2048, 16)).astype(np.float32)
    nodes = [("Add", ["x", "C"], ["a"]), ("Neg", ["W"], ["V"]), ("MatMul", ["a", "V"], ["y"])]
    stored = {"W": weights - weights.mean(axis=0), "C": np.float32(500)}
    graph = made.make_graph(
        [made.make_node(*node) for node in nodes],
        "cancelling",
        [made.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 2048])],
        [made.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 16])],
        [onnx.numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    model = made.make_model(graph, opset_imports=[made.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    asked = Model("m", "onnx_file", str(tmp_path / "m.onnx"), "inference", weights="pretrained")
    texts = Dataset("sample_texts")
    case = cases.case("onnx", model=asked, shape={"batch": 1}, dataset=texts)
    reference = build_reference(case, 4, Cache(tmp_path / "cache"))
    entry = build_artifact(case, Cache(tmp_path / "cache"), Host(frozenset()))
    session = graphs.session(entry.folder / "model.onnx", threads=1, optimized=True)
    found = []
    for index, shape in enumerate(reference.content["shapes"]):
        seen = arrays.load(reference.folder / f"parity-{index}.npz")
        (answer,) = session.run(["y"], {"x": seen["in:x"]})
        found.append(parity.compare("y", shape, seen["out:y"], answer))
    criteria = parity.Criteria("fp32", DEFAULT_TOLERANCES["fp32"], reference.content["noise_floor"], 4)
    assert parity.judge(found, {}, criteria).reasons == ()
    assert not parity.judge(found, {}, replace(criteria, noise_floor=0.0)).passed


def test_a_reference_that_is_not_finite_is_an_error_where_it_is_read() -> None:
    values = {"y": np.array([[1.0, np.inf]], np.float32)}
    with pytest.raises(StageError, match=r"^the PyTorch reference itself gives values .* not finite in 'y'$"):
        _finite(values, {})
    assert _finite(values, {"y": np.array([[True, False]])}) is values


def test_outputs_that_nobody_declared_are_counted() -> None:
    def module(x: Any) -> Any:
        return (x, x)

    with pytest.raises(StageError) as caught:
        _run(module, ["y"], {"x": np.ones((1, 2), np.float32)})
    assert caught.value.reason == "the module returns 2 outputs, and 1 are declared: y"
