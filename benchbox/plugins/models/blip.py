"""BLIP (Li et al. 2022): image-text retrieval, and captioning by an image encoder and a text decoder.

Parity of retrieval: does the candidate decide alike which texts match, with the same probability? Of the
decoder: does it prefer the same next token at each position of a caption that is given, and write the same
caption by greedy decoding? Of the encoder: the cosine of its states.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchbox.errors import StageError
from benchbox.plugins.contract import Evidence, Module, Sample
from benchbox.plugins.models import _decoding, _pretrained, _text
from benchbox.schema.asked import Model
from benchbox.schema.tensors import Array, Feeds, Forward, Outputs, Signature, TensorSpec

REQUIRES = ("torch", "transformers", "PIL")
_RETRIEVAL, _ENCODER, _DECODER = "image-text-retrieval", "captioning-encoder", "captioning-decoder"
# 35 tokens are what the authors' retrieval cuts texts to, 20 what their captioning writes at most.
TASKS: Mapping[str, Mapping[str, int]] = {
    _RETRIEVAL: {"image_size": 384, "sequence_length": 35},
    _ENCODER: {"image_size": 384},
    _DECODER: {"image_size": 384, "sequence_length": 20},
}
DYNAMIC: Mapping[str, tuple[int, int]] = {"sequence_length": (12, 9)}

# The hub's configs of these names, so that random weights need no hub, but for one value: there, weights of
# the vision part are drawn with a deviation of 1e-10, and all images would look alike.
_VISION = {"initializer_range": 0.02}
_LARGE_VISION = {
    **_VISION,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
}
_TEXT = {"num_attention_heads": 12}
_BASE = {"text_config": _TEXT, "vision_config": _VISION}
_LARGE = {"text_config": _TEXT, "vision_config": _LARGE_VISION}
CONFIG = "BlipConfig"
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "Salesforce/blip-itm-base-coco": _BASE,
    "Salesforce/blip-itm-large-coco": _LARGE,
    "Salesforce/blip-image-captioning-base": _BASE,
    "Salesforce/blip-image-captioning-large": _LARGE,
}

# BERT's vocabulary: [CLS] begins a text that is read, and 103 is the last special token before the words.
# BLIP adds two tokens behind the words, of which bos_token_id begins a text that is written.
_CLS, _FIRST_WORD, _ADDED = 101, 104, 2

_INPUTS = {
    _RETRIEVAL: ("input_ids", "pixel_values", "attention_mask"),
    _ENCODER: ("pixel_values",),
    _DECODER: ("input_ids", "attention_mask", "encoder_hidden_states"),
}
ATTENTION = (_RETRIEVAL, _DECODER)

_OUTPUTS = {_RETRIEVAL: "itm_score", _ENCODER: "last_hidden_state", _DECODER: "logits"}
# The part of a captioner that is a task's module, with its class and its part of the config.
_PARTS = {
    _ENCODER: ("vision_model", "BlipVisionModel", "vision_config"),
    _DECODER: ("text_decoder", "BlipTextLMHeadModel", "text_config"),
}

save = _pretrained.save  # of a part, that of the part


def load(model: Model) -> Module:
    """The retrieval model, or a part of the captioner. Raises StageError where config or weights cannot be
    had, and for LoRA adapters, which are those of a whole, on a part."""
    import transformers

    _pretrained.quiet()
    config = _pretrained.config(model, PRESETS, CONFIG)
    if model.task == _RETRIEVAL:
        module = _pretrained.weights(model, transformers.BlipForImageTextRetrieval, config)
        return _adapted(model, module, "text_encoder")
    if model.lora:
        raise StageError(f"LoRA adapters fit a whole BLIP, and {model.task} is a part of one")
    part, architecture, _ = _PARTS[model.task]
    if not _is_whole(config):
        return _adapted(model, _pretrained.weights(model, getattr(transformers, architecture), config))
    captioner = _pretrained.weights(model, transformers.BlipForConditionalGeneration, config)
    module = _adapted(model, getattr(captioner, part))
    if model.task == _DECODER:
        # A method, no module: the encoder is there for `derive`, and neither exported nor saved.
        module.encode = captioner.vision_model.forward
    return module


def signature(model: Model, shape: Mapping[str, int]) -> Signature:
    """Retrieval: token ids and mask (batch, sequence_length) and images to the two scores of each pair,
    (batch, 2), the second one for a match. Encoder: images to states (batch, patches + 1, size). Decoder:
    tokens and such states to logits (batch, sequence_length, vocabulary). Where the model keeps its
    attention, also where each token looks in the last cross-attention, (batch, sequence_length, rows,
    columns).

    Raises StageError where the model does not take images of that size or texts of that length.
    """
    config = _pretrained.config(model, PRESETS, CONFIG)
    specs = {"itm_score": TensorSpec("itm_score", "float32", ("batch", 2))}
    if model.task != _ENCODER:
        specs |= _text_specs(model, getattr(config, "text_config", config), shape)
    if model.task == _ENCODER or _is_whole(config):
        specs |= _image_specs(model, getattr(config, "vision_config", config), shape["image_size"])
    outputs = (_OUTPUTS[model.task], *(["attention"] if model.attention else []))
    return Signature(
        inputs=tuple(specs[name] for name in _INPUTS[model.task]),
        outputs=tuple(specs[name] for name in outputs),
    )


def feeds(model: Model, samples: Sequence[Sample], shape: Mapping[str, int]) -> Feeds:
    """Images and token ids. For retrieval every second image has another's text, so that both answers are
    asked for; for the decoder, `derive` makes states of the images."""
    pixels = _pixels(model, samples, shape["image_size"])
    if model.task == _ENCODER:
        return {"pixel_values": pixels}
    written = _text.texts(samples)
    if model.task == _RETRIEVAL:
        tokens = _tokens(model, _every_second_exchanged(written), shape["sequence_length"])
        return {"input_ids": tokens.ids, "pixel_values": pixels, "attention_mask": tokens.mask}
    tokens = _tokens(model, written, shape["sequence_length"])
    return {"input_ids": tokens.ids, "attention_mask": tokens.mask, "pixel_values": pixels}


def derive(model: Model, module: Module, feeds: Feeds, shape: Mapping[str, int]) -> Feeds:  # noqa: ARG001  # the contract
    """The feeds; for the decoder with the states that the same captioner's encoder makes of the images."""
    import torch

    if model.task != _DECODER:
        return feeds
    with torch.inference_mode():
        states = module.encode(pixel_values=torch.from_numpy(feeds["pixel_values"])).last_hidden_state
    kept = {name: array for name, array in feeds.items() if name != "pixel_values"}
    return {**kept, "encoder_hidden_states": states.numpy()}


