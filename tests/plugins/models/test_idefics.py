"""IDEFICS: prompts of an image and its caption, which tokens see the image, and what is written behind."""

from __future__ import annotations

import numpy as np
import pytest

from benchbox.errors import StageError
from benchbox.schema.tensors import Feeds, Outputs
from families import PAIRS, small

torch = pytest.importorskip("torch")

IDEFICS = small("idefics-small")
SAMPLES, LENGTH = PAIRS[:2], {"sequence_length": 9}


def test_a_prompt_is_begin_mark_image_mark_words_and_padding() -> None:
    """1 begins; 1000 marks an image, which is 1001, on both sides. Tokens see the image from its place on."""
    feeds = IDEFICS.raw(SAMPLES, **LENGTH)
    ids = feeds["input_ids"]
    assert ids[:, :4].tolist() == [[1, 1000, 1001, 1000]] * 2
    assert ids[0, 6:].tolist() == [0, 0, 0]
    assert ids[1, 4:].min() >= 3
    assert feeds["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 1, 0, 0, 0], [1] * 9]
    assert feeds["image_attention_mask"][..., 0].tolist() == [[0, 0, 1, 1, 1, 1, 1, 1, 1]] * 2


def test_a_token_depends_on_the_image_from_its_place_on_and_not_before() -> None:
    feeds = IDEFICS.raw(SAMPLES, **LENGTH)
    turned = {**feeds, "pixel_values": feeds["pixel_values"][::-1].copy()}
    difference = IDEFICS.answers(turned)["logits"] - IDEFICS.answers(feeds)["logits"]
    moved = np.abs(difference).max(axis=(0, 2))
    assert np.all(moved[:2] == 0.0)
    assert np.all(moved[2:] > 1e-5)


def test_a_token_does_not_depend_on_padding() -> None:
    feeds = IDEFICS.raw(SAMPLES, **LENGTH)
    ids = feeds["input_ids"].copy()
    ids[0, 6:] = 150
    usual, other = (IDEFICS.answers(f)["logits"][0, :6] for f in (feeds, {**feeds, "input_ids": ids}))
    assert np.allclose(other, usual, atol=1e-6)


def test_the_tokens_before_the_image_look_nowhere() -> None:
    looking = IDEFICS.attentive()
    shares = looking.answers(looking.raw(SAMPLES, **LENGTH))["attention"].sum(axis=(2, 3))
    assert np.all(shares[:, :2] == 0.0)
    assert np.all((shares[:, 2:] > 0.5) & (shares[:, 2:] < 1.0))


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (
            {"use_resampler": True},
            (
                "its text looks at what a perceiver makes of the image, which has no places. With config: "
                "{use_resampler: false} it looks at the patches"
            ),
        ),
        (
            {"use_resampler": False, "cross_layer_interval": 3},
            "of its 2 layers none looks at it, as one in 3 does (cross_layer_interval)",
        ),
    ],
)
def test_a_text_that_looks_at_no_patches_has_no_attention_over_them(
    config: dict[str, object], reason: str
) -> None:
    blind = IDEFICS.but(attention=True, config=config)
    for ask in (blind.family.load, lambda model: blind.family.signature(model, blind.shape)):
        with pytest.raises(StageError) as caught:
            ask(blind.model)
        assert caught.value.reason == f"idefics-small keeps no attention over the image: {reason}"


def test_decoding_goes_on_behind_the_prompt_and_sees_the_image() -> None:
    """The best token is the sum of the ids of the real tokens that see the image, modulo 10."""

    def run(feeds: Feeds) -> Outputs:
        seen = feeds["input_ids"] * feeds["attention_mask"] * feeds["image_attention_mask"][..., 0]
        return {"logits": np.eye(10)[np.cumsum(seen, axis=1) % 10]}

    feeds = {
        "input_ids": np.array([[7, 1, 2, 0], [7, 1, 2, 3]]),
        "attention_mask": np.array([[1, 1, 1, 0], [1, 1, 1, 1]]),
        "image_attention_mask": np.array([[0, 1, 1, 1]] * 2)[..., None],
    }
    tokens = IDEFICS.family.rollout(IDEFICS.model, run, feeds)["tokens"]
    assert tokens.tolist() == [[3, 6, 2, 4, 8, 6, 2, 4], [6, 2, 4, 8, 6, 2, 4, 8]]
