"""Model + inputs -> Reference: what fp32 PyTorch answers, which every worker compares against.

A reference is an entry with `timing.npz` (the feeds that are timed) and `parity-<i>.npz` (feeds as
`in:<name>`, fp32 PyTorch outputs as `out:<name>`, where one with padding is read as `read:<name>`, what they
were rolled out to as `roll:<name>`, `labels` where there are any); its content says the shapes and the noise
floor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchbox import plugins
from benchbox.build.cache import Cache, Entry
from benchbox.build.feeds import (
    Frozen,
    accuracy_notes,
    loaded_module,
    parity_shapes,
    sample_notes,
    stream,
)
from benchbox.build.keys import reference_key
from benchbox.errors import StageError
from benchbox.numerics import arrays, gradient, padding, parity
from benchbox.plugins.contract import Module
from benchbox.schema.asked import Case
from benchbox.schema.tensors import Array, Feeds, Forward, Outputs, Signature, TensorSpec

# A sample that moves by more than this share of its output's scale, with others beside it, was not rounded
# otherwise: the model mixes its samples, as a graph that quantizes by the range of the whole batch does. Ten
# times what an fp32 export may differ by; sums in another order measured 0 to 3e-6 on small models.
_MIXES = 1e-3
# So many samples of a batch are computed alone: what their sums' order changes is alike in all.
_ALONE = 4


def build_reference(
    case: Case, samples: int, store: Cache, directions: int = 0, folder: Path = Path()
) -> Entry:
    """The entry with feeds and fp32 PyTorch outputs, and derivatives where they are asked for."""
    key = reference_key(case, samples, directions, folder)
    return store.make(key, partial(_reference, case.located_from(folder), samples, directions))


def _reference(case: Case, samples: int, directions: int, folder: Path) -> Mapping[str, Any]:
    import numpy as np

    module = loaded_module(Frozen(case.model))
    family = plugins.family_of(case.model)
    signature = family.signature(case.model, case.shape)
    names = [spec.name for spec in signature.outputs]
    np.savez(folder / "timing.npz", **arrays.prefixed("", next(stream(case, "timing", [case.shape])).feeds))
    shapes = parity_shapes(case, samples)
    run = partial(_run, module, names)
    floor, told = Floor(), list[str]()
    for index, batch in enumerate(stream(case, "parity", shapes)):
        read = padding.read_positions(signature, batch.feeds, shapes[index])
        outputs = _finite(run(batch.feeds), read)
        once = Once(signature, batch.feeds, outputs, read)
        # Those of a shape are alike: of each, one batch is taken apart.
        floor = floor.and_of(run, once, alone=case.dynamic_axes and shapes.index(shapes[index]) == index)
        told += batch.samples
        np.savez(
            folder / f"parity-{index}.npz",
            **arrays.prefixed("in:", batch.feeds),
            **arrays.prefixed("out:", outputs),
            **arrays.prefixed("read:", read),
            **arrays.prefixed("roll:", _rolled(case, run, batch.feeds)),
            **({} if batch.labels is None else {"labels": batch.labels}),
        )
    if directions:
        first = next(stream(case, "parity", [case.shape])).feeds
        _probe(case, module, names, first, directions).save(folder / gradient.GRADIENT)
    return {
        "noise_floor": floor.error,
        "shapes": [dict(shape) for shape in shapes],
        "samples": sum(shape["batch"] for shape in shapes),
        "notes": [*accuracy_notes(case), *sample_notes(told), *floor.notes],
    }


def _probe(case: Case, module: Module, names: Sequence[str], feeds: Feeds, directions: int) -> gradient.Probe:
    """Derivatives by autograd, and the step at which central differences see them best.

    Raises StageError for a model that has no continuous input.
    """
    if not gradient.continuous(feeds):
        raise StageError("gradient_directions: this model has no continuous input to differentiate by")
    run = partial(_run, module, names)
    along = gradient.directions(feeds, directions, case.model.seed)
    weights = gradient.cotangents(run(feeds), case.model.seed)
    return gradient.Probe(
        feeds=feeds,
        directions=along,
        cotangents=weights,
        derivatives=_derivatives(module, names, feeds, along, weights),
        step=gradient.choose_step(run, feeds, along, weights),
    )


def _derivatives(
    module: Module, names: Sequence[str], feeds: Feeds, along: Sequence[gradient.Direction], weights: Outputs
) -> list[float]:
    """<grad of <w, f>, v> for each direction v, by torch's autograd, summed in float64."""
    import torch

    inputs = {name: torch.from_numpy(array) for name, array in feeds.items()}
    by = [inputs[name].requires_grad_() for name in gradient.continuous(feeds)]
    outputs = dict(zip(names, module(*inputs.values()), strict=True))
    weighed = sum((outputs[name] * torch.from_numpy(w)).sum() for name, w in weights.items())
    slopes = torch.autograd.grad(weighed, by, allow_unused=True)
    named = zip(gradient.continuous(feeds), slopes, strict=True)
    found = {name: slope.double().numpy() for name, slope in named if slope is not None}
    return [sum(float((found[n] * v[n]).sum()) for n in found) for v in along]


