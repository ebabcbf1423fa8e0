"""Plug-ins of a test, in place of those that are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchbox import plugins
from benchbox.plugins.contract import PassJob


class FakePass:
    """A pass of a test, in place of every other; `job` is what it was given."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, facts: dict[str, Any] | None = None, **has: Any
    ) -> None:
        self.facts = facts or {}
        has = {"REQUIRES": (), "ACCEPTS": ("onnx",), "PRODUCES": "onnx", "apply": self.apply, **has}
        view = plugins.seen_as("passes", has)
        load = plugins.load
        monkeypatch.setattr(
            plugins, "load", lambda kind, word: view if kind == "passes" else load(kind, word)
        )
        monkeypatch.setattr(plugins, "source_digest", lambda kind, word: word)

    def apply(self, job: PassJob, folder: Path) -> dict[str, Any]:
        self.job = job
        (folder / "model.onnx").write_bytes(b"")
        return self.facts
