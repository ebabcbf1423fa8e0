"""Pictures in a report: the difference of two maps of attention, as a PNG that others read."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from benchbox.reporters import pictures
from benchbox.schema.seen import Attention


def test_a_png_is_what_others_read_back() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    again = np.asarray(Image.open(io.BytesIO(pictures.png(pixels))))
    assert again.tolist() == pixels.tolist()


def test_the_difference_is_red_where_the_candidate_looks_more() -> None:
    """Left: twice as much as the reference's span allows; right: as much as the reference."""
    grey = base64.b64encode(bytes([128] * 4 * 4 * 3)).decode()
    one = Attention("image 1", 4, 4, grey, ((0.0, 1.0),), ((1.0, 1.0),))
    (picture,) = pictures._pictures([one])
    assert picture.error == 1.0
    drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.difference.partition(",")[2]))))
    red, _, blue = (int(value) for value in drawn[80, 0])
    assert red > blue + 40
    assert drawn.shape == (168, 168, 3)
    right = [int(value) for value in drawn[80, -1]]
    assert max(right) - min(right) < 5
