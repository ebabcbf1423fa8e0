"""The builder makes what is missing and no more, and what it made says what it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import cases
from benchbox import plugins
from benchbox.build import artifacts, cache
from benchbox.build.artifacts import build_artifact
from benchbox.build.cache import Cache
from benchbox.build.keys import artifact_keys
from benchbox.machine import environment
from benchbox.measure.rounds import Ready
from benchbox.schema import wire
from benchbox.schema.asked import Case, Step
from benchbox.schema.seen import Host
from fakes import FakePass

pytest.importorskip("torch")

PLAIN = Host(frozenset({"avx2"}))
L4 = replace(PLAIN, gpu="NVIDIA L4", compute_capability="8.9", driver="580.1")
ONNX = cases.case("onnx")
INT8 = cases.case("onnx", "int8_dynamic")


def test_an_artifact_says_what_it_is(ready: Callable[[Case], Ready]) -> None:
    artifact = ready(ONNX).artifact
    assert (artifact.kind, artifact.precision, artifact.steps) == ("onnx", "fp32", (Step("onnx"),))
    assert list(artifact.files) == ["model.onnx"]
    assert artifact.sha256 == cache.hash_file(ready(ONNX).folder / "model.onnx")
    assert artifact.size_bytes == (ready(ONNX).folder / "model.onnx").stat().st_size
    assert artifact.facts["opset"] == 17
    assert artifact.facts["inputs"] == [
        {"name": "pixel_values", "dtype": "float32", "axes": ["batch", 3, 32, 32]}
    ]
    assert artifact.facts["outputs"] == [{"name": "logits", "dtype": "float32", "axes": ["batch", 10]}]
    assert {"torch", "onnx", "transformers"} <= set(artifact.packages)
    assert artifact.build_seconds > 0


def test_a_shared_prefix_is_built_once(ready: Callable[[Case], Ready], cache_folder: Path) -> None:
    plain = ready(ONNX)
    written = (plain.folder / cache.MANIFEST).stat().st_mtime_ns
    quantized = ready(INT8).artifact
    assert (plain.folder / cache.MANIFEST).stat().st_mtime_ns == written
    assert [step.word for step in quantized.steps] == ["onnx", "int8_dynamic"]
    assert (quantized.precision, quantized.facts["opset"]) == ("int8", 17)
    assert quantized.build_seconds > plain.artifact.build_seconds
    assert Cache(cache_folder).has(plain.artifact.key)


def test_a_lost_artifact_in_the_middle_of_a_path_is_not_needed(
    ready: Callable[[Case], Ready], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last step is in the cache: nothing before it is asked for."""
    ready(INT8)
    host = environment.host()
    store = Cache(own_cache)
    last = artifact_keys(INT8, host)[-1]
    shutil.copytree(ready(INT8).folder, own_cache / "entries" / last, dirs_exist_ok=True)
    shutil.rmtree(own_cache / "entries" / artifact_keys(INT8, host)[0])
    monkeypatch.setattr(artifacts, "_export", never)
    monkeypatch.setattr(artifacts, "_apply", never)
    assert build_artifact(INT8, store, host).key == last


def never(*_: Any) -> Any:
    raise AssertionError("nothing is to be built")


@pytest.mark.parametrize(
    ("depends_on", "told", "shape"),
    [
        ((), PLAIN, {"image_size": 32}),
        (("gpu", "driver"), replace(L4, compute_capability=None), {"image_size": 32}),
        (
            ("compute_capability", "shape"),
            replace(PLAIN, compute_capability="8.9"),
            {"batch": 1, "image_size": 32},
        ),
    ],
)
def test_a_pass_is_told_of_machine_and_sizes_what_its_key_holds(
    depends_on: tuple[str, ...],
    told: Host,
    shape: dict[str, int],
    own_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = FakePass(monkeypatch, DEPENDS_ON=depends_on)
    build_artifact(INT8, Cache(own_cache), L4)
    assert (fake.job.host, fake.job.shape) == (told, shape)
    assert fake.job.signature == plugins.family("vit").signature(INT8.model, INT8.shape)


@pytest.mark.parametrize(
    ("declared", "facts", "precision"),
    [
        (None, {}, "fp32"),
        ("fp16", {}, "fp16"),
        ("fp16", {"precision": "int4"}, "int4"),
        (None, {"precision": "bf16"}, "bf16"),
    ],
)
def test_a_pass_may_say_its_precision_after_the_fact(
    declared: str | None,
    facts: dict[str, Any],
    precision: str,
    own_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    FakePass(monkeypatch, facts, PRECISION=declared)
    made = artifacts.artifact_of(build_artifact(INT8, Cache(own_cache), PLAIN))
    assert made.precision == precision


def test_what_is_told_of_a_machine_comes_back_the_same() -> None:
    assert wire.decode(wire.encode(L4), Host) == L4
    assert wire.encode(L4)["cpu_features"] == ["avx2"]
