"""Inputs as a model takes them: what is timed, what parity is judged on, what calibrates, what is traced."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from typing import Any

from benchbox import plugins
from benchbox.errors import StageError
from benchbox.numerics import padding
from benchbox.plugins import hub
from benchbox.plugins.contract import Module, Sample, Split
from benchbox.schema.asked import Case, Model, digest
from benchbox.schema.tensors import Feeds, TensorSpec, axis_length

Shape = Mapping[str, int]

# The batch that is traced, and the one that proves the axis dynamic. 1 is no choice for either: the
# TorchScript exporter may fold an axis of length 1 into the graph.
EXAMPLE_BATCH = 2
UNSEEN_BATCH = 3

# What an image processor of transformers makes.
_PIXELS = "pixel_values"


def parity_shapes(case: Case, samples: int) -> tuple[Shape, ...]:
    """Shapes whose batches sum up to at least `samples`: the case's own, and others that no exporter saw.

    The others are a batch of 1 with every other dynamic size at three quarters of the case's, and a batch of
    3 with them at half. With fixed axes there is only the case's own.
    """
    own = dict(case.shape)
    shapes = [own]
    if case.dynamic_axes:
        dynamic = [size for size in dynamic_sizes(case) if size != "batch"]
        for batch, quarters in ((UNSEEN_BATCH, 2), (1, 3)):
            if batch != own["batch"]:
                others = {size: max(1, -(-own[size] * quarters // 4)) for size in dynamic}
                shapes.append({**own, **others, "batch": batch})
    shapes.sort(key=lambda shape: shape["batch"], reverse=True)
    taken: list[Shape] = []
    while sum(shape["batch"] for shape in taken) < samples:
        taken += shapes
    return tuple(taken)


def no_calibration(**_asked: int) -> Iterator[Feeds]:
    """What a pass is given that does not say that it calibrates. Raises StageError."""
    raise StageError("this pass does not say CALIBRATES = True: what it calibrates with would be in no key")


def calibration_feeds(case: Case, *, samples: int, batch: int = 1) -> Iterator[Feeds]:
    """Feeds of `batch` samples each, made one at a time, from images that parity never sees.

    A graph with fixed axes takes batches of its own size alone; of samples there are then as many more.
    """
    if case.dynamic_axes:
        full, rest = divmod(samples, batch)
        batches = [batch] * full + [rest] * bool(rest)
    else:
        batches = [case.shape["batch"]] * -(-samples // case.shape["batch"])
    shapes = [{**case.shape, "batch": size} for size in batches]
    return (stored.feeds for stored in stream(case, "calibration", shapes))


@dataclass(frozen=True)
class _Batch:
    """Feeds of one shape, their labels, and of each sample what tells it from another."""

    feeds: Feeds
    labels: Any
    samples: tuple[str, ...]


def stream(case: Case, split: Split, shapes: Sequence[Shape]) -> Iterator[_Batch]:
    """A batch of each shape, made one at a time."""
    dataset = plugins.dataset(case.dataset.word)
    options = plugins.options(dataset, case.dataset.options)
    count = sum(shape["batch"] for shape in shapes)
    samples = dataset.samples(options, count=count, split=split, seed=case.model.seed)
    ids = _label_ids(case, _classes(case)) if split == "parity" else {}  # elsewhere nobody reads labels
    for shape in shapes:
        taken = list(islice(samples, shape["batch"]))
        feeds = _feeds(case, taken, shape, padded=split == "parity")
        yield _Batch(feeds, _labels(taken, ids), tuple(map(_told_by, taken)))


def _told_by(sample: Sample) -> str:
    """A hash of what a sample holds: two that are the same are one."""
    shown = b"" if sample.image is None else f"{sample.image.shape}".encode() + sample.image.tobytes()
    return hashlib.sha256(shown + b"\0" + (sample.text or "").encode(errors="replace")).hexdigest()


def sample_notes(told: Sequence[str]) -> list[str]:
    """How many samples are distinct, where they are not all: agreement on one is not agreement on twelve."""
    distinct = len(set(told))
    if distinct == len(told):
        return []
    verb = "is" if distinct == 1 else "are"
    return [f"of the {len(told)} samples {distinct} {verb} distinct: the dataset holds no more"]


def _feeds(case: Case, samples: Sequence[Sample], shape: Shape, *, padded: bool = False) -> Feeds:
    """What the family makes of the samples; `padded`: with padding in a batch of several texts."""
    family = plugins.family_of(case.model)
    signature = family.signature(case.model, shape)
    feeds = family.feeds(case.model, samples, shape)
    if padded and len(samples) > 1 and padding.has_padding(signature, feeds) is False:
        shorter = _first_cut(samples, min(feeds[i.name].shape[-1] for i in signature.inputs if i.is_mask))
        feeds = family.feeds(case.model, shorter, shape)
    if family.derive is not None:
        feeds = family.derive(case.model, loaded_module(Frozen(case.model)), feeds, shape)
    for spec in signature.inputs:
        _require_shape(case.model, spec, feeds[spec.name].shape, shape)
    return feeds


def _first_cut(samples: Sequence[Sample], length: int) -> Sequence[Sample]:
    """The samples, the text of the first one so short that padding follows it: a graph that ignores its mask
    agrees wherever every text fills the length. One with a label stays, for whole texts have labels."""
    first = samples[0]
    if first.text is None or first.label is not None or first.label_name is not None:
        return samples
    words = first.text.split()[: max(1, length // 3)]  # of about a token and a half each
    return [replace(first, text=" ".join(words)), *samples[1:]]


def _require_shape(model: Model, spec: TensorSpec, seen: Sequence[int], shape: Shape) -> None:
    """Raises StageError where an input is not of the size that the suite asks for and the report will say."""
    wanted = tuple(axis_length(axis, shape) for axis in spec.axes)
    if len(wanted) == len(seen) and all(w in (s, None) for w, s in zip(wanted, seen, strict=True)):
        return
    takes = [axis if size is None else size for axis, size in zip(spec.axes, wanted, strict=True)]
    reason = ""
    if model.weights == "pretrained" and spec.name == _PIXELS:
        reason = (
            ": so makes it the model's own image processor. Mend size or do_resize in the "
            f"{hub.PROCESSOR} of {model.source}, or change what is under inputs"
        )
    raise StageError(
        f"the input {spec.name} is {' x '.join(map(str, seen))}, "
        f"and {model.family} takes {' x '.join(map(str, takes))}{reason}"
    )


def _classes(case: Case) -> tuple[str, ...]:
    """The names of the dataset's classes, where it has some that the family could know."""
    if plugins.family_of(case.model).label_ids is None:
        return ()
    dataset = plugins.dataset(case.dataset.word)
    return dataset.classes(plugins.options(dataset, case.dataset.options))


