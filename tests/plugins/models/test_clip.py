"""CLIP: both towers and each by itself, the captions that are ranked, and how far two rankings agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchbox.errors import StageError
from benchbox.plugins.contract import Sample
from benchbox.plugins.models import clip
from families import PAIRS, small

pytest.importorskip("torch")

CLIP = small("clip-small")
SAMPLES = PAIRS[:2]


def test_a_tower_is_loaded_from_a_checkpoint_of_both(tmp_path: Path) -> None:
    """The hub has no checkpoints of single towers. The joint model gives unit vectors, a tower does not."""
    images = CLIP.saved(tmp_path).but(task="image-features")
    alone = images.answers({"pixel_values": CLIP.feeds["pixel_values"]})["image_embeds"]
    joint = CLIP.answers()["image_embeds"]
    assert np.allclose(alone / np.linalg.norm(alone, axis=1, keepdims=True), joint, atol=1e-6)


def test_only_the_tower_that_sees_the_image_gives_up_its_fused_kernel() -> None:
    config = CLIP.attentive().module.model.config
    assert config.vision_config._attn_implementation == "eager"
    assert config.text_config._attn_implementation == "sdpa"


def test_a_text_tower_keeps_no_attention_over_an_image() -> None:
    assert clip.ATTENTION == ("zero-shot-image-classification", "image-features")


def test_texts_begin_and_end_and_are_padded_with_the_end_token() -> None:
    """998 begins, 999 ends and pads; a text that is too long loses words and keeps its end."""
    feeds = CLIP.raw(SAMPLES, captions=3, sequence_length=7)
    ids, mask = feeds["input_ids"], feeds["attention_mask"]
    assert mask.tolist() == [[1, 1, 1, 1, 0, 0, 0], [1] * 7, [1] * 7]
    assert ids[:, 0].tolist() == [998, 998, 998]
    assert ids[0, 3:].tolist() == [999, 999, 999, 999]
    assert ids[1:, 6].tolist() == [999, 999]
    assert ids[:, 1:3].max() < 998


def test_the_captions_are_the_samples_own_and_then_prompts_each_once() -> None:
    assert clip.captions([*SAMPLES, SAMPLES[0]], 4) == [
        "a temple",
        "a flower in front of a very old red wall",
        "a photo of a temple.",
        "a photo of a flower.",
    ]
    assert clip.captions([Sample(text="a photo of a flower.")], 2) == [
        "a photo of a flower.",
        "a photo of a temple.",
    ]


def test_more_captions_than_there_are_is_an_error() -> None:
    with pytest.raises(
        StageError, match=r"^there are 130 captions to rank, and the suite's captions is 131$"
    ):
        clip.captions(SAMPLES, 131)


SCORES = np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]], np.float32)


@pytest.mark.parametrize(
    ("candidate", "zero_shot", "rank", "retrieval"),
    [
        ([[3.1, 2.1, 1.0], [1.0, 2.1, 3.1]], 1.0, 1.0, 1.0),
        ([[3.0, 1.0, 2.0], [1.0, 2.0, 3.0]], 1.0, 0.5, 2 / 3),
        ([[2.0, 3.0, 1.0], [1.0, 2.0, 3.0]], 0.5, 0.5, 1.0),
        ([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]], 0.0, 0.0, 1 / 3),
    ],
)
def test_agreement_of_images_with_captions_and_of_captions_with_images(
    candidate: Any, zero_shot: float, rank: float, retrieval: float
) -> None:
    """The second caption is as good for both images: the first of them is its best, as in the reference."""
    reference, seen = ({"logits_per_image": np.asarray(s, np.float32)} for s in (SCORES, candidate))
    assert CLIP.metrics(reference, seen) == {
        "zero_shot_agreement": zero_shot,
        "caption_rank_agreement": rank,
        "image_retrieval_agreement": pytest.approx(retrieval),
    }
