"""What runtimes said of themselves, remembered: asking one loads it in a process of its own, a second of CPU.

<cache>/runtimes/<question>.json    the answer, and all that it depends on

An answer counts while all of that is as it was: the packages that the backend may look at, the interpreter,
the GPU and its driver, the programs that it looks for, and the backend's own source.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchbox import plugins
from benchbox.errors import Unavailable
from benchbox.plugins import packages
from benchbox.schema.asked import Backend, digest
from benchbox.schema.seen import Host

# Variables by which a runtime finds devices, libraries and compilers.
_VARIABLES = ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "CXX")


@dataclass(frozen=True)
class Question:
    """What a runtime is asked: its providers, and of a backend of a suite whether it can run as it is
    written."""

    word: str
    backend: Backend | None = None

    @property
    def key(self) -> str:
        """The same for the same question."""
        return digest([self.word, self.backend])


@dataclass(frozen=True)
class Answer:
    """The providers that a runtime has here, or why it cannot be used."""

    providers: tuple[str, ...] = ()
    unavailable: Unavailable | None = None


@dataclass(frozen=True)
class Answers:
    """Those that are kept in a cache; one that cannot be read, or written, is one that is not there."""

    cache: Path
    host: Host

    def find(self, question: Question) -> Answer | None:
        """What was said before, where all that it depends on is as it was."""
        try:
            kept = json.loads(self._file(question).read_text(encoding="utf-8"))
            if kept["depends_on"] != self._depends_on(question):
                return None
            no = kept["unavailable"]
            return Answer(
                tuple(map(str, kept["providers"])), Unavailable(str(no[0]), str(no[1])) if no else None
            )
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            return None

    def keep(self, question: Question, answer: Answer) -> None:
        """Remembers it. A folder that takes no file is no reason not to go on."""
        no = answer.unavailable
        content = {
            "depends_on": self._depends_on(question),
            "providers": answer.providers,
            "unavailable": [no.reason, no.hint] if no else None,
        }
        file = self._file(question)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False, encoding="utf-8") as new:
                json.dump(content, new, indent=2)
            Path(new.name).replace(file)
        except OSError:
            return

    def _file(self, question: Question) -> Path:
        return self.cache / "runtimes" / f"{question.key}.json"

    def _depends_on(self, question: Question) -> Mapping[str, Any]:
        plugin = plugins.backend(question.word)
        return {
            "source": plugins.source_digest("backends", question.word),
            "packages": packages.installed((*plugin.REQUIRES, *plugin.MAY_REQUIRE)),
            "python": [sys.executable, sys.version],
            "gpu": [self.host.gpu, self.host.driver],
            "programs": {name: shutil.which(name) for name in plugin.PROGRAMS},
            "variables": {name: os.environ.get(name) for name in _VARIABLES},
        }
