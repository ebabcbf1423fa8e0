"""DETR: images padded into any height and width, and how two sets of boxes are matched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchbox.plugins.contract import Evidence, Sample
from benchbox.plugins.models import detr
from benchbox.schema.asked import Model
from benchbox.schema.tensors import Signature, TensorSpec

torch = pytest.importorskip("torch")

MODEL = Model(
    name="detr-small",
    family="detr",
    source="facebook/detr-resnet-50",
    task="object-detection",
    config={
        "d_model": 32,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "num_queries": 5,
        "num_labels": 3,
        "backbone_config": {
            "layer_type": "basic",
            "embedding_size": 8,
            "hidden_sizes": [8, 16, 24, 32],
            "depths": [1, 1, 1, 1],
        },
    },
)


def outputs(module: Any, height: int = 64, width: int = 96) -> list[Any]:
    pixels = torch.linspace(-1, 1, 2 * 3 * height * width).reshape(2, 3, height, width)
    mask = torch.ones(2, height, width, dtype=torch.int64)
    mask[1, :, width // 2 :] = 0
    with torch.inference_mode():
        return [t.numpy() for t in module(pixels, mask)]


def test_the_signature_has_an_image_a_mask_and_three_axes_that_are_open() -> None:
    assert detr.signature(MODEL, {"batch": 2, "height": 64, "width": 96}) == Signature(
        inputs=(
            TensorSpec("pixel_values", "float32", ("batch", 3, "height", "width")),
            TensorSpec("pixel_mask", "int64", ("batch", "height", "width")),
        ),
        outputs=(
            TensorSpec("logits", "float32", ("batch", 5, 4)),
            TensorSpec("pred_boxes", "float32", ("batch", 5, 4)),
        ),
    )


def test_the_open_axes_are_sizes_of_the_task() -> None:
    assert set(detr.DYNAMIC) == set(detr.TASKS["object-detection"])


@pytest.mark.parametrize(("height", "width"), [(64, 96), (70, 50)])
def test_a_module_gives_what_its_signature_says_at_any_size(height: int, width: int) -> None:
    found = outputs(detr.load(MODEL), height, width)
    assert [(a.shape, str(a.dtype)) for a in found] == [((2, 5, 4), "float32"), ((2, 5, 4), "float32")]


def test_what_is_beside_the_image_changes_its_boxes_only_a_little() -> None:
    """Attention does not look there; the convolutions do, at the border."""
    module = detr.load(MODEL)
    pixels = torch.zeros(1, 3, 64, 256)
    pixels[..., :128] = torch.linspace(-1, 1, 128)
    beyond = pixels.clone()
    beyond[..., 192:] = 5.0
    mask = torch.zeros(1, 64, 256, dtype=torch.int64)
    mask[..., :128] = 1
    with torch.inference_mode():
        unseen = (module(pixels, mask)[0] - module(beyond, mask)[0]).abs().max()
        seen = (module(pixels, mask)[0] - module(pixels, torch.ones_like(mask))[0]).abs().max()
    assert unseen < seen / 10


def test_a_saved_module_comes_back_as_the_same_module(tmp_path: Path) -> None:
    module = detr.load(MODEL)
    detr.save(module, tmp_path)
    again = detr.load(replace(MODEL, source=str(tmp_path), weights="pretrained", config={}))
    assert sorted(f.name for f in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert not again.training
    for before, after in zip(outputs(module), outputs(again), strict=True):
        assert np.array_equal(before, after)


def test_the_resnet_50_preset_is_the_papers_architecture() -> None:
    """DETR has 41 million parameters (table 1 of the paper)."""
    with torch.device("meta"):
        module = detr.load(replace(MODEL, config={}))
    assert sum(p.numel() for p in module.parameters()) == 41_524_768


def test_feeds_keep_the_aspect_and_pad_to_the_size() -> None:
    """An image of 20 x 40 fits 32 x 48 as 24 x 48: below it is nothing, and the mask says so."""
    white = np.full((20, 40, 3), 255, np.uint8)
    square = np.full((50, 50, 3), 255, np.uint8)
    feeds = detr.feeds(
        MODEL, [Sample(image=white), Sample(image=square)], {"batch": 2, "height": 32, "width": 48}
    )
    pixels, mask = feeds["pixel_values"], feeds["pixel_mask"]
    assert list(feeds) == ["pixel_values", "pixel_mask"]
    assert (pixels.shape, str(pixels.dtype)) == ((2, 3, 32, 48), "float32")
    assert (mask.shape, str(mask.dtype)) == ((2, 32, 48), "int64")
    assert (mask[0, :24].min(), mask[0, 24:].max()) == (1, 0)
    assert (mask[1, :, :32].min(), mask[1, :, 32:].max()) == (1, 0)
    expected = [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    assert np.allclose(pixels[0, :, 12, 24], expected, atol=1e-5)
    assert np.abs(pixels[0, :, 24:]).max() == 0.0


# Two boxes that share nothing, and a third that is no object.
BOXES = np.array([[[0.2, 0.2, 0.2, 0.2], [0.7, 0.7, 0.4, 0.4], [0.5, 0.1, 0.1, 0.1]]], np.float32)
LOGITS = np.array([[[9, 0, 0, 0], [0, 9, 0, 0], [0, 0, 0, 9]]], np.float32)


def metrics(logits: Any, boxes: Any) -> Any:
    reference = {"logits": LOGITS, "pred_boxes": BOXES}
    return detr.metrics(MODEL, Evidence({}, reference, {"logits": logits, "pred_boxes": boxes}))


def test_the_same_boxes_agree_whatever_their_order() -> None:
    order = [2, 0, 1]
    full = {"matched_box_iou": 1.0, "matched_box_agreement": 1.0, "class_agreement": 1.0}
    assert metrics(LOGITS, BOXES) == pytest.approx(full)
    assert metrics(LOGITS[:, order], BOXES[:, order]) == pytest.approx(full)


def test_a_box_that_moved_by_half_its_width_overlaps_by_a_third() -> None:
    moved = BOXES.copy()
    moved[0, 0, 0] += 0.1
    found = metrics(LOGITS, moved)
    assert found["matched_box_iou"] == pytest.approx((1 / 3 + 1 + 1) / 3, abs=1e-6)
    assert found["class_agreement"] == 1.0
    # Of the reference's two sure objects one is left; "no object" counts by what is left for objects.
    sure, unsure = np.exp(9) / (np.exp(9) + 3), 1 / (np.exp(9) + 3)
    assert found["matched_box_agreement"] == pytest.approx((sure + unsure) / (2 * sure + unsure), abs=1e-6)


def test_a_box_of_another_class_is_no_agreement() -> None:
    other = LOGITS.copy()
    other[0, 1] = [0, 0, 9, 0]
    found = metrics(other, BOXES)
    assert found["matched_box_iou"] == pytest.approx(1.0)
    assert found["class_agreement"] == pytest.approx(2 / 3)
    assert found["matched_box_agreement"] == pytest.approx(0.5, abs=1e-4)


def test_boxes_of_no_size_overlap_with_nothing() -> None:
    found = metrics(LOGITS, np.full_like(BOXES, 0.0))
    assert found == {"matched_box_iou": 0.0, "matched_box_agreement": 0.0, "class_agreement": 1.0}


def test_images_are_matched_each_for_itself_and_count_alike() -> None:
    both = {"logits": np.repeat(LOGITS, 2, axis=0), "pred_boxes": np.repeat(BOXES, 2, axis=0)}
    other = {"logits": both["logits"], "pred_boxes": np.concatenate([BOXES, np.zeros_like(BOXES)])}
    found = detr.metrics(MODEL, Evidence({}, both, other))
    assert found["matched_box_iou"] == pytest.approx(0.5)
    assert found["matched_box_agreement"] == pytest.approx(0.5)
