"""Attention over an image as pictures: PNG files within the page, coloured with the scales of the charts."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from benchbox.reporters.wording import Group
from benchbox.schema.seen import Attention

if TYPE_CHECKING:
    from benchbox.results.runs import Runs

# Pictures of a page: each takes 10 to 20 kB.
MAX_CASES = 12

# Pixels of a side at least: what is kept is smaller.
_SIDE = 168
# Differences below this share of the span stay faint; above it, the largest one has full colour.
_FAINT = 0.1
# How much of the map's colour lies over the image.
_OPACITY = 0.6


@dataclass(frozen=True)
class Picture:
    """One sample: its image, and over it the attention of reference and candidate, and where they differ.

    Colours reach from the reference's least weight to its largest; `error` is the largest difference as a
    share of that span.
    """

    label: str
    image: str
    reference: str
    candidate: str
    difference: str
    error: float


@dataclass(frozen=True)
class Attended:
    """The pictures of one case."""

    label: str
    pictures: tuple[Picture, ...]


def of(runs: Runs, group: Group, most: int = MAX_CASES) -> list[Attended]:
    """The cases of a group that kept their attention, the baseline aside: it is its own reference."""
    found: list[Attended] = []
    for number, row, label in zip(group.numbers, group.rows, group.labels, strict=True):
        if row["is_baseline"] or len(found) == most:
            continue
        parity = runs.record(number).parity
        if parity is not None and parity.attention:
            found.append(Attended(label, tuple(_pictures(parity.attention))))
    return found


def png(pixels: Any) -> bytes:
    """A PNG file of uint8 (height, width, 3): PNG (ISO/IEC 15948), 8 bits RGB, no filter."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def _pictures(kept: Sequence[Attention]) -> Iterator[Picture]:
    for one in kept:
        image = _image(one)
        reference, candidate = (np.asarray(rows, dtype=float) for rows in (one.reference, one.candidate))
        least = float(reference.min())
        span = float(reference.max()) - least or 1.0
        away = (candidate - reference) / span
        error = float(np.abs(away).max())
        shades = away / max(error, _FAINT)
        yield Picture(
            label=one.label,
            image=_uri(image),
            reference=_uri(_over(image, (reference - least) / span, "Viridis")),
            candidate=_uri(_over(image, (candidate - least) / span, "Viridis")),
            difference=_uri(_over(image, (shades + 1) / 2, "RdBu_r")),
            error=error,
        )


def _image(kept: Attention) -> Any:
    """uint8 (height, width, 3), each pixel repeated until a side has _SIDE of them."""
    flat = np.frombuffer(base64.b64decode(kept.pixels), dtype=np.uint8)
    image = flat.reshape(kept.height, kept.width, 3)
    times = max(1, -(-_SIDE // max(kept.height, kept.width)))
    return image.repeat(times, axis=0).repeat(times, axis=1)


def _over(image: Any, shares: Any, scale: str) -> Any:
    """The image under the colours of a map of shares in 0..1, stretched over it linearly."""
    from plotly.colors import get_colorscale

    stops = get_colorscale(scale)
    colours = np.array([[int(c) for c in _rgb(colour)] for _, colour in stops], dtype=float)
    wide = np.clip(_stretched(shares, *image.shape[:2]), 0.0, 1.0)
    places = [stop for stop, _ in stops]
    painted = np.stack([np.interp(wide, places, colours[:, band]) for band in range(3)], axis=-1)
    grey = image.mean(axis=-1, keepdims=True)
    return np.round((1 - _OPACITY) * grey + _OPACITY * painted).astype(np.uint8)


def _rgb(colour: str) -> Sequence[int]:
    """`#440154` or `rgb(68, 1, 84)` as three numbers."""
    if colour.startswith("#"):
        return [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return [int(part) for part in colour[4:-1].split(",")]


def _stretched(grid: Any, height: int, width: int) -> Any:
    """A grid as (height, width), linear between the centres of its cells."""
    rows, columns = grid.shape
    down = (np.arange(height) + 0.5) / height * rows - 0.5
    along = (np.arange(width) + 0.5) / width * columns - 0.5
    wide = np.stack([np.interp(along, np.arange(columns), row) for row in grid])
    return np.stack([np.interp(down, np.arange(rows), column) for column in wide.T], axis=1)


def _uri(pixels: Any) -> str:
    return f"data:image/png;base64,{base64.b64encode(png(pixels)).decode('ascii')}"
