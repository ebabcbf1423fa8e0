"""T5, M2M-100 and Marian: three graphs of one model that together write what the whole model writes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from benchbox.plugins.contract import Sample
from benchbox.schema.tensors import Feeds
from families import Member, small

torch = pytest.importorskip("torch")


@dataclass(frozen=True)
class Case:
    """A family, and what its texts look like: ids of padding, end and start."""

    family: str
    pad: int
    end: int
    start: int

    def part(self, task: str) -> Member:
        """Weights so large that attention is no mean over all tokens; a head of its own, as one that is the
        embedding too only repeats the last token; a seed with which more than two words are written."""
        spread = {"initializer_factor": 3.0} if self.family == "t5" else {"init_std": 0.2}
        config = {"d_model": 32, "tie_word_embeddings": False, **spread}
        return small(f"{self.family}-small-{task}", seed=6, config=config)


CASES = [Case("t5", 0, 1, 0), Case("m2m100", 1, 2, 2), Case("marian", 2047, 0, 2047)]
every = pytest.mark.parametrize("case", CASES, ids=lambda c: c.family)

SAMPLES = [Sample(text="one two three four five six"), Sample(text="two one")]
SHAPE = {"encoder_length": 5, "decoder_length": 2, "past_length": 4}


def fed(part: Member, **sizes: int) -> Feeds:
    return part.fed(SAMPLES, **{**SHAPE, **sizes})


@every
def test_what_is_read_is_padded_and_what_is_written_is_not(case: Case) -> None:
    """The second text has two words and an end: it is written again from its beginning."""
    feeds = case.part("decoder-with-past").raw(SAMPLES, **SHAPE)
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
    step, plain = case.part("decoder-with-past"), case.part("decoder")
    source = step.raw(SAMPLES, **{**SHAPE, "decoder_length": 1})
    with torch.inference_mode():
        whole = step.module.model.generate(
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
    written = step.written(fed(step, decoder_length=1))["tokens"]
    assert np.array_equal(written, whole[:, 5:])
    again = plain.written(fed(plain, decoder_length=5, past_length=0))["tokens"]
    assert np.array_equal(again, written)
    assert len(set(written.ravel().tolist())) > 2


@every
def test_with_past_the_logits_are_those_without(case: Case) -> None:
    """Two new tokens after four, at the end of a decoder that is given all six."""
    step, plain = case.part("decoder-with-past"), case.part("decoder")
    feeds = fed(step)
    new, whole = step.answers(feeds), plain.answers(fed(plain, decoder_length=6, past_length=0))
    assert np.abs(new["logits"] - whole["logits"][:, 4:]).max() < 1e-4
    assert np.abs(new["present.1.decoder.key"] - whole["present.1.decoder.key"]).max() < 1e-4
    assert np.array_equal(feeds["past_key_values.1.encoder.value"], whole["present.1.encoder.value"])


@every
def test_padding_changes_no_state_of_the_text(case: Case) -> None:
    encoder = case.part("encoder")
    alone, padded = (
        encoder.answers(encoder.raw(SAMPLES[1:], encoder_length=n))["last_hidden_state"] for n in (3, 9)
    )
    assert np.abs(alone - padded[:, :3]).max() < 1e-4


@every
def test_agreement_of_a_decoder_is_of_its_tokens(case: Case) -> None:
    reference = {"logits": np.array([[[0, 1], [1, 0]]]), "tokens": np.array([[1, 0, 0, 1]])}
    candidate = {"logits": np.array([[[0, 1], [0, 1]]]), "tokens": np.array([[1, 0, 1, 1]])}
    assert case.part("decoder").metrics(reference, candidate) == {
        "next_token_agreement": 0.5,
        "token_agreement": 0.75,
    }
