"""Graphs in files: how they are made and run, what is in them, and the job of a pass on one."""

from __future__ import annotations

import resource
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import cases
from benchbox import plugins
from benchbox.plugins.contract import Facts, PassJob
from benchbox.schema.asked import Step
from benchbox.schema.seen import Artifact, Host
from benchbox.schema.tensors import Signature

VNNI = Host(cpu_features=frozenset({"avx2", "avx512_vnni"}))
AVX2 = Host(cpu_features=frozenset({"avx2"}))
Axes = Sequence[int | str | None]
Feeds = Mapping[str, Any]


def tiny_vit() -> Any:
    """The module of `cases.MODEL`: two layers of hidden size 64, random but always the same."""
    return plugins.load("models", "vit").load(cases.MODEL)


def pixels(batch: int, seed: int = 0) -> dict[str, Any]:
    values = np.random.default_rng(seed).standard_normal((batch, 3, 32, 32))
    return {"pixel_values": values.astype(np.float32)}


def run(folder: Path, feeds: Feeds) -> list[Any]:
    import onnxruntime

    path = str(folder / "model.onnx")
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, dict(feeds))


def cosine(a: Any, b: Any) -> float:
    """Of the sample that agrees the least."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(1) / norms).min())


def graph(
    nodes: Sequence[Any],
    inputs: Mapping[str, tuple[int, Axes]],
    outputs: Mapping[str, tuple[int, Axes | None]],
    weights: Mapping[str, Any] | Sequence[Any] = (),
    opset: int = 17,
) -> Any:
    """A model of these nodes; inputs and outputs have an element type and axes, weights are arrays."""
    from onnx import helper, numpy_helper

    if isinstance(weights, Mapping):
        weights = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    values = [
        [helper.make_tensor_value_info(name, *spec) for name, spec in specs.items()]
        for specs in (inputs, outputs)
    ]
    made = helper.make_graph(list(nodes), "graph", *values, list(weights))
    version = 8 if opset > 13 else 6
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=version)


def written(folder: Path, model: Any) -> Path:
    """The folder, which is made, with the model in it."""
    import onnx

    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(folder / "model.onnx"))
    return folder


def calibration(samples: int, batch: int) -> Iterator[dict[str, Any]]:
    for index in range(0, samples, batch):
        yield pixels(batch, seed=index)


def job(source: Path, options: Any, host: Host = VNNI, **changes: Any) -> PassJob:
    artifact = Artifact("0", "onnx", "fp32", (Step("onnx"),), {}, 0, "0", 0.0)
    signature, shape = Signature((), ()), {"image_size": 32}
    fields = {"artifact": artifact, "source": source, "calibration": calibration, **changes}
    return PassJob(options=options, host=host, signature=signature, shape=shape, **fields)


@dataclass(frozen=True, eq=False)
class Made:
    """What a pass made: its facts, and the graph in its folder."""

    folder: Path
    facts: Facts

    @cached_property
    def model(self) -> Any:
        import onnx

        return onnx.load(str(self.folder / "model.onnx"))

    @cached_property
    def weights(self) -> dict[str, Any]:
        import onnx

        return {t.name: onnx.numpy_helper.to_array(t) for t in self.model.graph.initializer}

    @property
    def quantized(self) -> dict[str, tuple[Any, Any, Any]]:
        """Matrices in 8 bits by the name of the weight, with scale and zero point."""
        return {
            name.removesuffix("_quantized"): tuple(
                self.weights[name.replace("_quantized", part)]
                for part in ("_quantized", "_scale", "_zero_point")
            )
            for name, value in self.weights.items()
            if name.endswith("_quantized") and value.ndim == 2
        }

    @property
    def largest(self) -> int:
        """The largest magnitude of a quantized weight."""
        return max(int(np.abs(q.astype(int)).max()) for q, _, _ in self.quantized.values())

    @property
    def io_types(self) -> list[int]:
        graph = self.model.graph
        return [value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)]

    @property
    def op_types(self) -> list[str]:
        return [node.op_type for node in self.model.graph.node]

    @property
    def bytes(self) -> bytes:
        return (self.folder / "model.onnx").read_bytes()

    def agrees(self, source: Path, feeds: Feeds) -> float:
        """The cosine of its first output with that of the graph it was made from."""
        return cosine(run(self.folder, feeds)[0], run(source, feeds)[0])


def applied(
    word: Any, source: Path, folder: Path, host: Host = VNNI, changes: Any = None, **options: Any
) -> Made:
    """What the pass makes of the graph in `source`; `changes` are those of its job."""
    folder.mkdir(parents=True, exist_ok=True)
    return Made(folder, word.apply(job(source, word.Options(**options), host, **(changes or {})), folder))


def peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
