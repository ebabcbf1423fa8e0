"""GPT-2 (Radford et al. 2019): the next token, and decoding with past keys and values.

Parity of a language model: do both write the same tokens, decoding greedily (`token_agreement`), is the best
next token the same at every position (`next_token_agreement`), and do both expect the text alike
(`cross_entropy` beside `reference_cross_entropy`, in nats; the perplexity is its exp)?

Texts are padded on the right. Positions are counted over the attention mask, so that a token has the position
it would have without padding, wherever the padding is: behind the text, or between past and new tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchbox.plugins.contract import Evidence, Module, Sample
from benchbox.plugins.models import _decoding, _past, _pretrained, _text
from benchbox.schema.asked import Model
from benchbox.schema.tensors import Array, Feeds, Forward, Outputs, Signature, TensorSpec

REQUIRES = ("torch", "transformers")
TASKS: Mapping[str, Mapping[str, int]] = {
    "text-generation": {"sequence_length": 128},
    "text-generation-with-past": {"sequence_length": 1, "past_length": 128},
}
DYNAMIC: Mapping[str, tuple[int, int]] = {"sequence_length": (5, 3), "past_length": (13, 21)}

# The hub's configs of these names, so that random weights need no hub.
CONFIG = "GPT2Config"
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "openai-community/gpt2": {},
    "openai-community/gpt2-medium": {"n_embd": 1024, "n_layer": 24, "n_head": 16},
    "openai-community/gpt2-large": {"n_embd": 1280, "n_layer": 36, "n_head": 20},
    "distilbert/distilgpt2": {"n_layer": 6},
}

_WITH_PAST = "text-generation-with-past"
_TOTAL = "past_length + sequence_length"

# What the feeds hold until `derive` makes the past of it.
_PREFIX = "prefix_ids"

save = _pretrained.save


def load(model: Model) -> Module:
    """The module with the language model's head. Raises StageError where config or weights cannot be had."""
    import transformers

    _pretrained.quiet()
    module = _pretrained.weights(model, transformers.GPT2LMHeadModel, _config(model))
    return _decoder(module, with_past=model.task == _WITH_PAST)


def signature(model: Model, shape: Mapping[str, int]) -> Signature:
    """Token ids (batch, sequence_length) and the mask over past and new tokens to logits; with past keys and
    values (batch, heads, past_length, size) to those of past and new tokens together.

    Raises StageError for more tokens than the model has positions for.
    """
    config = _config(model)
    length = shape["sequence_length"] + shape.get("past_length", 0)
    _text.require_positions(model, config.n_positions, length)
    with_past = model.task == _WITH_PAST
    ids = TensorSpec("input_ids", "int64", ("batch", "sequence_length"))
    mask = TensorSpec("attention_mask", "int64", ("batch", _TOTAL if with_past else "sequence_length"))
    logits = TensorSpec("logits", "float32", ("batch", "sequence_length", config.vocab_size))
    if not with_past:
        return Signature((ids, mask), (logits,))
    heads, size = config.n_head, config.n_embd // config.n_head
    past = _past.specs("past_key_values", config.n_layer, {"": ("batch", heads, "past_length", size)})
    present = _past.specs("present", config.n_layer, {"": ("batch", heads, _TOTAL, size)})
    return Signature((ids, mask, *past), (logits, *present))


def feeds(model: Model, samples: Sequence[Sample], shape: Mapping[str, int]) -> Feeds:
    """`input_ids` and `attention_mask`, int64; with past the prefix too, of which `derive` makes keys and
    values."""
    config = _config(model)
    length, past = shape["sequence_length"], shape.get("past_length", 0)
    # GPT-2 has no token for padding; the last one ends a text.
    vocabulary = _text.Vocabulary(config.vocab_size - 1, pad=config.vocab_size - 1)
    tokens = _text.tokens(model, _text.texts(samples), past + length, vocabulary)
    if model.task != _WITH_PAST:
        return {"input_ids": tokens.ids, "attention_mask": tokens.mask}
    prefix, new = _split(tokens, past, vocabulary.pad)
    return {"input_ids": new.ids, "attention_mask": _joined(prefix.mask, new.mask), _PREFIX: prefix.ids}


