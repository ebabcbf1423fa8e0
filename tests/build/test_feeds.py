"""What is fed is what the suite says, in batches that no exporter saw, or the case fails and says why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import cases
from benchbox import plugins
from benchbox.build.feeds import _feeds, calibration_feeds, no_calibration, parity_shapes, stream
from benchbox.errors import StageError
from benchbox.plugins.contract import Sample
from benchbox.schema.asked import Dataset
from benchbox.schema.tensors import Feeds, Signature, TensorSpec
from families import Member, small

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


def test_a_pass_that_does_not_say_that_it_calibrates_cannot() -> None:
    with pytest.raises(StageError, match="CALIBRATES = True"):
        no_calibration(samples=1)


@pytest.mark.parametrize(
    ("batch", "samples", "dynamic", "expected"),
    [
        (1, 12, True, (3, 1, 3, 1, 3, 1)),
        (1, 1, True, (3, 1)),
        (3, 4, True, (3, 1)),
        (8, 12, True, (8, 3, 1)),
        (8, 13, True, (8, 3, 1, 8, 3, 1)),
        (2, 5, False, (2, 2, 2)),
        (8, 1, False, (8,)),
    ],
)
def test_parity_sees_a_batch_that_no_exporter_saw(
    batch: int, samples: int, dynamic: bool, expected: tuple[int, ...]
) -> None:
    case = replace(cases.case("onnx", batch=batch), dynamic_axes=dynamic)
    assert tuple(shape["batch"] for shape in parity_shapes(case, samples)) == expected


def test_calibration_is_a_stream_of_batches_of_images_that_parity_never_sees() -> None:
    batches = list(calibration_feeds(cases.case("onnx"), samples=5, batch=2))
    assert [feeds["pixel_values"].shape[0] for feeds in batches] == [2, 2, 1]
    calibrated = {image.tobytes() for feeds in batches for image in feeds["pixel_values"]}
    shape = {"batch": 5, "image_size": 32}
    (seen,) = stream(cases.case("onnx"), "parity", [shape])
    parity = {image.tobytes() for image in seen.feeds["pixel_values"]}
    assert len(calibrated) == 5
    assert not calibrated & parity


def test_a_graph_with_fixed_axes_is_calibrated_in_its_own_batches() -> None:
    """It takes no others; the samples are rounded up to whole batches."""
    fixed = replace(cases.case("onnx", "int8_static", batch=4), dynamic_axes=False)
    given = [feeds["pixel_values"].shape[0] for feeds in calibration_feeds(fixed, samples=6, batch=1)]
    assert given == [4, 4]
    free = cases.case("onnx", "int8_static", batch=4)
    assert [f["pixel_values"].shape[0] for f in calibration_feeds(free, samples=3, batch=2)] == [2, 1]


def fed(member: Member, dataset: str = "sample_images", **sizes: int) -> Feeds:
    """As a case of that model is timed."""
    shape = {"batch": 2, **sizes}
    case = cases.case("torch", model=member.model, dataset=Dataset(dataset), shape=shape)
    return next(stream(case, "timing", [shape])).feeds


@pytest.mark.parametrize("size", [64, 256])
def test_a_segmenter_is_fed_the_suites_size_whatever_its_processor_was_saved_with(
    tmp_path: Path, size: int
) -> None:
    """It takes images of any size: its processor's is that of its training, not of what is measured."""
    model = small("segformer").saved(tmp_path)
    transformers.SegformerImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(tmp_path)
    assert fed(model, image_size=size)["pixel_values"].shape == (2, 3, size, size)


def test_images_of_another_size_than_the_models_are_refused_with_the_file_that_says_so(
    tmp_path: Path,
) -> None:
    model = small("vit").saved(tmp_path)
    for size in (32, 48):
        transformers.ViTImageProcessorPil(size={"height": size, "width": size}).save_pretrained(tmp_path)
        if size == 32:
            assert fed(model, image_size=32)["pixel_values"].shape[2:] == (32, 32)
    with pytest.raises(StageError) as caught:
        fed(model, image_size=32)
    assert caught.value.reason == (
        "the input pixel_values is 2 x 3 x 48 x 48, and vit takes 2 x 3 x 32 x 32: so makes it the model's "
        "own image processor. Mend size or do_resize in the preprocessor_config.json of "
        f"{tmp_path}, or change what is under inputs"
    )


