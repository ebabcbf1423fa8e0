"""DETR: images padded into any height and width, and how two sets of boxes are matched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchbox.plugins.contract import Sample
from benchbox.plugins.models import detr
from families import small

torch = pytest.importorskip("torch")

DETR = small("detr")


def test_the_open_axes_are_sizes_of_the_task() -> None:
    assert set(detr.DYNAMIC) == set(detr.TASKS["object-detection"])


def test_a_module_takes_any_height_and_width() -> None:
    """Also one that no stride divides, where half of the image is masked."""
    pixels, mask = np.zeros((2, 3, 70, 50), np.float32), np.ones((2, 70, 50), np.int64)
    mask[1, :, 25:] = 0
    found = DETR.answers({"pixel_values": pixels, "pixel_mask": mask})
    assert {name: a.shape for name, a in found.items()} == {"logits": (2, 20, 11), "pred_boxes": (2, 20, 4)}


def test_what_is_beside_the_image_changes_its_boxes_only_a_little() -> None:
    """Attention does not look there; the convolutions do, at the border."""
    pixels = torch.zeros(1, 3, 64, 256)
    pixels[..., :128] = torch.linspace(-1, 1, 128)
    beyond = pixels.clone()
    beyond[..., 192:] = 5.0
    mask = torch.zeros(1, 64, 256, dtype=torch.int64)
    mask[..., :128] = 1
    with torch.inference_mode():
        usual = DETR.module(pixels, mask)[0]
        unseen = (usual - DETR.module(beyond, mask)[0]).abs().max()
        seen = (usual - DETR.module(pixels, torch.ones_like(mask))[0]).abs().max()
    assert unseen < seen / 10


def test_feeds_keep_the_aspect_and_pad_to_the_size() -> None:
    """An image of 20 x 40 fits 32 x 48 as 24 x 48: below it is nothing, and the mask says so."""
    white, square = (Sample(image=np.full((*size, 3), 255, np.uint8)) for size in ((20, 40), (50, 50)))
    feeds = DETR.raw([white, square], height=32, width=48)
    pixels, mask = feeds["pixel_values"], feeds["pixel_mask"]
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
    return DETR.metrics(reference, {"logits": logits, "pred_boxes": boxes})


def test_the_same_boxes_agree_whatever_their_order() -> None:
    order = [2, 0, 1]
    full = {"matched_box_iou": 1.0, "matched_box_agreement": 1.0, "class_agreement": 1.0}
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
    found = DETR.metrics(both, other)
    assert found["matched_box_iou"] == pytest.approx(0.5)
    assert found["matched_box_agreement"] == pytest.approx(0.5)
