"""DETR (Carion et al. 2020): object detection, a box and a class for each of its queries.

Images keep their aspect: each is scaled into (height, width) and padded on the right or below, and the input
`pixel_mask` is 1 where the image is. So height and width are dynamic axes beside the batch.

Parity of a detector. Queries have no order, so the boxes of reference and candidate are matched first, each
image's by the assignment of least cost (Hungarian) with the paper's own matching cost. Then:

* `matched_box_iou`: the mean IoU of matched boxes.
* `class_agreement`: the share of them with the same class, "no object" among the classes.
* `matched_box_agreement`: the share with an IoU of at least 0.5 and the same class, where a box counts as
  much as the reference is sure of an object. A threshold on that score would leave nothing to compare where
  weights are random or a photograph is empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchbox.errors import Unavailable
from benchbox.plugins.contract import Evidence, Module, Sample
from benchbox.plugins.models import _pretrained
from benchbox.schema.asked import Model
from benchbox.schema.tensors import Array, Feeds, Signature, TensorSpec

REQUIRES = ("torch", "transformers", "PIL", "scipy")
TASKS: Mapping[str, Mapping[str, int]] = {"object-detection": {"height": 800, "width": 1066}}

# No multiples of 32, the backbone's stride: the last row and column of its map are cut off images.
DYNAMIC: Mapping[str, tuple[int, int]] = {"height": (200, 168), "width": (264, 328)}

# The hub's configs of these names, so that random weights need no hub, on transformers' own ResNet, so that
# they need no timm: 91 classes of COCO.
_COCO = {"num_labels": 91, "use_timm_backbone": False}
_RESNET_50 = {"model_type": "resnet", "out_features": ["stage4"]}
CONFIG = "DetrConfig"
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "facebook/detr-resnet-50": {**_COCO, "backbone_config": _RESNET_50},
    "facebook/detr-resnet-101": {**_COCO, "backbone_config": {**_RESNET_50, "depths": [3, 4, 23, 3]}},
}

_INPUTS = ("pixel_values", "pixel_mask")
_OUTPUTS = ("logits", "pred_boxes")

# The paper's matching cost: probability of the class, L1 distance and generalised IoU of the boxes.
_CLASS_COST, _L1_COST, _GIOU_COST = 1.0, 5.0, 2.0
# COCO's loosest threshold for two boxes to be of the same object.
_SAME_OBJECT_IOU = 0.5
# An area of no size, so that boxes of none overlap by 0 instead of by 0 / 0.
_TINY_AREA = 1e-12

save = _pretrained.save


def load(model: Model) -> Module:
    """The module. Raises StageError where config or weights cannot be had, Unavailable without timm where
    the source's backbone is timm's."""
    import transformers

    _pretrained.quiet()
    try:
        module = _pretrained.weights(model, transformers.DetrForObjectDetection, _config(model))
    except ImportError as error:
        raise Unavailable(f"the backbone of {model.source!r} needs timm", "pip install timm") from error
    return _pretrained.adapter(module, _INPUTS, _OUTPUTS)


def signature(model: Model, shape: Mapping[str, int]) -> Signature:  # noqa: ARG001  # height and width are axes
    """`pixel_values` (batch, channels, height, width) and `pixel_mask` (batch, height, width) to `logits`
    (batch, queries, classes + 1), of which the last is "no object", and `pred_boxes` (batch, queries, 4)."""
    config = _config(model)
    return Signature(
        inputs=(
            TensorSpec("pixel_values", "float32", ("batch", config.num_channels, "height", "width")),
            TensorSpec("pixel_mask", "int64", ("batch", "height", "width")),
        ),
        outputs=(
            TensorSpec("logits", "float32", ("batch", config.num_queries, config.num_labels + 1)),
            TensorSpec("pred_boxes", "float32", ("batch", config.num_queries, 4)),
        ),
    )


def feeds(model: Model, samples: Sequence[Sample], shape: Mapping[str, int]) -> Feeds:
    """`pixel_values`: float32 of shape (len(samples), 3, height, width), zero beside the image; `pixel_mask`:
    int64 of shape (len(samples), height, width)."""
    import numpy as np

    height, width = shape["height"], shape["width"]
    processor = _pretrained.image_processor(model, "DetrImageProcessor", **_pretrained.IMAGENET)
    found = processor(
        images=_pretrained.images(samples),
        **_pretrained.LAYOUT,
        size={"max_height": height, "max_width": width},
        pad_size={"height": height, "width": width},
        return_tensors="np",
    )
    return {
        "pixel_values": np.ascontiguousarray(found["pixel_values"], dtype=np.float32),
        "pixel_mask": np.ascontiguousarray(found["pixel_mask"], dtype=np.int64),
    }


def metrics(model: Model, evidence: Evidence) -> Mapping[str, float]:  # noqa: ARG001  # the contract
    """IoU, class and agreement of the boxes of reference and candidate, matched image by image."""
    import numpy as np

    reference, candidate = evidence.reference, evidence.candidate
    images = zip(
        _probabilities(reference["logits"]),
        reference["pred_boxes"],
        _probabilities(candidate["logits"]),
        candidate["pred_boxes"],
        strict=True,
    )
    found = [_agreement(_Detections(*image[:2]), _Detections(*image[2:])) for image in images]
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


@dataclass(frozen=True)
class _Detections:
    """What is seen in one image: probabilities (queries, classes + 1), and boxes (queries, 4) as centre and
    size relative to the image."""

    probabilities: Array
    boxes: Array


def _agreement(reference: _Detections, candidate: _Detections) -> Mapping[str, float]:
    """The metrics of one image."""
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    iou, generalised = _overlaps(reference.boxes, candidate.boxes)
    rows, columns = linear_sum_assignment(_cost(reference, candidate, generalised))
    overlap = iou[rows, columns]
    same_class = reference.probabilities.argmax(axis=-1) == candidate.probabilities[columns].argmax(axis=-1)
    objectness = reference.probabilities[:, :-1].max(axis=-1)
    return {
        "matched_box_iou": float(np.mean(overlap)),
        "matched_box_agreement": float(
            np.average((overlap >= _SAME_OBJECT_IOU) & same_class, weights=objectness)
        ),
        "class_agreement": float(np.mean(same_class)),
    }


def _cost(reference: _Detections, candidate: _Detections, generalised: Array) -> Array:
    """What it costs to match each box of the reference (rows) with each of the candidate (columns)."""
    import numpy as np

    likely = candidate.probabilities[:, reference.probabilities.argmax(axis=-1)].T
    distance = np.abs(reference.boxes[:, None] - candidate.boxes[None]).sum(axis=-1)
    cost: Array = -_CLASS_COST * likely + _L1_COST * distance - _GIOU_COST * generalised
    return cost


def _overlaps(first: Array, second: Array) -> tuple[Array, Array]:
    """IoU and generalised IoU (Rezatofighi et al. 2019) of each box of the first with each of the second."""
    import numpy as np

    a, b = _corners(first)[:, None], _corners(second)[None]
    shared = _area(np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:]))
    union = _area(a[..., :2], a[..., 2:]) + _area(b[..., :2], b[..., 2:]) - shared
    hull = _area(np.minimum(a[..., :2], b[..., :2]), np.maximum(a[..., 2:], b[..., 2:]))
    iou = shared / np.maximum(union, _TINY_AREA)
    return iou, iou - (hull - union) / np.maximum(hull, _TINY_AREA)


def _corners(boxes: Array) -> Array:
    """(centre x, centre y, width, height) as (left, top, right, bottom), in double precision."""
    import numpy as np

    centre, half = np.split(boxes.astype(np.float64), 2, axis=-1)
    half = half / 2
    return np.concatenate([centre - half, centre + half], axis=-1)


def _area(top_left: Array, bottom_right: Array) -> Array:
    """The area between two corners, zero where they have changed sides."""
    import numpy as np

    area: Array = np.clip(bottom_right - top_left, 0.0, None).prod(axis=-1)
    return area


def _probabilities(logits: Array) -> Array:
    """Softmax over the last axis, in double precision."""
    import numpy as np

    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    powers = np.exp(shifted)
    shares: Array = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def _config(model: Model) -> Any:
    return _pretrained.config(model, PRESETS, CONFIG)
