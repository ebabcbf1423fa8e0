"""IDEFICS (Laurencon et al. 2023): text about an image by gated cross-attention, as in Flamingo.

A language model reads the text; between its layers, gated cross-attention reads the image (Alayrac et al.
2022), of which a perceiver makes a fixed number of states. `image_attention_mask` says which tokens see the
image: those from its place on. Parity: does the candidate prefer the same next token at each position of a
prompt, and does greedy decoding go on with the same tokens? A prompt is an image and its caption.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchbox.errors import StageError
from benchbox.plugins.contract import Evidence, Module, Sample
from benchbox.plugins.models import _decoding, _pretrained, _text
from benchbox.schema.asked import Model
from benchbox.schema.tensors import Array, Feeds, Forward, Outputs, Signature, TensorSpec

REQUIRES = ("torch", "transformers", "PIL")
TASKS: Mapping[str, Mapping[str, int]] = {"image-text-to-text": {"image_size": 224, "sequence_length": 32}}
DYNAMIC: Mapping[str, tuple[int, int]] = {"sequence_length": (12, 9)}

ATTENTION = tuple(TASKS)

# The hub's configs of these names, so that random weights need no hub, but for one value: there, the gates
# are zero when training begins, and no output would depend on the image.
_9B = {
    "additional_vocab_size": 2,
    "alpha_initializer": "ones",
    "cross_layer_interval": 4,
    "qk_layer_norms": True,
    "use_resampler": True,
    "perceiver_config": {"use_resampler": True, "qk_layer_norms_perceiver": True},
    "vision_config": {"embed_dim": 1280},
}
CONFIG = "IdeficsConfig"
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "HuggingFaceM4/idefics-9b": _9B,
    "HuggingFaceM4/idefics-9b-instruct": _9B,
}

# LLaMA's vocabulary: the words come behind <unk>, <s> and </s>.
_FIRST_WORD = 3
# Where the image stands: behind the begin token and the first of the two marks around it.
_IMAGE_AT = 2
# The two marks and the image itself, beside the begin token and at least one of text.
_LEAST_TOKENS = 5

save = _pretrained.save


def load(model: Model) -> Module:
    """The model with its language head. Raises StageError where config or weights cannot be had."""
    import transformers

    _pretrained.quiet()
    config = _config(model)
    if not model.attention:
        return _reader(_pretrained.weights(model, transformers.IdeficsForVisionText2Text, config))
    config = _pretrained.keeping_attention(config)
    module = _pretrained.weights(model, transformers.IdeficsForVisionText2Text, config)
    vision = config.vision_config
    return _reader(module, columns=vision.image_size // vision.patch_size)


def signature(model: Model, shape: Mapping[str, int]) -> Signature:
    """Token ids (batch, sequence_length) with their mask, one image each (batch, 1, channels, height, width)
    and which tokens see it (batch, sequence_length, 1), to logits (batch, sequence_length, vocabulary).

    Where the model keeps its attention, also where each token looks in the last cross-attention, (batch,
    sequence_length, rows, columns). Raises StageError where the model does not take images of that size or
    prompts of that length.
    """
    config = _config(model)
    size, length, vision = shape["image_size"], shape["sequence_length"], config.vision_config
    _pretrained.require_image_size(model, vision.image_size, size)
    if not _LEAST_TOKENS <= length <= config.max_position_embeddings:
        raise StageError(
            f"{model.name} takes {_LEAST_TOKENS} to {config.max_position_embeddings} tokens, and the "
            f"suite's sequence_length is {length}"
        )
    tokens = ("batch", "sequence_length")
    words = config.vocab_size + config.additional_vocab_size
    side = size // vision.patch_size
    attention = TensorSpec("attention", "float32", (*tokens, side, side))
    return Signature(
        inputs=(
            TensorSpec("input_ids", "int64", tokens),
            TensorSpec("attention_mask", "int64", tokens),
            TensorSpec("pixel_values", "float32", ("batch", 1, vision.num_channels, size, size)),
            TensorSpec("image_attention_mask", "int64", (*tokens, 1)),
        ),
        outputs=(
            TensorSpec("logits", "float32", (*tokens, words)),
            *([attention] if model.attention else []),
        ),
    )


def feeds(model: Model, samples: Sequence[Sample], shape: Mapping[str, int]) -> Feeds:
    """Prompts of an image and its caption: the begin token, the image between its two marks, the words."""
    import numpy as np

    config, size, length = _config(model), shape["image_size"], shape["sequence_length"]
    vocabulary = _text.Vocabulary(
        size=config.vocab_size, pad=config.pad_token_id, begin=config.bos_token_id, first=_FIRST_WORD
    )
    image = [config.vocab_size, config.vocab_size + 1, config.vocab_size]
    texts = _text.tokens(model, _text.texts(samples), length - len(image), vocabulary)
    sees = np.zeros((len(samples), length, 1), np.int64)
    sees[:, _IMAGE_AT:] = 1
    return {
        "input_ids": np.insert(texts.ids, [1], image, axis=1),
        "attention_mask": np.insert(texts.mask, [1], [1] * len(image), axis=1),
        "pixel_values": _pixels(model, samples, size),
        "image_attention_mask": sees,
    }


def rollout(model: Model, run: Forward, feeds: Feeds) -> Outputs:  # noqa: ARG001  # the contract; one task
    """`tokens` (batch, steps) that greedy decoding writes behind each prompt."""
    return {"tokens": _decoding.continued(feeds, run, _appended)}


def metrics(model: Model, evidence: Evidence) -> Mapping[str, float]:  # noqa: ARG001  # the contract
    """Agreement of the next token over what is no padding, and of what is written behind the prompt."""
    return _decoding.next_token_agreement(evidence, evidence.feeds["attention_mask"])


def _appended(feeds: Feeds, outputs: Outputs, token: Array) -> Feeds:
    """The prompts with a token more, which sees the image."""
    import numpy as np

    sees = feeds["image_attention_mask"]
    longer = np.concatenate([sees, np.ones_like(sees[:, :1])], axis=1)
    return {**_decoding.appended(feeds, outputs, token), "image_attention_mask": longer}


def _pixels(model: Model, samples: Sequence[Sample], size: int) -> Array:
    """float32 of shape (batch, 1, 3, height, width): one image a prompt, resized to a square."""
    import numpy as np

    processor = _pretrained.image_processor(model, "IdeficsImageProcessor", image_size=size)
    # The array itself, where the processors of other models give a mapping.
    pixels = processor(images=_pretrained.images(samples), return_tensors="np", **_pretrained.LAYOUT)
    return np.ascontiguousarray(pixels, dtype=np.float32)[:, None]


def _reader(module: Module, columns: int = 0) -> Module:
    """A module that takes the inputs by position and keeps no past; the one of transformers is `model`.

    Of `columns` of patches, where there are some, it says where each token looks; what does not see the image
    looks nowhere.
    """
    import torch

    looked = _pretrained.watched(module.model.gated_cross_attn_layers[-1].cross_attn) if columns else None

    class Reader(torch.nn.Module):  # type: ignore[misc,name-defined,unused-ignore]  # torch is untyped here
        def __init__(self) -> None:
            super().__init__()
            self.model = module

        def forward(self, ids: Any, mask: Any, pixels: Any, sees: Any) -> tuple[Any, ...]:
            result = self.model(
                input_ids=ids,
                attention_mask=mask,
                pixel_values=pixels,
                image_attention_mask=sees,
                use_cache=False,
            )
            if looked is None:
                return (result.logits,)
            over = _pretrained.from_words(looked(), columns)
            return (result.logits, over * sees.unsqueeze(-1).to(over.dtype))

    return Reader().eval()


def _config(model: Model) -> Any:
    """Raises StageError where attention over the image is asked for, and the text looks at none."""
    config = _pretrained.config(model, PRESETS, CONFIG)
    if model.attention and config.use_resampler:
        raise StageError(
            f"{model.name} keeps no attention over the image: its text looks at what a perceiver makes of "
            "the image, which has no places. With config: {use_resampler: false} it looks at the patches"
        )
    if model.attention and config.num_hidden_layers < config.cross_layer_interval:
        raise StageError(
            f"{model.name} keeps no attention over the image: of its {config.num_hidden_layers} layers none "
            f"looks at it, as one in {config.cross_layer_interval} does (cross_layer_interval)"
        )
    return config
