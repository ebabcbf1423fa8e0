"""What the encoder-decoder families share: three graphs, as optimum cuts a model into them.

`encoder` reads the text; `decoder` takes its states and all tokens written so far, and gives logits and the
keys and values of each layer; `decoder-with-past` takes those, and the new tokens alone.

The decoder is fed the start token and then the text's own tokens, again from its beginning where it is too
short: what is written needs no padding, what is read has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchbox.plugins.contract import Evidence, Module, Sample
from benchbox.plugins.models import _decoding, _past, _text
from benchbox.schema.asked import Model
from benchbox.schema.tensors import Array, Feeds, Forward, Outputs, Signature, TensorSpec

ENCODER, DECODER, WITH_PAST = "encoder", "decoder", "decoder-with-past"
TASKS: Mapping[str, Mapping[str, int]] = {
    ENCODER: {"encoder_length": 128},
    DECODER: {"encoder_length": 128, "decoder_length": 32},
    WITH_PAST: {"encoder_length": 128, "decoder_length": 1, "past_length": 32},
}
DYNAMIC: Mapping[str, tuple[int, int]] = {
    "encoder_length": (11, 7),
    "decoder_length": (5, 3),
    "past_length": (9, 14),
}

_TOTAL = "past_length + decoder_length"

# What the feeds hold until `derive` makes states, keys and values of it.
_TEXT, _PREFIX = "text_ids", "prefix_ids"


@dataclass(frozen=True)
class Sizes:
    """What the signature and the feeds need to know of a model. `heads` and `layers` are the decoder's;
    `start` is the token that begins what is written; `positions` None: any length."""

    layers: int
    heads: int
    head_size: int
    hidden: int
    logits: int
    start: int
    vocabulary: _text.Vocabulary
    positions: int | None = None

    @classmethod
    def of_bart(cls, config: Any, vocabulary: _text.Vocabulary, logits: int) -> Sizes:
        """Of the descendants of BART, whose configs name these things alike."""
        return cls(
            layers=config.decoder_layers,
            heads=config.decoder_attention_heads,
            head_size=config.d_model // config.decoder_attention_heads,
            hidden=config.d_model,
            logits=logits,
            start=config.decoder_start_token_id,
            vocabulary=vocabulary,
            positions=config.max_position_embeddings,
        )


def wrapped(module: Module, task: str) -> Module:
    """The module whose `forward` is that of the task; the one of transformers is its attribute `model`."""
    import torch

    class Part(torch.nn.Module):  # type: ignore[misc,name-defined,unused-ignore]  # torch is untyped here
        def __init__(self) -> None:
            super().__init__()
            self.model = module

    class Encoder(Part):
        def forward(self, input_ids: Any, attention_mask: Any) -> tuple[Any, ...]:
            return (_encode(self.model, input_ids, attention_mask),)

    class Decoder(Part):
        def forward(
            self, input_ids: Any, encoder_attention_mask: Any, encoder_hidden_states: Any
        ) -> tuple[Any, ...]:
            result = _decode(self.model, input_ids, encoder_attention_mask, encoder_hidden_states)
            return (result.logits, *_past.crossed_flat(result.past_key_values))

    class DecoderWithPast(Part):
        def forward(self, *tensors: Any) -> tuple[Any, ...]:
            input_ids, encoder_attention_mask, *past = tensors
            # Nobody reads the states, as their keys and values are there; but they say that there are some.
            states = past[0].new_zeros((*encoder_attention_mask.shape, self.model.config.hidden_size))
            cache = _past.crossed_cache(past)
            result = _decode(self.model, input_ids, encoder_attention_mask, states, cache)
            return (result.logits, *_past.flat(result.past_key_values.self_attention_cache))

    return {ENCODER: Encoder, DECODER: Decoder, WITH_PAST: DecoderWithPast}[task]().eval()


def signature(model: Model, shape: Mapping[str, int], sizes: Sizes) -> Signature:
    """Names and axes of the task's inputs and outputs, as optimum calls them.

    Raises StageError for more tokens than the model has positions for.
    """
    if sizes.positions is not None:
        written = shape.get("past_length", 0) + shape.get("decoder_length", 0)
        _text.require_positions(model, sizes.positions, max(shape["encoder_length"], written))
    if model.task == ENCODER:
        return Signature(
            inputs=tuple(
                TensorSpec(n, "int64", ("batch", "encoder_length")) for n in ("input_ids", "attention_mask")
            ),
            outputs=(TensorSpec("last_hidden_state", "float32", ("batch", "encoder_length", sizes.hidden)),),
        )
    ids = TensorSpec("input_ids", "int64", ("batch", "decoder_length"))
    mask = TensorSpec("encoder_attention_mask", "int64", ("batch", "encoder_length"))
    states = TensorSpec("encoder_hidden_states", "float32", ("batch", "encoder_length", sizes.hidden))
    logits = TensorSpec("logits", "float32", ("batch", "decoder_length", sizes.logits))
    crossed = _kind(sizes, "encoder.", "encoder_length")
    if model.task == DECODER:
        present = {**_kind(sizes, "decoder.", "decoder_length"), **crossed}
        return Signature((ids, mask, states), (logits, *_past.specs("present", sizes.layers, present)))
    past = {**_kind(sizes, "decoder.", "past_length"), **crossed}
    present = _kind(sizes, "decoder.", _TOTAL)
    return Signature(
        (ids, mask, *_past.specs("past_key_values", sizes.layers, past)),
        (logits, *_past.specs("present", sizes.layers, present)),
    )


def feeds(model: Model, samples: Sequence[Sample], shape: Mapping[str, int], sizes: Sizes) -> Feeds:
    """Token ids and mask, int64; for the decoders also the ids of which `derive` makes their other inputs."""
    read = _text.tokens(model, _text.texts(samples), shape["encoder_length"], sizes.vocabulary)
    if model.task == ENCODER:
        return {"input_ids": read.ids, "attention_mask": read.mask}
    past = shape.get("past_length", 0)
    written = _written(read, past + shape["decoder_length"], sizes.start)
    own = {"input_ids": written[:, past:].copy(), "encoder_attention_mask": read.mask, _TEXT: read.ids}
    return {**own, _PREFIX: written[:, :past].copy()} if past else own


def derive(model: Model, module: Module, feeds: Feeds, shape: Mapping[str, int]) -> Feeds:  # noqa: ARG001  # the contract's form
    """The feeds with the encoder's states, or with the keys and values of prefix and text, as the module
    itself computes them."""
    import torch

    if model.task == ENCODER:
        return feeds
    kept = {name: array for name, array in feeds.items() if name not in (_TEXT, _PREFIX)}
    mask = torch.from_numpy(feeds["encoder_attention_mask"])
    with torch.inference_mode():
        states = _encode(module.model, torch.from_numpy(feeds[_TEXT]), mask)
        if model.task == DECODER:
            return {**kept, "encoder_hidden_states": states.numpy()}
        result = _decode(module.model, torch.from_numpy(feeds[_PREFIX]), mask, states)
    past = _past.crossed_flat(result.past_key_values)
    specs = _past.specs("past_key_values", len(past) // 4, {"decoder.": (), "encoder.": ()})
    return {**kept, **{spec.name: tensor.numpy() for spec, tensor in zip(specs, past, strict=True)}}


def rollout(model: Model, run: Forward, feeds: Feeds) -> Outputs:
    """`tokens` (batch, steps) that greedy decoding writes after those of the feeds; nothing for an
    encoder."""
    if model.task == ENCODER:
        return {}
    following = _fed_back if model.task == WITH_PAST else _appended
    return {"tokens": _decoding.greedy(feeds, run, following)}


def metrics(model: Model, evidence: Evidence) -> Mapping[str, float]:
    """Agreement of tokens; an encoder writes none."""
    return {} if model.task == ENCODER else _decoding.next_token_agreement(evidence)


def _encode(module: Any, ids: Any, mask: Any) -> Any:
    return module.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state


def _decode(module: Any, ids: Any, encoder_mask: Any, states: Any, cache: Any = None) -> Any:
    """The decoder's result with its cache.

    The mask of ones keeps a trace from deciding, by the lengths it was made with, that it needs none.
    """
    from transformers.modeling_outputs import BaseModelOutput

    before = 0 if cache is None else cache.get_seq_length()
    return module(
        attention_mask=encoder_mask,
        decoder_input_ids=ids,
        decoder_attention_mask=ids.new_ones((ids.shape[0], before + ids.shape[1])),
        encoder_outputs=BaseModelOutput(last_hidden_state=states),
        past_key_values=cache,
        use_cache=True,
    )


def _kind(sizes: Sizes, kind: str, length: str) -> dict[str, _past.Axes]:
    return {kind: ("batch", sizes.heads, length, sizes.head_size)}


def _written(read: _text.Tokens, length: int, start: int) -> Array:
    """The start token and `length - 1` tokens of each row's text, over and over."""
    import numpy as np

    counts = read.mask.sum(axis=1)
    rows = [np.resize(ids[:count], length - 1) for ids, count in zip(read.ids, counts, strict=True)]
    return np.stack([np.concatenate([[start], row]) for row in rows]).astype(np.int64)


def _appended(feeds: Feeds, _outputs: Outputs, token: Array) -> Feeds:
    """All tokens so far and the new one."""
    import numpy as np

    return {**feeds, "input_ids": np.concatenate([feeds["input_ids"], token], axis=1)}


def _fed_back(feeds: Feeds, outputs: Outputs, token: Array) -> Feeds:
    """The token alone; the decoder's present is its past, and that of the encoder stays."""
    return {**feeds, "input_ids": token, **_past.fed_back(outputs)}
