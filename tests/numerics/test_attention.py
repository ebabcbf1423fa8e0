"""Attention over the image: what is kept of it, and that it is a picture and not judged."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import cases
from benchbox.measure.worker import Worker
from benchbox.numerics import attention


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


def test_attention_is_a_picture_and_not_judged() -> None:
    from benchbox.measure.worker import Stored, _outputs

    outputs = {"logits": np.ones((1, 2)), "attention": np.ones((1, 2, 2))}
    pair = Stored({}, outputs, {}, {}, None), outputs
    assert [out.output for out in _outputs({"batch": 1}, [pair], but=attention.OUTPUT)] == ["logits"]


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
