"""The builder makes what is missing and no more, and what it made says what it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cases
from benchbox.build import artifacts, cache
from benchbox.build.artifacts import build_artifact
from benchbox.build.cache import Cache
from benchbox.build.keys import artifact_keys
from benchbox.machine import environment
from benchbox.measure.rounds import Ready
from benchbox.schema.asked import Case, Step

pytest.importorskip("torch")

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
