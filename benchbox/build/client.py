"""The parent's end of a builder process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchbox.build.builder import Built
from benchbox.build.cache import Cache, Entry
from benchbox.build.keys import artifact_keys, reference_key
from benchbox.errors import ChildDied, ChildTimeout, StageError
from benchbox.machine.child import Limits, Process, ask_for
from benchbox.machine.launcher import LOCAL, Launcher
from benchbox.schema.asked import Case


class Builder:
    """A builder process, started when it is first needed and again after it died; ended before measuring.

    `folder` is that of the suite. What is built is for the machine that the launcher starts processes on.
    """

    def __init__(
        self, limits: Limits, cache: Cache, folder: Path = Path(), launcher: Launcher = LOCAL
    ) -> None:
        self._limits, self._cache, self._folder = limits, cache, folder.absolute()
        self._launcher, self._host = launcher, launcher.machine.host()
        self._child: Process | None = None

    def __enter__(self) -> Builder:
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is not None:
            self._child.kill()

    def reference(self, case: Case, samples: int, directions: int = 0) -> Entry:
        """The reference's entry, from the cache or built now."""
        found = self._cache.find(reference_key(case, samples, directions, self._folder))
        return found or self._ask("reference", case, {"samples": samples, "directions": directions})

    def artifact(self, case: Case) -> Entry:
        """The artifact's entry, from the cache or built now."""
        found = self._cache.find(artifact_keys(case, self._host, self._folder)[-1])
        return found or self._ask("artifact", case, {"host": self._host})

    def _ask(self, verb: str, case: Case, content: Mapping[str, Any]) -> Entry:
        if self._child is None:
            self._child = self._launcher.builder(self._limits)
        there = self._launcher.machine.path_there
        try:
            places = {"cache": there(self._cache.folder), "folder": there(self._folder)}
            built = ask_for(Built, self._child, verb, case=case, **places, **content)
        except (ChildDied, ChildTimeout):
            self._child.kill()
            self._child = None
            raise
        entry = self._cache.find(built.key)
        if entry is None:
            raise StageError(f"what was just built is not in the cache: {built.key}")
        return entry
