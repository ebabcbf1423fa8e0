"""SETR (Zheng et al. 2021): semantic segmentation by a ViT encoder and a head that scales its tokens up.

No library has it in the form of transformers, so the module is benchbox's own, on transformers' ViT. Two
heads of the paper, each a task:

* naive: a 1x1 convolution with batch norm and ReLU, the classifier, and bilinear scaling to the image's size.
* pup (progressive up-sampling): four 3x3 convolutions with batch norm and ReLU, each followed by scaling by
  two. The classifier stands before the last scaling, as in the authors' code: both are linear, and in this
  order a twelfth of the channels is scaled.

Parity of a segmenter: are the masks the same? `mask_agreement` is the mean IoU of the candidate's masks with
the reference's, `pixel_agreement` the share of pixels of the same class, at the image's resolution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from benchbox.plugins.contract import Evidence, Module, Sample
from benchbox.plugins.models import _masks, _pretrained
from benchbox.schema.asked import Model
from benchbox.schema.tensors import Feeds, Signature, TensorSpec

REQUIRES = ("torch", "transformers", "PIL")
TASKS: Mapping[str, Mapping[str, int]] = {
    "semantic-segmentation-naive": {"image_size": 768},
    "semantic-segmentation-pup": {"image_size": 768},
}

# The paper's T-Base and T-Large, with the crops that it trains on: 19 classes of Cityscapes, 150 of ADE20K.
_BASE = {"num_labels": 19, "image_size": 768, "patch_size": 16}
_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
CONFIG = "ViTConfig"
SETTINGS = ("decoder_channels",)
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "setr-base-cityscapes": _BASE,
    "setr-large-cityscapes": {**_BASE, **_LARGE},
    "setr-large-ade20k": {**_BASE, **_LARGE, "num_labels": 150, "image_size": 512},
}

# Channels between the convolutions of a head, in the authors' configs; a config may have other ones.
_CHANNELS = 256


@dataclass(frozen=True)
class _Head:
    """Convolutions before the classifier, with scaling by two between them."""

    convolutions: int
    kernel_size: int


_HEADS = {
    "semantic-segmentation-naive": _Head(convolutions=1, kernel_size=1),
    "semantic-segmentation-pup": _Head(convolutions=4, kernel_size=3),
}

save = _pretrained.save


def load(model: Model) -> Module:
    """The encoder with its task's head. Raises StageError where config or weights cannot be had."""
    _pretrained.quiet()
    module = _pretrained.weights(model, _architecture(_HEADS[model.task]), _config(model))
    return _pretrained.adapter(module, ["pixel_values"], ["logits"])


def signature(model: Model, shape: Mapping[str, int]) -> Signature:
    """`pixel_values` (batch, channels, height, width) to `logits` (batch, classes, height, width)."""
    config = _config(model)
    size = shape["image_size"]
    _pretrained.require_image_size(model, config.image_size, size)
    return Signature(
        inputs=(TensorSpec("pixel_values", "float32", ("batch", config.num_channels, size, size)),),
        outputs=(TensorSpec("logits", "float32", ("batch", config.num_labels, size, size)),),
    )


def feeds(model: Model, samples: Sequence[Sample], shape: Mapping[str, int]) -> Feeds:
    """`pixel_values`: float32 of shape (len(samples), 3, image_size, image_size)."""
    size = shape["image_size"]
    processor = _pretrained.image_processor(
        model, "ViTImageProcessor", size={"height": size, "width": size}, **_pretrained.IMAGENET
    )
    return {"pixel_values": _pretrained.pixels(processor, samples)}


def metrics(model: Model, evidence: Evidence) -> Mapping[str, float]:  # noqa: ARG001  # the contract
    """Mean IoU of the masks, and share of pixels with the same class."""
    return _masks.agreement(evidence)


def _config(model: Model) -> Any:
    """ViT's own config; `decoder_channels` in it are those of the head."""
    return _pretrained.config(model, PRESETS, CONFIG)


@cache
def _architecture(head: _Head) -> Any:
    """A class that transformers initialises, saves and loads as it does its own."""
    import torch
    from transformers.models.vit.modeling_vit import ViTModel, ViTPreTrainedModel

    class Setr(ViTPreTrainedModel):  # type: ignore[misc,no-any-unimported,unused-ignore]  # untyped here
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.vit = ViTModel(config, add_pooling_layer=False)
            self.decode_head = _decoder(head, config)
            self.post_init()

        def forward(self, pixel_values: Any) -> Mapping[str, Any]:
            tokens = self.vit(pixel_values).last_hidden_state[:, 1:]  # without the class token
            side = self.config.image_size // self.config.patch_size
            features = tokens.transpose(1, 2).reshape(-1, self.config.hidden_size, side, side)
            logits = self.decode_head(features)
            return {
                "logits": torch.nn.functional.interpolate(
                    logits, size=(self.config.image_size,) * 2, mode="bilinear", align_corners=False
                )
            }

    return Setr


def _decoder(head: _Head, config: Any) -> Module:
    """Tokens as a map (batch, hidden, side, side) to logits, up to the last scaling."""
    from torch import nn

    channels = getattr(config, "decoder_channels", _CHANNELS)
    layers: list[Any] = []
    for index in range(head.convolutions):
        if index > 0:
            layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
        layers += [
            nn.Conv2d(
                channels if index > 0 else config.hidden_size, channels, head.kernel_size, padding="same"
            ),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.Conv2d(channels, config.num_labels, kernel_size=1))