def rollout(model: Model, run: Forward, feeds: Feeds) -> Outputs:
    """`tokens` (batch, steps) of the decoder: the caption that it writes, greedily, after the begin token."""
    if model.task != _DECODER:
        return {}
    return {"tokens": _decoding.continued(_decoding.begun(feeds), run)}


def metrics(model: Model, evidence: Evidence) -> Mapping[str, float]:
    """Retrieval: share of pairs that are decided alike, and one minus the mean difference of the
    probabilities of a match. Decoder: agreement of the next token and of the caption that is written."""
    import numpy as np

    if model.task == _ENCODER:
        return {}
    if model.task == _DECODER:
        return _decoding.next_token_agreement(evidence, evidence.feeds["attention_mask"])
    expected, seen = (_match_probability(o["itm_score"]) for o in (evidence.reference, evidence.candidate))
    return {
        "match_agreement": float(np.mean((expected > 0.5) == (seen > 0.5))),
        "match_score_agreement": float(1 - np.mean(np.abs(expected - seen))),
    }


def _is_whole(config: Any) -> bool:
    """Whether a config is that of both parts, not that of one that was saved by itself."""
    return hasattr(config, "vision_config")


def _adapted(model: Model, module: Module, text: str = "bert") -> Module:
    """The module by its task's inputs and outputs; `text` is its part that reads text, and the image."""
    inputs, outputs = _INPUTS[model.task], (_OUTPUTS[model.task],)
    if not model.attention:
        return _pretrained.adapter(module, inputs, outputs)
    looked = _pretrained.watched(getattr(module, text).encoder.layer[-1].crossattention.self)

    def attend(_result: Any) -> Any:
        weights = looked()
        # Images are squares, and a decoder that was saved by itself does not say of which size.
        return _pretrained.from_words(weights, columns=math.isqrt(weights.shape[-1] - 1))

    return _pretrained.adapter(module, inputs, outputs, attend)


