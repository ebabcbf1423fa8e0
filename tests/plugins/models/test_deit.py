"""DeiT: two heads whose mean is the answer, the hub's cut-out, and what a classifier cares about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchbox.errors import StageError
from benchbox.plugins.contract import Evidence, Sample
from benchbox.plugins.models import deit
from benchbox.schema.asked import Model
from benchbox.schema.tensors import Signature, TensorSpec

torch = pytest.importorskip("torch")

DISTILLED = Model(
    name="deit-small",
    family="deit",
    source="facebook/deit-tiny-distilled-patch16-224",
    task="image-classification-distilled",
    config={
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "image_size": 28,
        "patch_size": 7,
        "num_labels": 6,
    },
)
PLAIN = replace(DISTILLED, task="image-classification")
SHAPE = {"batch": 2, "image_size": 28}


def outputs(module: Any) -> list[Any]:
    pixels = torch.linspace(-1, 1, 2 * 3 * 28 * 28).reshape(2, 3, 28, 28)
    with torch.inference_mode():
        return [t.numpy() for t in module(pixels)]


def test_the_distilled_model_has_three_outputs_and_the_plain_one_has_one() -> None:
    pixels = (TensorSpec("pixel_values", "float32", ("batch", 3, 28, 28)),)
    logits, first, second = (
        TensorSpec(name, "float32", ("batch", 6)) for name in ("logits", "cls_logits", "distillation_logits")
    )
    assert deit.signature(DISTILLED, SHAPE) == Signature(pixels, (logits, first, second))
    assert deit.signature(PLAIN, SHAPE) == Signature(pixels, (logits,))


def test_the_answer_of_the_distilled_model_is_the_mean_of_its_heads() -> None:
    logits, first, second = outputs(deit.load(DISTILLED))
    assert logits.shape == (2, 6)
    assert not np.allclose(first, second)
    assert np.allclose(logits, (first + second) / 2, atol=1e-6)


@pytest.mark.parametrize("model", [DISTILLED, PLAIN], ids=lambda m: m.task)
def test_attention_is_kept_over_the_patches_and_changes_no_answer(model: Model) -> None:
    """Four by four patches; the class and the distillation token take the rest of the attention."""
    keeping = replace(model, attention=True)
    *logits, looked = outputs(deit.load(keeping))
    (*_, spec) = deit.signature(keeping, SHAPE).outputs
    assert (spec.name, spec.axes) == ("attention", ("batch", 4, 4))
    assert looked.shape == (2, 4, 4)
    assert np.all((looked.sum(axis=(1, 2)) > 0.7) & (looked.sum(axis=(1, 2)) < 1.0))
    for kept, plain in zip(logits, outputs(deit.load(model)), strict=True):
        assert np.allclose(kept, plain, atol=1e-5)


@pytest.mark.parametrize("model", [DISTILLED, PLAIN], ids=lambda m: m.task)
def test_a_saved_module_comes_back_as_the_same_module(model: Model, tmp_path: Path) -> None:
    module = deit.load(model)
    deit.save(module, tmp_path)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    again = deit.load(replace(model, source=str(tmp_path), weights="pretrained", config={}))
    assert not again.training
    for before, after in zip(outputs(module), outputs(again), strict=True):
        assert np.array_equal(before, after)


def test_a_checkpoint_without_the_distillation_head_is_an_error(tmp_path: Path) -> None:
    deit.save(deit.load(PLAIN), tmp_path)
    with pytest.raises(StageError, match=r"lack .* of DeiTForImageClassificationWithTeacher, which would be"):
        deit.load(replace(DISTILLED, source=str(tmp_path), weights="pretrained", config={}))


def test_an_image_size_that_the_model_does_not_take_is_refused() -> None:
    with pytest.raises(
        StageError, match=r"^deit-small takes images of 28 pixels, and the suite's image_size is 32$"
    ):
        deit.signature(DISTILLED, {"batch": 1, "image_size": 32})


def test_feeds_are_the_middle_of_the_image_in_imagenets_colours() -> None:
    """28 pixels are cut out of 32, so the outer two pixels on each side of a 32 pixel image are not seen."""
    image = np.full((32, 32, 3), 255, np.uint8)
    image[2:30, 2:30] = 0
    pixels = deit.feeds(DISTILLED, [Sample(image=image)], SHAPE)["pixel_values"]
    assert (pixels.shape, str(pixels.dtype)) == ((1, 3, 28, 28), "float32")
    black = [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]
    assert np.allclose(pixels[0, :, 14, 14], black, atol=1e-5)
    assert np.allclose(pixels[0].min(axis=(1, 2)), pixels[0].max(axis=(1, 2)), atol=1e-5)


def test_presets_are_the_papers_architectures() -> None:
    """DeiT-Ti has 6 million parameters with the distillation token and its head (table 5 of the paper)."""
    tiny = deit.load(replace(DISTILLED, config={}))
    assert sum(p.numel() for p in tiny.parameters()) == 5_910_800
    base = deit.PRESETS["facebook/deit-base-distilled-patch16-384"]
    assert base == {"num_labels": 1000, "image_size": 384, "patch_size": 16}


def test_agreement_is_judged_on_the_answer_of_the_model() -> None:
    answer = np.array([[2, 1, 0], [0, 1, 2]], np.float32)
    evidence = Evidence({}, {"logits": answer}, {"logits": answer[:, [0, 2, 1]]}, np.array([0, 2]))
    assert deit.metrics(DISTILLED, evidence) == {
        "top1_agreement": 0.5,
        "top5_agreement": 1.0,
        "accuracy": 0.5,
        "reference_accuracy": 1.0,
    }
