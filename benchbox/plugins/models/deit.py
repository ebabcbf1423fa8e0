"""DeiT (Touvron et al. 2020): image classification by a ViT that learned from a teacher, with both its heads.

A class token and a distillation token, each with a head of its own; the answer of the distilled model is the
mean of both. Parity is that of a classifier, on what the model answers: the same class (top-1), and the same
five (top-5). The logits of the two heads are outputs too, as an error of one is halved in the mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchbox.plugins.contract import Evidence, Module, Sample
from benchbox.plugins.models import _classes, _pretrained
from benchbox.schema.asked import Model
from benchbox.schema.tensors import Feeds, Signature, TensorSpec

REQUIRES = ("torch", "transformers", "PIL")
TASKS: Mapping[str, Mapping[str, int]] = {
    "image-classification-distilled": {"image_size": 224},
    "image-classification": {"image_size": 224},
}
ATTENTION = tuple(TASKS)

# The hub's configs of these names, so that random weights need no hub.
_BASE = {"num_labels": 1000, "image_size": 224, "patch_size": 16}
_SMALL = {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536}
_TINY = {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768}
CONFIG = "DeiTConfig"
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "facebook/deit-base-distilled-patch16-224": _BASE,
    "facebook/deit-base-distilled-patch16-384": {**_BASE, "image_size": 384},
    "facebook/deit-small-distilled-patch16-224": {**_BASE, **_SMALL},
    "facebook/deit-tiny-distilled-patch16-224": {**_BASE, **_TINY},
}

_ARCHITECTURES = {
    "image-classification-distilled": "DeiTForImageClassificationWithTeacher",
    "image-classification": "DeiTForImageClassification",
}
_OUTPUTS = {
    "image-classification-distilled": ("logits", "cls_logits", "distillation_logits"),
    "image-classification": ("logits",),
}

# Tokens before those of the patches: class and distillation.
_SPECIAL = 2

# The hub's processors scale the image to 256 pixels and cut 224 out of the middle; other sizes likewise.
_BORDER = 256 / 224
_BICUBIC = 3

save = _pretrained.save


def load(model: Model) -> Module:
    """The module with its task's heads. Raises StageError where config or weights cannot be had."""
    import transformers

    _pretrained.quiet()
    architecture = getattr(transformers, _ARCHITECTURES[model.task])
    outputs = _OUTPUTS[model.task]
    return _pretrained.image_module(model, architecture, _config(model), outputs, special=_SPECIAL)


def signature(model: Model, shape: Mapping[str, int]) -> Signature:
    """`pixel_values` (batch, channels, height, width) to the logits (batch, classes) of each head, and where
    the class token looks, (batch, rows, columns), where the model keeps its attention."""
    config = _config(model)
    size = shape["image_size"]
    _pretrained.require_image_size(model, config.image_size, size)
    side = size // config.patch_size
    logits = [TensorSpec(name, "float32", ("batch", config.num_labels)) for name in _OUTPUTS[model.task]]
    attention = [TensorSpec("attention", "float32", ("batch", side, side))] if model.attention else []
    return Signature(
        inputs=(TensorSpec("pixel_values", "float32", ("batch", config.num_channels, size, size)),),
        outputs=(*logits, *attention),
    )


def feeds(model: Model, samples: Sequence[Sample], shape: Mapping[str, int]) -> Feeds:
    """`pixel_values`: float32 of shape (len(samples), 3, image_size, image_size), cut from the middle."""
    size = shape["image_size"]
    scaled = round(size * _BORDER)
    processor = _pretrained.image_processor(
        model,
        "DeiTImageProcessor",
        size={"height": scaled, "width": scaled},
        crop_size={"height": size, "width": size},
        resample=_BICUBIC,
        **_pretrained.IMAGENET,
    )
    return {"pixel_values": _pretrained.pixels(processor, samples)}


def metrics(model: Model, evidence: Evidence) -> Mapping[str, float]:  # noqa: ARG001  # the contract
    """Top-1 and top-5 agreement, and the accuracy where there are labels."""
    return _classes.agreement(evidence)


def label_ids(model: Model, names: Sequence[str]) -> Mapping[str, int]:
    """The class index of each name, by the labels of the model's own config."""
    return _classes.label_ids(_config(model).id2label, names)


def _config(model: Model) -> Any:
    return _pretrained.config(model, PRESETS, CONFIG)
