"""SETR: the project's own module with two heads, saved and loaded as transformers does with its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchbox.errors import StageError
from benchbox.plugins.contract import Evidence, Sample
from benchbox.plugins.models import setr
from benchbox.schema.asked import Model
from benchbox.schema.tensors import Signature, TensorSpec

torch = pytest.importorskip("torch")

NAIVE = Model(
    name="setr-small",
    family="setr",
    source="setr-base-cityscapes",
    task="semantic-segmentation-naive",
    config={
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "decoder_channels": 16,
        "image_size": 64,
        "patch_size": 16,
        "num_labels": 5,
    },
)
PUP = replace(NAIVE, task="semantic-segmentation-pup")
BOTH = pytest.mark.parametrize("model", [NAIVE, PUP], ids=lambda m: m.task)
SHAPE = {"batch": 2, "image_size": 64}


def outputs(module: Any) -> Any:
    pixels = torch.linspace(-1, 1, 2 * 3 * 64 * 64).reshape(2, 3, 64, 64)
    with torch.inference_mode():
        (logits,) = module(pixels)
    return logits.numpy()


def parameters(model: Model) -> int:
    """Counted without memory for them."""
    with torch.device("meta"):
        return sum(p.numel() for p in setr.load(model).parameters())


@BOTH
def test_the_signature_has_the_resolution_of_the_image(model: Model) -> None:
    assert setr.signature(model, SHAPE) == Signature(
        inputs=(TensorSpec("pixel_values", "float32", ("batch", 3, 64, 64)),),
        outputs=(TensorSpec("logits", "float32", ("batch", 5, 64, 64)),),
    )


@BOTH
def test_a_module_gives_what_its_signature_says(model: Model) -> None:
    assert outputs(setr.load(model)).shape == (2, 5, 64, 64)


@BOTH
def test_a_saved_module_comes_back_as_the_same_module(model: Model, tmp_path: Path) -> None:
    module = setr.load(model)
    setr.save(module, tmp_path)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert json.loads((tmp_path / "config.json").read_text())["decoder_channels"] == 16
    again = setr.load(replace(model, source=str(tmp_path), weights="pretrained", config={}))
    assert not again.training
    assert np.array_equal(outputs(module), outputs(again))


def test_random_weights_are_those_of_the_seed() -> None:
    first, same, other = (outputs(setr.load(replace(PUP, seed=seed))) for seed in (3, 3, 4))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


def test_weights_of_a_vit_are_not_those_of_a_segmenter(tmp_path: Path) -> None:
    """The encoder would be loaded and the head be random."""
    from transformers import ViTConfig, ViTForImageClassification

    ViTForImageClassification(ViTConfig(**NAIVE.config)).save_pretrained(tmp_path)
    with pytest.raises(StageError, match=r"^pretrained weights of .* lack decode_head\..* of Setr, which"):
        setr.load(replace(NAIVE, source=str(tmp_path), weights="pretrained", config={}))


def test_pickled_weights_are_not_weights(tmp_path: Path) -> None:
    """safetensors only: a pickle could run code."""
    module = setr.load(NAIVE)
    setr.save(module, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(module.model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(StageError, match=r"^pretrained weights of .* cannot be had: "):
        setr.load(replace(NAIVE, source=str(tmp_path), weights="pretrained", config={}))


def test_the_naive_head_is_two_pointwise_convolutions_and_pup_four_of_3x3_with_scaling_between() -> None:
    def shapes(model: Model) -> list[Any]:
        layers = setr.load(model).model.decode_head
        return [
            tuple(layer.weight.shape) if hasattr(layer, "kernel_size") else layer.scale_factor
            for layer in layers
            if hasattr(layer, "kernel_size") or hasattr(layer, "scale_factor")
        ]

    assert shapes(NAIVE) == [(16, 32, 1, 1), (5, 16, 1, 1)]
    inner = [2.0, (16, 16, 3, 3)]
    assert shapes(PUP) == [(16, 32, 3, 3), *inner, *inner, *inner, (5, 16, 1, 1)]


def test_a_token_is_seen_where_its_patch_is() -> None:
    """The order of tokens in the map is that of patches in the image: rows first."""
    module = setr.load(NAIVE)
    plain = torch.zeros(1, 3, 64, 64)
    marked = plain.clone()
    marked[..., 48:64, 0:16] = 3.0  # the patch at the lower left
    with torch.inference_mode():
        module.model.vit.layers = torch.nn.ModuleList()  # no attention, so that a patch stays where it is
        moved = (module(marked)[0] - module(plain)[0]).abs().amax(dim=(0, 1))
    assert moved[56, 8] > 0
    assert moved[:32].max() == 0
    assert moved[:, 32:].max() == 0


def test_the_presets_are_the_papers_architectures() -> None:
    """SETR-Naive on ViT-large has 306 million parameters (table 2 of the paper)."""
    large = replace(NAIVE, source="setr-large-cityscapes", config={})
    assert parameters(large) == 305_728_019
    assert parameters(replace(NAIVE, config={})) == 87_619_859
    assert parameters(replace(PUP, config={})) == 90_964_499


def test_an_image_size_that_the_model_does_not_take_is_refused() -> None:
    with pytest.raises(
        StageError, match=r"^setr-small takes images of 64 pixels, and the suite's image_size is 32$"
    ):
        setr.signature(NAIVE, {"batch": 1, "image_size": 32})


def test_feeds_are_scaled_to_the_size_in_imagenets_colours() -> None:
    black = np.zeros((40, 50, 3), np.uint8)
    pixels = setr.feeds(NAIVE, [Sample(image=black)], SHAPE)["pixel_values"]
    assert (pixels.shape, str(pixels.dtype)) == ((1, 3, 64, 64), "float32")
    assert np.allclose(pixels[0, :, 5, 5], [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225], atol=1e-5)


def test_agreement_of_masks() -> None:
    """Class 0 has two pixels in one mask and one of them in the other; class 1 has none and one."""
    reference = np.array([[[[1, 1]], [[0, 0]]]], np.float32)
    candidate = np.array([[[[1, 0]], [[0, 1]]]], np.float32)
    assert setr.metrics(NAIVE, Evidence({}, {"logits": reference}, {"logits": candidate})) == {
        "mask_agreement": 0.25,
        "pixel_agreement": 0.5,
    }
