"""Uniform noise, for when nothing else fits: says nothing about agreement on real inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchbox.plugins.contract import Sample, Split

REQUIRES = ("numpy",)

_SPLITS: tuple[Split, ...] = ("timing", "parity", "calibration")


@dataclass(frozen=True)
class Options:
    """Size of the noise images, in pixels, before the model's own processor."""

    height: int = 224
    width: int = 224

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError("height and width are at least 1")


def samples(options: Options, *, count: int, split: Split, seed: int) -> Iterator[Sample]:
    """`count` images of uint8 noise, (height, width, 3)."""
    import numpy as np

    rng = np.random.default_rng([seed, _SPLITS.index(split)])
    for _ in range(count):
        yield Sample(image=rng.integers(0, 256, (options.height, options.width, 3), dtype=np.uint8))
