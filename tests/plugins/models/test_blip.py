"""BLIP: pairs that match or do not, the two parts of a captioner, and the captions that it writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchbox.errors import StageError
from benchbox.plugins.contract import Evidence, Sample
from benchbox.plugins.models import blip
from benchbox.schema.asked import Lora, Model
from benchbox.schema.tensors import Feeds, Signature, TensorSpec

torch = pytest.importorskip("torch")

PART = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
MODEL = Model(
    name="blip-tiny",
    family="blip",
    source="Salesforce/blip-itm-base-coco",
    task="image-text-retrieval",
    config={
        "image_text_hidden_size": 8,
        "text_config": {**PART, "vocab_size": 200, "bos_token_id": 198, "max_position_embeddings": 16},
        "vision_config": {**PART, "hidden_size": 48, "image_size": 32},
    },
)
ENCODER, DECODER = replace(MODEL, task="captioning-encoder"), replace(MODEL, task="captioning-decoder")
SHAPE = {"batch": 3, "image_size": 32, "sequence_length": 7}
TOKENS = ("batch", "sequence_length")
PIXELS = TensorSpec("pixel_values", "float32", ("batch", 3, 32, 32))
IDS, MASK = TensorSpec("input_ids", "int64", TOKENS), TensorSpec("attention_mask", "int64", TOKENS)

rng = np.random.default_rng(0)
SAMPLES = [
    Sample(image=rng.integers(0, 256, (40, 50, 3), dtype=np.uint8), text=text)
    for text in ("a temple", "a flower in front of a wall", "a dahlia")
]


def fed(model: Model, module: Any) -> Feeds:
    return blip.derive(model, module, blip.feeds(model, SAMPLES, SHAPE), SHAPE)


def outputs(module: Any, feeds: Feeds) -> Any:
    return every_output(module, feeds)[0]


def every_output(module: Any, feeds: Feeds) -> list[Any]:
    with torch.inference_mode():
        return [t.numpy() for t in module(*(torch.from_numpy(array) for array in feeds.values()))]


def test_the_signatures_name_inputs_outputs_and_dynamic_axes() -> None:
    """An image of 32 pixels has 4 patches, and its states one more."""
    assert blip.signature(MODEL, SHAPE) == Signature(
        (IDS, PIXELS, MASK), (TensorSpec("itm_score", "float32", ("batch", 2)),)
    )
    assert blip.signature(ENCODER, SHAPE) == Signature(
        (PIXELS,), (TensorSpec("last_hidden_state", "float32", ("batch", 5, 48)),)
    )
    assert blip.signature(DECODER, SHAPE) == Signature(
        (IDS, MASK, TensorSpec("encoder_hidden_states", "float32", ("batch", 5, 48))),
        (TensorSpec("logits", "float32", (*TOKENS, 200)),),
    )


@pytest.mark.parametrize("model", [MODEL, ENCODER, DECODER], ids=lambda m: m.task)
def test_a_module_gives_what_its_signature_says_and_is_saved_as_itself(model: Model, tmp_path: Path) -> None:
    module = blip.load(model)
    feeds = fed(model, module)
    expected = blip.signature(model, SHAPE)
    assert list(feeds) == [spec.name for spec in expected.inputs]
    found = outputs(module, feeds)
    axes = expected.outputs[0].axes
    assert list(found.shape) == [axis if isinstance(axis, int) else SHAPE[axis] for axis in axes]
    blip.save(module, tmp_path)
    stored = replace(model, source=str(tmp_path), weights="pretrained", config={})
    assert blip.signature(stored, SHAPE).outputs == expected.outputs
    assert np.array_equal(found, outputs(blip.load(stored), feeds))


@pytest.mark.parametrize("model", [MODEL, DECODER], ids=lambda m: m.task)
def test_each_word_says_where_it_looks_and_no_answer_changes(model: Model) -> None:
    """Two by two patches of an image; its class token takes the rest of a word's attention."""
    keeping = replace(model, attention=True)
    answer, attention = blip.signature(keeping, SHAPE).outputs
    assert (answer,) == blip.signature(model, SHAPE).outputs
    assert attention == TensorSpec("attention", "float32", (*TOKENS, 2, 2))
    feeds = fed(model, plain := blip.load(model))
    (usual,) = every_output(plain, feeds)
    given, looked = every_output(blip.load(keeping), feeds)
    assert np.allclose(given, usual, rtol=0, atol=1e-5)
    assert looked.shape == (3, 7, 2, 2)
    assert np.all((looked.sum(axis=(2, 3)) > 0.5) & (looked.sum(axis=(2, 3)) < 1.0))
    assert np.abs(looked[0] - looked[1]).max() > 1e-5


