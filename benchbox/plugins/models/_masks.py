"""What the segmenters share: how far the masks of reference and candidate agree. numpy only."""

from __future__ import annotations

from collections.abc import Mapping

from benchbox.plugins.contract import Evidence
from benchbox.schema.tensors import Array


def agreement(evidence: Evidence, output: str = "logits") -> Mapping[str, float]:
    """Mean intersection over union of the masks, and share of pixels with the same best class.

    `output` has the shape (batch, classes, height, width), and a mask is the best class of each pixel, at
    the resolution of the output. The mean of an image is over the classes that either of its masks has.
    """
    import numpy as np

    expected = evidence.reference[output].argmax(axis=1)
    seen = evidence.candidate[output].argmax(axis=1)
    classes = evidence.reference[output].shape[1]
    overlaps = [_mean_overlap(e, s, classes) for e, s in zip(expected, seen, strict=True)]
    return {
        "mask_agreement": float(np.mean(overlaps)),
        "pixel_agreement": float(np.mean(expected == seen)),
    }


def _mean_overlap(expected: Array, seen: Array, classes: int) -> float:
    """Intersection over union of each class of one image, as a mean."""
    import numpy as np

    pairs = np.bincount(expected.ravel() * classes + seen.ravel(), minlength=classes**2)
    counts = pairs.reshape(classes, classes)
    both = counts.diagonal()
    either = counts.sum(axis=0) + counts.sum(axis=1) - both
    there = either > 0
    return float(np.mean(both[there] / either[there]))
