"""What the classifiers share: agreement of the best classes, and accuracy where there are labels. numpy
only."""

from __future__ import annotations

from collections.abc import Mapping

from benchbox.contract import Evidence


def agreement(evidence: Evidence, output: str = "logits") -> Mapping[str, float]:
    """Share of samples with the same best class, and mean share of common classes among the best five.

    `output` has the shape (batch, classes). Labels add the accuracy of candidate and reference.
    """
    import numpy as np

    expected = np.argsort(-evidence.reference[output], axis=-1, kind="stable")
    seen = np.argsort(-evidence.candidate[output], axis=-1, kind="stable")
    five = min(5, expected.shape[-1])
    common = [len(set(e[:five]) & set(s[:five])) / five for e, s in zip(expected, seen, strict=True)]
    found = {
        "top1_agreement": float(np.mean(expected[:, 0] == seen[:, 0])),
        "top5_agreement": float(np.mean(common)),
    }
    if evidence.labels is not None:
        found["accuracy"] = float(np.mean(seen[:, 0] == evidence.labels))
        found["reference_accuracy"] = float(np.mean(expected[:, 0] == evidence.labels))
    return found
