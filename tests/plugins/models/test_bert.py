"""BERT: a seeded module, its signature, texts as padded tokens, and what padding changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchbox.errors import StageError
from benchbox.plugins.contract import Evidence, Sample
from benchbox.plugins.models import bert
from benchbox.schema.asked import Model
from benchbox.schema.tensors import Feeds, Signature, TensorSpec

CONFIG = {
    "vocab_size": 300,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "num_labels": 3,
    "max_position_embeddings": 40,
}
MODEL = Model(
    name="bert-tiny",
    family="bert",
    source="google-bert/bert-base-uncased",
    task="text-classification",
    config=CONFIG,
)
FEATURES = replace(MODEL, task="feature-extraction")
SHAPE = {"batch": 2, "sequence_length": 6}
TEXTS = [Sample(text="To be, or not to be"), Sample(text="Be")]
IDS = TensorSpec("input_ids", "int64", ("batch", "sequence_length"))
MASK = TensorSpec("attention_mask", "int64", ("batch", "sequence_length"))
SEGMENTS = TensorSpec("token_type_ids", "int64", ("batch", "sequence_length"))


def outputs(module: Any, feeds: Feeds) -> list[Any]:
    torch = pytest.importorskip("torch")
    with torch.inference_mode():
        return [t.numpy() for t in module(*(torch.from_numpy(a) for a in feeds.values()))]


def test_a_classifier_has_three_inputs_and_logits() -> None:
    assert bert.signature(MODEL, SHAPE) == Signature(
        inputs=(IDS, MASK, SEGMENTS), outputs=(TensorSpec("logits", "float32", ("batch", 3)),)
    )


def test_features_are_hidden_states_and_the_pooled_output() -> None:
    assert bert.signature(FEATURES, SHAPE).outputs == (
        TensorSpec("last_hidden_state", "float32", ("batch", "sequence_length", 32)),
        TensorSpec("pooler_output", "float32", ("batch", 32)),
    )


def test_more_tokens_than_positions_are_refused() -> None:
    with pytest.raises(StageError) as caught:
        bert.signature(MODEL, {"batch": 1, "sequence_length": 41})
    assert caught.value.reason == "bert-tiny has 40 positions, and the suite's sequence_length is 41"


def test_a_text_stands_between_cls_and_sep_cut_or_padded_to_the_length() -> None:
    feeds = bert.feeds(MODEL, TEXTS, SHAPE)
    ids = feeds["input_ids"]
    assert list(feeds) == ["input_ids", "attention_mask", "token_type_ids"]
    assert {(str(a.dtype), a.shape) for a in feeds.values()} == {("int64", (2, 6))}
    assert ids[:, 0].tolist() == [101, 101]
    assert (ids[0, 5], ids[1, 2:].tolist()) == (102, [102, 0, 0, 0])
    assert feeds["attention_mask"].tolist() == [[1] * 6, [1, 1, 1, 0, 0, 0]]
    assert not feeds["token_type_ids"].any()


def test_words_are_ids_behind_the_special_ones_and_the_same_word_is_the_same_id() -> None:
    ids = bert.feeds(MODEL, TEXTS, SHAPE)["input_ids"]
    words = ids[ids > 103]
    assert len(words) == 5
    assert words.max() < 300
    assert ids[0, 2] == ids[1, 1]  # be


def test_an_image_has_no_text_to_read() -> None:
    with pytest.raises(StageError, match=r"^this model reads text, and the dataset has none"):
        bert.feeds(MODEL, [Sample(image=np.zeros((4, 4, 3), np.uint8))], {"batch": 1, "sequence_length": 6})


@pytest.mark.parametrize("model", [MODEL, FEATURES], ids=lambda m: m.task)
def test_a_module_gives_what_its_signature_says(model: Any) -> None:
    found = outputs(bert.load(model), bert.feeds(model, TEXTS, SHAPE))
    sizes = SHAPE
    assert [list(a.shape) for a in found] == [
        [sizes.get(axis, axis) for axis in spec.axes] for spec in bert.signature(model, SHAPE).outputs
    ]


def test_padding_does_not_change_what_is_said_of_a_text() -> None:
    module = bert.load(MODEL)
    alone = outputs(module, bert.feeds(MODEL, TEXTS[1:], {"batch": 1, "sequence_length": 3}))[0]
    padded = outputs(module, bert.feeds(MODEL, TEXTS[1:], {"batch": 1, "sequence_length": 20}))[0]
    assert np.abs(alone - padded).max() < 1e-6


def test_a_saved_module_comes_back_as_the_same_module(tmp_path: Path) -> None:
    module, feeds = bert.load(MODEL), bert.feeds(MODEL, TEXTS, SHAPE)
    bert.save(module, tmp_path)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    again = bert.load(replace(MODEL, source=str(tmp_path), weights="pretrained", config={}))
    assert np.array_equal(outputs(module, feeds)[0], outputs(again, feeds)[0])


def test_presets_are_the_hubs_architectures() -> None:
    """BERT-base has 110 million parameters, 109,482,240 of them below the head (Devlin et al. 2018)."""
    torch = pytest.importorskip("torch")
    base = replace(FEATURES, config={})
    with torch.device("meta"):
        assert sum(p.numel() for p in bert.load(base).parameters()) == 109_482_240


def test_agreement_of_classes_and_accuracy_where_there_are_labels() -> None:
    reference = {"logits": np.array([[2, 1, 0], [0, 2, 1]], np.float32)}
    candidate = {"logits": np.array([[2, 1, 0], [0, 1, 2]], np.float32)}
    assert bert.metrics(MODEL, Evidence({}, reference, candidate, np.array([0, 2]))) == {
        "top1_agreement": 0.5,
        "top5_agreement": 1.0,
        "accuracy": 1.0,
        "reference_accuracy": 0.5,
    }


def test_features_have_no_classes_to_agree_on() -> None:
    assert bert.metrics(FEATURES, Evidence({}, {}, {})) == {}
