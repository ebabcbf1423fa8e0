"""M2M-100 (Fan et al. 2020) and NLLB (2022): translation among many languages, in three parts.

Parity of a decoder: is the best next token the same at every position (`next_token_agreement`), and do both
write the same tokens, decoding greedily (`token_agreement`)? What is written begins with the start token; no
language is forced. `[torch]` is the whole model, whichever part the task is.
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
_LARGE = {"encoder_layers": 24, "decoder_layers": 24, "encoder_ffn_dim": 8192, "decoder_ffn_dim": 8192}
CONFIG = "M2M100Config"
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "facebook/m2m100_418M": {},
    "facebook/m2m100_1.2B": _LARGE,
    "facebook/nllb-200-distilled-600M": {"vocab_size": 256206},
}

# <s>, <pad>, </s> and <unk> are the first four; words come after them.
_WORDS = 4


def load(model: Model) -> Module:
    """The module of the task's part. Raises StageError where config or weights cannot be had."""
    import transformers

    _pretrained.quiet()
    module = _pretrained.weights(model, transformers.M2M100ForConditionalGeneration, _config(model))
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
        config.vocab_size, pad=config.pad_token_id, end=config.eos_token_id, first=_WORDS
    )
    return _seq2seq.Sizes.of_bart(config, vocabulary, logits=config.vocab_size)


def _config(model: Model) -> Any:
    return _pretrained.config(model, PRESETS, CONFIG)
