"""SETR: the project's own module with two heads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchbox.errors import StageError
from families import Member, small

torch = pytest.importorskip("torch")

NAIVE, PUP = small("setr-naive"), small("setr-pup")


def test_a_saved_module_says_how_wide_its_decoder_is(tmp_path: Path) -> None:
    """Which no config of transformers does."""
    NAIVE.saved(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["decoder_channels"] == 32


def test_weights_of_a_vit_are_not_those_of_a_segmenter(tmp_path: Path) -> None:
    """The encoder would be loaded and the head be random."""
    from transformers import ViTConfig, ViTForImageClassification

    ViTForImageClassification(ViTConfig(**NAIVE.model.config)).save_pretrained(tmp_path)
    stored = NAIVE.but(source=str(tmp_path), weights="pretrained", config={})
    with pytest.raises(StageError, match=r"^pretrained weights of .* lack decode_head\..* of Setr, which"):
        stored.family.load(stored.model)


def test_the_naive_head_is_two_pointwise_convolutions_and_pup_four_of_3x3_with_scaling_between() -> None:
    def shapes(member: Member) -> list[Any]:
        return [
            tuple(layer.weight.shape) if hasattr(layer, "kernel_size") else layer.scale_factor
            for layer in member.module.model.decode_head
            if hasattr(layer, "kernel_size") or hasattr(layer, "scale_factor")
        ]

    assert shapes(NAIVE) == [(32, 64, 1, 1), (10, 32, 1, 1)]
    inner = [2.0, (32, 32, 3, 3)]
    assert shapes(PUP) == [(32, 64, 3, 3), *inner, *inner, *inner, (10, 32, 1, 1)]


def test_a_token_is_seen_where_its_patch_is() -> None:
    """The order of tokens in the map is that of patches in the image: rows first."""
    module = NAIVE.but().module  # its own, as it is changed
    plain = torch.zeros(1, 3, 64, 64)
    marked = plain.clone()
    marked[..., 48:64, 0:16] = 3.0  # the patch at the lower left
    with torch.inference_mode():
        module.model.vit.layers = torch.nn.ModuleList()  # no attention, so that a patch stays where it is
        moved = (module(marked)[0] - module(plain)[0]).abs().amax(dim=(0, 1))
    assert moved[56, 8] > 0
    assert moved[:32].max() == 0
    assert moved[:, 32:].max() == 0
