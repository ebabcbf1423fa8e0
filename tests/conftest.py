"""What the tests of the core share: one cache in which the tiny model's artifacts are built once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import cases
from benchbox.build.artifacts import artifact_of
from benchbox.build.cache import Cache
from benchbox.build.client import Builder
from benchbox.machine.child import Limits
from benchbox.measure import rounds
from benchbox.schema.asked import Case

# No test asks a hub: what is not on this machine is not there. Read when transformers is first imported.
os.environ["HF_HUB_OFFLINE"] = "1"

MakeReady = Callable[[Case], rounds.Ready]


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache that tests read from; who damages one copies it (`own_cache`)."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def ready(cache_folder: Path) -> Iterator[MakeReady]:
    """Makes a case ready to be measured: its artifact and reference, built by a real builder process."""
    with Builder(Limits(timeout_seconds=300), Cache(cache_folder)) as builder:

        def make(case: Case) -> rounds.Ready:
            reference = builder.reference(case, cases.SAMPLES)
            entry = builder.artifact(case)
            return rounds.Ready(
                case=case,
                artifact=artifact_of(entry),
                folder=entry.folder,
                reference=reference.folder,
                reference_content=reference.content,
                compiled=cache_folder / "compiled",
            )

        yield make


@pytest.fixture
def own_cache(ready: MakeReady, cache_folder: Path, tmp_path: Path) -> Path:
    """A copy of the cache with the exported tiny model in it, for tests that damage or add to it."""
    ready(cases.case("onnx"))
    copy = tmp_path / "cache"
    shutil.copytree(cache_folder, copy)
    return copy