@pytest.mark.parametrize(
    ("axes", "seen", "refused"),
    [
        (("batch", 3), (2, 3), ""),
        (("batch", 3), (1, 3), "1 x 3, and vit takes 2 x 3"),
        (("batch", 3), (2, 4), "2 x 4, and vit takes 2 x 3"),
        (("batch", 3), (2, 3, 1), "2 x 3 x 1, and vit takes 2 x 3"),
        (("batch", "length"), (2, 5), ""),
        (("batch", "length"), (2, 6), "2 x 6, and vit takes 2 x 5"),
        (("batch", "past + length"), (2, 12), ""),
        (("batch", "past + length"), (2, 5), "2 x 5, and vit takes 2 x 12"),
        (("batch", "encoder_length"), (2, 99), ""),
        (("batch", "past + unknown"), (2, 99), ""),
        (("batch", 3, "rows"), (2, 4), "2 x 4, and vit takes 2 x 3 x rows"),
        ((), (), ""),
    ],
)
def test_an_input_is_as_long_as_its_axes_say_and_axes_without_a_size_are_of_any(
    axes: tuple[int | str, ...], seen: tuple[int, ...], refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = {"batch": 2, "length": 5, "past": 7}
    signature = Signature((TensorSpec("x", "float32", axes),), ())
    given = {"x": np.zeros(seen, np.float32)}
    family = plugins.seen_as("models", {"feeds": lambda *_: given, "signature": lambda *_: signature})
    monkeypatch.setattr(plugins, "load", lambda *_: family)
    case = cases.case("torch", shape=shape)
    if not refused:
        assert _feeds(case, [], shape)["x"].shape == seen
        return
    with pytest.raises(StageError) as caught:
        _feeds(case, [], shape)
    assert caught.value.reason == f"the input x is {refused}"


LONG = Dataset("sample_texts", {"min_sentences": 8})


@pytest.mark.parametrize("name", ["bert-small", "gpt2-small", "t5-small-decoder", "idefics-small"])
def test_where_every_text_fills_the_length_parity_has_a_shorter_one_and_timing_has_not(name: str) -> None:
    """Else a graph that ignores its mask would agree. A text alone stays as it is."""
    member = small(name)
    data = LONG if member.dataset == "sample_texts" else Dataset(member.dataset)
    shape = {**member.shape, **dict.fromkeys(("sequence_length", "encoder_length"), 8), "batch": 3}
    shape = {size: value for size, value in shape.items() if size in member.shape}
    case = cases.case("torch", model=member.model, dataset=data, shape=shape)
    batches = list(stream(case, "parity", [shape, {**shape, "batch": 1}]))
    (timed,) = stream(case, "timing", [shape])
    (mask,) = (i.name for i in member.signature.inputs if i.name.endswith("attention_mask") and i.is_mask)
    several, alone = (batch.feeds[mask].sum(axis=1).tolist() for batch in batches)
    assert several[1:] == [8, 8]
    assert 1 <= several[0] < 8
    assert (alone, timed.feeds[mask].sum(axis=1).tolist()) == ([8], [8, 8, 8])


def test_a_text_that_has_a_label_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    text = Sample(text="one two three four five six seven eight nine ten", label=1)
    labelled = plugins.seen_as("datasets", {"samples": lambda *_, count, **__: iter([text] * count)})
    monkeypatch.setattr(plugins, "dataset", lambda _word: labelled)
    shape = {"batch": 2, "sequence_length": 8}
    case = cases.case("torch", model=small("bert-small").model, dataset=Dataset("x"), shape=shape)
    (batch,) = stream(case, "parity", [shape])
    assert batch.feeds["attention_mask"].all()
    assert batch.labels.tolist() == [1, 1]


def test_random_weights_need_no_tokenizer_and_no_processor() -> None:
    assert fed(small("bert-small"), "sample_texts", sequence_length=8)["input_ids"].shape == (2, 8)


def test_a_model_that_looks_at_pictures_says_that_texts_are_none() -> None:
    with pytest.raises(StageError) as caught:
        fed(small("vit"), "sample_texts", image_size=32)
    assert caught.value.reason == "this model looks at pictures, and the dataset has none: sample_images has"
