"""What the threads of this process used and waited for, in nanoseconds: cheap enough to ask between calls.

The kernel keeps for every thread how long it was ready to run while another had its core
(`/proc/self/task/*/schedstat`, the second number; Documentation/scheduler/sched-stats.rst). Reading it for a
process of four threads takes 6 us, and nobody is timed meanwhile. Only the standard library: workers in
foreign interpreters ask.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from benchbox.machine import clock
from benchbox.machine.clock import Usage

_TASKS = Path("/proc/self/task")
_LINE_BYTES = 96  # three numbers of 64 bits


class Threads:
    """Reads of all threads of this process what they waited for. Files stay open between readings."""

    def __init__(self, tasks: Path = _TASKS) -> None:
        self._tasks = tasks
        self._files: dict[int, int] = {}

    def look_for_new(self) -> None:
        """Opens the files of threads that have started since, and closes those of threads that have ended."""
        here = {int(name) for name in _names(self._tasks)}
        for thread in self._files.keys() - here:
            os.close(self._files.pop(thread))
        for thread in here - self._files.keys():
            with contextlib.suppress(
                OSError
            ):  # it ended in the meantime, or the kernel keeps no such numbers
                self._files[thread] = os.open(self._tasks / str(thread) / "schedstat", os.O_RDONLY)

    def usage(self) -> Usage:
        """Up to now, of the threads that the last look found."""
        return Usage(clock.process_clock_ns(), self._waited())

    def close(self) -> None:
        """Closes the files."""
        for file in self._files.values():
            os.close(file)
        self._files = {}

    def _waited(self) -> dict[int, int] | None:
        waited = {}
        for thread, file in self._files.items():
            with contextlib.suppress(OSError, IndexError, ValueError):  # a thread that has ended says nothing
                waited[thread] = int(os.pread(file, _LINE_BYTES, 0).split()[1])
        return waited or None


def waited_between(before: Usage, after: Usage) -> int | None:
    """How long the thread that waited longest was kept from a core; None where the kernel does not tell.

    Not the sum: a call lasts as long as its slowest thread, and on a machine of many cores the sum grows with
    the threads where none of them is held up.
    """
    if before.waited_ns is None or after.waited_ns is None:
        return None
    return max((now - before.waited_ns.get(t, now) for t, now in after.waited_ns.items()), default=None)


def _names(tasks: Path) -> list[str]:
    try:
        return [path.name for path in tasks.iterdir()]
    except OSError:
        return []
