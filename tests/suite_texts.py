"""A small suite as text, changed and wrong; plug-ins that do not exist."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

import places
from benchbox import plugins
from benchbox.errors import UsageError
from benchbox.schema.asked import Suite
from benchbox.suite.load import parse_suite

SUITES = places.SUITES

GOOD = """\
models: {family: vit, source: google/vit-base-patch16-224}
paths: [torch, [onnx, fp16]]
backends: [pytorch, onnxruntime]
inputs: {dataset: sample_images, batch: 1}
threads: 2
"""


def parsed(text: str = GOOD, *overrides: str) -> Suite:
    return parse_suite(text, "s.yaml", overrides)


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, f"{old!r} is in GOOD {GOOD.count(old)} times"
    return GOOD.replace(old, new)


def message(text: str, *overrides: str) -> str:
    with pytest.raises(UsageError) as caught:
        parsed(text, *overrides)
    return str(caught.value)


def each_is_told_with_its_place(wrong: Mapping[str, tuple[str, str, str]]) -> Any:
    """The test that GOOD with `old` replaced by `new` is refused with what `said` begins."""

    @pytest.mark.parametrize("name", wrong)
    def test(name: str) -> None:
        old, new, said = wrong[name]
        found = message(changed(old, new))
        assert found.startswith(said), found

    return test


def fake_plugins(monkeypatch, modules):
    """Adds modules, by kind and word, to the plug-ins that are found."""
    names, load = plugins.names, plugins.load
    monkeypatch.setattr(plugins, "names", lambda kind: tuple(sorted({*names(kind), *modules.get(kind, {})})))
    monkeypatch.setattr(
        plugins, "load", lambda kind, word: modules.get(kind, {}).get(word) or load(kind, word)
    )


@dataclass(frozen=True)
class FakeOptions:
    low: int = 1
    high: int = 2
    names: tuple[str, ...] = ("a",)
    folder: str | None = None

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("low <= high is needed")


def fake_pass(accepts, produces):
    return plugins.seen_as("passes", {"ACCEPTS": accepts, "PRODUCES": produces, "Options": FakeOptions})
