"""A package of somebody else's that brings a family and a pass: modules and their metadata in a folder, which
any interpreter finds that has it on its path."""

from __future__ import annotations

from pathlib import Path

FAMILY = '''"""A linear layer over the pixels: the smallest classifier."""

from benchbox.schema.tensors import Signature, TensorSpec

REQUIRES = ("torch", "safetensors")
TASKS = {"image-classification": {"image_size": 8}}


def load(model):
    import torch
    from pathlib import Path
    from safetensors.torch import load_model

    class Linear(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(192, 4)

        def forward(self, pixel_values):
            return (self.layer(pixel_values.flatten(1)),)

    torch.manual_seed(model.seed)
    module = Linear().eval()
    stored = Path(model.source) / "model.safetensors"
    if stored.is_file():
        load_model(module, stored)
    return module


def save(module, folder):
    from safetensors.torch import save_model

    save_model(module, str(folder / "model.safetensors"))


def signature(model, shape):
    side = shape["image_size"]
    return Signature(
        (TensorSpec("pixel_values", "float32", ("batch", 3, side, side)),),
        (TensorSpec("logits", "float32", ("batch", 4)),),
    )


def feeds(model, samples, shape):
    import numpy as np

    side = shape["image_size"]
    rows = [sample.image[:side, :side].transpose(2, 0, 1) for sample in samples]
    return {"pixel_values": np.stack(rows) / np.float32(255)}


def metrics(model, evidence):
    same = evidence.reference["logits"].argmax(1) == evidence.candidate["logits"].argmax(1)
    return {"top1_agreement": float(same.mean())}
'''

PASS = '''"""A copy of the graph: what a pass is, and nothing more."""

import shutil

from acme_shared import NOTE

REQUIRES = ("onnx",)
ACCEPTS = ("onnx",)
PRODUCES = "onnx"


def apply(job, folder):
    shutil.copyfile(job.source / "model.onnx", folder / "model.onnx")
    return {"note": NOTE, "output": job.signature.outputs[0].name, "sizes": dict(job.shape)}
'''

MODULES = {"acme_linear": FAMILY, "acme_copy": PASS, "acme_shared": 'NOTE = "copied"\n'}
POINTS = """
[benchbox.models]
linear = acme_linear

[benchbox.passes]
copy = acme_copy
"""


def package(folder: Path, points: str = POINTS, name: str = "acme-benchbox", **modules: str) -> Path:
    """A folder for a path, with the package in it; `modules` replace those of the same name."""
    folder.mkdir(parents=True, exist_ok=True)
    for module, source in {**MODULES, **modules}.items():
        (folder / f"{module}.py").write_text(source, encoding="utf-8")
    info = folder / f"{name.replace('-', '_')}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(points, encoding="utf-8")
    files = [str(file.relative_to(folder)) for file in sorted(folder.rglob("*.*")) if file.is_file()]
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files), encoding="utf-8")
    return folder
