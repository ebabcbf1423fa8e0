"""CLIP (Radford et al. 2021): images ranked against captions, and its image and text towers by themselves.

Parity of zero-shot classification: does the candidate give each image the same caption out of a set, the
same ranking of all captions, and each caption the same image? Of a tower: the cosine of its embeddings. The
set are the samples' own captions, filled up with prompts that are made as the paper makes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchbox.errors import StageError
from benchbox.plugins.contract import Evidence, Module, Sample
from benchbox.plugins.models import _pretrained, _text
from benchbox.schema.asked import Model
from benchbox.schema.tensors import Feeds, Signature, TensorSpec

REQUIRES = ("torch", "transformers", "PIL")
_ZERO_SHOT, _IMAGES, _TEXTS = "zero-shot-image-classification", "image-features", "text-features"
TASKS: Mapping[str, Mapping[str, int]] = {
    _ZERO_SHOT: {"image_size": 224, "captions": 16, "sequence_length": 77},
    _IMAGES: {"image_size": 224},
    _TEXTS: {"sequence_length": 77},
}
# Other numbers than those of the batch (traced with 2, proved with 3), so that no axis is taken for another.
DYNAMIC: Mapping[str, tuple[int, int]] = {"captions": (4, 5), "sequence_length": (12, 9)}

# The hub's configs of these names, so that random weights need no hub. The end token of 2 is wrong there, and
# makes transformers pool at the largest id, as the paper's own code does.
_BASE_TEXT = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
_LARGE_TEXT = {
    **_BASE_TEXT,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "projection_dim": 768,
}
_LARGE_VISION = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
    "projection_dim": 768,
}
_LARGE = {"projection_dim": 768, "text_config": _LARGE_TEXT, "vision_config": _LARGE_VISION}
CONFIG = "CLIPConfig"
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "openai/clip-vit-base-patch32": {"text_config": _BASE_TEXT, "vision_config": {"patch_size": 32}},
    "openai/clip-vit-base-patch16": {"text_config": _BASE_TEXT, "vision_config": {"patch_size": 16}},
    "openai/clip-vit-large-patch14": _LARGE,
    "openai/clip-vit-large-patch14-336": {**_LARGE, "vision_config": {**_LARGE_VISION, "image_size": 336}},
}

# The plain template of the paper, then the seven that its authors found best on ImageNet (their notebook
# "Prompt Engineering for ImageNet").
_TEMPLATES = (
    "a photo of a {}.",
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
_THINGS = (
    "temple",
    "flower",
    "cat",
    "dog",
    "car",
    "plane",
    "ship",
    "bird",
    "horse",
    "frog",
    "deer",
    "truck",
    "tree",
    "mountain",
    "house",
    "bicycle",
)
PROMPTS = tuple(template.format(thing) for template in _TEMPLATES for thing in _THINGS)

ATTENTION = (_ZERO_SHOT, _IMAGES)

_ARCHITECTURES = {
    _ZERO_SHOT: "CLIPModel",
    _IMAGES: "CLIPVisionModelWithProjection",
    _TEXTS: "CLIPTextModelWithProjection",
}
_CONFIGS = {_IMAGES: "vision_config", _TEXTS: "text_config"}
_INPUTS = {
    _ZERO_SHOT: ("input_ids", "pixel_values", "attention_mask"),
    _IMAGES: ("pixel_values",),
    _TEXTS: ("input_ids", "attention_mask"),
}
# logits_per_text is logits_per_image transposed and says nothing more.
_OUTPUTS = {
    _ZERO_SHOT: ("logits_per_image", "text_embeds", "image_embeds"),
    _IMAGES: ("image_embeds",),
    _TEXTS: ("text_embeds",),
}

save = _pretrained.save


def load(model: Model) -> Module:
    """Both towers, or one with its projection. Raises StageError where config or weights cannot be had."""
    import transformers

    _pretrained.quiet()
    architecture = getattr(transformers, _ARCHITECTURES[model.task])
    config = _config(model)
    if not model.attention:
        module = _pretrained.weights(model, architecture, config)
        return _pretrained.adapter(module, _INPUTS[model.task], _OUTPUTS[model.task])
    vision = _pretrained.keeping_attention(_vision(config))
    module = _pretrained.weights(model, architecture, config)
    columns = vision.image_size // vision.patch_size

    def attend(result: Any) -> Any:
        tower = getattr(result, "vision_model_output", result)
        return _pretrained.over_the_image(tower.attentions[-1], special=1, columns=columns)

    return _pretrained.adapter(module, _INPUTS[model.task], _OUTPUTS[model.task], attend)


def signature(model: Model, shape: Mapping[str, int]) -> Signature:
    """Images (batch, channels, height, width) and texts (captions, sequence_length) to the scores of each
    image for each caption, (batch, captions), and the embeddings. A text tower's texts are its batch.

    Where the model keeps its attention, also where the class token of an image looks in the last layer,
    (batch, rows, columns).
    """
    config = _config(model)
    texts = "batch" if model.task == _TEXTS else "captions"
    specs: dict[str, TensorSpec] = {}
    if model.task != _TEXTS:
        specs |= _image_specs(model, _vision(config), shape["image_size"])
    if model.task != _IMAGES:
        specs |= _text_specs(model, getattr(config, "text_config", config), texts, shape)
    scores = TensorSpec("logits_per_image", "float32", ("batch", "captions"))
    specs |= {
        "logits_per_image": scores,
        "text_embeds": TensorSpec("text_embeds", "float32", (texts, config.projection_dim)),
        "image_embeds": TensorSpec("image_embeds", "float32", ("batch", config.projection_dim)),
    }
    outputs = (*_OUTPUTS[model.task], *(["attention"] if model.attention else []))
    return Signature(
        inputs=tuple(specs[name] for name in _INPUTS[model.task]),
        outputs=tuple(specs[name] for name in outputs),
    )


def feeds(model: Model, samples: Sequence[Sample], shape: Mapping[str, int]) -> Feeds:
    """The samples' images, and as many captions as the shape says; a text tower gets the samples' texts."""
    arrays: dict[str, Any] = {}
    if model.task != _TEXTS:
        arrays["pixel_values"] = _pixels(model, samples, shape["image_size"])
    if model.task != _IMAGES:
        written = _text.texts(samples) if model.task == _TEXTS else captions(samples, shape["captions"])
        tokens = _text.tokens(model, written, shape["sequence_length"], _vocabulary(model))
        arrays |= {"input_ids": tokens.ids, "attention_mask": tokens.mask}
    return {name: arrays[name] for name in _INPUTS[model.task]}


def captions(samples: Sequence[Sample], count: int) -> list[str]:
    """`count` different captions: the samples' own first, where they have some, then prompts.

    Raises StageError where there are not so many.
    """
    own = [sample.text for sample in samples if sample.text]
    found = list(dict.fromkeys([*own, *PROMPTS]))
    if count > len(found):
        raise StageError(f"there are {len(found)} captions to rank, and the suite's captions is {count}")
    return found[:count]


def metrics(model: Model, evidence: Evidence) -> Mapping[str, float]:
    """Shares of images with the same best caption and with the same ranking of all captions, and of captions
    with the same best image."""
    import numpy as np

    if model.task != _ZERO_SHOT:
        return {}
    expected, seen = evidence.reference["logits_per_image"], evidence.candidate["logits_per_image"]
    ranks, other = (np.argsort(-scores, axis=1, kind="stable") for scores in (expected, seen))
    return {
        "zero_shot_agreement": float(np.mean(ranks[:, 0] == other[:, 0])),
        "caption_rank_agreement": float(np.mean((ranks == other).all(axis=1))),
        "image_retrieval_agreement": float(np.mean(expected.argmax(axis=0) == seen.argmax(axis=0))),
    }


def _config(model: Model) -> Any:
    """The config of the task's part: a source holds that of the whole, or of the part that was saved."""
    config = _pretrained.config(model, PRESETS, CONFIG)
    return getattr(config, _CONFIGS.get(model.task, ""), config)


