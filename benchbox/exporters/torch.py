"""The module itself, unexported: config and safetensors.

The PyTorch backend loads it back through the family, so that what is measured as `[torch]` is what a user
of the model's own library would load.
"""

from __future__ import annotations

from pathlib import Path

from benchbox.contract import ExportJob, Facts

REQUIRES = ("torch", "transformers", "safetensors")
PRODUCES = "torch"


def export(job: ExportJob, folder: Path) -> Facts:
    """Saves the module through its family. Facts: parameters, their types, and buffers, by count."""
    job.family.save(job.module, folder)
    parameters = list(job.module.parameters())
    return {
        "exporter": "torch",
        "parameters": sum(p.numel() for p in parameters),
        "buffers": sum(b.numel() for b in job.module.buffers()),
        "dtypes": sorted({str(p.dtype).removeprefix("torch.") for p in parameters}),
    }
