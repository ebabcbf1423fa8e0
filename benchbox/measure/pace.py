"""How fast the machine is now, over the best that it was: what the canary's songs say."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from benchbox.errors import CaseError
from benchbox.machine.child import Limits, Process, ask_for
from benchbox.machine.launcher import Launcher
from benchbox.measure.answers import Song

# The best is a quartile of all readings, because the least of many is luck; so many are taken before the
# first block.
_QUARTER = 4
_LEAST_KNOWN = 8


class Pace:
    """Hears the canary through a whole run, in one process.

    Without a canary (its process cannot be started, or has died) nobody knows the pace, and all else goes on.
    """

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._process: Process | None = None
        self._silent = False
        self._cores_ns: list[int] = []
        self._memory_ns: list[int] = []

    def __enter__(self) -> Pace:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process = None

    def heard(self) -> float | None:
        """How long the canary takes now, over what it takes at its best: 1.3 is a machine that is slower by a
        third.

        None where somebody had one of its cores meanwhile: then the blocks beside it tell of that.
        """
        while len(self._cores_ns) < _LEAST_KNOWN and not self._silent:
            if self._sing() is None:
                break
        song = self._sing()
        if song is None or song.cores_ns is None or song.memory_ns is None:
            return None
        return max(song.cores_ns / _best(self._cores_ns), song.memory_ns / _best(self._memory_ns))

    def _sing(self) -> Song | None:
        if self._silent:
            return None
        try:
            if self._process is None:
                self._process = self._launcher.worker(Limits())
            song = ask_for(Song, self._process, "canary", threads=self._launcher.machine.usable_cores())
        except CaseError:
            self._silent = True
            return None
        if song.cores_ns is not None and song.memory_ns is not None:
            self._cores_ns.append(song.cores_ns)
            self._memory_ns.append(song.memory_ns)
        return song


def _best(values: Sequence[int]) -> int:
    return sorted(values)[len(values) // _QUARTER]
