"""T5, M2M-100 and Marian: three graphs of one model that together write what the whole model writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from benchbox.errors import StageError
from benchbox.plugins.contract import Evidence, Sample
from benchbox.plugins.models import m2m100, marian, t5
from benchbox.schema.asked import Model
from benchbox.schema.tensors import Feeds, Outputs, Signature, TensorSpec

torch = pytest.importorskip("torch")

# Weights so large that attention is no mean over all tokens; a head of its own, as one that is the embedding
# too only repeats the last token.
_BOTH = {"d_model": 32, "vocab_size": 100, "tie_word_embeddings": False}
_BART = {
    **_BOTH,
    **{f"{part}_layers": 2 for part in ("encoder", "decoder")},
    **{f"{part}_attention_heads": 4 for part in ("encoder", "decoder")},
    **{f"{part}_ffn_dim": 64 for part in ("encoder", "decoder")},
    "max_position_embeddings": 40,
    "init_std": 0.2,
}


@dataclass(frozen=True)
class Case:
    """A family, its small config, and what its texts look like: ids of padding, end and start."""

    family: ModuleType
    source: str
    config: Mapping[str, Any]
    pad: int
    end: int
    start: int

    def model(self, task: str, **changes: Any) -> Model:
        # A seed with which each of them writes more than two words, over and over though it may.
        values = {"config": self.config, "source": self.source, "seed": 6, **changes}
        return Model(name="tiny", family=self.family.__name__, task=task, **values)


CASES = [
    Case(
        t5,
        "google-t5/t5-small",
        {**_BOTH, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "initializer_factor": 3.0},
        pad=0,
        end=1,
        start=0,
    ),
    Case(m2m100, "facebook/m2m100_418M", _BART, pad=1, end=2, start=2),
    Case(
        marian,
        "Helsinki-NLP/opus-mt-en-de",
        {**_BART, "pad_token_id": 99, "decoder_start_token_id": 99},
        pad=99,
        end=0,
        start=99,
    ),
]
every = pytest.mark.parametrize("case", CASES, ids=lambda c: c.family.__name__.rpartition(".")[2])

SAMPLES = [Sample(text="one two three four five six"), Sample(text="two one")]
SHAPE = {"batch": 2, "encoder_length": 5, "decoder_length": 2, "past_length": 4}
TOTAL = "past_length + decoder_length"


def run(case: Case, model: Model, module: Any, feeds: Feeds) -> Outputs:
    names = [spec.name for spec in case.family.signature(model, SHAPE).outputs]
    with torch.inference_mode():
        found = module(*(torch.from_numpy(a) for a in feeds.values()))
    return {name: t.numpy() for name, t in zip(names, found, strict=True)}


def made(case: Case, task: str, shape: Mapping[str, int] = SHAPE) -> tuple[Model, Any, Feeds]:
    model = case.model(task)
    module = case.family.load(model)
    feeds = case.family.feeds(model, SAMPLES, shape)
    return model, module, case.family.derive(model, module, feeds, shape)


@every
def test_the_encoder_turns_tokens_into_states(case: Case) -> None:
    length = ("batch", "encoder_length")
    assert case.family.signature(case.model("encoder"), SHAPE) == Signature(
        inputs=(TensorSpec("input_ids", "int64", length), TensorSpec("attention_mask", "int64", length)),
        outputs=(TensorSpec("last_hidden_state", "float32", (*length, 32)),),
    )


@every
def test_the_decoder_gives_logits_and_what_it_need_not_compute_again(case: Case) -> None:
    signature = case.family.signature(case.model("decoder"), SHAPE)
    assert signature.inputs == (
        TensorSpec("input_ids", "int64", ("batch", "decoder_length")),
        TensorSpec("encoder_attention_mask", "int64", ("batch", "encoder_length")),
        TensorSpec("encoder_hidden_states", "float32", ("batch", "encoder_length", 32)),
    )
    assert signature.outputs[:5] == (
        TensorSpec("logits", "float32", ("batch", "decoder_length", 100)),
        TensorSpec("present.0.decoder.key", "float32", ("batch", 4, "decoder_length", 8)),
        TensorSpec("present.0.decoder.value", "float32", ("batch", 4, "decoder_length", 8)),
        TensorSpec("present.0.encoder.key", "float32", ("batch", 4, "encoder_length", 8)),
        TensorSpec("present.0.encoder.value", "float32", ("batch", 4, "encoder_length", 8)),
    )
    assert len(signature.outputs) == 9


@every
def test_with_past_the_decoder_takes_it_in_place_of_the_states(case: Case) -> None:
    signature = case.family.signature(case.model("decoder-with-past"), SHAPE)
    assert signature.inputs[:6] == (
        TensorSpec("input_ids", "int64", ("batch", "decoder_length")),
        TensorSpec("encoder_attention_mask", "int64", ("batch", "encoder_length")),
        TensorSpec("past_key_values.0.decoder.key", "float32", ("batch", 4, "past_length", 8)),
        TensorSpec("past_key_values.0.decoder.value", "float32", ("batch", 4, "past_length", 8)),
        TensorSpec("past_key_values.0.encoder.key", "float32", ("batch", 4, "encoder_length", 8)),
        TensorSpec("past_key_values.0.encoder.value", "float32", ("batch", 4, "encoder_length", 8)),
    )
    assert [spec.name for spec in signature.outputs] == [
        "logits",
        "present.0.decoder.key",
        "present.0.decoder.value",
        "present.1.decoder.key",
        "present.1.decoder.value",
    ]
    assert signature.outputs[4].axes == ("batch", 4, TOTAL, 8)


@every
def test_what_is_read_is_padded_and_what_is_written_is_not(case: Case) -> None:
    """The second text has two words and an end: it is written again from its beginning."""
    feeds = case.family.feeds(case.model("decoder-with-past"), SAMPLES, SHAPE)
    text, prefix, new = feeds["text_ids"], feeds["prefix_ids"], feeds["input_ids"]
    two, one = text[1, :2].tolist()
    assert feeds["encoder_attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert text[1].tolist() == [two, one, case.end, case.pad, case.pad]
    assert prefix[1].tolist() == [case.start, two, one, case.end]
    assert new[1].tolist() == [two, one]
    assert case.pad not in text[0]


@every
def test_the_parts_write_what_the_whole_model_writes(case: Case) -> None:
    """transformers' own `generate`, which encodes once and keeps its cache, against each decoder."""
    step = {**SHAPE, "decoder_length": 1}
    model, module, feeds = made(case, "decoder-with-past", step)
    source = case.family.feeds(model, SAMPLES, step)
    with torch.inference_mode():
        whole = module.model.generate(
            input_ids=torch.from_numpy(source["text_ids"]),
            attention_mask=torch.from_numpy(source["encoder_attention_mask"]),
            decoder_input_ids=torch.from_numpy(
                np.concatenate([source["prefix_ids"], source["input_ids"]], axis=1)
            ),
            max_new_tokens=8,
            min_new_tokens=8,
            eos_token_id=None,
            forced_eos_token_id=None,
            num_beams=1,
            do_sample=False,
        ).numpy()
    written = case.family.rollout(model, lambda f: run(case, model, module, f), feeds)["tokens"]
    assert np.array_equal(written, whole[:, 5:])
    longer = {**SHAPE, "decoder_length": 5, "past_length": 0}
    model, module, feeds = made(case, "decoder", longer)
    again = case.family.rollout(model, lambda f: run(case, model, module, f), feeds)["tokens"]
    assert np.array_equal(again, written)
    assert len(set(written.ravel().tolist())) > 2


