"""GPT-2: with and without past the same logits, padding that changes nothing, and greedy decoding."""

from __future__ import annotations

import numpy as np
import pytest

from benchbox.plugins.contract import Sample
from families import small

pytest.importorskip("torch")

# Weights so large that attention is no mean over all tokens, and the next token no constant.
GPT2, PAST = (small(f"gpt2-small{end}", config={"initializer_range": 0.5}) for end in ("", "-with-past"))
LONG, SHORT = Sample(text="one two three four five six seven eight"), Sample(text="two one three")
SHAPE = {"sequence_length": 2, "past_length": 5}
PAD = 2047


def test_the_last_tokens_of_a_text_are_new_and_those_before_are_the_prefix() -> None:
    """A text of 7 tokens, cut from 8, fills both; one of 3 leaves padding behind its prefix."""
    feeds = PAST.raw([LONG, SHORT], **SHAPE)
    whole = GPT2.raw([LONG, SHORT], sequence_length=7)["input_ids"]
    assert feeds["prefix_ids"].tolist() == [whole[0, :5].tolist(), [whole[1, 0], *[PAD] * 4]]
    assert feeds["input_ids"].tolist() == [whole[0, 5:].tolist(), whole[1, 1:3].tolist()]
    assert feeds["attention_mask"].tolist() == [[1] * 7, [1, 0, 0, 0, 0, 1, 1]]


def test_a_text_of_one_token_is_a_prefix_and_the_new_tokens_are_padding() -> None:
    feeds = PAST.raw([Sample(text="one")], sequence_length=2, past_length=3)
    assert feeds["attention_mask"].tolist() == [[1, 0, 0, 0, 0]]
    assert feeds["input_ids"].tolist() == [[PAD, PAD]]


def test_with_past_the_logits_are_those_of_the_whole_text() -> None:
    """Also where padding stands between past and new tokens."""
    found = PAST.answers(PAST.fed([LONG, SHORT], **SHAPE))
    for row, sample, length in [(0, LONG, 7), (1, SHORT, 3)]:
        expected = GPT2.answers(GPT2.raw([sample], sequence_length=length))["logits"][0, -2:]
        assert np.abs(found["logits"][row] - expected).max() < 1e-4
    assert found["present.1.value"].shape == (2, 4, 7, 16)


def test_padding_behind_a_text_changes_none_of_its_logits() -> None:
    alone, padded = (GPT2.answers(GPT2.raw([SHORT], sequence_length=n))["logits"][0] for n in (3, 9))
    assert np.abs(alone - padded[:3]).max() < 1e-4


def test_greedy_decoding_writes_the_same_with_past_and_without_padded_or_not() -> None:
    samples = [LONG, SHORT]
    with_past = PAST.written(PAST.fed(samples, sequence_length=1, past_length=7))["tokens"]
    without = GPT2.written(GPT2.raw(samples, sequence_length=8))["tokens"]
    unpadded = GPT2.written(GPT2.raw([SHORT], sequence_length=3))["tokens"]
    assert with_past.shape == (2, 8)
    assert np.array_equal(with_past, without)
    assert np.array_equal(with_past[1], unpadded[0])
    assert len(set(with_past.ravel().tolist())) > 2


def test_agreement_counts_no_padding_and_the_text_is_given_a_cross_entropy() -> None:
    """Two tokens of a vocabulary of two, of equal probability: log 2 nats."""
    feeds = {"input_ids": np.array([[0, 1, 1]]), "attention_mask": np.array([[1, 1, 0]])}
    even = np.zeros((1, 3, 2), np.float32)
    sure = np.array([[[0, 9], [9, 0], [0, 9]]], np.float32)
    reference = {"logits": sure, "tokens": np.array([[0, 1, 1, 0]])}
    candidate = {"logits": even, "tokens": np.array([[0, 1, 0, 0]])}
    assert GPT2.metrics(reference, candidate, feeds=feeds) == {
        "next_token_agreement": 0.5,
        "token_agreement": 0.75,
        "cross_entropy": pytest.approx(0.6931472),
        "reference_cross_entropy": pytest.approx(0.0001234, rel=1e-3),
    }
