"""Attention over the image: what is kept of it, what a suite may ask, and how a report draws it."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cases
from benchbox import plugins
from benchbox.build import builder
from benchbox.build.artifacts import build_artifact
from benchbox.build.cache import Cache
from benchbox.errors import SuiteError
from benchbox.measure.rounds import Ready
from benchbox.measure.worker import Worker
from benchbox.numerics import attention
from benchbox.plugins.models import vit
from benchbox.reporters import pictures
from benchbox.schema.asked import Case, Dataset, Model
from benchbox.schema.seen import Attention
from benchbox.suite.load import parse_suite

KEEPING = replace(cases.MODEL, name="vit-attention", attention=True)


def test_a_vit_gives_where_its_first_token_looks_as_one_more_output() -> None:
    """Four by four patches; attention to all tokens sums to one, and the token itself takes a share."""
    import torch

    last = vit.signature(KEEPING, {"batch": 2, "image_size": 32}).outputs[-1]
    assert (last.name, last.axes) == ("attention", ("batch", 4, 4))
    with torch.inference_mode():
        logits, looked = vit.load(KEEPING)(torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32))
        (plain,) = vit.load(cases.MODEL)(torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32))
    assert looked.shape == (2, 4, 4)
    assert torch.all((looked.sum(dim=(1, 2)) > 0.8) & (looked.sum(dim=(1, 2)) < 1.0))
    torch.testing.assert_close(logits, plain, atol=1e-5, rtol=0)


def test_an_exported_vit_keeps_its_attention(tmp_path: Path) -> None:
    """The exporter verified it as an output at a batch that was not traced."""
    case = replace(cases.case("onnx"), model=KEEPING)
    entry = build_artifact(case, Cache(tmp_path), builder.Host(frozenset()))
    assert [out["name"] for out in entry.content["facts"]["outputs"]] == ["logits", "attention"]
    assert entry.content["facts"]["verified"]["max_abs_error"] < 1e-5


# As small as they can be: one layer on each side, four patches.
_PART = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
_IMAGE = {**_PART, "image_size": 32, "patch_size": 16}
_TEXT = {**_PART, "vocab_size": 200, "bos_token_id": 198}
CLIP = {"projection_dim": 16, "text_config": {**_PART, "vocab_size": 100}, "vision_config": _IMAGE}
BLIP = {"image_text_hidden_size": 8, "text_config": _TEXT, "vision_config": _IMAGE}
IDEFICS = {
    **_PART,
    "vocab_size": 200,
    "cross_layer_interval": 1,
    "use_resampler": False,
    "vision_config": {**_PART, "embed_dim": 32, "image_size": 32, "patch_size": 16},
}


@pytest.mark.parametrize(
    ("family", "source", "task", "config", "words"),
    [
        ("clip", "openai/clip-vit-base-patch32", "zero-shot-image-classification", CLIP, 0),
        ("clip", "openai/clip-vit-base-patch32", "image-features", CLIP, 0),
        ("blip", "Salesforce/blip-itm-base-coco", "image-text-retrieval", BLIP, 1),
        ("blip", "Salesforce/blip-image-captioning-base", "captioning-decoder", BLIP, 1),
        ("idefics", "HuggingFaceM4/idefics-9b", "image-text-to-text", IDEFICS, 1),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_exported_model_of_images_and_texts_keeps_its_attention(
    family: str, source: str, task: str, config: Mapping[str, Any], words: int, tmp_path: Path
) -> None:
    """At batches and lengths that were not traced too: the exporter verified it there."""
    model = Model(name="tiny", family=family, source=source, task=task, config=config, attention=True)
    sizes = dict.fromkeys(plugins.load("models", family).TASKS[task], 4)
    shape = {**sizes, "batch": 1, "image_size": 32, **({"sequence_length": 16} if len(sizes) > 1 else {})}
    case = cases.case("onnx", model=model, shape=shape, dataset=Dataset("sample_images"))
    entry = build_artifact(case, Cache(tmp_path), builder.Host(frozenset()))
    attended = entry.content["facts"]["outputs"][-1]
    axes = ["batch", *["sequence_length"] * words, 2, 2]
    assert (attended["name"], list(attended["axes"])) == ("attention", axes)
    assert entry.content["facts"]["verified"]["max_abs_error"] < 1e-5


def test_two_images_are_kept_small_with_both_maps() -> None:
    feeds = {"ids": np.zeros((3, 4), np.int64), "pixel_values": np.zeros((3, 3, 112, 224), np.float32)}
    feeds["pixel_values"][:, 0] = 1.0
    maps = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    kept = attention.kept_maps(feeds, {"attention": maps}, {"attention": maps + 1})
    assert [one.label for one in kept] == ["image 1", "image 2"]
    assert (kept[0].height, kept[0].width) == (28, 56)
    assert base64.b64decode(kept[0].pixels)[:6] == bytes([255, 0, 0, 255, 0, 0])
    assert kept[1].reference == ((4.0, 5.0), (6.0, 7.0))
    assert kept[1].candidate == ((5.0, 6.0), (7.0, 8.0))


def test_of_words_the_first_three_are_kept_and_nan_is_no_weight() -> None:
    feeds = {"pixel_values": np.ones((1, 2, 3, 8, 8), np.float32)}
    maps = np.full((1, 5, 1, 2), np.nan, np.float32)
    kept = attention.kept_maps(feeds, {"attention": maps}, {"attention": maps})
    assert [one.label for one in kept] == ["image 1, word 1", "image 1, word 2", "image 1, word 3"]
    assert kept[0].candidate == ((0.0, 0.0),)


def test_words_that_look_nowhere_are_passed_over() -> None:
    """Those before an image in a prompt do not see it; the others keep their number."""
    feeds = {"pixel_values": np.ones((1, 3, 8, 8), np.float32)}
    maps = np.ones((1, 6, 1, 2), np.float32)
    maps[:, [0, 1, 3]] = 0.0
    kept = attention.kept_maps(feeds, {"attention": maps}, {"attention": maps + 1})
    assert [one.label for one in kept] == ["image 1, word 3", "image 1, word 5", "image 1, word 6"]
    assert kept[0].candidate == ((2.0, 2.0),)


def test_without_an_image_among_the_inputs_the_maps_are_kept_over_grey() -> None:
    """A captioner's decoder gets what its encoder made of the image."""
    feeds = {"input_ids": np.zeros((1, 1), np.int64), "encoder_hidden_states": np.ones((1, 5, 8), np.float32)}
    maps = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    (one,) = attention.kept_maps(feeds, {"attention": maps}, {"attention": maps})
    assert one.label == "image 1 (given as states), word 1"
    assert (one.height, one.width) == (56, 56)
    assert base64.b64decode(one.pixels) == bytes([128]) * 56 * 56 * 3
    assert one.reference == ((0.0, 1.0), (2.0, 3.0))