@every
def test_with_past_the_logits_are_those_without(case: Case) -> None:
    """Two new tokens after four, at the end of a decoder that is given all six."""
    model, module, feeds = made(case, "decoder-with-past")
    assert list(feeds) == [spec.name for spec in case.family.signature(model, SHAPE).inputs]
    new = run(case, model, module, feeds)
    plain, decoder, all_six = made(case, "decoder", {**SHAPE, "decoder_length": 6, "past_length": 0})
    assert list(all_six) == [spec.name for spec in case.family.signature(plain, SHAPE).inputs]
    whole = run(case, plain, decoder, all_six)
    assert np.abs(new["logits"] - whole["logits"][:, 4:]).max() < 1e-4
    assert np.abs(new["present.1.decoder.key"] - whole["present.1.decoder.key"]).max() < 1e-4
    assert np.array_equal(feeds["past_key_values.1.encoder.value"], whole["present.1.encoder.value"])


@every
def test_padding_changes_no_state_of_the_text(case: Case) -> None:
    model = case.model("encoder")
    module = case.family.load(model)
    alone, padded = (
        run(case, model, module, case.family.feeds(model, SAMPLES[1:], {"encoder_length": length}))
        for length in (3, 9)
    )
    assert np.abs(alone["last_hidden_state"] - padded["last_hidden_state"][:, :3]).max() < 1e-4


@every
def test_a_saved_module_comes_back_as_the_same_module(case: Case, tmp_path: Path) -> None:
    model, module, feeds = made(case, "decoder-with-past")
    case.family.save(module, tmp_path)
    stored = replace(model, source=str(tmp_path), weights="pretrained", config={})
    again = case.family.load(stored)
    assert np.array_equal(
        run(case, model, module, feeds)["logits"], run(case, stored, again, feeds)["logits"]
    )


@every
def test_an_encoder_writes_no_tokens(case: Case) -> None:
    model = case.model("encoder")
    assert case.family.rollout(model, lambda f: {}, {}) == {}
    assert case.family.metrics(model, Evidence({}, {}, {})) == {}


@every
def test_agreement_of_a_decoder_is_of_its_tokens(case: Case) -> None:
    reference = {"logits": np.array([[[0, 1], [1, 0]]]), "tokens": np.array([[1, 0, 0, 1]])}
    candidate = {"logits": np.array([[[0, 1], [0, 1]]]), "tokens": np.array([[1, 0, 1, 1]])}
    assert case.family.metrics(case.model("decoder"), Evidence({}, reference, candidate)) == {
        "next_token_agreement": 0.5,
        "token_agreement": 0.75,
    }


def test_more_tokens_than_positions_are_refused_and_t5_has_none() -> None:
    shape = {**SHAPE, "past_length": 40}
    for case in CASES[1:]:
        with pytest.raises(StageError) as caught:
            case.family.signature(case.model("decoder-with-past"), shape)
        assert caught.value.reason == "tiny has 40 positions, and the suite asks for 42 tokens"
    assert t5.signature(CASES[0].model("decoder-with-past"), shape)


@pytest.mark.parametrize(
    ("case", "parameters"), zip(CASES, (60_506_624, 483_905_536, 74_410_496), strict=True)
)
def test_presets_are_the_hubs_architectures(case: Case, parameters: int) -> None:
    """60.5 million parameters of T5-small (Raffel et al. 2019), 483.9 of the small M2M-100, 74.4 of OPUS-MT's
    base models; embeddings and head are counted once."""
    with torch.device("meta"):
        module = case.family.load(case.model("encoder", config={}))
        assert sum(p.numel() for p in module.parameters()) == parameters
