"""English prose that scikit-learn ships (descriptions of its data sets): passages of one to eight sentences.

Calibration reads every third sentence, parity and timing the others: no sentence is in both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from benchbox.plugins.contract import Sample, Split

REQUIRES = ("sklearn", "numpy")

_SPLITS: tuple[Split, ...] = ("timing", "parity", "calibration")
_SOURCES = (
    "breast_cancer",
    "california_housing",
    "covtype",
    "diabetes",
    "digits",
    "iris",
    "kddcup99",
    "lfw",
    "linnerud",
    "olivetti_faces",
    "rcv1",
    "species_distributions",
    "twenty_newsgroups",
    "wine_data",
)
_PROSE = re.compile(r"[A-Z][A-Za-z ,;:'()-]*[.!?]")


@dataclass(frozen=True)
class Options:
    """How many sentences a passage has."""

    min_sentences: int = 1
    max_sentences: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.min_sentences <= self.max_sentences <= 64:
            raise ValueError("1 <= min_sentences <= max_sentences <= 64 is needed")


def samples(options: Options, *, count: int, split: Split, seed: int) -> Iterator[Sample]:
    """`count` passages of neighbouring sentences."""
    import numpy as np

    mine = [s for i, s in enumerate(_sentences()) if (i % 3 == 0) == (split == "calibration")]
    rng = np.random.default_rng([seed, _SPLITS.index(split)])
    for _ in range(count):
        wanted = int(rng.integers(options.min_sentences, options.max_sentences + 1))
        start = int(rng.integers(len(mine)))
        yield Sample(text=" ".join(mine[(start + i) % len(mine)] for i in range(wanted)))


@cache
def _sentences() -> tuple[str, ...]:
    """Whole sentences of 5 to 45 words; tables, headings, references and code are no prose."""
    import importlib.resources

    folder = importlib.resources.files("sklearn.datasets.descr")
    found: dict[str, None] = {}
    for source in _SOURCES:
        text = (folder / f"{source}.rst").read_text(encoding="utf-8")
        for paragraph in re.split(r"\n\s*\n", text):
            for sentence in re.split(r"(?<=[.!?])\s+", " ".join(paragraph.split())):
                if _PROSE.fullmatch(sentence) and 5 <= len(sentence.split()) <= 45:
                    found[sentence] = None
    return tuple(found)
