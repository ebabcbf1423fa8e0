"""DeiT: two heads whose mean is the answer, the hub's cut-out, and a checkpoint of one head only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchbox.errors import StageError
from benchbox.plugins.contract import Sample
from benchbox.plugins.models import deit
from families import small

pytest.importorskip("torch")

DISTILLED = small("deit-distilled")


def test_the_answer_of_the_distilled_model_is_the_mean_of_its_heads() -> None:
    logits, first, second = DISTILLED.answers().values()
    assert not np.allclose(first, second)
    assert np.allclose(logits, (first + second) / 2, atol=1e-6)


def test_a_checkpoint_without_the_distillation_head_is_an_error(tmp_path: Path) -> None:
    stored = small("deit").saved(tmp_path).but(task="image-classification-distilled")
    with pytest.raises(StageError, match=r"lack .* of DeiTForImageClassificationWithTeacher, which would be"):
        deit.load(stored.model)


def test_feeds_are_the_middle_of_the_image_in_imagenets_colours() -> None:
    """28 pixels are cut out of 32, so the outer two pixels on each side of a 32 pixel image are not seen."""
    image = np.full((32, 32, 3), 255, np.uint8)
    image[2:30, 2:30] = 0
    pixels = small("deit", config={"image_size": 28}).raw([Sample(image=image)], image_size=28)[
        "pixel_values"
    ]
    black = [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]
    assert np.allclose(pixels[0, :, 14, 14], black, atol=1e-5)
    assert np.allclose(pixels[0].min(axis=(1, 2)), pixels[0].max(axis=(1, 2)), atol=1e-5)


def test_the_preset_of_384_pixels_is_the_base_model_of_that_size() -> None:
    base = deit.PRESETS["facebook/deit-base-distilled-patch16-384"]
    assert base == {"num_labels": 1000, "image_size": 384, "patch_size": 16}
