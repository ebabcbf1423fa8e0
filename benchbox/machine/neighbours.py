"""Who else uses the CPU: the other processes of the machine by the names of their commands, nothing more of
them.

Arguments, users and folders of other people's processes are never read (proc(5): the second field of
/proc/<pid>/stat is the command's name, cut at 15 bytes by the kernel).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchbox.machine import clock
from benchbox.machine.cgroup import read_text
from benchbox.schema.seen import Neighbours

ROOT = Path("/")


@dataclass(frozen=True)
class Look:
    """What all processes have used up to now, in seconds of CPU time, and those of them that are ours."""

    at_ns: int
    seconds: Mapping[int, float]
    names: Mapping[int, str]
    ours: frozenset[int]


def look(root: Path = ROOT, *, now_ns: Callable[[], int] = clock.clock_ns) -> Look:
    """All processes; `ours` are this one and what it started. Takes about 20 us a process."""
    ticks = os.sysconf("SC_CLK_TCK")
    seconds: dict[int, float] = {}
    names: dict[int, str] = {}
    parents: dict[int, int] = {}
    for folder in _processes(root):
        pid, stat = int(folder.name), read_text(folder / "stat")
        name, _, rest = stat.partition("(")[2].rpartition(")")
        fields = rest.split()
        if len(fields) < 13:  # it ended in the meantime
            continue
        names[pid], parents[pid] = name, int(fields[1])
        seconds[pid] = (int(fields[11]) + int(fields[12])) / ticks
    return Look(now_ns(), seconds, names, _descendants(os.getpid(), parents))


def between(before: Look, after: Look) -> Neighbours:
    """What others used between two looks, in cores."""
    elapsed = max(1, after.at_ns - before.at_ns) / 1e9
    by_name: dict[str, float] = {}
    for pid, seconds in after.seconds.items():
        used = seconds - before.seconds.get(pid, 0.0)
        if used > 0 and pid not in after.ours and pid not in before.ours:
            name = after.names[pid]
            by_name[name] = by_name.get(name, 0.0) + used / elapsed
    return Neighbours(sum(by_name.values()), by_name)


def _processes(root: Path) -> list[Path]:
    try:
        return [path for path in (root / "proc").iterdir() if path.name.isdecimal()]
    except OSError:
        return []


def _descendants(pid: int, parents: Mapping[int, int]) -> frozenset[int]:
    found, grown = {pid}, True
    while grown:
        more = {child for child, parent in parents.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return frozenset(found)
