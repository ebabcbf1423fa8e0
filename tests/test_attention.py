"""Attention over the image: what is kept of it, what a suite may ask, and how a report draws it."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cases
from benchbox import attention, build, suite
from benchbox.cache import Cache
from benchbox.errors import SuiteError
from benchbox.models import vit
from benchbox.reporters import _pictures
from benchbox.rounds import Ready
from benchbox.schema import Attention, Case

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
    entry = build.build_artifact(case, Cache(tmp_path), build.Host(frozenset()))
    assert [out["name"] for out in entry.content["facts"]["outputs"]] == ["logits", "attention"]
    assert entry.content["facts"]["verified"]["max_abs_error"] < 1e-5


def test_two_images_are_kept_small_with_both_maps() -> None:
    feeds = {"ids": np.zeros((3, 4), np.int64), "pixel_values": np.zeros((3, 3, 112, 224), np.float32)}
    feeds["pixel_values"][:, 0] = 1.0
    maps = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    kept = attention.kept(feeds, {"attention": maps}, {"attention": maps + 1})
    assert [one.label for one in kept] == ["image 1", "image 2"]
    assert (kept[0].height, kept[0].width) == (28, 56)
    assert base64.b64decode(kept[0].pixels)[:6] == bytes([255, 0, 0, 255, 0, 0])
    assert kept[1].reference == ((4.0, 5.0), (6.0, 7.0))
    assert kept[1].candidate == ((5.0, 6.0), (7.0, 8.0))


def test_of_words_the_first_three_are_kept_and_nan_is_no_weight() -> None:
    feeds = {"pixel_values": np.ones((1, 2, 3, 8, 8), np.float32)}
    maps = np.full((1, 5, 1, 2), np.nan, np.float32)
    kept = attention.kept(feeds, {"attention": maps}, {"attention": maps})
    assert [one.label for one in kept] == ["image 1, word 1", "image 1, word 2", "image 1, word 3"]
    assert kept[0].candidate == ((0.0, 0.0),)


def test_without_the_output_nothing_is_kept() -> None:
    assert attention.kept({}, {"logits": np.ones(1)}, {"logits": np.ones(1)}) == ()


def test_attention_is_a_picture_and_not_judged(ready: Callable[[Case], Ready]) -> None:
    from benchbox.worker import _outputs

    pair = ({"logits": np.ones((1, 2)), "attention": np.ones((1, 2, 2))},) * 2
    assert [out.output for out in _outputs({"batch": 1}, [pair])] == ["logits"]


def test_a_family_that_keeps_no_attention_says_which_do() -> None:
    text = """
models: {family: swin, source: microsoft/swin-tiny-patch4-window7-224, attention: true}
paths: [torch]
backends: [pytorch]
inputs: {dataset: sample_images}
"""
    with pytest.raises(SuiteError) as error:
        suite.parse_suite(text, "s.yaml")
    assert "models.attention: swin keeps no attention over an image" in str(error.value)
    assert "vit: image-classification" in str(error.value)


def test_a_png_is_what_others_read_back() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    again = np.asarray(Image.open(io.BytesIO(_pictures.png(pixels))))
    assert again.tolist() == pixels.tolist()


def test_the_difference_is_red_where_the_candidate_looks_more() -> None:
    """Left: twice as much as the reference's span allows; right: as much as the reference."""
    grey = base64.b64encode(bytes([128] * 4 * 4 * 3)).decode()
    one = Attention("image 1", 4, 4, grey, ((0.0, 1.0),), ((1.0, 1.0),))
    (picture,) = _pictures._pictures([one])
    assert picture.error == 1.0
    drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.difference.partition(",")[2]))))
    red, _, blue = (int(value) for value in drawn[80, 0])
    assert red > blue + 40
    assert drawn.shape == (168, 168, 3)
    right = [int(value) for value in drawn[80, -1]]
    assert max(right) - min(right) < 5