def _match_probability(scores: Array) -> Array:
    """Softmax of two scores, the second one for a match: (batch,)."""
    import numpy as np

    probability: Array = 1 / (1 + np.exp(scores[:, 0].astype(np.float64) - scores[:, 1]))
    return probability


def _every_second_exchanged(written: Sequence[str]) -> list[str]:
    """Every second text replaced by the one after it, the last one's being the first."""
    return [
        text if index % 2 == 0 else written[(index + 1) % len(written)] for index, text in enumerate(written)
    ]


def _tokens(model: Model, written: Sequence[str], length: int) -> _text.Tokens:
    """The texts as tokens; those that are written begin with the decoder's own begin token."""
    config = _pretrained.config(model, PRESETS, CONFIG)
    text = getattr(config, "text_config", config)
    vocabulary = _text.Vocabulary(
        size=text.vocab_size - _ADDED,
        pad=text.pad_token_id,
        begin=_CLS,
        end=text.sep_token_id,
        first=_FIRST_WORD,
    )
    tokens = _text.tokens(model, written, length, vocabulary)
    if model.task == _DECODER:
        tokens.ids[:, 0] = text.bos_token_id
    return tokens


def _pixels(model: Model, samples: Sequence[Sample], size: int) -> Any:
    """Resized to a square, with CLIP's mean and deviation."""
    processor = _pretrained.image_processor(model, "BlipImageProcessor", size={"height": size, "width": size})
    return _pretrained.pixels(processor, samples)


def _image_specs(model: Model, vision: Any, size: int) -> dict[str, TensorSpec]:
    """What images go in as and come out as."""
    _pretrained.require_image_size(model, vision.image_size, size)
    side = size // vision.patch_size
    states = ("batch", side**2 + 1, vision.hidden_size)
    return {
        "attention": TensorSpec("attention", "float32", ("batch", "sequence_length", side, side)),
        # BlipVisionConfig has no number of channels: its convolution takes three.
        "pixel_values": TensorSpec("pixel_values", "float32", ("batch", 3, size, size)),
        "last_hidden_state": TensorSpec("last_hidden_state", "float32", states),
        "encoder_hidden_states": TensorSpec("encoder_hidden_states", "float32", states),
    }


def _text_specs(model: Model, text: Any, shape: Mapping[str, int]) -> dict[str, TensorSpec]:
    """What texts go in as and come out as; a decoder that was saved by itself takes states of any image."""
    length = shape["sequence_length"]
    if length > text.max_position_embeddings:
        raise StageError(
            f"{model.name} takes at most {text.max_position_embeddings} tokens, and the suite's "
            f"sequence_length is {length}"
        )
    tokens, states = ("batch", "sequence_length"), ("batch", "encoder_length", text.encoder_hidden_size)
    return {
        "attention": TensorSpec("attention", "float32", (*tokens, "rows", "columns")),
        "encoder_hidden_states": TensorSpec("encoder_hidden_states", "float32", states),
        "input_ids": TensorSpec("input_ids", "int64", tokens),
        "attention_mask": TensorSpec("attention_mask", "int64", tokens),
        "logits": TensorSpec("logits", "float32", (*tokens, text.vocab_size)),
    }
