"""SegFormer and SETR: how two masks agree, and the sizes that a mask has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from families import small

pytest.importorskip("torch")

SEGFORMER = small("segformer")
MASK = [[0, 0], [1, 1]]


def test_a_quarter_of_the_resolution_is_rounded_up() -> None:
    """70 pixels have a mask of 18."""
    (spec,) = SEGFORMER.family.signature(SEGFORMER.model, {"batch": 2, "image_size": 70}).outputs
    (found,) = SEGFORMER.answers({"pixel_values": np.zeros((2, 3, 70, 70), np.float32)}).values()
    assert found.shape == (2, *spec.axes[1:]) == (2, 10, 18, 18)


def logits_of(*masks: list[list[int]]) -> dict[str, Any]:
    """Logits (batch, 3 classes, height, width) whose best classes are the masks."""
    return {"logits": np.eye(3, dtype=np.float32)[np.array(masks)].transpose(0, 3, 1, 2)}


@pytest.mark.parametrize(
    ("candidate", "overlap", "pixels"),
    [
        ([[1, 1], [0, 0]], 0.0, 0.0),
        ([[0, 1], [1, 1]], (1 / 2 + 2 / 3) / 2, 0.75),  # 0: one of two pixels; 1: two of three
        ([[0, 0], [1, 2]], (1 + 1 / 2 + 0) / 3, 0.75),  # 2 is in the candidate only
        ([[0, 0], [0, 0]], (2 / 4 + 0) / 2, 0.5),
    ],
)
@pytest.mark.parametrize("name", ["segformer", "setr-naive"])
def test_agreement_of_masks(name: str, candidate: list[list[int]], overlap: float, pixels: float) -> None:
    assert small(name).metrics(logits_of(MASK), logits_of(candidate)) == {
        "mask_agreement": pytest.approx(overlap),
        "pixel_agreement": pytest.approx(pixels),
    }


def test_each_image_counts_alike_whatever_classes_it_has() -> None:
    plain = [[2, 2], [2, 2]]
    found = SEGFORMER.metrics(logits_of(MASK, plain), logits_of([[1, 1], [0, 0]], plain))
    assert found == {"mask_agreement": 0.5, "pixel_agreement": 0.5}
