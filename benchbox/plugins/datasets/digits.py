"""Handwritten digits of scikit-learn: 1,797 real images of 8x8 pixels with labels, split once.

The split is fixed, and no option moves it: the images of each class are put in the order of a hash of their
number, the first 36 of every class are the test split (360 images), the other 1,437 the training split.
Parity and timing see test images, calibration sees training images; what trains a model on these digits takes
them from `part`, so that no split can drift away from the other. The same people wrote both (UCI's "optical
recognition of handwritten digits", its 13 test writers), so an accuracy here says nothing of strangers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import cycle, islice
from typing import Literal

from benchbox.plugins.contract import Sample, Split
from benchbox.schema.tensors import Array

REQUIRES = ("sklearn", "numpy")

Task = Literal["upright", "rotated", "inverted"]
PartName = Literal["train", "test"]

TEST_IMAGES_PER_CLASS = 36
_SPLIT = "benchbox digits 1"  # goes into every hash: another text is another split

# load_digits counts the black pixels of 4x4 blocks, so its values are 0..16.
_LARGEST = 16


@dataclass(frozen=True)
class Options:
    """What is done to the images: nothing, a quarter turn counter-clockwise, or black and white swapped."""

    task: Task = "upright"


@dataclass(frozen=True)
class Part:
    """`images` uint8 (n, 8, 8, 3), `labels` int64 (n,), and their `numbers` (n,) in `load_digits`."""

    images: Array
    labels: Array
    numbers: Array


def samples(options: Options, *, count: int, split: Split, seed: int) -> Iterator[Sample]:
    """`count` labelled images, uint8 (8, 8, 3): each once in the seed's order, then from the first again.

    Calibration gives training images, parity and timing give test images.
    """
    mine = part("train" if split == "calibration" else "test", options.task)
    order = sorted(range(len(mine.labels)), key=lambda place: _hash(f"{seed}/{mine.numbers[place]}"))
    for place in islice(cycle(order), count):
        yield Sample(image=mine.images[place], label=int(mine.labels[place]))


@cache
def part(name: PartName, task: Task = "upright") -> Part:
    """All images of a split, in the order of `load_digits`."""
    import numpy as np
    from sklearn.datasets import load_digits

    digits = load_digits()
    tested = _test_numbers(digits.target)
    numbers = np.array([n for n in range(len(digits.target)) if (n in tested) == (name == "test")])
    images = _shifted(_pixels(digits.images[numbers]), task)
    labels = digits.target[numbers].astype(np.int64)
    for array in (images, labels, numbers):
        array.setflags(write=False)  # it is kept: who changed it would change it for everybody
    return Part(images, labels, numbers)


def _test_numbers(labels: Array) -> frozenset[int]:
    classes: dict[int, list[int]] = {}
    for number in sorted(range(len(labels)), key=lambda n: _hash(f"{_SPLIT}/{n}")):
        classes.setdefault(int(labels[number]), []).append(number)
    return frozenset(n for members in classes.values() for n in members[:TEST_IMAGES_PER_CLASS])


def _hash(text: str) -> bytes:
    """A place in an order that no library's version can change."""
    return hashlib.sha256(text.encode()).digest()


def _pixels(values: Array) -> Array:
    """0..16 as 0..255 in three equal channels; `rint(pixel / 255 * 16)` is the value again."""
    import numpy as np

    grey = np.rint(values * (255 / _LARGEST)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def _shifted(images: Array, task: Task) -> Array:
    import numpy as np

    if task == "rotated":
        return np.ascontiguousarray(np.rot90(images, axes=(1, 2)))
    return 255 - images if task == "inverted" else images
