"""Small cases for tests: a two-layer ViT of hidden size 64, whose blocks take milliseconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchbox.schema.asked import Backend, Case, Dataset, MeasurePlan, Model, ParityPlan, Step, Suite, Threads

CONFIG: Mapping[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "image_size": 32,
    "patch_size": 8,
    "num_labels": 10,
}
MODEL = Model(
    name="vit-tiny",
    family="vit",
    source="google/vit-base-patch16-224",
    task="image-classification",
    config=CONFIG,
)
CPU = "CPUExecutionProvider"
NOISE = Dataset("random", {"height": 32, "width": 32})
SAMPLES = 4  # parity batches of 3 and 1 for batch 1
QUICK = MeasurePlan(
    budget_seconds=0.1,
    replicates=1,
    most_replicates=1,
    min_rounds=1,
    block_seconds=0.005,
    warm_up_seconds=0.05,
    timeout_seconds=60,
)


def case(
    *words: str | Step,
    batch: int = 1,
    options: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Case:
    """A case of the tiny model: `case("onnx", "fp16")` on ONNX Runtime, `case("torch")` on PyTorch."""
    path = tuple(Step(word) if isinstance(word, str) else word for word in words)
    on_torch = path[0].word == "torch"
    backend = Backend(
        word="pytorch" if on_torch else "onnxruntime",
        providers=("cpu",) if on_torch else (CPU,),
        threads=Threads(1),
        options=options or {},
    )
    values = {"model": MODEL, "backend": backend, "dataset": NOISE, **changes}
    values.setdefault("shape", {"batch": batch, "image_size": 32})
    return Case(path=path, **values)


def unfused(batch: int = 1, **changes: Any) -> Case:
    """The exported model once more, without graph optimisation: another case on the same artifact."""
    return case("onnx", batch=batch, options={"graph_optimization": "disable"}, **changes)


def written(**measure: float) -> dict[str, Any]:
    """A suite of the tiny model on ONNX Runtime as its file has it, in two processes a case."""
    return {
        "name": "tiny",
        "models": [{"name": MODEL.name, "family": "vit", "source": MODEL.source, "config": dict(CONFIG)}],
        "paths": ["onnx"],
        "backends": ["onnxruntime"],
        "threads": {"intra_op": 1, "inter_op": 1},
        "inputs": {"dataset": {"random": {"height": 32, "width": 32}}, "batch": 1, "image_size": 32},
        "parity": {"samples": SAMPLES},
        "measure": {"replicates": 2, "most_replicates": 2, "warm_up_seconds": 0.05, **measure},
    }


def suite(cases: Sequence[Case], plan: MeasurePlan = QUICK, samples: int = SAMPLES) -> Suite:
    """A suite of cases that were made by hand."""
    return Suite("tiny", "tiny.yaml", tuple(cases), ParityPlan(samples=samples), plan)
