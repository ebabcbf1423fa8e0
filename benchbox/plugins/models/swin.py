"""Swin (Liu et al. 2021): image classification by a pyramid of attention in shifted windows.

Parity of a classifier: does the candidate name the same class (top-1), and the same five classes (top-5)?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchbox.plugins.contract import Evidence, Module, Sample
from benchbox.plugins.models import _classes, _pretrained
from benchbox.schema.asked import Model
from benchbox.schema.tensors import Feeds, Signature, TensorSpec

REQUIRES = ("torch", "transformers", "PIL")
TASKS: Mapping[str, Mapping[str, int]] = {"image-classification": {"image_size": 224}}

# The hub's configs of these names, so that random weights need no hub.
_TINY = {"num_labels": 1000, "image_size": 224, "window_size": 7}
_SMALL = {**_TINY, "depths": [2, 2, 18, 2]}
_BASE = {**_SMALL, "embed_dim": 128, "num_heads": [4, 8, 16, 32]}
CONFIG = "SwinConfig"
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "microsoft/swin-tiny-patch4-window7-224": _TINY,
    "microsoft/swin-small-patch4-window7-224": _SMALL,
    "microsoft/swin-base-patch4-window7-224": _BASE,
    "microsoft/swin-base-patch4-window12-384": {**_BASE, "image_size": 384, "window_size": 12},
}

_BICUBIC = 3

save = _pretrained.save


def load(model: Model) -> Module:
    """The module with its head. Raises StageError where config or weights cannot be had."""
    import transformers

    _pretrained.quiet()
    module = _pretrained.weights(model, transformers.SwinForImageClassification, _config(model))
    return _pretrained.adapter(module, ["pixel_values"], ["logits"])


def signature(model: Model, shape: Mapping[str, int]) -> Signature:
    """`pixel_values` (batch, channels, height, width) to `logits` (batch, classes)."""
    config = _config(model)
    size = shape["image_size"]
    _pretrained.require_image_size(model, config.image_size, size)
    return Signature(
        inputs=(TensorSpec("pixel_values", "float32", ("batch", config.num_channels, size, size)),),
        outputs=(TensorSpec("logits", "float32", ("batch", config.num_labels)),),
    )


def feeds(model: Model, samples: Sequence[Sample], shape: Mapping[str, int]) -> Feeds:
    """`pixel_values`: float32 of shape (len(samples), 3, image_size, image_size)."""
    size = shape["image_size"]
    processor = _pretrained.image_processor(
        model,
        "ViTImageProcessor",
        size={"height": size, "width": size},
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
