"""ONNX through the TorchScript exporter (`torch.onnx.export(dynamo=False)`), at the suite's opset.

The default exporter of benchbox: at opset 17 it exports ViT, DeiT, Swin, CLIP, DETR, SegFormer, BERT,
GPT-2, T5, M2M-100, Marian, BLIP and GIT of transformers 5 with a dynamic batch, where the torch.export
exporter fails on three of them (measured with PyTorch 2.13). ViT-base takes 7 s.
"""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchbox.errors import StageError, named_line
from benchbox.plugins import graphs
from benchbox.plugins.contract import ExportJob, Facts
from benchbox.plugins.exporters import _graph, _lora

REQUIRES = ("torch", "onnx", "onnxruntime")
PRODUCES = "onnx"


@dataclass(frozen=True)
class Options:
    """`do_constant_folding` computes at export what depends on no input.

    `external_data` keeps the weights in `model.onnx.data`; above 2 GB that is always so, as a protobuf holds
    no more. `lora` says whether LoRA adapters are folded into the weights or stay nodes of the graph.
    """

    do_constant_folding: bool = True
    external_data: bool = False
    lora: Literal["merged", "attached"] = "merged"


def export(job: ExportJob, folder: Path) -> Facts:
    """Writes `model.onnx`. Raises StageError where the module cannot be exported as the signature says."""
    if job.family.graph is not None:
        return _take(job, job.family.graph(job.model), folder)
    model = _trace(job, folder)
    facts = _graph.finish(job, model, folder, external_data=job.options.external_data)
    return {"exporter": "torch.onnx.export(dynamo=False)", "requested_opset": job.opset, **facts}


def _take(job: ExportJob, model: Any, folder: Path) -> Facts:
    """A graph that is there already, under the artifact's name, with the opset and the precision it has."""
    if not job.dynamic_axes:
        _graph.fix_axes(job, model)
    facts = _graph.finish(job, model, folder, external_data=job.options.external_data)
    return {"exporter": "none: the source is a graph", **facts}


def _trace(job: ExportJob, folder: Path) -> Any:
    """The ModelProto as the exporter gives it.

    Above 2 GB the exporter leaves a file a weight beside the graph, hence the folder that goes.
    """
    import onnx
    import torch

    specs = (*job.signature.inputs, *job.signature.outputs)
    with tempfile.TemporaryDirectory(dir=folder, prefix="trace-") as scratch, warnings.catch_warnings():
        # Deprecation of this exporter, and notes on traced Python values: what they could break is verified.
        warnings.simplefilter("ignore")
        path = Path(scratch) / graphs.FILE
        try:
            torch.onnx.export(
                _lora.with_adapters(job.module, job.options.lora),
                _graph.tensors(job, job.example),
                str(path),
                dynamo=False,
                verbose=False,
                opset_version=job.opset,
                input_names=[spec.name for spec in job.signature.inputs],
                output_names=[spec.name for spec in job.signature.outputs],
                dynamic_axes={spec.name: spec.dynamic for spec in specs} if job.dynamic_axes else None,
                do_constant_folding=job.options.do_constant_folding,
            )
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise StageError(f"torch.onnx.export at opset {job.opset}: {named_line(error)}") from error
        return onnx.load(str(path))
