"""IDEFICS: prompts of an image and its caption, which tokens see the image, and what is written behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchbox.errors import StageError
from benchbox.plugins.contract import Evidence, Sample
from benchbox.plugins.models import idefics
from benchbox.schema.asked import Model
from benchbox.schema.tensors import Feeds, Outputs, Signature, TensorSpec

torch = pytest.importorskip("torch")

PART = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
MODEL = Model(
    name="idefics-tiny",
    family="idefics",
    source="HuggingFaceM4/idefics-9b",
    task="image-text-to-text",
    config={
        **PART,
        "vocab_size": 200,
        "hidden_size": 32,
        "max_position_embeddings": 32,
        "cross_layer_interval": 2,
        "perceiver_config": {
            "resampler_n_latents": 4,
            "resampler_depth": 1,
            "resampler_n_heads": 2,
            "resampler_head_dim": 16,
        },
        "vision_config": {**PART, "embed_dim": 32, "image_size": 28},
    },
)
SHAPE = {"batch": 2, "image_size": 28, "sequence_length": 9}

rng = np.random.default_rng(0)
SAMPLES = [
    Sample(image=rng.integers(0, 256, (40, 50, 3), dtype=np.uint8), text=text)
    for text in ("a temple", "a flower in front of a wall")
]


# Without the perceiver, the text looks at the patches themselves, and at the class token.
LOOKING = replace(MODEL, attention=True, config={**MODEL.config, "use_resampler": False})


@pytest.fixture(scope="module")
def module() -> Any:
    return idefics.load(MODEL)


def logits(module: Any, feeds: Feeds) -> Any:
    return every_output(module, feeds)[0]


def every_output(module: Any, feeds: Feeds) -> list[Any]:
    with torch.inference_mode():
        return [t.numpy() for t in module(*(torch.from_numpy(array) for array in feeds.values()))]


def test_the_signature_names_inputs_outputs_and_dynamic_axes() -> None:
    tokens = ("batch", "sequence_length")
    assert idefics.signature(MODEL, SHAPE) == Signature(
        inputs=(
            TensorSpec("input_ids", "int64", tokens),
            TensorSpec("attention_mask", "int64", tokens),
            TensorSpec("pixel_values", "float32", ("batch", 1, 3, 28, 28)),
            TensorSpec("image_attention_mask", "int64", (*tokens, 1)),
        ),
        outputs=(TensorSpec("logits", "float32", (*tokens, 202)),),
    )


def test_a_prompt_is_begin_mark_image_mark_words_and_padding() -> None:
    """1 begins; 200 marks an image, which is 201, on both sides. Tokens see the image from its place on."""
    feeds = idefics.feeds(MODEL, SAMPLES, SHAPE)
    ids = feeds["input_ids"]
    assert list(feeds) == ["input_ids", "attention_mask", "pixel_values", "image_attention_mask"]
    assert ids[:, :4].tolist() == [[1, 200, 201, 200]] * 2
    assert ids[0, 6:].tolist() == [0, 0, 0]
    assert ids[1, 4:].min() >= 3
    assert feeds["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 1, 0, 0, 0], [1] * 9]
    assert feeds["image_attention_mask"][..., 0].tolist() == [[0, 0, 1, 1, 1, 1, 1, 1, 1]] * 2
    assert (feeds["pixel_values"].shape, str(feeds["pixel_values"].dtype)) == ((2, 1, 3, 28, 28), "float32")


def test_a_token_depends_on_the_image_from_its_place_on_and_not_before(module: Any) -> None:
    feeds = idefics.feeds(MODEL, SAMPLES, SHAPE)
    pixels = feeds["pixel_values"][::-1].copy()
    moved = np.abs(logits(module, {**feeds, "pixel_values": pixels}) - logits(module, feeds)).max(axis=(0, 2))
    assert np.all(moved[:2] == 0.0)
    assert np.all(moved[2:] > 1e-5)


def test_a_token_does_not_depend_on_padding(module: Any) -> None:
    feeds = idefics.feeds(MODEL, SAMPLES, SHAPE)
    ids = feeds["input_ids"].copy()
    ids[0, 6:] = 150
    other = logits(module, {**feeds, "input_ids": ids})
    assert np.allclose(other[0, :6], logits(module, feeds)[0, :6], atol=1e-6)


def test_a_saved_module_comes_back_as_the_same_module(module: Any, tmp_path: Path) -> None:
    feeds = idefics.feeds(MODEL, SAMPLES, SHAPE)
    idefics.save(module, tmp_path)
    again = idefics.load(replace(MODEL, source=str(tmp_path), weights="pretrained", config={}))
    assert np.array_equal(logits(module, feeds), logits(again, feeds))


def test_each_token_says_where_it_looks_and_no_answer_changes(tmp_path: Path) -> None:
    """Two by two patches; the two tokens before the image do not see it, and look nowhere."""
    feeds = idefics.feeds(LOOKING, SAMPLES, SHAPE)
    answer, attention = idefics.signature(LOOKING, SHAPE).outputs
    assert (answer,) == idefics.signature(MODEL, SHAPE).outputs
    assert attention == TensorSpec("attention", "float32", ("batch", "sequence_length", 2, 2))
    keeping = idefics.load(LOOKING)
    given, looked = every_output(keeping, feeds)
    (usual,) = every_output(idefics.load(replace(LOOKING, attention=False)), feeds)
    assert np.allclose(given, usual, rtol=0, atol=1e-5)
    shares = looked.sum(axis=(2, 3))
    assert np.all(shares[:, :2] == 0.0)
    assert np.all((shares[:, 2:] > 0.5) & (shares[:, 2:] < 1.0))
    idefics.save(keeping, tmp_path)
    stored = replace(LOOKING, source=str(tmp_path), weights="pretrained", config={})
    assert np.array_equal(every_output(idefics.load(stored), feeds)[1], looked)


def test_a_text_that_looks_at_what_a_perceiver_makes_has_no_places_to_look_at() -> None:
    with pytest.raises(StageError) as caught:
        idefics.signature(replace(MODEL, attention=True), SHAPE)
    assert caught.value.reason == (
        "idefics-tiny keeps no attention over the image: its text looks at what a perceiver makes of the "
        "image, which has no places. With config: {use_resampler: false} it looks at the patches"
    )


def test_a_text_none_of_whose_layers_looks_at_the_image_has_no_attention_over_it() -> None:
    blind = replace(LOOKING, config={**LOOKING.config, "num_hidden_layers": 2, "cross_layer_interval": 3})
    with pytest.raises(StageError) as caught:
        idefics.load(blind)
    assert caught.value.reason == (
        "idefics-tiny keeps no attention over the image: of its 2 layers none looks at it, as one in 3 does "
        "(cross_layer_interval)"
    )


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
    tokens = idefics.rollout(MODEL, run, feeds)["tokens"]
    assert tokens.tolist() == [[3, 6, 2, 4, 8, 6, 2, 4], [6, 2, 4, 8, 6, 2, 4, 8]]


def test_the_preset_has_as_many_parameters_as_the_hubs_model() -> None:
    """8.93 billion, as the hub says."""
    import transformers

    with torch.device("meta"):
        config = transformers.IdeficsConfig(**idefics.PRESETS["HuggingFaceM4/idefics-9b"])
        whole = transformers.IdeficsForVisionText2Text(config)
    assert sum(p.numel() for p in whole.parameters()) == 8_929_679_632


def test_sizes_that_the_model_does_not_take_are_refused() -> None:
    with pytest.raises(
        StageError, match=r"^idefics-tiny takes images of 28 pixels, and the suite's image_size is 64$"
    ):
        idefics.signature(MODEL, {**SHAPE, "image_size": 64})
    with pytest.raises(
        StageError, match=r"^idefics-tiny takes 5 to 32 tokens, and the suite's sequence_length is 4$"
    ):
        idefics.signature(MODEL, {**SHAPE, "sequence_length": 4})


def test_tokens_agree_where_there_is_no_padding() -> None:
    """Of three tokens that count, the candidate differs in one; of four that were written, in one."""
    feeds = {"attention_mask": np.array([[1, 1], [1, 0]])}
    reference: Outputs = {"logits": np.eye(3)[[[0, 1], [2, 0]]], "tokens": np.array([[5, 6], [7, 8]])}
    candidate: Outputs = {"logits": np.eye(3)[[[0, 2], [2, 1]]], "tokens": np.array([[5, 6], [7, 9]])}
    assert idefics.metrics(MODEL, Evidence(feeds, reference, candidate)) == {
        "next_token_agreement": pytest.approx(2 / 3),
        "token_agreement": 0.75,
    }
