"""The module itself, unexported: config and safetensors.

The PyTorch backend loads it back through the family, so that what is measured as `[torch]` is what a user
of the model's own library would load.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchbox.plugins.contract import ExportJob, Facts
from benchbox.plugins.exporters import _lora
from benchbox.schema.asked import PRECISION_OF_DTYPE

REQUIRES = ("torch", "transformers", "safetensors")
PRODUCES = "torch"


@dataclass(frozen=True)
class Options:
    """`lora: merged` folds LoRA adapters into the weights; by default they stay attached."""

    lora: Literal["merged", "attached"] = "attached"


def export(job: ExportJob, folder: Path) -> Facts:
    """Saves the module through its family. Facts: parameters, their types, and buffers, by count."""
    module = _lora.with_adapters(job.module, job.options.lora)
    job.family.save(module, folder)
    parameters = list(module.parameters())
    dtypes = sorted({str(p.dtype).removeprefix("torch.") for p in parameters})
    halves = [word for dtype, word in PRECISION_OF_DTYPE.items() if dtype in dtypes and word != "fp32"]
    return {
        "exporter": "torch",
        "parameters": sum(p.numel() for p in parameters),
        "buffers": sum(b.numel() for b in module.buffers()),
        "dtypes": dtypes,
        **({"precision": halves[0]} if halves else {}),
        **_lora.adapters(job.module),
    }
