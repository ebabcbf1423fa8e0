"""A user's own .onnx file (`source: ./model.onnx`): every pass and ONNX backend works on it.

The reference is the file itself, in ONNX Runtime on the CPU with no graph optimisation, so parity is
numeric: how far an output moves when the file is optimised, cast, quantized, or run elsewhere.

    - family: onnx_file
      source: ./model.onnx
      config:
        sizes: {sequence: [16, 11]}           # a dynamic axis of the file: its default, and another size
        ranges: {input_ids: [0, 29999]}       # lowest and highest value; whole numbers need one
        masks: [mask]                         # 0 behind a text; what is called ..attention_mask needs no word
        batch: N                              # which axis is the batch, where it is not an input's first one
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from benchbox.errors import StageError
from benchbox.plugins import graphs
from benchbox.plugins.contract import Evidence, Module, Sample
from benchbox.plugins.models import _declared, _onnx
from benchbox.schema.asked import Model, Weights
from benchbox.schema.tensors import Feeds, Signature, TensorSpec, axis_parts

REQUIRES = ("torch", "onnx", "onnxruntime", "PIL")
TASKS: Mapping[str, Mapping[str, int]] = {"inference": {}}
WEIGHTS: Weights = "pretrained"

_CONFIG = ("sizes", "ranges", "masks", "batch")


def sizes(model: Model) -> Mapping[str, tuple[int, int]]:
    """`config: {sizes: ...}`. Raises ValueError for what is wrong in the config."""
    _declared.known(model.config, _CONFIG, "setting of an ONNX file")
    _ranges(model)
    _masks(model)
    if not isinstance(model.config.get("batch", ""), str):
        raise ValueError("batch should be the name of an axis of the file")
    return _declared.sizes(model.config.get("sizes", {}))


def fingerprint(model: Model) -> str:
    """A hash of the file and of its external data."""
    return _onnx.fingerprint(Path(model.source))


def load(model: Model) -> Module:
    """A module whose `forward` runs the file as it is. Raises StageError where the file is not fit to run."""
    if model.weights == "random":
        raise StageError(f"{model.name} is a file with the weights that it has: write weights: pretrained")
    if model.lora:
        raise StageError(f"{model.name} is an ONNX graph: LoRA adapters are attached before the export")
    return _module(Path(model.source), signature(model, {}))


def save(module: Module, folder: Path) -> None:  # noqa: ARG001  # the contract's form
    """Raises StageError: there is no torch module to save."""
    raise StageError("an ONNX file is no torch module: take a path that begins with onnx")


def graph(model: Model) -> Any:
    """The ModelProto with all weights, its axes named as in the signature."""
    file = Path(model.source)
    return _onnx.with_weights(
        _onnx.prepared(file, model.config.get("batch"), model.config.get("sizes", ())), file
    )


def signature(model: Model, shape: Mapping[str, int]) -> Signature:  # noqa: ARG001  # the contract's form
    """What the graph says. Its batch axis is called `batch`; nameless axes are called `<tensor>_dim_<i>`."""
    file = Path(model.source)
    modified_ns = file.stat().st_mtime_ns if file.is_file() else 0
    declared = frozenset(model.config.get("sizes", ()))
    found = _signature(file, model.config.get("batch"), declared, modified_ns)
    _require_declared(model, found)
    masks = _masks(model)
    inputs = (replace(spec, mask=True) if spec.name in masks else spec for spec in found.inputs)
    return replace(found, inputs=tuple(inputs))


def feeds(model: Model, samples: Sequence[Sample], shape: Mapping[str, int]) -> Feeds:
    """Pictures in 0..1 where the input looks like a batch of them, else numbers drawn from its range."""
    specs = signature(model, shape).inputs
    if not any("batch" in spec.axes for spec in specs):
        specs = _with_fixed_batch(model, specs, len(samples))
    return _declared.draw(specs, _ranges(model), samples, shape)


def metrics(model: Model, evidence: Evidence) -> Mapping[str, float]:  # noqa: ARG001  # the contract's form
    """None: nobody knows what the outputs mean."""
    return {}


def _ranges(model: Model) -> dict[str, _declared.Range]:
    declared = model.config.get("ranges", {})
    if not isinstance(declared, dict):
        raise ValueError(f"ranges should be a mapping such as {{input_ids: [0, 29999]}}, not {declared!r}")
    return {str(name): _declared.interval(str(name), value) for name, value in declared.items()}


def _masks(model: Model) -> Sequence[str]:
    masks = model.config.get("masks", [])
    if not isinstance(masks, list) or not all(isinstance(name, str) for name in masks):
        raise ValueError(f"masks should be names of inputs, such as [input_mask], not {masks!r}")
    return masks


@cache
def _signature(file: Path, batch: str | None, sizes: frozenset[str], _modified_ns: int) -> Signature:
    graph = _onnx.prepared(file, batch, sizes).graph
    found = Signature(tuple(map(_onnx.tensor, graph.input)), tuple(map(_onnx.tensor, graph.output)))
    if not found.outputs:
        raise StageError(f"{file.name} has no outputs, so there is nothing to compare")
    for spec in (*found.inputs, *found.outputs):
        if spec.dtype not in _declared.DTYPES:
            raise StageError(
                f"{spec.name} of {file.name} is {spec.dtype}; what can be compared is "
                f"{', '.join(_declared.DTYPES)}"
            )
    return found


def _require_declared(model: Model, found: Signature) -> None:
    """What the config speaks of is in the file. Raises StageError."""
    named = {part for spec in found.inputs for axis in spec.axes for part in axis_parts(axis)}
    for what, given, known in (
        ("axis", model.config.get("sizes", {}), named - {"batch"}),
        ("input", model.config.get("ranges", {}), {spec.name for spec in found.inputs}),
        ("input of two axes", _masks(model), {spec.name for spec in found.inputs if len(spec.axes) == 2}),
    ):
        for name in given:
            if name not in known:
                there = ", ".join(sorted(known)) or "none"
                raise StageError(f"{Path(model.source).name} has no {what} called {name!r}; it has: {there}")


def _with_fixed_batch(model: Model, specs: Sequence[TensorSpec], batch: int) -> tuple[TensorSpec, ...]:
    """The inputs of a file without a dynamic batch, the fixed size of whose first axis is the batch."""
    first = [spec.axes[0] for spec in specs if spec.axes]
    only = next((axis for axis in first if isinstance(axis, int)), 1 if not first else None)
    if only is None:
        raise StageError(
            f"{model.name} has no axis left that is the batch: leave {first[0]} out of sizes, or write "
            f"config: {{batch: {first[0]}}} under the model"
        )
    if batch != only:
        raise StageError(
            f"{model.name} takes a batch of {only} and no other: write dynamic_axes: false, and batch: "
            f"{only} under inputs (or, where a dynamic axis is the batch, config: {{batch: its name}})"
        )
    return tuple(replace(s, axes=("batch", *s.axes[1:])) if s.axes[:1] == (only,) else s for s in specs)


def _module(file: Path, signature: Signature) -> Module:
    """The file as a torch module, with a session for each number of threads that torch is set to: then the
    noise floor, what other thread counts change, is the file's own."""
    import numpy as np
    import torch

    inputs = [spec.name for spec in signature.inputs]
    outputs = [spec.name for spec in signature.outputs]
    session = cache(lambda threads: graphs.session(file, threads=threads, optimized=False))
    with graphs.refused(f"ONNX Runtime does not take {file.name}"):
        session(torch.get_num_threads())

    class OnnxFile(torch.nn.Module):  # type: ignore[misc,name-defined,unused-ignore]  # torch is untyped here
        def forward(self, *tensors: Any) -> tuple[Any, ...]:
            if any(tensor.requires_grad for tensor in tensors):
                raise StageError(
                    "gradient_directions: a graph that is a file has no derivatives to compare with"
                )
            given = dict(zip(inputs, (tensor.numpy() for tensor in tensors), strict=True))
            results = session(torch.get_num_threads()).run(outputs, given)
            return tuple(torch.from_numpy(np.asarray(result, order="C")) for result in results)

    return OnnxFile().eval()
