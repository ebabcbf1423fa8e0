"""ViT (Dosovitskiy et al. 2020): image classification, and the encoder's features.

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
TASKS: Mapping[str, Mapping[str, int]] = {
    "image-classification": {"image_size": 224},
    "image-features": {"image_size": 224},
}

# The hub's configs of these names, so that random weights need no hub.
_BASE = {"num_labels": 1000, "image_size": 224, "patch_size": 16}
_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
_SMALL = {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536}
_TINY = {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768}
CONFIG = "ViTConfig"
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "google/vit-base-patch16-224": _BASE,
    "google/vit-base-patch32-384": {**_BASE, "image_size": 384, "patch_size": 32},
    "google/vit-large-patch16-224": {**_BASE, **_LARGE},
    "WinKawaks/vit-small-patch16-224": {**_BASE, **_SMALL},
    "WinKawaks/vit-tiny-patch16-224": {**_BASE, **_TINY},
}

ATTENTION = tuple(TASKS)

_ARCHITECTURES = {"image-classification": "ViTForImageClassification", "image-features": "ViTModel"}
_OUTPUTS = {
    "image-classification": ("logits",),
    "image-features": ("last_hidden_state", "pooler_output"),
}

save = _pretrained.save


def load(model: Model) -> Module:
    """The module with its task's head. Raises StageError where config or weights cannot be had."""
    import transformers

    _pretrained.quiet()
    architecture = getattr(transformers, _ARCHITECTURES[model.task])
    outputs = _OUTPUTS[model.task]
    return _pretrained.image_module(model, architecture, _config(model), outputs, special=1)


def signature(model: Model, shape: Mapping[str, int]) -> Signature:
    """`pixel_values` (batch, channels, height, width) to logits, or to hidden states and pooled output."""
    config = _config(model)
    size = shape["image_size"]
    _pretrained.require_image_size(model, config.image_size, size)
    side = size // config.patch_size
    tokens = side**2 + 1
    heads = {
        "logits": ("batch", config.num_labels),
        "last_hidden_state": ("batch", tokens, config.hidden_size),
        "pooler_output": ("batch", config.hidden_size),
        "attention": ("batch", side, side),
    }
    outputs = [*_OUTPUTS[model.task], *(["attention"] if model.attention else [])]
    return Signature(
        inputs=(TensorSpec("pixel_values", "float32", ("batch", config.num_channels, size, size)),),
        outputs=tuple(TensorSpec(name, "float32", heads[name]) for name in outputs),
    )


def feeds(model: Model, samples: Sequence[Sample], shape: Mapping[str, int]) -> Feeds:
    """`pixel_values`: float32 of shape (len(samples), 3, image_size, image_size)."""
    size = shape["image_size"]
    processor = _pretrained.image_processor(
        model,
        "ViTImageProcessor",
        size={"height": size, "width": size},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return {"pixel_values": _pretrained.pixels(processor, samples)}


def metrics(model: Model, evidence: Evidence) -> Mapping[str, float]:
    """Top-1 and top-5 agreement, and the accuracy where there are labels."""
    return _classes.agreement(evidence) if model.task == "image-classification" else {}


def label_ids(model: Model, names: Sequence[str]) -> Mapping[str, int]:
    """The class index of each name, by the labels of the model's own config."""
    return _classes.label_ids(_config(model).id2label, names)


def _config(model: Model) -> Any:
    return _pretrained.config(model, PRESETS, CONFIG)
