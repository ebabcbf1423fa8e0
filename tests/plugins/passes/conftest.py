"""The tiny ViT exported, and what passes make of it: each pass with the same options once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import cases
from onnx_files import VNNI, Made, applied

Make = Callable[..., Made]


@pytest.fixture(scope="session")
def source(ready: Callable[[Any], Any]) -> Path:
    """A two-layer ViT of hidden size 64, exported at opset 17 with a dynamic batch."""
    for package in ("onnx", "onnxruntime", "onnxconverter_common"):
        pytest.importorskip(package)
    return ready(cases.case("onnx")).folder


@pytest.fixture(scope="session")
def make(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """`make(int8_dynamic, host, weight_range=104)`: the tiny ViT after that pass."""

    @cache
    def made(word: Any, host: Any = VNNI, **options: Any) -> Made:
        return applied(word, source, tmp_path_factory.mktemp("made"), host, **options)

    return made
