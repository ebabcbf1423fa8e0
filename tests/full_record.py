"""A record with something in every field, and the machine and the time it is of."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import cases
from benchbox.schema.asked import Step, Tolerance
from benchbox.schema.seen import (
    Artifact,
    Block,
    Environment,
    Measurement,
    Memory,
    Noise,
    OutputParity,
    Padding,
    Parity,
    Record,
    Replicate,
)

NOW = datetime(2026, 11, 21, 2, 3, 4, tzinfo=UTC)
HERE = Environment(
    cpu_model="AMD EPYC",
    cpu_count=2,
    cpu_features=("avx2",),
    memory_bytes=2**34,
    kernel="6.1",
    python="3.11.2",
    packages={"numpy": "2.4.6"},
)
BLOCK = Block(
    round=1,
    started_ns=10**18 + 1,
    first_ns=7,
    latencies_ns=(5, 6),
    noise=Noise(0.01, 3, None, 2400.5, 0),
    disturbed="steal",
)
FULL = Record(
    case=cases.case("onnx", Step("int8_static", {"samples": 4, "op_types": ["MatMul"]}), batch=3),
    outcome="mismatch",
    recorded_at="2026-11-21T02:03:04+00:00",
    command="benchbox run tiny.yaml --only id=0123",
    is_baseline=True,
    stage="verify",
    reason="cosine 0.9 < 0.99 \u2028 µ",
    hint='pip install "x"',
    detail="Traceback\n  line",
    artifact=Artifact(
        key="k",
        kind="onnx",
        precision="int8",
        steps=(Step("onnx"), Step("int8_static", {"samples": 4})),
        files={"model.onnx": "ab"},
        size_bytes=3,
        sha256="ab",
        build_seconds=1.5,
        facts={"opset": 17, "nested": {"list": [1, None, "x"]}},
        packages={"onnx": "1.23.2"},
    ),
    parity=Parity(
        passed=False,
        precision="int8",
        tolerance=Tolerance(cosine=0.99, metrics={"top1_agreement": 1.0}),
        noise_floor=1e-7,
        samples=4,
        outputs=(
            OutputParity(
                "logits",
                {"batch": 3},
                0.5,
                0.25,
                None,
                0.9,
                None,
                1,
                2,
                1.5,
                0.125,
                Padding(0.25, 4.0, None, -3.0, 1, 2),
            ),
        ),
        metrics={"top1_agreement": 0.75},
        reasons=("cosine 0.9 < 0.99",),
    ),
    measurement=Measurement(
        session="s",
        replicates=(Replicate(0, 0.25, True, (BLOCK,), (BLOCK, replace(BLOCK, round=2)), Memory(1, 2, 3)),),
        stopped_by="precision",
        placement={"CPUExecutionProvider": 48},
        versions={"onnxruntime": "1.31.1"},
    ),
    peak_memory_bytes=2**40,
)
