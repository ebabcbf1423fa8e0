"""T5 (Raffel et al. 2019): encoder, decoder, and decoder with past keys and values.

Parity of a decoder: is the best next token the same at every position (`next_token_agreement`), and do both
write the same tokens, decoding greedily (`token_agreement`)? Positions are relative: any length will do.
`[torch]` is the whole model, whichever part the task is.
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
_BASE: Mapping[str, Any] = {"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12}
_LARGE: Mapping[str, Any] = {"d_model": 1024, "d_ff": 4096, "num_layers": 24, "num_heads": 16}
_FLAN: Mapping[str, Any] = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
CONFIG = "T5Config"
PRESETS: Mapping[str, Mapping[str, Any]] = {
    name: {"decoder_start_token_id": 0, **changes}
    for name, changes in {
        "google-t5/t5-small": {},
        "google-t5/t5-base": _BASE,
        "google-t5/t5-large": _LARGE,
        "google/flan-t5-base": {**_BASE, **_FLAN, "d_ff": 2048},
    }.items()
}

# The places of </s> and <unk> in T5's vocabularies; words come after them.
_END, _UNKNOWN = 1, 2


def load(model: Model) -> Module:
    """The module of the task's part. Raises StageError where config or weights cannot be had."""
    import transformers

    _pretrained.quiet()
    module = _pretrained.weights(model, transformers.T5ForConditionalGeneration, _config(model))
    return _seq2seq.wrapped(module, model.task)


def signature(model: Model, shape: Mapping[str, int]) -> Signature:
    """That of the task's part of an encoder-decoder."""
    return _seq2seq.signature(model, shape, _sizes(model))


def feeds(model: Model, samples: Sequence[Sample], shape: Mapping[str, int]) -> Feeds:
    """Token ids and masks; `derive` makes the rest."""
    return _seq2seq.feeds(model, samples, shape, _sizes(model))


def _sizes(model: Model) -> _seq2seq.Sizes:
    config = _config(model)
    return _seq2seq.Sizes(
        layers=config.num_decoder_layers,
        heads=config.num_heads,
        head_size=config.d_kv,
        hidden=config.d_model,
        logits=config.vocab_size,
        start=config.decoder_start_token_id,
        vocabulary=_text.Vocabulary(config.vocab_size, pad=config.pad_token_id, end=_END, first=_UNKNOWN + 1),
    )


def _config(model: Model) -> Any:
    return _pretrained.config(model, PRESETS, CONFIG)
