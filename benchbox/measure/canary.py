"""A known piece of work, timed beside every block: whether the machine itself is as fast as it can be.

On virtual machines whole minutes are slower, by 1.25 to 1.6 and by factors that differ between runtimes,
while no counter of the kernel shows anything: a neighbour on the same chip takes cache and memory from all
guests. Only work that is always the same can show it, and it must go through memory: a product that stays in
the cache ran at full speed all the while.

The canary sings in a process of its own, which has loaded no runtime, so that neither its arrays nor its
threads are in anybody's numbers. Each of its threads is pinned to a core and works on arrays of its own;
nothing is allocated while it sings.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchbox.machine import clock
from benchbox.machine.child import Message
from benchbox.measure.answers import Song
from benchbox.numerics.calm import WAITED_MOST

# In the cache of a core: 128 KiB, 2 ms of exponentials. Through memory: 48 MiB a thread, more than any core's
# share of a last-level cache, 4 ms at 12 GB/s; and 64 thousand reads here and there, 1 ms.
_CORE_FLOATS, _CORE_PASSES = 1 << 14, 160
_MEMORY_FLOATS = 1 << 22
_READS = 1 << 16
# Of so many songs the best counts: a thread that lost its core for a moment says nothing of the machine.
_SONGS = 2
_MOST_THREADS = 8
# Of a part, how much later than the others a thread may begin.
_LATE = 0.1


def sing(message: Message) -> Song:
    """A worker's answer to `canary`: the work on `threads` threads, the first of which this process can
    use."""
    return _canary(message["threads"]).sing()


class Canary:
    """Threads that are pinned, with their arrays."""

    def __init__(self, threads: int) -> None:
        cores = sorted(os.sched_getaffinity(0))[: min(threads, _MOST_THREADS)]
        self._threads = [ThreadPoolExecutor(1, initializer=_pin, initargs=(core,)) for core in cores]
        self._barrier = threading.Barrier(len(cores))
        self._voices = [_Voice(index) for index in range(len(cores))]

    def sing(self) -> Song:
        """The best of a few songs, each part by itself."""
        songs = [self._once() for _ in range(_SONGS)]
        return Song(_least(song.cores_ns for song in songs), _least(song.memory_ns for song in songs))

    def _once(self) -> Song:
        parts = [
            thread.submit(voice.sing, self._barrier)
            for thread, voice in zip(self._threads, self._voices, strict=True)
        ]
        found = [part.result() for part in parts]
        return Song(*(_together([each[number] for each in found]) for number in (0, 1)))


class _Voice:
    """What one thread works on."""

    def __init__(self, index: int) -> None:
        random = np.random.default_rng(index)
        self._small = random.random(_CORE_FLOATS, dtype=np.float32)
        self._small_out = np.empty_like(self._small)
        self._one = random.random(_MEMORY_FLOATS, dtype=np.float32)
        self._two, self._out = np.ones_like(self._one), np.ones_like(self._one)
        self._places = random.integers(0, _MEMORY_FLOATS, _READS)
        self._read = np.empty(_READS, dtype=np.float32)

    def sing(self, together: threading.Barrier) -> tuple[_Timed, _Timed]:
        """Its two parts, each begun when all voices are there."""
        together.wait()
        cores = _timed(self._through_the_core)
        together.wait()
        return cores, _timed(self._through_memory)

    def _through_the_core(self) -> None:
        for _ in range(_CORE_PASSES):
            np.exp(self._small, out=self._small_out)

    def _through_memory(self) -> None:
        np.add(self._one, self._two, out=self._out)
        np.take(self._out, self._places, out=self._read, mode="clip")  # the other modes make a copy first


_canaries: dict[int, Canary] = {}


def _canary(threads: int) -> Canary:
    """Made once: a new one would find new pages of memory."""
    if threads not in _canaries:
        _canaries[threads] = Canary(threads)
        _canaries[threads].sing()  # its pages are touched, its threads are there
    return _canaries[threads]


def _pin(core: int) -> None:
    with suppress(OSError):  # the core was taken from us in the meantime
        os.sched_setaffinity(0, {core})


class _Timed(NamedTuple):
    """When a thread began its part, and how long it took; None where it waited for its core meanwhile."""

    begun_ns: int
    took_ns: int | None


def _timed(work: Callable[[], Any]) -> _Timed:
    waited, begun = _waited_ns(), clock.clock_ns()
    work()
    took = clock.clock_ns() - begun
    return _Timed(begun, took if _waited_ns() - waited <= WAITED_MOST * took else None)


def _waited_ns() -> int:
    """0 where the kernel keeps no such number."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0


def _together(parts: Sequence[_Timed]) -> int | None:
    """How long the slowest thread took; None where one waited, or began so late that the others had the
    memory to themselves for a while: alone it is faster by half."""
    known = [part.took_ns for part in parts if part.took_ns is not None]
    if len(known) < len(parts):
        return None
    began = [part.begun_ns for part in parts]
    return max(known) if max(began) - min(began) <= _LATE * min(known) else None


def _least(values: Iterable[int | None]) -> int | None:
    return min((value for value in values if value is not None), default=None)
