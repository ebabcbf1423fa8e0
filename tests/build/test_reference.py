"""A reference: feeds and outputs at several shapes, and how much noise there is in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import cases
from benchbox.build.reference import _run, _run_twice
from benchbox.errors import StageError
from benchbox.measure.rounds import Ready
from benchbox.numerics import arrays
from benchbox.schema.asked import Case

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


def test_the_noise_floor_is_what_another_number_of_threads_changes() -> None:
    """A module whose output is its number of threads, less 1e-3 of it: as many threads as before, after."""
    before = torch.get_num_threads()
    outputs, noise = _run_twice(
        lambda x: (x * 0 + float(torch.get_num_threads() > 1),), ["y"], {"x": np.ones((1, 2), np.float32)}
    )
    assert noise == 1.0
    assert outputs["y"].tolist() == [[float(before > 1)] * 2]
    assert torch.get_num_threads() == before


def test_a_reference_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(StageError, match=r"^the PyTorch reference itself gives values .* not finite in 'y'$"):
        _run_twice(lambda x: (x / 0,), ["y"], {"x": np.ones((1, 2), np.float32)})


def test_outputs_that_nobody_declared_are_counted() -> None:
    def module(x: Any) -> Any:
        return (x, x)

    with pytest.raises(StageError) as caught:
        _run(module, ["y"], {"x": np.ones((1, 2), np.float32)})
    assert caught.value.reason == "the module returns 2 outputs, and 1 are declared: y"
