"""Marian (Junczys-Dowmunt et al. 2018): the OPUS-MT translation models, in three parts.

Parity of a decoder: is the best next token the same at every position (`next_token_agreement`), and do both
write the same tokens, decoding greedily (`token_agreement`)? `[torch]` is the whole model, whichever part the
task is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchbox.plugins.contract import Module, Sample
from benchbox.plugins.models import _pretrained, _seq2seq, _text
from benchbox.schema.asked import Model
from benchbox.schema.tensors import Feeds, Signature

REQUIRES = ("torch", "transformers")
TASKS = _seq2seq.TASKS
DYNAMIC = _seq2seq.DYNAMIC
derive = _seq2seq.derive
rollout = _seq2seq.rollout
metrics = _seq2seq.metrics
save = _pretrained.save

# The hub's configs of these names, so that random weights need no hub.
_LAYER = {"layers": 6, "attention_heads": 8, "ffn_dim": 2048}
_BASE: Mapping[str, Any] = {
    **{f"{part}_{name}": size for part in ("encoder", "decoder") for name, size in _LAYER.items()},
    "d_model": 512,
    "activation_function": "swish",
    "max_position_embeddings": 512,
    "scale_embedding": True,
    "eos_token_id": 0,
}
_VOCABULARIES = {
    "Helsinki-NLP/opus-mt-en-de": 58101,
    "Helsinki-NLP/opus-mt-en-fr": 59514,
    "Helsinki-NLP/opus-mt-en-es": 65001,
}
CONFIG = "MarianConfig"
PRESETS: Mapping[str, Mapping[str, Any]] = {
    name: {**_BASE, "vocab_size": size, "pad_token_id": size - 1, "decoder_start_token_id": size - 1}
    for name, size in _VOCABULARIES.items()
}

# </s> and <unk> are the first two, padding is the last; words are between.
_WORDS = 2


def load(model: Model) -> Module:
    """The module of the task's part. Raises StageError where config or weights cannot be had."""
    import transformers

    _pretrained.quiet()
    module = _pretrained.weights(model, transformers.MarianMTModel, _config(model))
    return _seq2seq.wrapped(module, model.task)


def signature(model: Model, shape: Mapping[str, int]) -> Signature:
    """That of the task's part of an encoder-decoder."""
    return _seq2seq.signature(model, shape, _sizes(model))


def feeds(model: Model, samples: Sequence[Sample], shape: Mapping[str, int]) -> Feeds:
    """Token ids and masks; `derive` makes the rest."""
    return _seq2seq.feeds(model, samples, shape, _sizes(model))


def _sizes(model: Model) -> _seq2seq.Sizes:
    config = _config(model)
    vocabulary = _text.Vocabulary(
        config.vocab_size - 1, pad=config.pad_token_id, end=config.eos_token_id, first=_WORDS
    )
    return _seq2seq.Sizes.of_bart(config, vocabulary, logits=config.decoder_vocab_size)


def _config(model: Model) -> Any:
    return _pretrained.config(model, PRESETS, CONFIG)
