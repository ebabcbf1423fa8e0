"""Model + inputs -> Reference: what fp32 PyTorch answers, which every worker compares against.

A reference is an entry with `timing.npz` (the feeds that are timed) and `parity-<i>.npz` (feeds as
`in:<name>`, fp32 PyTorch outputs as `out:<name>`, what they were rolled out to as `roll:<name>`, `labels`
where there are any); its content says the shapes and the noise floor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from benchbox.numerics import arrays, gradient
from benchbox.plugins.contract import Module
from benchbox.schema.asked import Case
from benchbox.schema.tensors import Feeds, Forward, Outputs


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
    names = [spec.name for spec in family.signature(case.model, case.shape).outputs]
    np.savez(folder / "timing.npz", **arrays.prefixed("", next(stream(case, "timing", [case.shape])).feeds))
    shapes = parity_shapes(case, samples)
    noise_floor, told = 0.0, list[str]()
    for index, batch in enumerate(stream(case, "parity", shapes)):
        outputs, noise = _run_twice(module, names, batch.feeds)
        told += batch.samples
        noise_floor = max(noise_floor, noise)
        np.savez(
            folder / f"parity-{index}.npz",
            **arrays.prefixed("in:", batch.feeds),
            **arrays.prefixed("out:", outputs),
            **arrays.prefixed("roll:", _rolled(case, partial(_run, module, names), batch.feeds)),
            **({} if batch.labels is None else {"labels": batch.labels}),
        )
    if directions:
        first = next(stream(case, "parity", [case.shape])).feeds
        _probe(case, module, names, first, directions).save(folder / gradient.GRADIENT)
    return {
        "noise_floor": noise_floor,
        "shapes": [dict(shape) for shape in shapes],
        "samples": sum(shape["batch"] for shape in shapes),
        "notes": [*accuracy_notes(case), *sample_notes(told)],
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


def _run_twice(module: Module, names: Sequence[str], feeds: Feeds) -> tuple[Outputs, float]:
    """The outputs, and how far they move when another number of threads computes them."""
    import numpy as np
    import torch

    usual = torch.get_num_threads()
    outputs = _run(module, names, feeds)
    torch.set_num_threads(1 if usual > 1 else 2)
    other = _run(module, names, feeds)
    torch.set_num_threads(usual)
    for name, array in outputs.items():
        if not np.isfinite(array).all():
            raise StageError(f"the PyTorch reference itself gives values that are not finite in {name!r}")
    return outputs, max(_difference(outputs[name], other[name]) for name in names)


def _difference(array: Any, other: Any) -> float:
    """The largest one; of booleans and unsigned integers too, which cannot be subtracted as they are."""
    import numpy as np

    return float(np.abs(array.astype(np.float64) - other.astype(np.float64)).max(initial=0.0))


def _run(module: Module, names: Sequence[str], feeds: Feeds) -> Outputs:
    import torch

    with torch.inference_mode():
        results = module(*(torch.from_numpy(array) for array in feeds.values()))
    if len(results) != len(names):
        declared = f"{len(names)} are declared: {', '.join(names)}"
        raise StageError(f"the module returns {len(results)} outputs, and {declared}")
    return {name: tensor.numpy() for name, tensor in zip(names, results, strict=True)}
