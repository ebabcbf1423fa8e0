"""SegFormer: masks at a quarter of the image's resolution, and how two masks agree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchbox.plugins.contract import Evidence, Sample
from benchbox.plugins.models import segformer
from benchbox.schema.asked import Model
from benchbox.schema.tensors import Signature, TensorSpec

torch = pytest.importorskip("torch")

MODEL = Model(
    name="segformer-small",
    family="segformer",
    source="nvidia/segformer-b0-finetuned-ade-512-512",
    task="semantic-segmentation",
    config={
        "hidden_sizes": [8, 16, 40, 64],
        "depths": [1, 1, 1, 1],
        "decoder_hidden_size": 32,
        "num_labels": 3,
    },
)


def outputs(module: Any, size: int = 64) -> Any:
    pixels = torch.linspace(-1, 1, 2 * 3 * size * size).reshape(2, 3, size, size)
    with torch.inference_mode():
        (logits,) = module(pixels)
    return logits.numpy()


def test_the_signature_has_a_quarter_of_the_images_resolution() -> None:
    assert segformer.signature(MODEL, {"batch": 2, "image_size": 64}) == Signature(
        inputs=(TensorSpec("pixel_values", "float32", ("batch", 3, 64, 64)),),
        outputs=(TensorSpec("logits", "float32", ("batch", 3, 16, 16)),),
    )


@pytest.mark.parametrize("size", [64, 70])
def test_a_module_gives_what_its_signature_says(size: int) -> None:
    """A quarter of 70 pixels is rounded up to 18."""
    (spec,) = segformer.signature(MODEL, {"batch": 2, "image_size": size}).outputs
    assert outputs(segformer.load(MODEL), size).shape == (2, *spec.axes[1:])


def test_a_saved_module_comes_back_as_the_same_module(tmp_path: Path) -> None:
    module = segformer.load(MODEL)
    segformer.save(module, tmp_path)
    again = segformer.load(replace(MODEL, source=str(tmp_path), weights="pretrained", config={}))
    assert sorted(f.name for f in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert not again.training
    assert np.array_equal(outputs(module), outputs(again))


def test_feeds_are_scaled_to_the_size_in_imagenets_colours() -> None:
    black = np.zeros((40, 50, 3), np.uint8)
    pixels = segformer.feeds(MODEL, [Sample(image=black)], {"batch": 1, "image_size": 64})["pixel_values"]
    assert (pixels.shape, str(pixels.dtype)) == ((1, 3, 64, 64), "float32")
    assert np.allclose(pixels[0, :, 5, 5], [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225], atol=1e-5)


def test_the_smallest_preset_is_the_papers_architecture() -> None:
    """B0 has 3.8 million parameters (table 1 of the paper)."""
    b0 = segformer.load(replace(MODEL, config={}))
    assert sum(p.numel() for p in b0.parameters()) == 3_752_694


def logits_of(*masks: list[list[int]]) -> Any:
    """Logits (batch, 3 classes, height, width) whose best classes are the masks."""
    return np.eye(3, dtype=np.float32)[np.array(masks)].transpose(0, 3, 1, 2)


MASK = [[0, 0], [1, 1]]


@pytest.mark.parametrize(
    ("candidate", "overlap", "pixels"),
    [
        ([[0, 0], [1, 1]], 1.0, 1.0),
        ([[1, 1], [0, 0]], 0.0, 0.0),
        ([[0, 1], [1, 1]], (1 / 2 + 2 / 3) / 2, 0.75),  # 0: one of two pixels; 1: two of three
        ([[0, 0], [1, 2]], (1 + 1 / 2 + 0) / 3, 0.75),  # 2 is in the candidate only
        ([[0, 0], [0, 0]], (2 / 4 + 0) / 2, 0.5),
    ],
)
def test_agreement_of_masks(candidate: list[list[int]], overlap: float, pixels: float) -> None:
    evidence = Evidence({}, {"logits": logits_of(MASK)}, {"logits": logits_of(candidate)})
    assert segformer.metrics(MODEL, evidence) == {
        "mask_agreement": pytest.approx(overlap),
        "pixel_agreement": pytest.approx(pixels),
    }


def test_each_image_counts_alike_whatever_classes_it_has() -> None:
    evidence = Evidence(
        {},
        {"logits": logits_of(MASK, [[2, 2], [2, 2]])},
        {"logits": logits_of([[1, 1], [0, 0]], [[2, 2], [2, 2]])},
    )
    assert segformer.metrics(MODEL, evidence) == {"mask_agreement": 0.5, "pixel_agreement": 0.5}
