"""BLIP: pairs that match or do not, the two parts of a captioner, and the captions that it writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchbox.errors import StageError
from benchbox.plugins.models import blip
from benchbox.schema.asked import Lora
from families import PAIRS, Member, small

torch = pytest.importorskip("torch")

PAIR, DECODER = small("blip-small"), small("blip-small-decoder")
LENGTH = {"sequence_length": 7}
both = pytest.mark.parametrize("member", [PAIR, DECODER], ids=["pair", "decoder"])


def test_where_a_word_looks_is_the_last_cross_attention() -> None:
    """As transformers itself gives it, the mean over the heads, the first column left out."""
    keeping = DECODER.attentive()
    feeds = keeping.fed(PAIRS, **LENGTH)
    tensors = {name: torch.from_numpy(array) for name, array in feeds.items()}
    with torch.inference_mode():
        given = keeping.module.model(**tensors, output_attentions=True).cross_attentions[-1].mean(dim=1)
    assert np.array_equal(keeping.answers(feeds)["attention"].reshape(3, 7, 16), given[:, :, 1:].numpy())


@both
def test_a_saved_module_still_says_where_words_look(member: Member, tmp_path: Path) -> None:
    """A decoder that was saved by itself takes states of any image, whose rows and columns have no number."""
    side: tuple[Any, ...] = (4, 4) if member is PAIR else ("rows", "columns")
    stored = member.attentive().saved(tmp_path)
    assert stored.signature.outputs[-1].axes == ("batch", "sequence_length", *side)


def test_an_encoder_of_images_has_no_words_that_look_at_one() -> None:
    assert blip.ATTENTION == ("image-text-retrieval", "captioning-decoder")


def test_a_part_is_saved_without_the_other(tmp_path: Path) -> None:
    from safetensors import safe_open

    blip.save(DECODER.module, tmp_path)
    with safe_open(tmp_path / "model.safetensors", "np") as weights:
        assert {name.partition(".")[0] for name in weights.keys()} == {"bert", "cls"}  # noqa: SIM118  # no mapping


def test_what_the_parts_write_is_what_the_captioner_generates() -> None:
    import transformers

    config = {**DECODER.model.config}
    config["text_config"] = {**config["text_config"], "sep_token_id": 999}
    captioner = transformers.BlipForConditionalGeneration(
        transformers.BlipConfig(**{**blip.PRESETS[DECODER.model.source], **config})
    ).eval()
    captioner.text_decoder, captioner.vision_model = DECODER.module.model, DECODER.module.encode.__self__
    pixels = small("blip-small-encoder").raw(PAIRS)["pixel_values"]
    with torch.inference_mode():
        written = captioner.generate(
            pixel_values=torch.from_numpy(pixels),
            max_new_tokens=8,
            min_new_tokens=8,
            do_sample=False,
            num_beams=1,
        )
    tokens = DECODER.written(DECODER.fed(PAIRS, **LENGTH))["tokens"]
    assert np.array_equal(tokens, written[:, -8:].numpy())


def test_every_second_image_has_the_text_of_another() -> None:
    """101 begins and 102 ends; three words are four tokens shorter than ten words cut to seven."""
    ids, alone = (member.raw(PAIRS, **LENGTH)["input_ids"] for member in (PAIR, DECODER))
    assert ids[:, 0].tolist() == [101, 101, 101]
    assert np.array_equal(ids[0, 1:], alone[0, 1:])
    assert np.array_equal(ids[1, 1:], alone[2, 1:])
    assert np.array_equal(ids[2, 1:], alone[2, 1:])
    assert ids[0, 3:].tolist() == [102, 0, 0, 0]


def test_what_is_written_begins_with_the_decoders_own_token() -> None:
    feeds = DECODER.raw(PAIRS, **LENGTH)
    assert feeds["input_ids"][:, 0].tolist() == [998, 998, 998]
    assert feeds["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0, 0], [1] * 7, [1, 1, 1, 1, 0, 0, 0]]


@both
def test_the_image_matters_and_padding_does_not(member: Member) -> None:
    """To the scores of the first pair, or the logits of the first text's four tokens."""
    feeds = member.fed(PAIRS, **LENGTH)
    image = "pixel_values" if member is PAIR else "encoder_hidden_states"
    ids = feeds["input_ids"].copy()
    ids[0, 4:] = 150

    def first(**changes: Any) -> Any:
        (answer,) = member.answers({**feeds, **changes}).values()
        return answer[0, :4]

    assert np.allclose(first(input_ids=ids), first(), atol=1e-6)
    assert np.abs(first(**{image: feeds[image][::-1].copy()}) - first()).max() > 1e-5


def test_adapters_of_a_whole_are_refused_for_a_part() -> None:
    with pytest.raises(
        StageError, match=r"^LoRA adapters fit a whole BLIP, and captioning-decoder is a part of one$"
    ):
        blip.load(DECODER.but(lora=(Lora("./adapter"),)).model)


def test_the_preset_has_as_many_parameters_as_the_hubs_model() -> None:
    """247,414,076 with the copy of the embeddings that the hub counts for the head, which is the same."""
    import transformers

    with torch.device("meta"):
        module = transformers.BlipForConditionalGeneration(
            transformers.BlipConfig(**blip.PRESETS[PAIR.model.source])
        )
    assert sum(p.numel() for p in module.parameters()) == 247_414_076 - 30524 * 768


def scores(*probabilities: float) -> dict[str, Any]:
    return {"itm_score": np.array([[0.0, np.log(p / (1 - p))] for p in probabilities], np.float32)}


@pytest.mark.parametrize(
    ("candidate", "decided", "probable"),
    [((0.8, 0.3), 1.0, 0.9), ((0.9, 0.6), 0.5, 0.9), ((0.1, 0.6), 0.0, 0.5)],
)
def test_agreement_of_decisions_and_of_probabilities(
    candidate: tuple[float, ...], decided: float, probable: float
) -> None:
    assert PAIR.metrics(scores(0.9, 0.4), scores(*candidate)) == {
        "match_agreement": decided,
        "match_score_agreement": pytest.approx(probable),
    }
