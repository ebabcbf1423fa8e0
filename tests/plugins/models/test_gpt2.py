"""GPT-2: with and without past the same logits, padding that changes nothing, and greedy decoding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchbox.errors import StageError
from benchbox.plugins.contract import Evidence, Sample
from benchbox.plugins.models import gpt2
from benchbox.schema.asked import Model
from benchbox.schema.tensors import Feeds, Outputs, Signature, TensorSpec

CONFIG = {"vocab_size": 100, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
MODEL = Model(
    name="gpt2-tiny",
    family="gpt2",
    source="openai-community/gpt2",
    task="text-generation",
    # Weights so large that attention is no mean over all tokens, and the next token no constant.
    config={**CONFIG, "initializer_range": 0.5},
)
PAST = replace(MODEL, task="text-generation-with-past")
LONG, SHORT = Sample(text="one two three four five six seven eight"), Sample(text="two one three")
SHAPE = {"batch": 2, "sequence_length": 2, "past_length": 5}
TOTAL = "past_length + sequence_length"


def run(model: Model, module: Any, feeds: Feeds) -> Outputs:
    torch = pytest.importorskip("torch")
    names = [spec.name for spec in gpt2.signature(model, SHAPE).outputs]
    with torch.inference_mode():
        found = module(*(torch.from_numpy(a) for a in feeds.values()))
    return {name: t.numpy() for name, t in zip(names, found, strict=True)}


def made(samples: list[Sample], shape: dict[str, int]) -> tuple[Any, Feeds]:
    module = gpt2.load(PAST)
    return module, gpt2.derive(PAST, module, gpt2.feeds(PAST, samples, shape), shape)


def test_without_past_ids_and_mask_become_logits() -> None:
    length = ("batch", "sequence_length")
    assert gpt2.signature(MODEL, {"batch": 2, "sequence_length": 5}) == Signature(
        inputs=(TensorSpec("input_ids", "int64", length), TensorSpec("attention_mask", "int64", length)),
        outputs=(TensorSpec("logits", "float32", (*length, 100)),),
    )


def test_with_past_keys_and_values_go_in_and_come_out_longer() -> None:
    signature = gpt2.signature(PAST, SHAPE)
    past, present = ("batch", 4, "past_length", 8), ("batch", 4, TOTAL, 8)
    assert signature.inputs == (
        TensorSpec("input_ids", "int64", ("batch", "sequence_length")),
        TensorSpec("attention_mask", "int64", ("batch", TOTAL)),
        TensorSpec("past_key_values.0.key", "float32", past),
        TensorSpec("past_key_values.0.value", "float32", past),
        TensorSpec("past_key_values.1.key", "float32", past),
        TensorSpec("past_key_values.1.value", "float32", past),
    )
    assert signature.outputs == (
        TensorSpec("logits", "float32", ("batch", "sequence_length", 100)),
        TensorSpec("present.0.key", "float32", present),
        TensorSpec("present.0.value", "float32", present),
        TensorSpec("present.1.key", "float32", present),
        TensorSpec("present.1.value", "float32", present),
    )


def test_more_tokens_than_positions_are_refused() -> None:
    with pytest.raises(StageError) as caught:
        gpt2.signature(PAST, {"batch": 1, "sequence_length": 1, "past_length": 64})
    assert caught.value.reason == "gpt2-tiny has 64 positions, and the suite asks for 65 tokens"


def test_the_last_tokens_of_a_text_are_new_and_those_before_are_the_prefix() -> None:
    """A text of 7 tokens, cut from 8, fills both; one of 3 leaves padding behind its prefix."""
    feeds = gpt2.feeds(PAST, [LONG, SHORT], SHAPE)
    whole = gpt2.feeds(MODEL, [LONG, SHORT], {"batch": 2, "sequence_length": 7})["input_ids"]
    assert feeds["prefix_ids"].tolist() == [whole[0, :5].tolist(), [whole[1, 0], 99, 99, 99, 99]]
    assert feeds["input_ids"].tolist() == [whole[0, 5:].tolist(), whole[1, 1:3].tolist()]
    assert feeds["attention_mask"].tolist() == [[1] * 7, [1, 0, 0, 0, 0, 1, 1]]


def test_a_text_of_one_token_is_a_prefix_and_the_new_tokens_are_padding() -> None:
    feeds = gpt2.feeds(PAST, [Sample(text="one")], {"batch": 1, "sequence_length": 2, "past_length": 3})
    assert feeds["attention_mask"].tolist() == [[1, 0, 0, 0, 0]]
    assert feeds["input_ids"].tolist() == [[99, 99]]


def test_with_past_the_logits_are_those_of_the_whole_text() -> None:
    """Also where padding stands between past and new tokens."""
    module, feeds = made([LONG, SHORT], SHAPE)
    assert list(feeds) == [spec.name for spec in gpt2.signature(PAST, SHAPE).inputs]
    found = run(PAST, module, feeds)
    without = gpt2.load(MODEL)
    for row, sample, length in [(0, LONG, 7), (1, SHORT, 3)]:
        text = gpt2.feeds(MODEL, [sample], {"batch": 1, "sequence_length": length})
        expected = run(MODEL, without, text)["logits"][0, -2:]
        assert np.abs(found["logits"][row] - expected).max() < 1e-4
    assert found["present.1.value"].shape == (2, 4, 7, 8)


def test_padding_behind_a_text_changes_none_of_its_logits() -> None:
    module = gpt2.load(MODEL)
    alone = run(MODEL, module, gpt2.feeds(MODEL, [SHORT], {"batch": 1, "sequence_length": 3}))["logits"]
    padded = run(MODEL, module, gpt2.feeds(MODEL, [SHORT], {"batch": 1, "sequence_length": 9}))["logits"]
    assert np.abs(alone[0] - padded[0, :3]).max() < 1e-4


def test_greedy_decoding_writes_the_same_with_past_and_without_padded_or_not() -> None:
    samples, past = [LONG, SHORT], {"batch": 2, "sequence_length": 1, "past_length": 7}
    module, feeds = made(samples, past)
    plain = gpt2.load(MODEL)
    whole = gpt2.feeds(MODEL, samples, {"batch": 2, "sequence_length": 8})
    with_past = gpt2.rollout(PAST, lambda f: run(PAST, module, f), feeds)["tokens"]
    without = gpt2.rollout(MODEL, lambda f: run(MODEL, plain, f), whole)["tokens"]
    alone = gpt2.feeds(MODEL, [SHORT], {"batch": 1, "sequence_length": 3})
    unpadded = gpt2.rollout(MODEL, lambda f: run(MODEL, plain, f), alone)["tokens"]
    assert with_past.shape == (2, 8)
    assert np.array_equal(with_past, without)
    assert np.array_equal(with_past[1], unpadded[0])
    assert len(set(with_past.ravel().tolist())) > 2


def test_a_saved_module_comes_back_as_the_same_module(tmp_path: Path) -> None:
    module, feeds = made([LONG, SHORT], SHAPE)
    gpt2.save(module, tmp_path)
    assert "model.safetensors" in {f.name for f in tmp_path.iterdir()}
    again = gpt2.load(replace(PAST, source=str(tmp_path), weights="pretrained", config={}))
    assert np.array_equal(run(PAST, module, feeds)["logits"], run(PAST, again, feeds)["logits"])


def test_presets_are_the_hubs_architectures() -> None:
    """124 million parameters; the token embedding is also the head."""
    torch = pytest.importorskip("torch")
    with torch.device("meta"):
        module = gpt2.load(replace(MODEL, config={}))
        assert sum(p.numel() for p in module.parameters()) == 124_439_808


def test_agreement_counts_no_padding_and_the_text_is_given_a_cross_entropy() -> None:
    """Two tokens of a vocabulary of two, of equal probability: log 2 nats."""
    feeds = {"input_ids": np.array([[0, 1, 1]]), "attention_mask": np.array([[1, 1, 0]])}
    even = np.zeros((1, 3, 2), np.float32)
    sure = np.array([[[0, 9], [9, 0], [0, 9]]], np.float32)
    reference = {"logits": sure, "tokens": np.array([[0, 1, 1, 0]])}
    candidate = {"logits": even, "tokens": np.array([[0, 1, 0, 0]])}
    assert gpt2.metrics(MODEL, Evidence(feeds, reference, candidate)) == {
        "next_token_agreement": 0.5,
        "token_agreement": 0.75,
        "cross_entropy": pytest.approx(0.6931472),
        "reference_cross_entropy": pytest.approx(0.0001234, rel=1e-3),
    }


def test_with_past_there_is_no_text_to_be_surprised_by() -> None:
    feeds = {"input_ids": np.array([[1]]), "attention_mask": np.array([[1, 0, 1]])}
    logits = {"logits": np.array([[[0, 1]]], np.float32), "tokens": np.array([[1]])}
    assert gpt2.metrics(PAST, Evidence(feeds, logits, logits)) == {
        "next_token_agreement": 1.0,
        "token_agreement": 1.0,
    }
