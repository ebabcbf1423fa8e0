"""Derivatives by central differences: of functions whose derivative is known, and of an exported ViT."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import cases
from benchbox.build.cache import Cache
from benchbox.build.keys import reference_key
from benchbox.build.reference import _probe, build_reference
from benchbox.errors import StageError
from benchbox.measure.rounds import Ready
from benchbox.numerics import arrays, gradient, parity
from benchbox.numerics.gradient import Probe
from benchbox.schema.asked import DEFAULT_TOLERANCES, Case, Tolerance
from benchbox.schema.tensors import Feeds, Outputs

X = {"x": np.linspace(0.5, 1.5, 12, dtype=np.float32).reshape(3, 4)}


def cubes(feeds: Feeds) -> Outputs:
    return {"y": feeds["x"].astype(np.float64) ** 3}


def test_directions_have_unit_length_over_all_continuous_inputs() -> None:
    feeds = {"a": np.zeros((2, 3), np.float32), "ids": np.zeros(4, np.int64), "b": np.zeros(5, np.float32)}
    found = gradient.directions(feeds, 3, seed=0)
    assert [sorted(direction) for direction in found] == [["a", "b"]] * 3
    lengths = [sum(float(np.sum(a.astype(np.float64) ** 2)) for a in d.values()) for d in found]
    assert lengths == pytest.approx([1.0] * 3, rel=1e-6)
    assert gradient.directions(feeds, 3, seed=0)[2]["a"].tolist() == found[2]["a"].tolist()
    assert gradient.directions(feeds, 3, seed=1)[2]["a"].tolist() != found[2]["a"].tolist()


def test_the_difference_of_a_cubic_is_its_derivative() -> None:
    """d/dt sum w (x + t v)^3 = sum 3 w x^2 v; the step leaves h^2 sum w v^3 of it."""
    along = gradient.directions(X, 4, seed=1)
    weights = gradient.cotangents(cubes(X), seed=1)
    expected = [float(np.sum(3 * weights["y"] * X["x"] ** 2 * v["x"])) for v in along]
    seen = gradient.differences(cubes, Probe(X, along, weights, expected, step=1e-2))
    assert gradient.error(expected, seen) < 1e-4
    assert gradient.error(expected, [-value for value in seen]) == pytest.approx(2.0, rel=1e-4)


def test_the_step_is_where_noise_and_curvature_weigh_the_same() -> None:
    """h = (3 e / |s'''|)^(1/3): for s = k x^3 with s''' = 6 k and uniform noise of 1e-6."""
    rng = np.random.default_rng(0)
    feeds = {"x": np.ones(1, np.float32)}
    direction = [{"x": np.ones(1, np.float32)}] * 40

    def noisy(given: Feeds) -> Outputs:
        return {"y": 1e-3 * given["x"].astype(np.float64) ** 3 + rng.uniform(-1e-9, 1e-9)}

    step = gradient.choose_step(noisy, feeds, direction, {"y": np.ones(1, np.float32)})
    sigma = 1e-9 / 3**0.5
    assert step == pytest.approx((3 * sigma / 6e-3) ** (1 / 3), rel=0.25)


def test_a_step_is_bounded_by_the_length_of_the_input() -> None:
    """A straight line has no third derivative: any step would do, and the largest allowed is taken."""
    line = gradient.choose_step(
        lambda feeds: {"y": feeds["x"] * 0},
        {"x": np.full(100, 2.0, np.float32)},
        [{"x": np.full(100, 0.1, np.float32)}],
        {"y": np.ones(100, np.float32)},
    )
    assert line == pytest.approx(0.05 * 20)


def test_errors_are_of_vectors_and_nan_is_no_agreement() -> None:
    assert gradient.error([3.0, 4.0], [3.0, 4.0]) == 0.0
    assert gradient.error([3.0, 4.0], [3.0, 4.5]) == pytest.approx(0.1)
    assert gradient.error([0.0], [0.0]) == 0.0
    assert gradient.error([0.0], [1.0]) == 1.0
    for level, seen in ((1.0, [math.nan, 1.0]), (1.0, [1.0, math.inf]), (0.0, [math.nan, 1.0])):
        assert math.isnan(gradient.error([level, level], seen))


@pytest.mark.parametrize(
    ("error", "tolerance", "reasons"),
    [
        (None, 0.01, ()),
        (0.01, 0.01, ()),
        (0.5, None, ()),
        (0.5, 0.01, ("directional derivatives differ by 0.5 of the reference's > 0.01",)),
        (float("nan"), None, ("gradient_error is not finite: the directional derivatives hold NaN or Inf",)),
    ],
)
def test_the_gate_on_gradients(
    error: float | None, tolerance: float | None, reasons: tuple[str, ...]
) -> None:
    clean = parity.compare("y", {"batch": 1}, np.ones((1, 2)), np.ones((1, 2)))
    criteria = parity.Criteria("fp32", Tolerance(gradient=tolerance), 0.0, 1)
    judged = parity.judge([clean], {}, criteria, gradient_error=error)
    assert judged.reasons == reasons
    assert judged.gradient_error == (None if error is None or math.isnan(error) else error)


def test_a_probe_is_what_was_saved(tmp_path: Path) -> None:
    probe = Probe(X, gradient.directions(X, 2, 0), gradient.cotangents(cubes(X), 0), [1.0, -2.0], 0.25)
    probe.save(tmp_path / "probe.npz")
    again = Probe.load(tmp_path / "probe.npz")
    assert (again.derivatives, again.step) == ([1.0, -2.0], 0.25)
    assert [d["x"].tolist() for d in again.directions] == [d["x"].tolist() for d in probe.directions]
    assert again.cotangents["y"].tolist() == probe.cotangents["y"].tolist()
    assert again.feeds["x"].tolist() == X["x"].tolist()


# --- On the tiny ViT, exported ---

VIT = cases.case("onnx")


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Probe:
    entry = build_reference(VIT, 1, Cache(tmp_path_factory.mktemp("cache")), directions=10)
    return Probe.load(entry.folder / gradient.GRADIENT)


def runner(file: Path) -> Callable[[Feeds], Outputs]:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return lambda feeds: {"logits": session.run(["logits"], dict(feeds))[0]}


def test_an_exported_vit_has_the_derivatives_of_autograd(
    ready: Callable[[Case], Ready], probe: Probe
) -> None:
    """Ten directions, relative error below 1e-2, as the suite's default demands."""
    run = runner(ready(VIT).folder / "model.onnx")
    assert len(probe.derivatives) == 10
    assert DEFAULT_TOLERANCES["fp32"].gradient == 0.01
    assert gradient.error(probe.derivatives, gradient.differences(run, probe)) < 0.003


def test_a_flipped_sign_in_a_weight_is_caught(
    ready: Callable[[Case], Ready], probe: Probe, tmp_path: Path
) -> None:
    """The sign of one number out of the 8 x 8 x 3 x 64 of the patch embedding: the largest one."""
    model = onnx.load(ready(VIT).folder / "model.onnx")
    (weights,) = [t for t in model.graph.initializer if t.name.endswith("projection.weight")]
    values = onnx.numpy_helper.to_array(weights).copy()
    values.flat[np.argmax(np.abs(values))] *= -1
    weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
    onnx.save(model, tmp_path / "flipped.onnx")
    found = gradient.error(probe.derivatives, gradient.differences(runner(tmp_path / "flipped.onnx"), probe))
    assert found > 0.01


def test_a_model_of_words_has_no_derivative(monkeypatch: pytest.MonkeyPatch) -> None:
    feeds = {"input_ids": np.zeros((1, 4), np.int64)}
    with pytest.raises(StageError, match="no continuous input"):
        _probe(VIT, None, ["logits"], feeds, 10)


def test_the_directions_are_part_of_the_reference_s_key() -> None:
    assert reference_key(VIT, 4, 10) != reference_key(VIT, 4)


def test_a_reference_without_directions_has_no_probe(ready: Callable[[Case], Ready]) -> None:
    folder = ready(VIT).reference
    assert not (folder / gradient.GRADIENT).exists()
    assert "in:pixel_values" in arrays.load(folder / "parity-0.npz")
