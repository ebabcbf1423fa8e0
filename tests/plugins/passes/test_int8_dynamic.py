"""int8_dynamic: what shape inference that fails leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchbox.plugins.passes import int8_dynamic
from onnx_files import applied

pytest.importorskip("onnxruntime")


def fail(*_: Any, **__: Any) -> None:
    raise Exception("Incomplete symbolic shape inference")


def stay_incomplete(self: Any, *_: Any, **__: Any) -> bool:
    self.run_ = False
    return False


@pytest.mark.parametrize(("method", "instead"), [("infer_shapes", fail), ("_infer_impl", stay_incomplete)])
def test_shapes_are_inferred_without_symbols_where_symbolic_inference_fails(
    source: Path, tmp_path: Path, method: str, instead: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime writes the whole model into the working directory then, as sym_shape_infer_temp.onnx; Swin
    and DETR have it so."""
    from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(SymbolicShapeInference, method, instead)
    made = applied(int8_dynamic, source, tmp_path / "out")
    assert made.facts["shape_inference"] == (
        "without symbolic shapes, which failed: Exception: Incomplete symbolic shape inference"
    )
    assert made.facts["nodes_quantized"] == {"MatMul": 13}
    assert list(here.iterdir()) == []
