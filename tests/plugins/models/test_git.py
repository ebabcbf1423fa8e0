"""GIT: one decoder over patches and tokens, the captions that it is given and those that it writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchbox.errors import StageError
from benchbox.plugins.contract import Evidence, Sample
from benchbox.plugins.models import git
from benchbox.schema.asked import Model
from benchbox.schema.tensors import Feeds, Outputs, Signature, TensorSpec

torch = pytest.importorskip("torch")

PART = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
MODEL = Model(
    name="git-tiny",
    family="git",
    source="microsoft/git-base",
    task="captioning",
    config={
        **PART,
        "vocab_size": 200,
        "max_position_embeddings": 16,
        "vision_config": {**PART, "image_size": 32},
    },
)
SHAPE = {"batch": 2, "image_size": 32, "sequence_length": 8}

rng = np.random.default_rng(0)
SAMPLES = [
    Sample(image=rng.integers(0, 256, (40, 50, 3), dtype=np.uint8), text=text)
    for text in ("a temple", "a flower in front of a very old red wall")
]


def logits(module: Any, feeds: Feeds) -> Any:
    with torch.inference_mode():
        return module(*(torch.from_numpy(array) for array in feeds.values()))[0].numpy()


def test_the_signature_names_inputs_outputs_and_dynamic_axes() -> None:
    tokens = ("batch", "sequence_length")
    assert git.signature(MODEL, SHAPE) == Signature(
        inputs=(
            TensorSpec("input_ids", "int64", tokens),
            TensorSpec("attention_mask", "int64", tokens),
            TensorSpec("pixel_values", "float32", ("batch", 3, 32, 32)),
        ),
        outputs=(TensorSpec("logits", "float32", (*tokens, 200)),),
    )


def test_captions_are_tokens_between_begin_and_end_and_padded_on_the_right() -> None:
    feeds = git.feeds(MODEL, SAMPLES, SHAPE)
    ids = feeds["input_ids"]
    assert list(feeds) == ["input_ids", "attention_mask", "pixel_values"]
    assert feeds["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0, 0, 0], [1] * 8]
    assert ids[:, 0].tolist() == [101, 101]
    assert ids[0, 3:].tolist() == [102, 0, 0, 0, 0]
    assert ids[1, 7] == 102
    assert ids[1, 1:7].min() >= 104


def test_the_logits_are_those_that_transformers_gives_for_the_text() -> None:
    """Five tokens of the image come before them: four patches, and the class token of its encoder."""
    module, feeds = git.load(MODEL), git.feeds(MODEL, SAMPLES, SHAPE)
    with torch.inference_mode():
        whole = module.model(**{name: torch.from_numpy(array) for name, array in feeds.items()}).logits
    assert whole.shape == (2, 13, 200)
    assert np.allclose(logits(module, feeds), whole[:, 5:].numpy(), atol=1e-6)


def test_a_token_depends_on_the_image_and_not_on_padding_or_what_comes_later() -> None:
    module, feeds = git.load(MODEL), git.feeds(MODEL, SAMPLES, SHAPE)
    ids, pixels = feeds["input_ids"].copy(), feeds["pixel_values"]
    ids[0, 4:] = 150
    usual, other = logits(module, feeds), logits(module, {**feeds, "input_ids": ids})
    assert np.allclose(other[0, :4], usual[0, :4], atol=1e-6)
    elsewhere = logits(module, {**feeds, "pixel_values": pixels[::-1].copy()})
    assert np.abs(elsewhere - usual).max() > 1e-4


def test_a_saved_module_comes_back_as_the_same_module(tmp_path: Path) -> None:
    module, feeds = git.load(MODEL), git.feeds(MODEL, SAMPLES, SHAPE)
    git.save(module, tmp_path)
    again = git.load(replace(MODEL, source=str(tmp_path), weights="pretrained", config={}))
    assert np.array_equal(logits(module, feeds), logits(again, feeds))


def test_what_is_decoded_is_what_transformers_generates() -> None:
    module, feeds = git.load(MODEL), git.feeds(MODEL, SAMPLES, SHAPE)
    first = torch.from_numpy(feeds["input_ids"][:, :1])
    with torch.inference_mode():
        written = module.model.generate(
            input_ids=first,
            pixel_values=torch.from_numpy(feeds["pixel_values"]),
            max_new_tokens=8,
            min_new_tokens=8,
            do_sample=False,
            eos_token_id=None,
        )
    tokens = git.rollout(MODEL, lambda f: {"logits": logits(module, f)}, feeds)["tokens"]
    assert np.array_equal(tokens, written[:, 1:].numpy())


@pytest.mark.parametrize(
    ("source", "parameters"),
    [("microsoft/git-base", 176_619_066), ("microsoft/git-large", 394_196_026)],
)
def test_presets_have_as_many_parameters_as_the_hubs_models(source: str, parameters: int) -> None:
    """177 and 394 million, as the hub rounds them."""
    import transformers

    with torch.device("meta"):
        module = transformers.GitForCausalLM(transformers.GitConfig(**git.PRESETS[source]))
    assert sum(p.numel() for p in module.parameters()) == parameters


def test_sizes_that_the_model_does_not_take_are_refused() -> None:
    with pytest.raises(
        StageError, match=r"^git-tiny takes images of 32 pixels, and the suite's image_size is 64$"
    ):
        git.signature(MODEL, {**SHAPE, "image_size": 64})
    with pytest.raises(
        StageError, match=r"^git-tiny writes at most 16 tokens, and the suite's sequence_length is 17$"
    ):
        git.signature(MODEL, {**SHAPE, "sequence_length": 17})


def test_tokens_agree_where_there_is_no_padding() -> None:
    """Of three tokens that count, the candidate differs in one; of four that were written, in one."""
    feeds = {"attention_mask": np.array([[1, 1], [1, 0]])}
    reference: Outputs = {"logits": np.eye(3)[[[0, 1], [2, 0]]], "tokens": np.array([[5, 6], [7, 8]])}
    candidate: Outputs = {"logits": np.eye(3)[[[0, 2], [2, 1]]], "tokens": np.array([[5, 6], [7, 9]])}
    assert git.metrics(MODEL, Evidence(feeds, reference, candidate)) == {
        "next_token_agreement": pytest.approx(2 / 3),
        "token_agreement": 0.75,
    }
