"""Where attention went over the image, in reference and candidate, kept small for a record. numpy only."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from benchbox.schema.seen import Attention

if TYPE_CHECKING:
    from benchbox.schema.tensors import Array, Feeds, Outputs
else:
    Array = Feeds = Outputs = Any

OUTPUT = "attention"
"""The output that a family adds where the suite asks for attention: (batch, rows, columns), or from each word
to the image (batch, words, rows, columns)."""

# What is kept of a case: so many samples, of so many words each, beside a picture of so many pixels a side.
SAMPLES, WORDS, PIXELS = 2, 3, 56

# Of 0 to 255: what is drawn instead of an image, and leaves the colours of a map as they are.
_GREY = 128


def kept_maps(feeds: Feeds, reference: Outputs, candidate: Outputs) -> tuple[Attention, ...]:
    """The maps of the first samples of a batch; nothing where the outputs have no attention."""
    if OUTPUT not in reference or OUTPUT not in candidate:
        return ()
    return tuple(_maps(_images(feeds), reference[OUTPUT], candidate[OUTPUT]))


def _maps(images: Array | None, reference: Array, candidate: Array) -> Iterator[Attention]:
    for sample in range(min(SAMPLES, len(reference))):
        pixels = _grey() if images is None else _small(images[sample])
        label = f"image {sample + 1}" + (" (given as states)" if images is None else "")
        words = reference[sample] if reference.ndim == 4 else reference[sample][None]
        others = candidate[sample] if candidate.ndim == 4 else candidate[sample][None]
        for word in _looking(words)[:WORDS]:
            yield Attention(
                label=label + (f", word {word + 1}" if reference.ndim == 4 else ""),
                height=pixels.shape[0],
                width=pixels.shape[1],
                pixels=base64.b64encode(pixels.tobytes()).decode("ascii"),
                reference=_plain(words[word]),
                candidate=_plain(others[word]),
            )


def _looking(words: Array) -> list[int]:
    """The places of the words that look anywhere: those before an image in a prompt do not see it."""
    return [place for place, weights in enumerate(words) if weights.any()]


def _images(feeds: Feeds) -> Array | None:
    """The first image of each sample, as it goes into the model: (batch, 3, height, width).

    None where it does not: a decoder gets what its encoder made of the image.
    """
    for array in feeds.values():
        if array.dtype.kind == "f" and array.ndim in (4, 5):
            return array if array.ndim == 4 else array[:, 0]
    return None


def _grey() -> Array:
    """A square without a picture, of PIXELS a side."""
    import numpy as np

    square: Array = np.full((PIXELS, PIXELS, 3), _GREY, np.uint8)
    return square


def _small(image: Array) -> Array:
    """uint8 (height, width, 3) of at most PIXELS a side, from darkest to brightest."""
    import numpy as np

    stride = max(1, -(-max(image.shape[1:]) // PIXELS))
    small = np.moveaxis(image[:3, ::stride, ::stride], 0, -1).astype(np.float64)
    low, high = small.min(), small.max()
    shades: Array = np.round((small - low) / (high - low or 1.0) * 255).astype(np.uint8)
    return shades


def _plain(weights: Array) -> tuple[tuple[float, ...], ...]:
    """Rows of weights; what is not finite counts as none, for a picture has no place for it."""
    import numpy as np

    finite = np.nan_to_num(weights.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    return tuple(tuple(float(value) for value in row) for row in finite)