def _rolled(case: Case, run: Forward, feeds: Feeds) -> Outputs:
    """What comes of several runs, for a family whose task is judged by that, where axes are dynamic."""
    rollout = plugins.family_of(case.model).rollout
    return rollout(case.model, run, feeds) if rollout is not None and case.dynamic_axes else {}


@dataclass(frozen=True)
class Once:
    """What the model answered to a batch, and where it is read."""

    signature: Signature
    feeds: Feeds
    outputs: Outputs
    read: Mapping[str, Array]


@dataclass(frozen=True)
class Floor:
    """How far the outputs of one and the same model move, where they are read, by sums in another order:
    those of another number of threads, and of a sample that is alone. `mixed` is how far they move in an
    output that depends on the samples beside it, by its name: that is no noise."""

    error: float = 0.0
    mixed: Mapping[str, float] = field(default_factory=dict)

    def and_of(self, run: Forward, once: Once, *, alone: bool) -> Floor:
        """The floor that this batch has, too; `alone`: run it sample by sample as well."""
        import torch

        usual = torch.get_num_threads()
        error, mixed = self.error, dict(self.mixed)
        for threads in (usual, 1 if usual > 1 else 2):
            with _threads(threads):
                if threads != usual:
                    error = max([error, *_moved(once, run(once.feeds)).values()])
                apart = _moved_alone(run, once) if alone else {}
            for name, moved in apart.items():
                if moved > _MIXES * parity.scale(once.outputs[name].astype("float64")):
                    mixed[name] = max(moved, mixed.get(name, 0.0))
                else:
                    error = max(error, moved)
        return Floor(error, mixed)

    @property
    def notes(self) -> list[str]:
        """What to know of an output that depends on other samples."""
        return [
            f"{name} of a sample moves by {moved:.2g} with the samples beside it, which is no noise"
            for name, moved in self.mixed.items()
        ]


def _moved_alone(run: Forward, once: Once) -> dict[str, float]:
    """By how much at most outputs of samples differ that are computed alone; nothing of a batch of one."""
    inputs = {spec.name: _batch_axis(spec) for spec in once.signature.inputs}
    outputs = {spec.name: _batch_axis(spec) for spec in once.signature.outputs}
    batch = max(
        (once.feeds[name].shape[axis] for name, axis in inputs.items() if axis is not None), default=1
    )
    found: dict[str, float] = {}
    for row in range(min(batch, _ALONE) if batch > 1 else 0):
        of_row = replace(
            once,
            feeds=_row(once.feeds, inputs, row),
            outputs=_row(once.outputs, outputs, row),
            read=_row(once.read, outputs, row),
        )
        answers = run(of_row.feeds)
        # How many a detector finds may depend on the batch: what is of another shape is another answer.
        alike = {
            name: array
            for name, array in answers.items()
            if outputs[name] is not None and array.shape == of_row.outputs[name].shape
        }
        moved = _moved(of_row, alike)
        found |= {name: max(most, found.get(name, 0.0)) for name, most in moved.items()}
    return found


def _row(arrays: Mapping[str, Array], axes: Mapping[str, int | None], row: int) -> dict[str, Array]:
    """A batch of the one sample; what has no batch axis as it is."""
    return {
        name: array if axes[name] is None else array.take([row], axis=axes[name])
        for name, array in arrays.items()
    }


def _batch_axis(spec: TensorSpec) -> int | None:
    return spec.axes.index("batch") if "batch" in spec.axes else None


def _moved(once: Once, outputs: Outputs) -> dict[str, float]:
    """By how much at most each of the outputs differs where it is read."""
    return {
        name: _difference(once.outputs[name], array, once.read.get(name)) for name, array in outputs.items()
    }


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Torch with so many threads, and afterwards with as many as before."""
    import torch

    usual = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(usual)


def _finite(outputs: Outputs, read: Mapping[str, Array]) -> Outputs:
    """The outputs. Raises StageError where what is read of them is not finite."""
    for name, array in outputs.items():
        if not parity.is_finite(array, read.get(name)):
            raise StageError(f"the PyTorch reference itself gives values that are not finite in {name!r}")
    return outputs


def _difference(array: Array, other: Array, read: Array | None) -> float:
    """The largest one, where it is read; of booleans and unsigned integers too, which cannot be subtracted as
    they are."""
    import numpy as np

    moved = np.abs(array.astype(np.float64) - other.astype(np.float64))
    where = True if read is None else np.broadcast_to(read, moved.shape)
    return float(moved.max(initial=0.0, where=where))


def _run(module: Module, names: Sequence[str], feeds: Feeds) -> Outputs:
    import torch

    with torch.inference_mode():
        results = module(*(torch.from_numpy(array) for array in feeds.values()))
    if len(results) != len(names):
        declared = f"{len(names)} are declared: {', '.join(names)}"
        raise StageError(f"the module returns {len(results)} outputs, and {declared}")
    return {name: tensor.numpy() for name, tensor in zip(names, results, strict=True)}
