"""A small run of every kind of record, from literals: what the tests of the frame and the reports read.

ok, mismatch, skipped, failed (with stderr and with a signal), NaN in parity, no device memory, a companion
baseline, and names that would be markup if they were not escaped.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from benchbox.schema.asked import Backend, Case, Dataset, Model, Step, Threads, Tolerance
from benchbox.schema.seen import (
    Artifact,
    Block,
    Environment,
    Measurement,
    Memory,
    OutputParity,
    Parity,
    Record,
    Replicate,
)

MIB = 2**20
HOSTILE = "<script>alert(1)</script>"

VIT = Model(name="vit-base", family="vit", source="google/vit-base-patch16-224", task="image-classification")
EVIL = replace(VIT, name=f"vit{HOSTILE}", weights="pretrained")
IMAGES = Dataset("sample_images")
TORCH = Backend("pytorch", ("cpu",), Threads(2))
ORT = Backend("onnxruntime", ("CPUExecutionProvider",), Threads(2))
CUDA = Backend("onnxruntime", ("CUDAExecutionProvider",), Threads(2))
INT8 = Step("int8_dynamic", {"weight_range": 104})

ENVIRONMENT = Environment(
    cpu_model="AMD EPYC (Zen 3)",
    cpu_count=2,
    cpu_features=("avx2", "fma"),
    memory_bytes=24 * 2**30,
    kernel="6.1.0",
    python="3.11.9",
    packages={"onnxruntime": "1.31.1", "torch": "2.13.0"},
    cpu_limit=2.0,
    governor=None,
    virtualized="kvm",
    git_commit="4852abb",
    benchbox="0.1.0",
)

SUITE = {
    "name": "vit",
    "file": "suites/vit.yaml",
    "measure": {"confidence": 0.95, "margin": 0.02},
    "parity": {"tolerances": {"fp32": {"atol": 1e-4, "cosine": 0.99999}, "int8": {"cosine": 0.99}}},
}

# Relative offsets of the three processes, and of the four rounds in each: a machine that drifts.
OFFSETS = (0.0, 0.004, -0.003)
DRIFT = (0.0, 0.05, 0.09, 0.02)


def case(*path: str | Step, model: Model = VIT, backend: Backend = ORT, batch: int = 1) -> Case:
    steps = tuple(step if isinstance(step, Step) else Step(step) for step in path)
    return Case(model, steps, backend, {"batch": batch, "image_size": 224}, IMAGES)


def measurement(
    p50_ms: float,
    *,
    peak_mib: int,
    session: str = "vit/a",
    wobble: float = 0.001,
    calls: int = 5,
    offsets: tuple[float, ...] = OFFSETS,
) -> Measurement:
    """Three processes, four rounds of `calls` calls around p50_ms; the drift is the same for every case."""

    def block(number: int, offset: float, start_ns: int) -> Block:
        base = p50_ms * 1e6 * (1 + DRIFT[number % 4]) * (1 + offset)
        latencies = tuple(round(base * (1 + wobble * (i - calls // 2))) for i in range(calls))
        return Block(number, start_ns + number * 10**9, round(base * 1.1), latencies)

    def replicate(index: int) -> Replicate:
        start = index * 100 * 10**9
        return Replicate(
            index=index,
            load_seconds=0.5 + index / 10,
            settled=True,
            warm_up=(block(0, offsets[index] + 0.2, start),),
            blocks=tuple(block(number, offsets[index], start + 10**9) for number in range(4)),
            memory=Memory(40 * MIB, (peak_mib - 20) * MIB, (peak_mib + index) * MIB),
        )

    return Measurement(
        session=session,
        replicates=tuple(replicate(index) for index in range(len(offsets))),
        stopped_by="precision",
        placement={"CPUExecutionProvider": 512},
        versions={"onnxruntime": "1.31.1"},
    )


def artifact(precision: str, size_mib: float, *steps: str | Step) -> Artifact:
    return Artifact(
        key="k" * 64,
        kind="onnx",
        precision=precision,  # type: ignore[arg-type]
        steps=tuple(step if isinstance(step, Step) else Step(step) for step in steps),
        files={"model.onnx": "ab" * 32},
        size_bytes=round(size_mib * MIB),
        sha256=(precision.encode().hex() + "0" * 64)[:64],
        build_seconds=7.25,
        facts={"opset": 17},
        packages={"onnx": "1.23.2"},
    )


def parity(precision: str, cosine: float | None, *, error: float | None, passed: bool = True) -> Parity:
    seen = OutputParity("logits", {"batch": 1}, error, error, error, cosine, 40.5, 0, 0)
    unseen = replace(seen, shape={"batch": 3}, max_abs_error=error and error * 2)
    return Parity(
        passed=passed,
        precision=precision,  # type: ignore[arg-type]
        tolerance=Tolerance(cosine=0.99),
        noise_floor=1.5e-6,
        samples=12,
        outputs=(seen, unseen),
        metrics={"top1_agreement": 1.0 if passed else 0.75, "top5_agreement": 1.0},
    )


def nan_parity() -> Parity:
    broken = OutputParity("logits", {"batch": 1}, None, None, None, None, None, nan_count=4)
    reasons = ("4 values of logits are NaN",)
    return replace(parity("fp16", None, error=None, passed=False), outputs=(broken,), reasons=reasons)


def record(of: Case, outcome: str = "ok", **changes: object) -> Record:
    return Record(
        case=of,
        outcome=outcome,  # type: ignore[arg-type]
        recorded_at="2026-11-21T02:03:04+00:00",
        command=f"benchbox run suites/vit.yaml --only {of.id}",
        **changes,  # type: ignore[arg-type]
    )


RECORDS = (
    record(
        case("torch", backend=TORCH),
        is_baseline=True,
        artifact=artifact("fp32", 330.25, "torch"),
        parity=parity("fp32", 1.0, error=0.0),
        measurement=measurement(300.0, peak_mib=750),
    ),
    record(
        case("onnx"),
        artifact=artifact("fp32", 330.5, "onnx"),
        parity=parity("fp32", 0.9999999, error=2e-6),
        measurement=measurement(250.0, peak_mib=560, wobble=0.002, offsets=(0.005, 0.0, -0.004)),
    ),
    record(
        case("onnx", INT8),
        artifact=artifact("int8", 84.0, "onnx", INT8),
        parity=parity("int8", 0.9987, error=0.03),
        measurement=measurement(136.0, peak_mib=220, calls=30, offsets=(-0.004, 0.006, 0.0)),
    ),
    record(
        case("onnx", "int8_static"),
        "mismatch",
        artifact=artifact("int8", 84.5, "onnx", "int8_static"),
        parity=replace(
            parity("int8", 0.91, error=0.9, passed=False),
            reasons=("cosine 0.91 is below 0.99",),
        ),
        measurement=measurement(120.0, peak_mib=230, offsets=(0.003, 0.0, 0.002)),
        reason="cosine 0.91 is below 0.99",
    ),
    record(
        case("onnx", "fp16"),
        "mismatch",
        artifact=artifact("fp16", 165.0, "onnx", "fp16"),
        parity=nan_parity(),
        measurement=measurement(255.0, peak_mib=570),
        reason="4 values of logits are NaN",
    ),
    record(
        case("onnx", backend=CUDA),
        "skipped",
        stage="plan",
        reason="CUDAExecutionProvider is not available here",
        hint='pip install "benchbox[cuda]"',
    ),
    record(
        case("dynamo"),
        "failed",
        stage="build",
        reason=f"the builder was killed by SIGKILL {HOSTILE}",
        detail=f"Traceback (most recent call last):\n  {HOSTILE}\nMemoryError: </pre>&amp;",
        peak_memory_bytes=3 * 2**30,
    ),
    record(
        case("torch", backend=TORCH, model=EVIL, batch=8),
        is_baseline=True,
        artifact=artifact("fp32", 330.25, "torch"),
        parity=parity("fp32", 1.0, error=0.0),
        measurement=measurement(2400.0, peak_mib=950, session="vit/b"),
    ),
    record(
        case("onnx", model=EVIL, batch=8),
        artifact=artifact("fp32", 330.5, "onnx"),
        parity=parity("fp32", 0.9999999, error=2e-6),
        measurement=measurement(2376.0, peak_mib=860, session="vit/c", offsets=(0.003, 0.002, -0.001)),
        companion=measurement(2400.0, peak_mib=950, session="vit/c"),
    ),
)


def write(folder: Path, records: Sequence[Record] = RECORDS) -> Path:
    """A results folder with these records, as `store` lays it out."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(asdict(r)) for r in records]
    (folder / "records.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "environment.json").write_text(json.dumps(asdict(ENVIRONMENT)), encoding="utf-8")
    (folder / "suite.json").write_text(json.dumps(SUITE), encoding="utf-8")
    return folder
