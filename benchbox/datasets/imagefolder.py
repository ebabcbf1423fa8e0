"""Your own images: a folder of image files, or of one sub-folder a class (its sorted place is the label)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from benchbox.contract import Sample, Split
from benchbox.errors import StageError

REQUIRES = ("PIL", "numpy")
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


@dataclass(frozen=True)
class Options:
    """`root` is the folder; a relative one is taken from the suite's folder."""

    root: str


def samples(options: Options, *, count: int, split: Split, seed: int) -> Iterator[Sample]:
    """`count` images as uint8 (height, width, 3), from the first again when they run out.

    Files are ordered by a hash of their name and the seed; calibration takes one half, parity and timing
    the other. Raises StageError where there are fewer than two images.
    """
    files = _files(Path(options.root), seed)
    labels = _labels(Path(options.root))
    middle = len(files) // 2
    mine = files[:middle] if split == "calibration" else files[middle:]
    for file in islice(cycle(mine), count):
        yield Sample(image=_read(file), label=labels.get(file.parent.name))


def fingerprint(options: Options) -> str:
    """What the folder holds, by names, sizes and times of change: other images are other inputs."""
    root = Path(options.root)
    listing = "".join(
        f"{f.relative_to(root)}/{f.stat().st_size}/{f.stat().st_mtime_ns}\n"
        for f in sorted(root.rglob("*"))
        if f.suffix.lower() in SUFFIXES and f.is_file()
    )
    return hashlib.sha256(os.fsencode(listing)).hexdigest()


def _files(root: Path, seed: int) -> list[Path]:
    found = [f for f in root.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file()]
    if len(found) < 2:
        raise StageError(f"{root} holds {len(found)} images; at least two are needed")
    return sorted(found, key=lambda f: hashlib.sha256(os.fsencode(f"{seed}/{f.relative_to(root)}")).digest())


def _labels(root: Path) -> dict[str, int]:
    classes = sorted(folder.name for folder in root.iterdir() if folder.is_dir())
    return {name: index for index, name in enumerate(classes)}


def _read(file: Path) -> Any:
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise StageError(f"{file} cannot be read as an image: {error}") from error
