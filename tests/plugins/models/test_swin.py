"""Swin: windows that shift, a pyramid of stages, and what a classifier cares about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchbox.errors import StageError
from benchbox.plugins.contract import Evidence, Sample
from benchbox.plugins.models import swin
from benchbox.schema.asked import Model
from benchbox.schema.tensors import Signature, TensorSpec

torch = pytest.importorskip("torch")

MODEL = Model(
    name="swin-small",
    family="swin",
    source="microsoft/swin-tiny-patch4-window7-224",
    task="image-classification",
    config={
        "embed_dim": 16,
        "depths": [2, 2],
        "num_heads": [2, 4],
        "window_size": 4,
        "image_size": 32,
        "num_labels": 6,
    },
)
SHAPE = {"batch": 2, "image_size": 32}


def outputs(module: Any) -> Any:
    pixels = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32)
    with torch.inference_mode():
        (logits,) = module(pixels)
    return logits.numpy()


def test_the_signature_names_inputs_outputs_and_the_batch_axis() -> None:
    assert swin.signature(MODEL, SHAPE) == Signature(
        inputs=(TensorSpec("pixel_values", "float32", ("batch", 3, 32, 32)),),
        outputs=(TensorSpec("logits", "float32", ("batch", 6)),),
    )


def test_windows_of_the_small_model_are_shifted_in_every_other_layer() -> None:
    """8 x 8 tokens in windows of 4: the second layer of the first stage shifts them by 2."""
    stages = swin.load(MODEL).model.swin.encoder.layers
    assert [block.shift_size for block in stages[0].blocks] == [0, 2]


def test_a_saved_module_comes_back_as_the_same_module(tmp_path: Path) -> None:
    module = swin.load(MODEL)
    found = outputs(module)
    swin.save(module, tmp_path)
    again = swin.load(replace(MODEL, source=str(tmp_path), weights="pretrained", config={}))
    assert sorted(f.name for f in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert found.shape == (2, 6)
    assert not again.training
    assert np.array_equal(found, outputs(again))


def test_an_image_size_that_the_model_does_not_take_is_refused() -> None:
    with pytest.raises(
        StageError, match=r"^swin-small takes images of 32 pixels, and the suite's image_size is 48$"
    ):
        swin.signature(MODEL, {"batch": 1, "image_size": 48})


def test_feeds_are_scaled_to_the_size_in_imagenets_colours() -> None:
    white = np.full((40, 50, 3), 255, np.uint8)
    pixels = swin.feeds(MODEL, [Sample(image=white)] * 2, SHAPE)["pixel_values"]
    assert (pixels.shape, str(pixels.dtype), pixels.flags.c_contiguous) == ((2, 3, 32, 32), "float32", True)
    expected = [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    assert np.allclose(pixels[1].mean(axis=(1, 2)), expected, atol=1e-5)


def test_the_tiny_preset_is_the_papers_architecture() -> None:
    """Swin-T has 29 million parameters (table 1 of the paper)."""
    tiny = swin.load(replace(MODEL, config={}))
    assert sum(p.numel() for p in tiny.parameters()) == 28_288_354


def test_agreement_of_the_best_class() -> None:
    reference = np.array([[3, 2, 1], [1, 2, 3]], np.float32)
    candidate = np.array([[3, 2, 1], [3, 2, 1]], np.float32)
    assert swin.metrics(MODEL, Evidence({}, {"logits": reference}, {"logits": candidate})) == {
        "top1_agreement": 0.5,
        "top5_agreement": 1.0,
    }
