"""Photographs that scikit-learn ships (a temple, a flower): crops and flips, as many as are asked for.

Calibration sees the left halves, parity and timing the right halves: no pixel is in both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchbox.plugins.contract import Sample, Split

REQUIRES = ("sklearn", "PIL", "numpy")

_SPLITS: tuple[Split, ...] = ("timing", "parity", "calibration")

# What is to be seen, photograph by photograph, for the models that read beside looking.
_CAPTIONS = (
    (
        "a photo of a temple",
        "an old Chinese tower with red walls and curved roofs",
        "a pagoda of three storeys above a lake, with trees around it",
    ),
    (
        "a photo of a flower",
        "an orange dahlia in front of dark green leaves",
        "the petals of a dahlia in full bloom, and a second one below it",
    ),
)


@dataclass(frozen=True)
class Options:
    """The side of the square crops, in pixels of the photograph (which is 427 pixels high)."""

    min_crop: int = 160
    max_crop: int = 320

    def __post_init__(self) -> None:
        if not 16 <= self.min_crop <= self.max_crop <= 320:
            raise ValueError("16 <= min_crop <= max_crop <= 320 is needed: half a photograph is 320 wide")


def samples(options: Options, *, count: int, split: Split, seed: int) -> Iterator[Sample]:
    """`count` square crops, uint8 (side, side, 3), alternating between the photographs, with captions."""
    import numpy as np
    from sklearn.datasets import load_sample_images

    photographs = load_sample_images().images
    rng = np.random.default_rng([seed, _SPLITS.index(split)])
    for index in range(count):
        which = index % len(photographs)
        caption = _CAPTIONS[which][int(rng.integers(len(_CAPTIONS[which])))]
        yield Sample(image=_crop(_half(photographs[which], split), options, rng), text=caption)


def _half(photograph: Any, split: Split) -> Any:
    middle = photograph.shape[1] // 2
    return photograph[:, :middle] if split == "calibration" else photograph[:, middle:]


def _crop(image: Any, options: Options, rng: Any) -> Any:
    import numpy as np

    side = int(rng.integers(options.min_crop, options.max_crop + 1))
    top = int(rng.integers(0, image.shape[0] - side + 1))
    left = int(rng.integers(0, image.shape[1] - side + 1))
    crop = image[top : top + side, left : left + side]
    return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)