def _label_ids(case: Case, names: tuple[str, ...]) -> Mapping[str, int]:
    """The model's index of each of the dataset's classes; empty where one of them is unknown."""
    label_ids = plugins.family_of(case.model).label_ids
    return label_ids(case.model, names) if names and label_ids is not None else {}


def accuracy_notes(case: Case) -> list[str]:
    """Why there is no accuracy, where the dataset has classes."""
    names = _classes(case)
    if not names or _label_ids(case, names):
        return []
    shown = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
    return [f"no accuracy: the classes of {case.dataset.word} ({shown}) are not the labels of the model"]


def _labels(samples: Sequence[Sample], ids: Mapping[str, int]) -> Any:
    """Class indices of shape (batch,), or None where a sample has none; `ids` are those of the names."""
    import numpy as np

    labels = [ids.get(s.label_name or "") if s.label is None else s.label for s in samples]
    return None if None in labels else np.asarray(labels, dtype=np.int64)


def dynamic_sizes(case: Case) -> Mapping[str, tuple[int, int]]:
    """The sizes that are dynamic axes: what is traced, and what proves the axis."""
    family = plugins.family_of(case.model)
    declared = {**family.DYNAMIC, **family.sizes(case.model)}
    moving = {size: pair for size, pair in declared.items() if size in case.shape and pair[0] != pair[1]}
    return {"batch": (EXAMPLE_BATCH, UNSEEN_BATCH), **moving}


def traced_shapes(case: Case) -> tuple[Shape, Shape]:
    """The shape that an exporter traces, and the one that proves the axes."""
    if not case.dynamic_axes:
        return case.shape, case.shape
    sizes = dynamic_sizes(case).items()
    traced = {**case.shape, **{name: seen for name, (seen, _) in sizes}}
    return traced, {**traced, **{name: unseen for name, (_, unseen) in sizes}}


class Frozen:
    """A model as a hashable argument, so that one module is kept for the cases that share it."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._key = digest(model)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frozen) and self._key == other._key


@cache
def loaded_module(frozen: Frozen) -> Module:
    """The model as its family loads it, once in a process."""
    return plugins.family_of(frozen.model).load(frozen.model)
