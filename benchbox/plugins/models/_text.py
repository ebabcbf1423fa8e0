"""What the text families share: a tokenizer of the source, or words counted over the vocabulary.

Random weights have no tokenizer. Then each word of the text becomes one token whose id is a hash of the word,
so that lengths, repetitions and padding are those of real text, and no two texts are the same tokens.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchbox.errors import StageError, first_line
from benchbox.plugins import hub
from benchbox.plugins.contract import Sample
from benchbox.plugins.models import _pretrained
from benchbox.schema.asked import Model
from benchbox.schema.tensors import Array

# What the tokenizers of transformers save, by `vocab_files_names` of their classes. Byte-level ones (ByT5)
# have the last alone.
_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "source.spm",
    "tokenizer.model",
    "tokenizer_config.json",
)


@dataclass(frozen=True)
class Vocabulary:
    """The ids that a model knows: `size` of them, those below `first` special; None: the model has no such
    token."""

    size: int
    pad: int = 0
    begin: int | None = None
    end: int | None = None
    first: int = 0


@dataclass(frozen=True)
class Tokens:
    """`ids` and `mask` (1 where a token is, 0 where padding), both int64 of shape (batch, length)."""

    ids: Array
    mask: Array


def texts(samples: Sequence[Sample]) -> list[str]:
    """The samples' texts. Raises StageError where the dataset has none."""
    if any(sample.text is None for sample in samples):
        raise StageError(
            "this model reads text, and the dataset has none; take sample_texts or sample_images"
        )
    return [sample.text or "" for sample in samples]


def tokens(model: Model, written: Sequence[str], length: int, vocabulary: Vocabulary) -> Tokens:
    """The texts as tokens, cut and padded on the right to exactly `length`.

    Pretrained weights take the tokenizer of their source; raises StageError where it cannot be had, or knows
    nothing of what is written.
    """
    rows = _tokenized(model, written, length) if model.weights == "pretrained" else None
    if rows is None:
        rows = [_counted(text, length, vocabulary) for text in written]
    return padded(rows, length, vocabulary.pad)


def require_positions(model: Model, positions: int, tokens: int) -> None:
    """Raises StageError where the suite asks for more tokens than the model has positions for."""
    if tokens > positions:
        raise StageError(f"{model.name} has {positions} positions, and the suite asks for {tokens} tokens")


def padded(rows: Sequence[Sequence[int]], length: int, pad: int) -> Tokens:
    """Rows of at most `length` ids each, padded on the right."""
    import numpy as np

    ids = np.full((len(rows), length), pad, dtype=np.int64)
    mask = np.zeros((len(rows), length), dtype=np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return Tokens(ids, mask)


def _counted(text: str, length: int, vocabulary: Vocabulary) -> list[int]:
    """An id for each word and mark, between the begin and end tokens that the model has."""
    span = vocabulary.size - vocabulary.first
    words = re.findall(r"\w+|[^\w\s]", text.lower())
    ids = [vocabulary.first + _hash(word) % span for word in words]
    begin = [] if vocabulary.begin is None else [vocabulary.begin]
    end = [] if vocabulary.end is None else [vocabulary.end]
    return [*begin, *ids[: max(0, length - len(begin) - len(end))], *end][:length]


def _hash(word: str) -> int:
    return int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")


def _tokenized(model: Model, written: Sequence[str], length: int) -> list[list[int]]:
    tokenizer = _tokenizer(model.source, model.trust_remote_code)
    _require_known(model, tokenizer, written)
    encoded = tokenizer(list(written), truncation=True, max_length=length)
    return [list(row) for row in encoded["input_ids"]]


def _require_known(model: Model, tokenizer: Any, written: Sequence[str]) -> None:
    """Raises StageError where words become only unknown tokens, or none: transformers makes a tokenizer of a
    config alone, with an empty vocabulary."""
    if not any(map(_has_words, written)):
        return
    for ids in tokenizer(list(written), add_special_tokens=False)["input_ids"]:
        if any(map(_has_words, tokenizer.convert_ids_to_tokens(ids, skip_special_tokens=True))):
            return
    first = next(filter(_has_words, written))
    raise StageError(
        f"the tokenizer of {model.source!r} knows no word of {first[:60]!r}: its vocabulary is missing, or "
        "of other texts. Save the model's tokenizer there, with its save_pretrained"
    )


def _has_words(text: str) -> bool:
    return any(map(str.isalnum, text))


@cache
def _tokenizer(source: str, trust_remote_code: bool) -> Any:
    import transformers

    _pretrained.quiet()
    name, revision = hub.split(source)
    _require_files(Path(name))
    try:
        return transformers.AutoTokenizer.from_pretrained(
            name, revision=revision, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StageError(f"the tokenizer of {source!r} cannot be had: {first_line(error)}") from error


def _require_files(folder: Path) -> None:
    """Raises StageError for a local model without a tokenizer; what is at a hub is seen when it is loaded."""
    if folder.is_dir() and not any((folder / file).is_file() for file in _FILES):
        raise StageError(
            f"{folder} has no tokenizer files, so nobody knows its words. Save the model's tokenizer there "
            "too, with its save_pretrained"
        )