def test_where_a_word_looks_is_the_last_cross_attention() -> None:
    """As transformers itself gives it, the mean over the heads, the first column left out."""
    module = blip.load(replace(DECODER, attention=True))
    feeds = fed(DECODER, module)
    tensors = {name: torch.from_numpy(array) for name, array in feeds.items()}
    with torch.inference_mode():
        given = module.model(**tensors, output_attentions=True).cross_attentions[-1].mean(dim=1)
    assert np.array_equal(every_output(module, feeds)[1].reshape(3, 7, 4), given[:, :, 1:].numpy())


@pytest.mark.parametrize("model", [MODEL, DECODER], ids=lambda m: m.task)
def test_a_saved_module_still_says_where_words_look(model: Model, tmp_path: Path) -> None:
    """A decoder that was saved by itself takes states of any image, whose rows and columns have no number."""
    keeping = replace(model, attention=True)
    module = blip.load(keeping)
    feeds = fed(model, module)
    blip.save(module, tmp_path)
    stored = replace(keeping, source=str(tmp_path), weights="pretrained", config={})
    side: tuple[Any, ...] = (2, 2) if model is MODEL else ("rows", "columns")
    assert blip.signature(stored, SHAPE).outputs[-1].axes == (*TOKENS, *side)
    for first, again in zip(every_output(module, feeds), every_output(blip.load(stored), feeds), strict=True):
        assert np.array_equal(first, again)


def test_an_encoder_of_images_has_no_words_that_look_at_one() -> None:
    assert blip.ATTENTION == ("image-text-retrieval", "captioning-decoder")


def test_a_part_is_saved_without_the_other(tmp_path: Path) -> None:
    from safetensors import safe_open

    blip.save(blip.load(DECODER), tmp_path)
    with safe_open(tmp_path / "model.safetensors", "np") as weights:
        assert {name.partition(".")[0] for name in weights.keys()} == {"bert", "cls"}  # noqa: SIM118  # no mapping


def test_what_the_parts_write_is_what_the_captioner_generates() -> None:
    module = blip.load(DECODER)
    import transformers

    captioner = transformers.BlipForConditionalGeneration(
        transformers.BlipConfig(**{**blip.PRESETS[MODEL.source], **_config()})
    ).eval()
    captioner.text_decoder, captioner.vision_model = module.model, module.encode.__self__
    feeds = fed(DECODER, module)
    with torch.inference_mode():
        written = captioner.generate(
            pixel_values=torch.from_numpy(blip.feeds(ENCODER, SAMPLES, SHAPE)["pixel_values"]),
            max_new_tokens=8,
            min_new_tokens=8,
            do_sample=False,
            num_beams=1,
        )
    tokens = blip.rollout(DECODER, lambda f: {"logits": outputs(module, f)}, feeds)["tokens"]
    assert np.array_equal(tokens, written[:, -8:].numpy())


def _config() -> dict[str, Any]:
    return {**MODEL.config, "text_config": {**MODEL.config["text_config"], "sep_token_id": 199}}


