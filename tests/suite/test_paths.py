"""`paths`: an exporter, passes that fit behind it, and no other order."""

# ruff: noqa: E501 - the messages of the tables are literals, one a line, as the user reads them

from __future__ import annotations

from benchbox import plugins
from suite_texts import GOOD, each_is_told_with_its_place, fake_pass, fake_plugins, message, parsed


def test_kind_of_artifact_is_that_of_the_last_pass(monkeypatch):
    """A pass that produces an engine needs a backend that runs engines."""
    known = {"ACCEPTS": ("engine",), "DEFAULT_PROVIDERS": ("gpu",), "KNOWN_PROVIDERS": ("gpu",)}
    backend = plugins.seen_as("backends", known)
    fake_plugins(
        monkeypatch, {"passes": {"engine": fake_pass(("onnx",), "engine")}, "backends": {"runner": backend}}
    )
    text = GOOD.replace("[onnx, fp16]", "[onnx, fp16, engine]").replace("onnxruntime", "runner")
    assert [case.title for case in parsed(text).cases][1:] == [
        "vit-base-patch16-224 | onnx + fp16 + engine | runner | gpu | batch=1 image_size=224"
    ]
    assert message(text.replace("fp16, engine", "engine, fp16")).startswith(
        "s.yaml:2:31: paths.1.2: 'fp16' cannot follow 'engine', which produces engine. It accepts: onnx."
    )


test_a_path_that_is_wrong_is_told_with_its_place = each_is_told_with_its_place({
    "unknown exporter": ("[torch,", "[toch,", "s.yaml:2:9: paths.0: unknown exporter: 'toch'. Did you mean 'torch'? Allowed: dynamo, onnx, torch."),
    "unknown pass": ("fp16", "fp61", "s.yaml:2:23: paths.1.1: unknown pass: 'fp61'. Did you mean 'fp16'? Allowed: fp16, int8_dynamic, "),
    "pass without exporter": ("[onnx, fp16]", "[fp16]", "s.yaml:2:17: paths.1.0: 'fp16' is a pass; a path begins with an exporter. Allowed: dynamo, onnx, torch."),
    "exporter in the middle": ("fp16", "dynamo", "s.yaml:2:23: paths.1.1: 'dynamo' is an exporter, which can only come first. Allowed here: "),
    "pass that does not fit": ("[torch,", "[[torch, fp16],", "s.yaml:2:17: paths.0.1: 'fp16' cannot follow 'torch', which produces torch. It accepts: onnx."),
    "empty path": ("[torch,", "[[],", "s.yaml:2:9: paths.0: is empty; a path begins with an exporter: "),
    "no paths": ("[torch, [onnx, fp16]]", "[]", "s.yaml:2:8: paths: needs at least one item"),
})  # fmt: skip