def derive(model: Model, module: Module, feeds: Feeds, shape: Mapping[str, int]) -> Feeds:
    """The feeds with keys and values of the prefix, as the module itself computes them."""
    import torch

    if model.task != _WITH_PAST:
        return feeds
    mask = torch.from_numpy(feeds["attention_mask"])[:, : shape["past_length"]]
    with torch.inference_mode():
        _, *past = module(torch.from_numpy(feeds[_PREFIX]), mask)
    kept = {name: array for name, array in feeds.items() if name != _PREFIX}
    names = [spec.name for spec in _past.specs("past_key_values", len(past) // 2, {"": ()})]
    return {**kept, **{name: tensor.numpy() for name, tensor in zip(names, past, strict=True)}}


def rollout(model: Model, run: Forward, feeds: Feeds) -> Outputs:
    """`tokens` (batch, steps) that greedy decoding writes after the last real token of each row."""
    following = _fed_back if model.task == _WITH_PAST else _decoding.appended
    return {"tokens": _decoding.continued(feeds, run, following)}


def metrics(model: Model, evidence: Evidence) -> Mapping[str, float]:
    """Agreement of tokens over what is no padding; the cross entropy of the text, in nats, without past."""
    mask = _mask_of_new(evidence.feeds)
    found = dict(_decoding.next_token_agreement(evidence, mask))
    if model.task == _WITH_PAST:
        return found
    ids = evidence.feeds["input_ids"]
    found["cross_entropy"] = _decoding.cross_entropy(evidence.candidate["logits"], ids, mask)
    found["reference_cross_entropy"] = _decoding.cross_entropy(evidence.reference["logits"], ids, mask)
    return found


def _decoder(module: Module, *, with_past: bool) -> Module:
    """A module that takes ids, mask and the flat past, if there is one; the one of transformers is
    `model`."""
    import torch

    class Decoder(torch.nn.Module):  # type: ignore[misc,name-defined,unused-ignore]  # torch is untyped here
        def __init__(self) -> None:
            super().__init__()
            self.model = module

        def forward(self, *tensors: Any) -> tuple[Any, ...]:
            input_ids, attention_mask, *past = tensors
            positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)
            result = self.model(
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=positions[:, attention_mask.shape[1] - input_ids.shape[1] :],
                past_key_values=_past.cache(past) if past else None,
                use_cache=with_past,
            )
            present = _past.flat(result.past_key_values) if with_past else ()
            return (result.logits, *present)

    return Decoder().eval()


def _split(tokens: _text.Tokens, past: int, pad: int) -> tuple[_text.Tokens, _text.Tokens]:
    """The last tokens of each row as the new ones, those before them, at least one, as the prefix; both
    padded on the right."""
    width = tokens.ids.shape[1]
    prefixes, news = [], []
    for ids, count in zip(tokens.ids.tolist(), tokens.mask.sum(axis=1).tolist(), strict=True):
        cut = max(1, min(past, count - (width - past)))
        prefixes.append(ids[:cut])
        news.append(ids[cut:count])
    return _text.padded(prefixes, past, pad), _text.padded(news, width - past, pad)


def _fed_back(feeds: Feeds, outputs: Outputs, token: Array) -> Feeds:
    """The token alone, with what is present now as its past."""
    import numpy as np

    mask = _joined(feeds["attention_mask"], np.ones_like(token))
    return {"input_ids": token, "attention_mask": mask, **_past.fed_back(outputs)}


def _mask_of_new(feeds: Feeds) -> Array:
    return feeds["attention_mask"][:, -feeds["input_ids"].shape[1] :]


def _joined(left: Array, right: Array) -> Array:
    import numpy as np

    return np.concatenate([left, right], axis=1)


def _config(model: Model) -> Any:
    return _pretrained.config(model, PRESETS, CONFIG)
