"""What the classifiers share: agreement of the best classes, accuracy where there are labels, and which class
of a model a dataset's name stands for. numpy only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from benchbox.plugins.contract import Evidence


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


def label_ids(id2label: Mapping[int, str], names: Sequence[str]) -> Mapping[str, int]:
    """The class index of each name, as the labels of a transformers config say; empty where they do not.

    Every name has to be a label, of one class alone (two of ImageNet's are called "crane"). Where labels are
    no names (LABEL_0 ...), the classes are taken `in_order`.
    """
    counts = Counter(id2label.values())
    own = {label: index for index, label in id2label.items() if counts[label] == 1}
    if own.keys() >= set(names):
        return {name: own[name] for name in names}
    nameless = all(label == f"LABEL_{index}" for index, label in id2label.items())
    return in_order(names, len(id2label)) if nameless and own.keys().isdisjoint(names) else {}


def in_order(names: Sequence[str], classes: int) -> Mapping[str, int]:
    """The place of each name among the sorted names, which is how torchvision's ImageFolder counts.

    Empty where there are not as many as the model has `classes`, or they are numbers that count otherwise
    (1, 10, 2).
    """
    found = sorted(set(names))
    numbers = all(name.isdecimal() for name in found)
    if len(found) != classes or (numbers and found != sorted(found, key=int)):
        return {}
    return {name: index for index, name in enumerate(found)}