def _vision(config: Any) -> Any:
    """The image tower's part of a config of both, or the config of that tower."""
    return getattr(config, "vision_config", config)


def _image_specs(model: Model, vision: Any, size: int) -> dict[str, TensorSpec]:
    _pretrained.require_image_size(model, vision.image_size, size)
    axes = ("batch", vision.num_channels, size, size)
    side = size // vision.patch_size
    return {
        "pixel_values": TensorSpec("pixel_values", "float32", axes),
        "attention": TensorSpec("attention", "float32", ("batch", side, side)),
    }


def _text_specs(model: Model, text: Any, texts: str, shape: Mapping[str, int]) -> dict[str, TensorSpec]:
    if shape["sequence_length"] > text.max_position_embeddings:
        raise StageError(
            f"{model.name} reads at most {text.max_position_embeddings} tokens, and the suite's "
            f"sequence_length is {shape['sequence_length']}"
        )
    axes = (texts, "sequence_length")
    return {name: TensorSpec(name, "int64", axes) for name in ("input_ids", "attention_mask")}


def _vocabulary(model: Model) -> _text.Vocabulary:
    """As CLIP's tokenizer has it: the last two ids begin and end a text, and the end token pads it."""
    config = _config(model)
    size = getattr(config, "text_config", config).vocab_size
    return _text.Vocabulary(size=size - 2, begin=size - 2, end=size - 1, pad=size - 1)


def _pixels(model: Model, samples: Sequence[Sample], size: int) -> Any:
    """The shorter edge resized to `size`, the middle cut out, and CLIP's own mean and deviation."""
    square = {"height": size, "width": size}
    processor = _pretrained.image_processor(
        model, "CLIPImageProcessor", size={"shortest_edge": size}, crop_size=square
    )
    return _pretrained.pixels(processor, samples)
