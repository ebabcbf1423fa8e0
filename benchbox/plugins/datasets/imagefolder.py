"""Your own images: a folder of image files, or of one sub-folder a class (the folder's name is the class).

The class of `cat/1.png`, and of `train/cat/1.png`, is `cat`; an image in the root itself has none. Hidden
files and folders are passed over, and a folder without an image of its own is no class.

Which number a class has is said by the model's own labels (`id2label` in its config.json): there is an
accuracy where every class is one of them, word for word. Labels without names (LABEL_0 ...) stand for the
sorted names of the classes, if there are as many. Otherwise there is no accuracy, a note in the record, and
no error: pictures may well be fed to a model that was trained on other classes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchbox.errors import StageError, first_line
from benchbox.plugins.contract import Sample, Split

if TYPE_CHECKING:
    from PIL.Image import Image

REQUIRES = ("PIL", "numpy")
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})

_LARGEST = 65_535  # of 16 bits
# How many files are opened to see whether they are images: 0.1 to 1 ms each.
_CHECKED = 2000
_TOO_LARGE = "it would unpack to more pixels than Pillow takes for safe; scale it down"


@dataclass(frozen=True)
class Options:
    """`root` is the folder; a relative one is taken from the suite's folder."""

    root: str


def samples(options: Options, *, count: int, split: Split, seed: int) -> Iterator[Sample]:
    """`count` images as uint8 (height, width, 3), from the first again when they run out.

    Files are ordered by a hash of their name and the seed; calibration takes one half, parity and timing
    the other. Raises StageError where there are fewer than two images, or one of them is broken: which half
    it falls into is chance.
    """
    files = _files(Path(options.root), seed)
    middle = len(files) // 2
    mine = files[:middle] if split == "calibration" else files[middle:]
    for file in islice(cycle(mine), count):
        yield Sample(image=_read(file), label_name=_class(file, Path(options.root)))


def classes(options: Options) -> tuple[str, ...]:
    """The names of all classes, sorted."""
    root = Path(options.root)
    return tuple(sorted({name for file in _images(root) if (name := _class(file, root)) is not None}))


def fingerprint(options: Options) -> str:
    """What the folder holds, by names, sizes and times of change: other images are other inputs."""
    root = Path(options.root)
    listing = "".join(
        f"{f.relative_to(root)}/{f.stat().st_size}/{f.stat().st_mtime_ns}\n" for f in sorted(_images(root))
    )
    return hashlib.sha256(os.fsencode(listing)).hexdigest()


def _files(root: Path, seed: int) -> list[Path]:
    found = _images(root)
    if len(found) < 2:
        if not root.is_dir():
            raise StageError(f"{root} is no folder")
        kinds = ", ".join(sorted(SUFFIXES))
        raise StageError(f"{root} holds {len(found)} images; at least two are needed ({kinds})")
    _require_whole(found, root)
    return sorted(found, key=lambda f: hashlib.sha256(os.fsencode(f"{seed}/{f.relative_to(root)}")).digest())


def _require_whole(files: Sequence[Path], root: Path) -> None:
    broken = {file: reason for file in sorted(files)[:_CHECKED] if (reason := _broken(file))}
    if broken:
        shown = "; ".join(f"{file.relative_to(root)}: {reason}" for file, reason in list(broken.items())[:3])
        more = f"; and {len(broken) - 3} more" if len(broken) > 3 else ""
        count = f"{len(broken)} of the {len(files)} images"
        raise StageError(f"{count} in {root} cannot be read ({shown}{more}): mend them, or move them away")


def _broken(file: Path) -> str:
    """What is wrong with an image file, as far as its header and checksums tell; empty where nothing is."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            image.verify()
    except UnidentifiedImageError:
        return "no image that Pillow knows"
    except Image.DecompressionBombError:
        return _TOO_LARGE
    except (OSError, SyntaxError, ValueError) as error:  # Pillow says SyntaxError of a broken PNG
        return type(error).__name__ if isinstance(error, UnicodeError) else first_line(error)
    return ""


def _images(root: Path) -> list[Path]:
    """Without what is hidden, such as .ipynb_checkpoints/ and the ._ files of macOS."""
    return [
        f
        for f in root.rglob("*")
        if f.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in f.relative_to(root).parts)
        and f.is_file()
    ]


def _class(file: Path, root: Path) -> str | None:
    return None if file.parent == root else file.parent.name


def _read(file: Path) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            return _pixels(image, file)
    except Image.DecompressionBombError as error:
        raise StageError(f"{file} cannot be read as an image: {_TOO_LARGE}") from error
    except (OSError, UnidentifiedImageError) as error:
        raise StageError(f"{file} cannot be read as an image: {error}") from error


def _pixels(image: Image, file: Path) -> Any:
    """uint8 (height, width, 3). 16 bits are scaled to 8: Pillow would clip, and make nearly all white."""
    import numpy as np

    if image.mode[0] not in "IF":  # I;16 and its like, I (32 bits), F (floating point)
        return np.asarray(image.convert("RGB"))
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > _LARGEST:
        raise StageError(
            f"{file} has pixels from {values.min():g} to {values.max():g} (Pillow's mode {image.mode}), "
            "and nothing says what is white: save it with 8 or 16 bits"
        )
    grey = np.rint(values / (_LARGEST / 255)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)
