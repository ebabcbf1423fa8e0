"""Datasets: as many samples as asked for, the same each time, and calibration apart from parity."""

from __future__ import annotations

import shutil
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchbox.errors import StageError
from benchbox.plugins.datasets import imagefolder, random, sample_images

Pixels = np.ndarray[Any, Any]


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Eight images of one colour each in two classes; the colour is the number of the image."""
    for number in range(8):
        folder = tmp_path / ("cat" if number % 2 else "dog")
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (6, 4), (number, 0, 0)).save(folder / f"{number}.png")
    (tmp_path / "dog" / "notes.txt").write_text("not an image")
    return tmp_path


@pytest.fixture(params=["random", "sample_images", "imagefolder"])
def dataset(request: pytest.FixtureRequest, photographs: Path) -> tuple[Any, Any]:
    """Each dataset with small options."""
    return {
        "random": (random, random.Options(height=20, width=30)),
        "sample_images": (sample_images, sample_images.Options()),
        "imagefolder": (imagefolder, imagefolder.Options(str(photographs))),
    }[request.param]


def images(dataset: tuple[Any, Any], count: int, split: str, seed: int = 0) -> list[Pixels]:
    plugin, options = dataset
    return [s.image for s in plugin.samples(options, count=count, split=split, seed=seed)]


@pytest.mark.parametrize("count", [0, 1, 11])
def test_exactly_as_many_as_asked_for_each_a_colour_image(dataset: tuple[Any, Any], count: int) -> None:
    found = images(dataset, count, "parity")
    assert len(found) == count
    assert all((i.dtype, i.ndim, i.shape[2]) == (np.uint8, 3, 3) for i in found)


def test_the_same_arguments_give_the_same_samples(dataset: tuple[Any, Any]) -> None:
    first, second = images(dataset, 5, "parity"), images(dataset, 5, "parity")
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_another_seed_gives_other_samples(dataset: tuple[Any, Any]) -> None:
    first, second = images(dataset, 5, "parity", 0), images(dataset, 5, "parity", 1)
    assert not all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_shorter_list_is_the_beginning_of_a_longer_one(dataset: tuple[Any, Any]) -> None:
    long = images(dataset, 6, "parity")
    assert all(np.array_equal(a, b) for a, b in zip(images(dataset, 2, "parity"), long[:2], strict=True))


def test_parity_sees_no_image_that_was_calibrated_on(dataset: tuple[Any, Any]) -> None:
    calibrated = {i.tobytes() for i in images(dataset, 20, "calibration")}
    assert not calibrated & {i.tobytes() for i in images(dataset, 20, "parity")}


def test_samples_are_made_one_at_a_time(dataset: tuple[Any, Any]) -> None:
    """A billion are asked for, two are taken."""
    plugin, options = dataset
    lazily = plugin.samples(options, count=10**9, split="calibration", seed=0)
    assert len(list(islice(lazily, 2))) == 2


def test_calibration_and_parity_share_no_pixel_of_the_photographs() -> None:
    """Photographs of which every pixel says its column: left halves and right halves."""
    column = np.broadcast_to(np.arange(640)[None, :, None], (427, 640, 3))
    assert sample_images._half(column, "calibration").max() == 319
    assert sample_images._half(column, "parity").min() == 320
    assert sample_images._half(column, "timing").min() == 320


def test_crops_are_squares_of_the_sizes_that_the_options_say() -> None:
    options = sample_images.Options(min_crop=100, max_crop=120)
    shapes = {i.shape for i in images((sample_images, options), 30, "parity")}
    assert all(100 <= height <= 120 and height == width for height, width, _ in shapes)
    assert len(shapes) > 5


@pytest.mark.parametrize("options", [{"min_crop": 8}, {"min_crop": 200, "max_crop": 100}, {"max_crop": 321}])
def test_crops_that_no_half_photograph_has_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="16 <= min_crop <= max_crop <= 320"):
        sample_images.Options(**options)


def test_noise_has_the_size_that_the_options_say() -> None:
    assert {i.shape for i in images((random, random.Options(height=7, width=9)), 3, "timing")} == {(7, 9, 3)}
    with pytest.raises(ValueError, match="at least 1"):
        random.Options(height=0)


def test_a_folder_gives_each_of_its_images_with_its_class(photographs: Path) -> None:
    options = imagefolder.Options(str(photographs))
    seen = {}
    for split in ("calibration", "parity"):
        for sample in imagefolder.samples(options, count=4, split=split, seed=0):
            assert sample.image is not None
            assert sample.label is None  # which number a class has, only the model knows
            seen[int(sample.image[0, 0, 0])] = sample.label_name
    assert seen == {n: "cat" if n % 2 else "dog" for n in range(8)}
    assert imagefolder.classes(options) == ("cat", "dog")


def test_the_class_is_the_folder_that_an_image_lies_in_however_deep(tmp_path: Path) -> None:
    for place in ("train/cat", "val/cat", "val/dog", "."):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / place / "a.png")
    options = imagefolder.Options(str(tmp_path))
    found = [
        sample.label_name
        for split in ("calibration", "parity")
        for sample in imagefolder.samples(options, count=2, split=split, seed=0)
    ]
    assert Counter(found) == {"cat": 2, "dog": 1, None: 1}
    assert imagefolder.classes(options) == ("cat", "dog")


def test_what_is_hidden_or_empty_is_no_class_and_no_image(photographs: Path) -> None:
    options = imagefolder.Options(str(photographs))
    before = imagefolder.fingerprint(options)
    (photographs / "bird").mkdir()
    (photographs / "cat" / ".ipynb_checkpoints").mkdir()
    shutil.copy(photographs / "cat" / "1.png", photographs / "cat" / ".ipynb_checkpoints" / "1.png")
    (photographs / "dog" / "._2.png").write_bytes(b"what macOS leaves in archives")
    assert imagefolder.classes(options) == ("cat", "dog")
    assert imagefolder.fingerprint(options) == before
    assert len({i.tobytes() for i in images((imagefolder, options), 9, "parity")}) == 4


def test_a_folder_starts_again_when_it_runs_out(photographs: Path) -> None:
    found = images((imagefolder, imagefolder.Options(str(photographs))), 6, "parity")
    assert np.array_equal(found[0], found[4])
    assert not np.array_equal(found[0], found[1])


def test_images_without_classes_have_no_label(tmp_path: Path) -> None:
    for name in ("a.png", "b.PNG"):
        Image.new("L", (4, 4), 9).save(tmp_path / name, format="png")
    options = imagefolder.Options(str(tmp_path))
    (sample,) = imagefolder.samples(options, count=1, split="parity", seed=0)
    assert sample.image is not None
    assert (sample.label, sample.label_name, sample.image.tolist()[0][0]) == (None, None, [9, 9, 9])
    assert imagefolder.classes(options) == ()


@pytest.mark.parametrize(("dtype", "suffix"), [("uint16", "png"), ("uint16", "tif"), ("int32", "tif")])
def test_16_bits_are_scaled_to_8(tmp_path: Path, dtype: str, suffix: str) -> None:
    """A ramp from black to white; Pillow alone makes it white from 256 of 65535 on."""
    ramp = np.array([[0, 256, 257, 32_639, 65_278, 65_535]], dtype)
    for name in "ab":
        Image.fromarray(ramp).save(tmp_path / f"{name}.{suffix}")
    (found,) = images((imagefolder, imagefolder.Options(str(tmp_path))), 1, "parity")
    assert (found.dtype, found.shape) == (np.uint8, (1, 6, 3))
    assert found[0].tolist() == [[v] * 3 for v in (0, 1, 1, 127, 254, 255)]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.array([[0, 0.5]], np.float32), r"pixels from 0 to 0\.5 \(Pillow's mode F\)"),
        (np.array([[0, 65_536]], np.int32), r"pixels from 0 to 65536 \(Pillow's mode I\)"),
        (np.array([[-1, 9]], np.int32), r"pixels from -1 to 9 \(Pillow's mode I\)"),
    ],
)
def test_pixels_whose_white_nobody_knows_are_refused(tmp_path: Path, values: Pixels, said: str) -> None:
    for name in "ab":
        Image.fromarray(values).save(tmp_path / f"{name}.tif")
    with pytest.raises(StageError, match=rf"[ab]\.tif has {said}, and .*: save it with 8 or 16 bits$"):
        images((imagefolder, imagefolder.Options(str(tmp_path))), 1, "parity")


def test_too_few_images_and_a_broken_one_are_named(tmp_path: Path) -> None:
    options = imagefolder.Options(str(tmp_path))
    with pytest.raises(StageError, match="holds 0 images; at least two are needed"):
        list(imagefolder.samples(options, count=1, split="parity", seed=0))
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"not a picture")
    with pytest.raises(StageError, match=r"cannot be read \(a\.jpg: no image that Pillow knows; b\.jpg: "):
        list(imagefolder.samples(options, count=1, split="parity", seed=0))


def test_other_images_in_the_folder_are_other_inputs(photographs: Path) -> None:
    """The fingerprint is part of the cache's keys; what is not an image does not count."""
    options = imagefolder.Options(str(photographs))
    before = imagefolder.fingerprint(options)
    (photographs / "dog" / "notes.txt").write_text("still not an image")
    assert imagefolder.fingerprint(options) == before
    Image.new("RGB", (6, 4), (99, 0, 0)).save(photographs / "dog" / "9.png")
    assert imagefolder.fingerprint(options) != before
