"""The fields of a suite: defaults, short forms, and fields that there are not."""

# ruff: noqa: E501 - the messages of the tables are literals, one a line, as the user reads them

from __future__ import annotations

from benchbox.schema.asked import Model
from suite_texts import changed, each_is_told_with_its_place, parsed


def test_defaults_fill_what_is_left_out():
    """Random weights, no remote code, the family's task and sizes, batch 1, the name of the source."""
    case = parsed(changed(", batch: 1", "")).cases[0]
    assert case.model == Model(
        name="vit-base-patch16-224",
        family="vit",
        source="google/vit-base-patch16-224",
        task="image-classification",
    )
    assert case.model.weights == "random"
    assert case.model.trust_remote_code is False
    assert (case.shape, case.opset, case.dynamic_axes) == ({"batch": 1, "image_size": 224}, 17, True)
    assert list(case.shape) == ["batch", "image_size"]


def test_short_forms_mean_their_long_forms():
    """A mapping for a list of one, a word for a path, a number for a list, a number for intra_op."""
    long = """\
models: [{name: vit-base-patch16-224, family: vit, source: google/vit-base-patch16-224}]
paths: [[{torch: {}}], [onnx, {fp16: }]]
backends: [{pytorch: {providers: [cpu]}}, {onnxruntime: {providers: [[CPUExecutionProvider]]}}]
inputs: {dataset: {sample_images: {}}, batch: [1], image_size: [224]}
threads: {intra_op: [2], inter_op: [1]}
parity: {}
measure: {}
"""
    assert parsed(long).cases == parsed().cases
    assert parsed(long).source == parsed().source


test_a_field_that_is_wrong_is_told_with_its_place = each_is_told_with_its_place({
    "opset 99": ("threads: 2", "opset: 99", "s.yaml:5:8: opset: 99 is out of range. Allowed: 13 to 23."),
    "opset 12": ("threads: 2", "opset: 12", "s.yaml:5:8: opset: 12 is out of range. Allowed: 13 to 23."),
    "opset text": ("threads: 2", "opset: '17'", "s.yaml:5:8: opset: should be a whole number, not '17'"),
    "unknown top field": ("threads: 2", "thread: 2", "s.yaml:5:1: thread: unknown field: 'thread'. Did you mean 'threads'? Allowed: models, paths, backends, "),
    "terminal escape in a key": ("threads: 2", '"\\e[31mred": 2', "s.yaml:5:1: \\x1b[31mred: unknown field: '\\x1b[31mred'. Allowed: "),
})  # fmt: skip
