"""SegFormer (Xie et al. 2021): semantic segmentation by a pyramid of transformers and a linear head.

Parity of a segmenter: are the masks the same? `mask_agreement` is the mean IoU of the candidate's masks with
the reference's, `pixel_agreement` the share of pixels of the same class. Masks are compared where the model
makes them, at a quarter of the image's resolution: scaling them up is not the model's work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchbox.plugins.contract import Evidence, Module, Sample
from benchbox.plugins.models import _masks, _pretrained
from benchbox.schema.asked import Model
from benchbox.schema.tensors import Feeds, Signature, TensorSpec

REQUIRES = ("torch", "transformers", "PIL")
TASKS: Mapping[str, Mapping[str, int]] = {"semantic-segmentation": {"image_size": 512}}

# The hub's configs of these names, so that random weights need no hub. ADE20K has 150 classes, Cityscapes 19.
_B0 = {"num_labels": 150}
_WIDE = {"hidden_sizes": [64, 128, 320, 512], "decoder_hidden_size": 768}
_B5 = {**_WIDE, "depths": [3, 6, 40, 3]}
CONFIG = "SegformerConfig"
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "nvidia/segformer-b0-finetuned-ade-512-512": _B0,
    "nvidia/segformer-b2-finetuned-ade-512-512": {**_B0, **_WIDE, "depths": [3, 4, 6, 3]},
    "nvidia/segformer-b5-finetuned-ade-640-640": {**_B0, **_B5},
    "nvidia/segformer-b5-finetuned-cityscapes-1024-1024": {**_B5, "num_labels": 19},
}

save = _pretrained.save


def load(model: Model) -> Module:
    """The module with its head. Raises StageError where config or weights cannot be had."""
    import transformers

    _pretrained.quiet()
    module = _pretrained.weights(model, transformers.SegformerForSemanticSegmentation, _config(model))
    return _pretrained.adapter(module, ["pixel_values"], ["logits"])


def signature(model: Model, shape: Mapping[str, int]) -> Signature:
    """`pixel_values` (batch, channels, height, width) to `logits` (batch, classes, height / 4, width / 4).

    The model takes images of any size: it has no position embeddings.
    """
    config = _config(model)
    size = shape["image_size"]
    side = -(-size // config.strides[0])
    return Signature(
        inputs=(TensorSpec("pixel_values", "float32", ("batch", config.num_channels, size, size)),),
        outputs=(TensorSpec("logits", "float32", ("batch", config.num_labels, side, side)),),
    )


def feeds(model: Model, samples: Sequence[Sample], shape: Mapping[str, int]) -> Feeds:
    """`pixel_values`: float32 of shape (len(samples), 3, image_size, image_size).

    The suite's size, also where the model's own processor was saved with another one.
    """
    square = {"height": shape["image_size"], "width": shape["image_size"]}
    processor = _pretrained.image_processor(model, "SegformerImageProcessor", **_pretrained.IMAGENET)
    return {"pixel_values": _pretrained.pixels(processor, samples, size=square)}


def metrics(model: Model, evidence: Evidence) -> Mapping[str, float]:  # noqa: ARG001  # the contract
    """Mean IoU of the masks, and share of pixels with the same class."""
    return _masks.agreement(evidence)


def _config(model: Model) -> Any:
    return _pretrained.config(model, PRESETS, CONFIG)