def test_without_the_output_nothing_is_kept() -> None:
    assert attention.kept_maps({}, {"logits": np.ones(1)}, {"logits": np.ones(1)}) == ()


def test_attention_is_a_picture_and_not_judged(ready: Callable[[Case], Ready]) -> None:
    from benchbox.measure.worker import _outputs

    pair = ({"logits": np.ones((1, 2)), "attention": np.ones((1, 2, 2))},) * 2
    assert [out.output for out in _outputs({"batch": 1}, [pair], but=attention.OUTPUT)] == ["logits"]


def test_a_family_that_keeps_no_attention_says_which_do() -> None:
    text = """
models: {family: swin, source: microsoft/swin-tiny-patch4-window7-224, attention: true}
paths: [torch]
backends: [pytorch]
inputs: {dataset: sample_images}
"""
    with pytest.raises(SuiteError) as error:
        parse_suite(text, "s.yaml")
    assert "models.attention: swin keeps no attention over an image" in str(error.value)
    assert "vit: image-classification" in str(error.value)


def test_a_png_is_what_others_read_back() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    again = np.asarray(Image.open(io.BytesIO(pictures.png(pixels))))
    assert again.tolist() == pixels.tolist()


def test_the_difference_is_red_where_the_candidate_looks_more() -> None:
    """Left: twice as much as the reference's span allows; right: as much as the reference."""
    grey = base64.b64encode(bytes([128] * 4 * 4 * 3)).decode()
    one = Attention("image 1", 4, 4, grey, ((0.0, 1.0),), ((1.0, 1.0),))
    (picture,) = pictures._pictures([one])
    assert picture.error == 1.0
    drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.difference.partition(",")[2]))))
    red, _, blue = (int(value) for value in drawn[80, 0])
    assert red > blue + 40
    assert drawn.shape == (168, 168, 3)
    right = [int(value) for value in drawn[80, -1]]
    assert max(right) - min(right) < 5


@pytest.mark.parametrize(("asked", "judged"), [(False, ["logits", "attention"]), (True, ["logits"])])
def test_an_output_of_that_name_is_a_picture_only_where_the_suite_asked_for_one(
    asked: bool, judged: list[str], tmp_path: Path
) -> None:
    """A file of somebody's own may call a result `attention`: it is compared like any other."""
    worker = Worker()
    worker._case = replace(cases.case("onnx"), model=replace(cases.MODEL, attention=asked))
    worker._reference = tmp_path
    logits, maps = np.ones((1, 10), np.float32), np.ones((1, 2, 2), np.float32)
    pixels = np.zeros((1, 3, 8, 8), np.float32)
    stored = {"in:pixel_values": pixels, "out:logits": logits, "out:attention": maps}
    np.savez(tmp_path / "parity-0.npz", **stored)
    worker._session = SimpleNamespace(run=lambda _feeds: {"logits": logits, "attention": maps + 0.5})
    found = worker._compare([{"batch": 1}])
    assert [out.output for out in found.outputs] == judged
    assert [one.candidate for one in found.attention] == ([((1.5, 1.5), (1.5, 1.5))] if asked else [])
    if not asked:
        assert found.outputs[1].max_abs_error == 0.5
