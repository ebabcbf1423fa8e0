"""GIT: one decoder over patches and tokens, the captions that it is given and those that it writes."""

from __future__ import annotations

import numpy as np
import pytest

from families import PAIRS, Member, small

torch = pytest.importorskip("torch")

GIT = small("git-small")
SAMPLES, LENGTH = PAIRS[:2], {"sequence_length": 8}


def test_captions_are_tokens_between_begin_and_end_and_padded_on_the_right() -> None:
    feeds = GIT.raw(SAMPLES, **LENGTH)
    ids = feeds["input_ids"]
    assert feeds["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0, 0, 0], [1] * 8]
    assert ids[:, 0].tolist() == [101, 101]
    assert ids[0, 3:].tolist() == [102, 0, 0, 0, 0]
    assert ids[1, 7] == 102
    assert ids[1, 1:7].min() >= 104


def test_the_logits_are_those_that_transformers_gives_for_the_text() -> None:
    """Seventeen tokens of the image come before: 4 x 4 patches, and the class token of its encoder."""
    feeds = GIT.raw(SAMPLES, **LENGTH)
    with torch.inference_mode():
        whole = GIT.module.model(**{name: torch.from_numpy(array) for name, array in feeds.items()}).logits
    assert whole.shape == (2, 25, 1000)
    assert np.allclose(GIT.answers(feeds)["logits"], whole[:, 17:].numpy(), atol=1e-6)


def test_a_token_depends_on_the_image_and_not_on_padding_or_what_comes_later() -> None:
    feeds = GIT.raw(SAMPLES, **LENGTH)
    ids, pixels = feeds["input_ids"].copy(), feeds["pixel_values"]
    ids[0, 4:] = 150
    usual, other = GIT.answers(feeds)["logits"], GIT.answers({**feeds, "input_ids": ids})["logits"]
    assert np.allclose(other[0, :4], usual[0, :4], atol=1e-6)
    elsewhere = GIT.answers({**feeds, "pixel_values": pixels[::-1].copy()})["logits"]
    assert np.abs(elsewhere - usual).max() > 1e-4


def test_what_is_decoded_is_what_transformers_generates() -> None:
    feeds = GIT.raw(SAMPLES, **LENGTH)
    with torch.inference_mode():
        written = GIT.module.model.generate(
            input_ids=torch.from_numpy(feeds["input_ids"][:, :1]),
            pixel_values=torch.from_numpy(feeds["pixel_values"]),
            max_new_tokens=8,
            min_new_tokens=8,
            do_sample=False,
            eos_token_id=None,
        )
    assert np.array_equal(GIT.written(feeds)["tokens"], written[:, 1:].numpy())


@pytest.mark.parametrize("member", [GIT, small("idefics-small")], ids=["git", "idefics"])
def test_tokens_agree_where_there_is_no_padding(member: Member) -> None:
    """Of three tokens that count, the candidate differs in one; of four that were written, in one."""
    feeds = {"attention_mask": np.array([[1, 1], [1, 0]])}
    reference = {"logits": np.eye(3)[[[0, 1], [2, 0]]], "tokens": np.array([[5, 6], [7, 8]])}
    candidate = {"logits": np.eye(3)[[[0, 2], [2, 1]]], "tokens": np.array([[5, 6], [7, 9]])}
    assert member.metrics(reference, candidate, feeds=feeds) == {
        "next_token_agreement": pytest.approx(2 / 3),
        "token_agreement": 0.75,
    }
