"""BERT (Devlin et al. 2018): text classification, and the encoder's features.

Parity of a classifier: does the candidate name the same class? Of the encoder: the cosine of its features,
and of their mean over a text's tokens, as sentence encoders pool them (`pooled_cosine`). Texts are padded on
the right, and `attention_mask` says where: what lies there is shown, and not judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchbox.errors import StageError
from benchbox.numerics import pooling
from benchbox.plugins.contract import Evidence, Module, Sample
from benchbox.plugins.models import _classes, _pretrained, _text
from benchbox.schema.asked import Model
from benchbox.schema.tensors import Feeds, Signature, TensorSpec

REQUIRES = ("torch", "transformers")
TASKS: Mapping[str, Mapping[str, int]] = {
    "text-classification": {"sequence_length": 128},
    "feature-extraction": {"sequence_length": 128},
}
DYNAMIC: Mapping[str, tuple[int, int]] = {"sequence_length": (24, 17)}

# The hub's configs of these names, so that random weights need no hub.
_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
_TINY = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512}
CONFIG = "BertConfig"
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "google-bert/bert-base-uncased": {"vocab_size": 30522},
    "google-bert/bert-base-cased": {"vocab_size": 28996},
    "google-bert/bert-large-uncased": {"vocab_size": 30522, **_LARGE},
    "google/bert_uncased_L-2_H-128_A-2": {"vocab_size": 30522, **_TINY},
}

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_ARCHITECTURES = {
    "text-classification": "BertForSequenceClassification",
    "feature-extraction": "BertModel",
}
_OUTPUTS = {
    "text-classification": ("logits",),
    "feature-extraction": ("last_hidden_state", "pooler_output"),
}

# The places of [CLS], [SEP] and [MASK] in BERT's vocabularies; words come after them.
_CLS, _SEP, _MASK = 101, 102, 103

save = _pretrained.save


def load(model: Model) -> Module:
    """The module with its task's head. Raises StageError where config or weights cannot be had."""
    import transformers

    _pretrained.quiet()
    architecture = getattr(transformers, _ARCHITECTURES[model.task])
    module = _pretrained.weights(model, architecture, _config(model))
    return _pretrained.adapter(module, _INPUTS, _OUTPUTS[model.task])


def signature(model: Model, shape: Mapping[str, int]) -> Signature:
    """Token ids, mask and segments (batch, sequence_length) to logits, or to hidden states and the pooled
    output. Raises StageError for a length that the model has no positions for."""
    config = _config(model)
    if shape["sequence_length"] > config.max_position_embeddings:
        raise StageError(
            f"{model.name} has {config.max_position_embeddings} positions, "
            f"and the suite's sequence_length is {shape['sequence_length']}"
        )
    axes = {
        "logits": ("batch", config.num_labels),
        "last_hidden_state": ("batch", "sequence_length", config.hidden_size),
        "pooler_output": ("batch", config.hidden_size),
    }
    return Signature(
        inputs=tuple(TensorSpec(name, "int64", ("batch", "sequence_length")) for name in _INPUTS),
        outputs=tuple(TensorSpec(name, "float32", axes[name]) for name in _OUTPUTS[model.task]),
    )


def feeds(model: Model, samples: Sequence[Sample], shape: Mapping[str, int]) -> Feeds:
    """`input_ids`, `attention_mask` and `token_type_ids`: int64 of shape (len(samples), sequence_length)."""
    import numpy as np

    config = _config(model)
    vocabulary = _text.Vocabulary(
        config.vocab_size, pad=config.pad_token_id, begin=_CLS, end=_SEP, first=_MASK + 1
    )
    tokens = _text.tokens(model, _text.texts(samples), shape["sequence_length"], vocabulary)
    return {
        "input_ids": tokens.ids,
        "attention_mask": tokens.mask,
        "token_type_ids": np.zeros_like(tokens.ids),  # one sentence: segment A
    }


def metrics(model: Model, evidence: Evidence) -> Mapping[str, float]:
    """Top-1 and top-5 agreement, and the accuracy where there are labels; of features the mean over texts of
    the cosine of what they are pooled to."""
    if model.task == "text-classification":
        return _classes.agreement(evidence)
    mask = evidence.feeds["attention_mask"]
    texts = (
        pooling.masked_mean(outputs["last_hidden_state"], mask)
        for outputs in (evidence.reference, evidence.candidate)
    )
    return {"pooled_cosine": float(pooling.cosines(*texts).mean())}


def _config(model: Model) -> Any:
    return _pretrained.config(model, PRESETS, CONFIG)
