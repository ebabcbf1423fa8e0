"""ViT in Keras 3: a torch module on Keras' torch backend, and what is wrong with a config."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchbox import plugins
from benchbox.errors import StageError, Unavailable
from benchbox.plugins.models import keras_vit
from benchbox.schema.asked import Model
from families import small

torch = pytest.importorskip("torch")

KERAS = small("keras-vit-small")
MODEL, SHAPE = KERAS.model, KERAS.shape

needs_keras = pytest.mark.skipif(
    importlib.util.find_spec("keras") is None, reason='needs keras: pip install "benchbox[keras]"'
)


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


def test_a_config_that_is_wrong_is_named() -> None:
    config = MODEL.config
    assert refused(replace(MODEL, source="keras/vit-huge")).startswith(
        "no config for 'keras/vit-huge'. Known: "
    )
    assert refused(replace(MODEL, config={"depth": 3})).startswith(
        "unknown in the config: 'depth'. Allowed: "
    )
    assert refused(replace(MODEL, config={**config, "patch_size": 7})) == (
        "the config of keras-vit-small: image_size is a multiple of patch_size, hidden_size of "
        "num_attention_heads"
    )


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
def test_weights_of_another_config_are_an_error(tmp_path: Path) -> None:
    stored = KERAS.saved(tmp_path).model
    with pytest.raises(StageError, match="are not those of the config beside them"):
        keras_vit.load(replace(stored, config={"num_labels": 11}))
