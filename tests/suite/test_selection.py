"""Narrowing the matrix: terms that match, and terms that match nothing."""

# ruff: noqa: E501 - the messages of the tables are literals, one a line, as the user reads them

from __future__ import annotations

import pytest

from benchbox.errors import UsageError
from benchbox.suite import selection
from benchbox.suite.load import load_suite
from suite_texts import SUITES


def selected(only=(), skip=()):
    cases = load_suite(SUITES / "vit.yaml").cases
    return [case.title for case in selection.select(cases, only, skip)]


@pytest.mark.parametrize(
    ("only", "skip", "count"),
    [
        ([], [], 20),
        (["batch=1"], [], 10),
        (["batch=1", "batch=8"], [], 20),
        (["model=vit-*", "family=vit", "image_size=224"], [], 20),
        (["path=torch"], [], 4),
        (["path=*int8*"], [], 8),
        (["path=onnx+fp16"], [], 4),
        (["path=onnx + fp16", "batch=1"], [], 2),
        (["path=torch", "path=onnx"], [], 8),
        (["backend=pytorch"], [], 4),
        (["backend=pytorch(*"], [], 2),
        (["provider=cuda"], [], 8),
        (["provider=CPUExecutionProvider", "batch=8"], [], 4),
        (["fp16"], [], 4),
        (["*fp16*batch=8*"], [], 2),
        (["fp16", "int8_dynamic"], [], 8),
        ([], ["provider=CUDA*"], 12),
        ([], ["provider=cuda", "(compile=true"], 10),
        (["path=*int8*"], ["batch=8", "provider=cuda"], 2),
    ],
)
def test_terms_narrow_the_matrix(only, skip, count):
    """Terms of one field are alternatives, different fields must all match, skip takes away."""
    assert len(selected(only, skip)) == count


def test_selection_keeps_the_order_and_takes_ids():
    """An id, or its beginning, names one case."""
    cases = load_suite(SUITES / "vit.yaml").cases
    assert selection.select(cases, [f"id={cases[3].id}", f"id={cases[1].id[:8]}"], []) == (cases[1], cases[3])
    assert selection.select(cases, [cases[5].id], []) == (cases[5],)


@pytest.mark.parametrize(
    ("only", "skip", "expected"),
    [
        (["bacth=1"], [], "'bacth=1': unknown field 'bacth'. Did you mean 'batch='? Fields: backend, batch, "),
        (["batch=3"], [], "--only 'batch=3' matches no case. There is: 1, 8."),
        ([], ["path=onnx+fp61"], "--skip 'path=onnx+fp61' matches no case. There is: onnx, onnx + fp16, "),
        (["fp61"], [], "--only 'fp61' matches no case. Cases:\n  vit-base | torch | pytorch | cpu | batch=1 "),
        ([""], [], "--only '' matches no case."),
        (["path=torch"], ["backend=pytorch"], "--only and --skip together leave no case. Cases:\n  vit-base | "),
    ],
)  # fmt: skip
def test_term_that_matches_nothing_lists_what_exists(only, skip, expected):
    """A slip in a term does not quietly measure nothing, or everything."""
    with pytest.raises(UsageError) as caught:
        selected(only, skip)
    assert str(caught.value).startswith(expected)
