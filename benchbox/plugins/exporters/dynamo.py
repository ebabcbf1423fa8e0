"""ONNX through the torch.export exporter (`torch.onnx.export(dynamo=True)`).

Below opset 18 it builds at 18 and converts down, and may leave 18 where that fails: `opset` in the facts is
the one in the file. A named axis whose traced size is 1 would be taken for a constant (torch.export
specialises 0 and 1), so the larger of the two batches is traced, and the other one verifies.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from benchbox.errors import StageError, named_line
from benchbox.plugins.contract import ExportJob, Facts
from benchbox.plugins.exporters import _graph, _lora

REQUIRES = ("torch", "onnx", "onnxruntime", "onnxscript")
PRODUCES = "onnx"


@dataclass(frozen=True)
class Options:
    """`optimize` folds constants and removes what is redundant, by onnxscript's optimizer.

    `external_data` keeps the weights in `model.onnx.data`; above 2 GB that is always so, as a protobuf holds
    no more. `lora` says whether LoRA adapters are folded into the weights or stay nodes of the graph.
    """

    optimize: bool = True
    external_data: bool = False
    lora: Literal["merged", "attached"] = "merged"


def export(job: ExportJob, folder: Path) -> Facts:
    """Writes `model.onnx`. Raises StageError where the module cannot be exported as the signature says."""
    if job.family.graph is not None:
        raise StageError(f"{job.model.name} is an ONNX graph already: its path begins with onnx")
    job = _trace_larger(job)
    model = _trace(job)
    facts = _graph.finish(job, model, folder, external_data=job.options.external_data)
    return {
        "exporter": "torch.onnx.export(dynamo=True)",
        "requested_opset": job.opset,
        "optimized": job.options.optimize,
        **facts,
    }


def _trace_larger(job: ExportJob) -> ExportJob:
    """The job with `example` and `unseen` exchanged where a dynamic axis of `example` has size 1."""
    sizes = [job.example[spec.name].shape[index] for spec in job.signature.inputs for index in spec.dynamic]
    if job.dynamic_axes and 1 in sizes:
        return replace(job, example=job.unseen, unseen=job.example)
    return job


def _trace(job: ExportJob) -> Any:
    """The ModelProto as the exporter gives it; what it prints goes to stderr, as stdout is not its own."""
    import torch
    from torch.onnx.errors import OnnxExporterError

    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        # Deprecations inside torch, and the adapter being in eval mode but not its parts, as it sees them.
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                _lora.with_adapters(job.module, job.options.lora),
                _graph.tensors(job, job.example),
                dynamo=True,
                verbose=False,
                opset_version=job.opset,
                input_names=[spec.name for spec in job.signature.inputs],
                output_names=[spec.name for spec in job.signature.outputs],
                dynamic_shapes=_dynamic_shapes(job) if job.dynamic_axes else None,
                optimize=job.options.optimize,
            )
        except (OnnxExporterError, RuntimeError, ValueError, TypeError) as error:
            raise StageError(f"torch.export at opset {job.opset}: {named_line(_cause(error))}") from error
    return program.model_proto


def _cause(error: Exception) -> Exception:
    """What went wrong first: the exporter's own error only says at which of its steps."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error


def _dynamic_shapes(job: ExportJob) -> tuple[Any, ...]:
    """A dimension for each named axis, the same one wherever the name is the same.

    A sum of two (`past_length + sequence_length`) is no name: torch.export finds out what it is.
    """
    import torch

    auto, dim = torch.export.Dim.AUTO, torch.export.Dim
    names = {axis for spec in job.signature.inputs for axis in spec.dynamic.values()}
    dims = {name: dim(name) if name.isidentifier() else auto for name in sorted(names)}
    shapes = tuple(
        {index: dims[axis] for index, axis in spec.dynamic.items()} for spec in job.signature.inputs
    )
    return (shapes,) if _takes_any_number(job.module) else shapes


def _takes_any_number(module: Any) -> bool:
    """Whether `forward` is `forward(*tensors)`, for which torch.export wants the shapes one level down."""
    parameters = inspect.signature(module.forward).parameters.values()
    return any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)
