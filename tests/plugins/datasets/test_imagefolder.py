"""A folder of images: what is broken in it is named, and what stands in it twice is counted once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchbox.build.feeds import sample_notes
from benchbox.errors import StageError
from benchbox.plugins.datasets import imagefolder

Image = pytest.importorskip("PIL.Image")


def picture(file: Path, grey: int = 90, side: int = 12) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((side, side, 3), grey, dtype=np.uint8)).save(file)
    return file


def take(root: Path, split: str = "parity") -> list[imagefolder.Sample]:
    return list(imagefolder.samples(imagefolder.Options(str(root)), count=12, split=split, seed=0))


@pytest.mark.parametrize("split", ["parity", "timing", "calibration"])
def test_a_broken_picture_is_named_whichever_half_it_falls_into(tmp_path: Path, split: str) -> None:
    """It lay in the half that nobody read, and the good one was repeated twelve times: top-1 100 %."""
    picture(tmp_path / "good.png")
    whole = picture(tmp_path / "cat" / "bad.png", 200).read_bytes()
    (tmp_path / "cat" / "bad.png").write_bytes(whole[:40] + b"\0\0\0\0" + whole[44:])
    with pytest.raises(StageError) as raised:
        take(tmp_path, split)
    assert raised.value.reason.startswith(f"1 of the 2 images in {tmp_path} cannot be read (cat/bad.png: ")
    assert raised.value.reason.endswith("): mend them, or move them away")


def test_of_many_broken_pictures_the_first_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(b"no picture")
    picture(tmp_path / "good.png")
    with pytest.raises(StageError, match=r"5 of the 6 images in .*; and 2 more\): mend them"):
        take(tmp_path)


def test_a_picture_that_would_unpack_to_too_much_is_refused_in_our_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow's own limit, brought down to where a test need not write 90 million pixels."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    picture(tmp_path / "a.png", side=8)
    picture(tmp_path / "bomb.png", side=64)
    with pytest.raises(StageError, match=r"\(bomb\.png: it would unpack to more pixels .*; scale it down\)"):
        take(tmp_path)


def test_samples_that_are_the_same_are_counted_once() -> None:
    assert sample_notes(["a", "b", "c"]) == []
    assert sample_notes(["a"] * 12) == ["of the 12 samples 1 is distinct: the dataset holds no more"]
    assert sample_notes(["a", "b"] * 3) == ["of the 6 samples 2 are distinct: the dataset holds no more"]
