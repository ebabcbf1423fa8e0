"""ViT in Keras 3: a torch module on Keras' torch backend, its weights, its feeds, and its export."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchbox import plugins
from benchbox.build.artifacts import artifact_of, build_artifact
from benchbox.build.cache import Cache
from benchbox.errors import StageError, Unavailable
from benchbox.plugins.contract import Evidence, Sample
from benchbox.plugins.models import keras_vit
from benchbox.schema.asked import Backend, Case, Dataset, Model, Step, Threads
from benchbox.schema.seen import Host
from benchbox.schema.tensors import Signature, TensorSpec

torch = pytest.importorskip("torch")

MODEL = Model(
    name="keras-tiny",
    family="keras_vit",
    source="keras/vit-base-patch16-224",
    task="image-classification",
    config={
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "image_size": 32,
        "patch_size": 8,
        "num_labels": 10,
    },
)
SHAPE = {"batch": 2, "image_size": 32}

needs_keras = pytest.mark.skipif(
    importlib.util.find_spec("keras") is None, reason='needs keras: pip install "benchbox[keras]"'
)


def logits(module: Any) -> Any:
    pixels = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32)
    with torch.inference_mode():
        (result,) = module(pixels)
    return result.numpy()


def refused(model: Model) -> str:
    with pytest.raises(StageError) as caught:
        keras_vit.signature(model, SHAPE)
    return caught.value.reason


def test_without_keras_a_case_is_skipped_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "keras" else found(name, *rest)
    )
    with pytest.raises(Unavailable) as caught:
        plugins.require(plugins.load("models", "keras_vit"))
    assert (caught.value.reason, "keras" in caught.value.hint) == ("needs keras", True)


def test_the_signature_names_inputs_outputs_and_the_batch_axis() -> None:
    assert keras_vit.signature(MODEL, SHAPE) == Signature(
        inputs=(TensorSpec("pixel_values", "float32", ("batch", 3, 32, 32)),),
        outputs=(TensorSpec("logits", "float32", ("batch", 10)),),
    )


def test_feeds_are_scaled_to_the_size_and_to_minus_one_to_one() -> None:
    pytest.importorskip("PIL")
    white, red = np.full((40, 50, 3), 255, np.uint8), np.zeros((20, 20, 3), np.uint8)
    red[..., 0] = 255
    pixels = keras_vit.feeds(MODEL, [Sample(image=white), Sample(image=red)], SHAPE)["pixel_values"]
    assert (pixels.shape, str(pixels.dtype), pixels.flags.c_contiguous) == ((2, 3, 32, 32), "float32", True)
    assert np.array_equal(pixels[0], np.ones((3, 32, 32), np.float32))
    assert [pixels[1, channel].mean() for channel in range(3)] == [1.0, -1.0, -1.0]


def test_agreement_is_that_of_a_classifier() -> None:
    scores = np.array([[3, 2, 1, 0, -1, -2]], np.float32)
    swapped = scores[:, [1, 0, 2, 3, 4, 5]]
    assert keras_vit.metrics(MODEL, Evidence({}, {"logits": scores}, {"logits": swapped})) == {
        "top1_agreement": 0.0,
        "top5_agreement": 1.0,
    }


def test_a_config_that_is_wrong_is_named() -> None:
    config = MODEL.config
    assert refused(replace(MODEL, source="keras/vit-huge")).startswith(
        "no config for 'keras/vit-huge'. Known: "
    )
    assert refused(replace(MODEL, config={"depth": 3})).startswith(
        "unknown in the config: 'depth'. Allowed: "
    )
    assert refused(replace(MODEL, config={**config, "patch_size": 7})) == (
        "the config of keras-tiny: image_size is a multiple of patch_size, hidden_size of num_attention_heads"
    )
    assert refused(replace(MODEL, config={**config, "image_size": 64})) == (
        "keras-tiny takes images of 64 pixels, and the suite's image_size is 32"
    )


@needs_keras
def test_random_weights_are_those_of_the_seed() -> None:
    first, same = logits(keras_vit.load(MODEL)), logits(keras_vit.load(MODEL))
    other = logits(keras_vit.load(replace(MODEL, seed=1)))
    assert (first.shape, str(first.dtype)) == ((2, 10), "float32")
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


@needs_keras
def test_keras_runs_on_torch_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    module = keras_vit.load(MODEL)
    assert isinstance(module, torch.nn.Module)
    assert {p.device.type for p in module.parameters()} == {"cpu"}


@needs_keras
def test_keras_on_another_backend_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import keras

    monkeypatch.setattr(keras, "config", SimpleNamespace(backend=lambda: "jax"))
    with pytest.raises(StageError, match=r"^keras was imported on its jax backend before$"):
        keras_vit.load(MODEL)


@needs_keras
def test_the_preset_is_the_papers_vit() -> None:
    """ViT-tiny of the same shape has 5,717,416 parameters in transformers, as ViT-base has 86.6 million."""
    module = keras_vit.load(replace(MODEL, source="keras/vit-tiny-patch16-224", config={}))
    assert sum(p.numel() for p in module.parameters()) == 5_717_416


@needs_keras
def test_a_saved_module_comes_back_as_the_same_module(tmp_path: Path) -> None:
    module = keras_vit.load(MODEL)
    keras_vit.save(module, tmp_path)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    stored = replace(MODEL, source=str(tmp_path), weights="pretrained", config={}, seed=9)
    assert np.array_equal(logits(keras_vit.load(stored)), logits(module))


@needs_keras
def test_weights_that_are_not_there_or_of_another_config_are_an_error(tmp_path: Path) -> None:
    stored = replace(MODEL, source=str(tmp_path), weights="pretrained", config={})
    with pytest.raises(StageError, match=r"^pretrained weights of .* cannot be had: "):
        keras_vit.load(stored)
    keras_vit.save(keras_vit.load(MODEL), tmp_path)
    with pytest.raises(StageError, match="are not those of the config beside them"):
        keras_vit.load(replace(stored, config={"num_labels": 11}))
    (tmp_path / "model.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00notjson!")
    with pytest.raises(StageError, match=r"^pretrained weights of .* cannot be had: "):
        keras_vit.load(stored)


@needs_keras
def test_it_is_exported_with_a_dynamic_batch(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    case = Case(
        model=MODEL,
        path=(Step("onnx"),),
        backend=Backend("onnxruntime", ("CPUExecutionProvider",), Threads(1)),
        shape={"batch": 1, "image_size": 32},
        dataset=Dataset("random", {"height": 32, "width": 32}),
    )
    entry = build_artifact(case, Cache(tmp_path), Host(frozenset()))
    facts = artifact_of(entry).facts
    assert (facts["opset"], facts["op_types"]["LayerNormalization"]) == (17, 3)
    assert facts["verified"]["sizes"] == {"batch": 3}
    assert facts["verified"]["max_abs_error"] < 1e-4