def test_every_second_image_has_the_text_of_another() -> None:
    """101 begins and 102 ends; three words are four tokens shorter than seven words cut to seven."""
    ids = blip.feeds(MODEL, SAMPLES, SHAPE)["input_ids"]
    alone = blip.feeds(DECODER, SAMPLES, SHAPE)["input_ids"]
    assert ids[:, 0].tolist() == [101, 101, 101]
    assert np.array_equal(ids[0, 1:], alone[0, 1:])
    assert np.array_equal(ids[1, 1:], alone[2, 1:])
    assert np.array_equal(ids[2, 1:], alone[2, 1:])
    assert ids[0, 3:].tolist() == [102, 0, 0, 0]


def test_what_is_written_begins_with_the_decoders_own_token() -> None:
    feeds = blip.feeds(DECODER, SAMPLES, SHAPE)
    assert feeds["input_ids"][:, 0].tolist() == [198, 198, 198]
    assert feeds["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0, 0], [1] * 7, [1, 1, 1, 1, 0, 0, 0]]


@pytest.mark.parametrize("model", [MODEL, DECODER], ids=lambda m: m.task)
def test_the_image_matters_and_padding_does_not(model: Model) -> None:
    module = blip.load(model)
    feeds = fed(model, module)
    image = "pixel_values" if model is MODEL else "encoder_hidden_states"
    ids = feeds["input_ids"].copy()
    ids[0, 4:] = 150
    usual = of_first_text(outputs(module, feeds))
    padded = of_first_text(outputs(module, {**feeds, "input_ids": ids}))
    other = of_first_text(outputs(module, {**feeds, image: feeds[image][::-1].copy()}))
    assert np.allclose(padded, usual, atol=1e-6)
    assert np.abs(other - usual).max() > 1e-5


def of_first_text(output: Any) -> Any:
    """The scores of the first pair, or the logits of the first text's four tokens."""
    return output[0] if output.ndim == 2 else output[0, :4]


def test_adapters_of_a_whole_are_refused_for_a_part() -> None:
    with pytest.raises(
        StageError, match=r"^LoRA adapters fit a whole BLIP, and captioning-decoder is a part of one$"
    ):
        blip.load(replace(DECODER, lora=(Lora("./adapter"),)))


def test_the_preset_has_as_many_parameters_as_the_hubs_model() -> None:
    """247,414,076 with the copy of the embeddings that the hub counts for the head, which is the same."""
    import transformers

    with torch.device("meta"):
        module = transformers.BlipForConditionalGeneration(
            transformers.BlipConfig(**blip.PRESETS[MODEL.source])
        )
    assert sum(p.numel() for p in module.parameters()) == 247_414_076 - 30524 * 768


def test_sizes_that_the_model_does_not_take_are_refused() -> None:
    with pytest.raises(
        StageError, match=r"^blip-tiny takes images of 32 pixels, and the suite's image_size is 64$"
    ):
        blip.signature(ENCODER, {"image_size": 64})
    with pytest.raises(
        StageError, match=r"^blip-tiny takes at most 16 tokens, and the suite's sequence_length is 17$"
    ):
        blip.signature(DECODER, {**SHAPE, "sequence_length": 17})


def scores(*probabilities: float) -> dict[str, Any]:
    return {"itm_score": np.array([[0.0, np.log(p / (1 - p))] for p in probabilities], np.float32)}


@pytest.mark.parametrize(
    ("candidate", "decided", "probable"),
    [
        (scores(0.9, 0.4), 1.0, 1.0),
        (scores(0.8, 0.3), 1.0, 0.9),
        (scores(0.9, 0.6), 0.5, 0.9),
        (scores(0.1, 0.6), 0.0, 0.5),
    ],
)
def test_agreement_of_decisions_and_of_probabilities(candidate: Any, decided: float, probable: float) -> None:
    assert blip.metrics(MODEL, Evidence({}, scores(0.9, 0.4), candidate)) == {
        "match_agreement": decided,
        "match_score_agreement": pytest.approx(probable),
    }


def test_the_encoder_decides_and_writes_nothing() -> None:
    assert blip.metrics(ENCODER, Evidence({}, {}, {})) == {}
    assert blip.rollout(ENCODER, lambda feeds: feeds, {}) == {}
