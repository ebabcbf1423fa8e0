"""CLIP: both towers and each by itself, the captions that are ranked, and how far two rankings agree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchbox.errors import StageError
from benchbox.plugins.contract import Evidence, Sample
from benchbox.plugins.models import clip
from benchbox.schema.asked import Model
from benchbox.schema.tensors import Signature, TensorSpec

torch = pytest.importorskip("torch")

PART = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "projection_dim": 16,
}
MODEL = Model(
    name="clip-tiny",
    family="clip",
    source="openai/clip-vit-base-patch32",
    task="zero-shot-image-classification",
    config={
        "projection_dim": 16,
        "text_config": {**PART, "vocab_size": 100},
        "vision_config": {**PART, "image_size": 32, "patch_size": 16},
    },
)
IMAGES, TEXTS = replace(MODEL, task="image-features"), replace(MODEL, task="text-features")
SHAPE = {"batch": 2, "image_size": 32, "captions": 3, "sequence_length": 7}
PIXELS = TensorSpec("pixel_values", "float32", ("batch", 3, 32, 32))

rng = np.random.default_rng(0)
SAMPLES = [
    Sample(image=rng.integers(0, 256, (40, 50, 3), dtype=np.uint8), text=text)
    for text in ("a temple", "a flower in front of a very old red wall")
]


def outputs(model: Model, module: Any) -> list[Any]:
    feeds = clip.feeds(model, SAMPLES, SHAPE)
    with torch.inference_mode():
        return [t.numpy() for t in module(*(torch.from_numpy(array) for array in feeds.values()))]


def test_the_joint_model_takes_a_batch_of_images_and_captions_of_any_number_and_length() -> None:
    tokens = ("captions", "sequence_length")
    assert clip.signature(MODEL, SHAPE) == Signature(
        inputs=(
            TensorSpec("input_ids", "int64", tokens),
            PIXELS,
            TensorSpec("attention_mask", "int64", tokens),
        ),
        outputs=(
            TensorSpec("logits_per_image", "float32", ("batch", "captions")),
            TensorSpec("text_embeds", "float32", ("captions", 16)),
            TensorSpec("image_embeds", "float32", ("batch", 16)),
        ),
    )


def test_the_towers_take_what_is_theirs() -> None:
    tokens = ("batch", "sequence_length")
    assert clip.signature(IMAGES, SHAPE) == Signature(
        inputs=(PIXELS,), outputs=(TensorSpec("image_embeds", "float32", ("batch", 16)),)
    )
    assert clip.signature(TEXTS, SHAPE) == Signature(
        inputs=(TensorSpec("input_ids", "int64", tokens), TensorSpec("attention_mask", "int64", tokens)),
        outputs=(TensorSpec("text_embeds", "float32", ("batch", 16)),),
    )


@pytest.mark.parametrize("model", [MODEL, IMAGES, TEXTS], ids=lambda m: m.task)
def test_a_module_gives_what_its_signature_says(model: Model) -> None:
    found = outputs(model, clip.load(model))
    specs = clip.signature(model, SHAPE).outputs
    assert [list(a.shape) for a in found] == [
        [axis if isinstance(axis, int) else SHAPE[axis] for axis in spec.axes] for spec in specs
    ]


@pytest.mark.parametrize("model", [MODEL, IMAGES, TEXTS], ids=lambda m: m.task)
def test_a_saved_module_comes_back_as_the_same_module(model: Model, tmp_path: Path) -> None:
    module = clip.load(model)
    clip.save(module, tmp_path)
    stored = replace(model, source=str(tmp_path), weights="pretrained", config={})
    for first, again in zip(outputs(model, module), outputs(model, clip.load(stored)), strict=True):
        assert np.array_equal(first, again)


def test_a_tower_is_loaded_from_a_checkpoint_of_both(tmp_path: Path) -> None:
    """The hub has no checkpoints of single towers. The joint model gives unit vectors, a tower does not."""
    module = clip.load(MODEL)
    clip.save(module, tmp_path)
    stored = replace(IMAGES, source=str(tmp_path), weights="pretrained", config={})
    joint, (alone,) = outputs(MODEL, module)[2], outputs(IMAGES, clip.load(stored))
    assert np.allclose(alone / np.linalg.norm(alone, axis=1, keepdims=True), joint, atol=1e-6)


@pytest.mark.parametrize(
    ("source", "parameters"),
    [
        ("openai/clip-vit-base-patch32", 151_277_313),
        ("openai/clip-vit-base-patch16", 149_620_737),
        ("openai/clip-vit-large-patch14", 427_616_513),
    ],
)
def test_presets_have_as_many_parameters_as_the_hubs_models(source: str, parameters: int) -> None:
    import transformers

    with torch.device("meta"):
        module = transformers.CLIPModel(transformers.CLIPConfig(**clip.PRESETS[source]))
    assert sum(p.numel() for p in module.parameters()) == parameters


@pytest.mark.parametrize("model", [MODEL, IMAGES], ids=lambda m: m.task)
def test_attention_is_kept_over_the_patches_and_changes_no_answer(model: Model) -> None:
    """Two by two patches of an image; the class token takes the rest of its attention."""
    keeping = replace(model, attention=True)
    *answers, attention = clip.signature(keeping, SHAPE).outputs
    assert tuple(answers) == clip.signature(model, SHAPE).outputs
    assert attention == TensorSpec("attention", "float32", ("batch", 2, 2))
    *given, looked = outputs(keeping, clip.load(keeping))
    for one, plain in zip(given, outputs(model, clip.load(model)), strict=True):
        assert np.allclose(one, plain, rtol=0, atol=1e-5)
    assert looked.shape == (2, 2, 2)
    assert np.all((looked.sum(axis=(1, 2)) > 0.5) & (looked.sum(axis=(1, 2)) < 1.0))
    assert np.abs(looked[0] - looked[1]).max() > 1e-5


def test_a_model_keeps_its_attention_when_it_is_saved(tmp_path: Path) -> None:
    keeping = replace(MODEL, attention=True)
    module = clip.load(keeping)
    clip.save(module, tmp_path)
    stored = replace(keeping, source=str(tmp_path), weights="pretrained", config={})
    for first, again in zip(outputs(keeping, module), outputs(keeping, clip.load(stored)), strict=True):
        assert np.array_equal(first, again)


def test_only_the_tower_that_sees_the_image_gives_up_its_fused_kernel() -> None:
    config = clip.load(replace(MODEL, attention=True)).model.config
    assert config.vision_config._attn_implementation == "eager"
    assert config.text_config._attn_implementation == "sdpa"


def test_a_text_tower_keeps_no_attention_over_an_image() -> None:
    assert clip.ATTENTION == ("zero-shot-image-classification", "image-features")


def test_texts_begin_and_end_and_are_padded_with_the_end_token() -> None:
    """98 begins, 99 ends and pads; a text that is too long loses words and keeps its end."""
    feeds = clip.feeds(MODEL, SAMPLES, SHAPE)
    ids, mask = feeds["input_ids"], feeds["attention_mask"]
    assert list(feeds) == ["input_ids", "pixel_values", "attention_mask"]
    assert mask.tolist() == [[1, 1, 1, 1, 0, 0, 0], [1] * 7, [1] * 7]
    assert ids[:, 0].tolist() == [98, 98, 98]
    assert ids[0, 3:].tolist() == [99, 99, 99, 99]
    assert ids[1:, 6].tolist() == [99, 99]
    assert ids[:, 1:3].max() < 98


def test_the_captions_are_the_samples_own_and_then_prompts_each_once() -> None:
    assert clip.captions([*SAMPLES, SAMPLES[0]], 4) == [
        "a temple",
        "a flower in front of a very old red wall",
        "a photo of a temple.",
        "a photo of a flower.",
    ]
    assert clip.captions([Sample(text="a photo of a flower.")], 2) == [
        "a photo of a flower.",
        "a photo of a temple.",
    ]


def test_more_captions_than_there_are_is_an_error() -> None:
    with pytest.raises(
        StageError, match=r"^there are 130 captions to rank, and the suite's captions is 131$"
    ):
        clip.captions(SAMPLES, 131)


def test_sizes_that_the_model_does_not_take_are_refused() -> None:
    with pytest.raises(
        StageError, match=r"^clip-tiny takes images of 32 pixels, and the suite's image_size is 64$"
    ):
        clip.signature(IMAGES, {"image_size": 64})
    with pytest.raises(
        StageError, match=r"^clip-tiny reads at most 77 tokens, and the suite's sequence_length is 78$"
    ):
        clip.signature(TEXTS, {"sequence_length": 78})


SCORES = np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]], np.float32)


@pytest.mark.parametrize(
    ("candidate", "zero_shot", "rank", "retrieval"),
    [
        (SCORES, 1.0, 1.0, 1.0),
        ([[3.1, 2.1, 1.0], [1.0, 2.1, 3.1]], 1.0, 1.0, 1.0),
        ([[3.0, 1.0, 2.0], [1.0, 2.0, 3.0]], 1.0, 0.5, 2 / 3),
        ([[2.0, 3.0, 1.0], [1.0, 2.0, 3.0]], 0.5, 0.5, 1.0),
        ([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]], 0.0, 0.0, 1 / 3),
    ],
)
def test_agreement_of_images_with_captions_and_of_captions_with_images(
    candidate: Any, zero_shot: float, rank: float, retrieval: float
) -> None:
    """The second caption is as good for both images: the first of them is its best, as in the reference."""
    reference, seen = ({"logits_per_image": np.asarray(s, np.float32)} for s in (SCORES, candidate))
    assert clip.metrics(MODEL, Evidence({}, reference, seen)) == {
        "zero_shot_agreement": zero_shot,
        "caption_rank_agreement": rank,
        "image_retrieval_agreement": pytest.approx(retrieval),
    }


def test_a_tower_ranks_nothing() -> None:
    assert clip.metrics(IMAGES, Evidence({}, {}, {})) == {}
