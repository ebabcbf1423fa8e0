"""The parent's end of a builder process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchbox.build.cache import Cache, Entry
from benchbox.build.keys import artifact_keys, reference_key
from benchbox.errors import ChildDied, ChildTimeout, StageError
from benchbox.machine.child import Child, Limits
from benchbox.schema.asked import Case
from benchbox.schema.seen import Host


class Builder:
    """A builder process, started when it is first needed and again after it died; ended before measuring.

    `folder` is that of the suite.
    """

    def __init__(self, limits: Limits, cache: Cache, host: Host, folder: Path = Path()) -> None:
        self._limits, self._cache, self._host, self._folder = limits, cache, host, folder.absolute()
        self._child: Child | None = None

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
        return found or self._ask("artifact", case, {"host": self._host.plain()})

    def _ask(self, verb: str, case: Case, content: Mapping[str, Any]) -> Entry:
        if self._child is None:
            self._child = Child("benchbox.build.builder", self._limits)
        try:
            cache, folder = str(self._cache.folder.absolute()), str(self._folder)
            answer = self._child.ask(verb, case=asdict(case), cache=cache, folder=folder, **content)
        except (ChildDied, ChildTimeout):
            self._child.kill()
            self._child = None
            raise
        entry = self._cache.find(answer["key"])
        if entry is None:
            raise StageError(f"what was just built is not in the cache: {answer['key']}")
        return entry
