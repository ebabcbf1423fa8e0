"""BERT: texts as padded tokens between [CLS] and [SEP], and what padding changes."""

from __future__ import annotations

import numpy as np
import pytest

from benchbox.errors import StageError
from benchbox.plugins.contract import Sample
from families import small

pytest.importorskip("torch")

BERT = small("bert-small")
TEXTS = [Sample(text="To be, or not to be"), Sample(text="Be")]


def test_a_text_stands_between_cls_and_sep_cut_or_padded_to_the_length() -> None:
    feeds = BERT.raw(TEXTS, sequence_length=6)
    ids = feeds["input_ids"]
    assert ids[:, 0].tolist() == [101, 101]
    assert (ids[0, 5], ids[1, 2:].tolist()) == (102, [102, 0, 0, 0])
    assert feeds["attention_mask"].tolist() == [[1] * 6, [1, 1, 1, 0, 0, 0]]
    assert not feeds["token_type_ids"].any()


def test_words_are_ids_behind_the_special_ones_and_the_same_word_is_the_same_id() -> None:
    ids = BERT.raw(TEXTS, sequence_length=6)["input_ids"]
    words = ids[ids > 103]
    assert len(words) == 5
    assert words.max() < 2048
    assert ids[0, 2] == ids[1, 1]  # be


def test_an_image_has_no_text_to_read() -> None:
    with pytest.raises(StageError, match=r"^this model reads text, and the dataset has none"):
        BERT.raw([Sample(image=np.zeros((4, 4, 3), np.uint8))])


def test_features_are_compared_as_they_are_pooled_too() -> None:
    """Padding, whatever it holds, is in no mean; a text whose tokens point elsewhere is one of two."""
    member = small("bert-small-features")
    feeds = member.raw(TEXTS, sequence_length=6)
    states = np.ones((2, 6, 4), np.float32)
    noisy, turned = states.copy(), states.copy()
    noisy[1, 3:] = np.nan
    turned[1, :3, :2] = -1
    found = [
        member.metrics({"last_hidden_state": states}, {"last_hidden_state": other}, feeds=feeds)
        for other in (states, noisy, turned)
    ]
    assert found == [{"pooled_cosine": 1.0}, {"pooled_cosine": 1.0}, {"pooled_cosine": 0.5}]


def test_padding_does_not_change_what_is_said_of_a_text() -> None:
    alone, padded = (BERT.answers(BERT.fed(TEXTS[1:], sequence_length=n))["logits"] for n in (3, 20))
    assert np.abs(alone - padded).max() < 1e-6
