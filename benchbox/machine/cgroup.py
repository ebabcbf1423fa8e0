"""Limits of the container that this process runs in: CPU quota and memory, from cgroup v1 and v2.

Only the standard library is imported, because a worker in a foreign interpreter imports this file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# cgroup v1 says "no limit" with the largest page-aligned integer, 2**63 - 4096.
_UNLIMITED_BYTES = 2**62


@dataclass(frozen=True)
class QuotaUse:
    """How many scheduling periods the CPU quota has seen, and how many of them it cut short."""

    periods: int
    throttled: int


def cpu_limit(root: Path) -> float | None:
    """The CPU quota in cores; None where there is none."""
    limits = (_cpu_limit(folder) for folder in _folders(root, "cpu"))
    return min((limit for limit in limits if limit is not None), default=None)


def memory_limit_bytes(root: Path) -> int | None:
    """The lowest memory limit; None where there is none."""
    limits = (_memory_limit(folder) for folder in _folders(root, "memory"))
    return min((limit for limit in limits if limit is not None), default=None)


def available_memory_bytes(root: Path) -> int | None:
    """What the tightest limit leaves; None where there is no limit."""
    left = (_memory_left(folder) for folder in _folders(root, "memory"))
    return min((size for size in left if size is not None), default=None)


def quota_use(root: Path) -> QuotaUse | None:
    """How often the CPU quota has held this container back; None where there is no quota."""
    file = _quota_file(root)
    if file is None:
        return None
    stat = _fields(read_text(file))
    return QuotaUse(periods=stat.get("nr_periods", 0), throttled=stat.get("nr_throttled", 0))


def read_text(path: Path) -> str:
    """The file's text; empty where it is not there or may not be read: kernels differ in what they show."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """The process's own group and all above it; those of v1 where it has the controller.

    In a container the group's path may be that of the host, where only the top is mounted.
    """
    v2_path = ""
    for line in read_text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            yield from _upwards(_v1_mount(root, controllers, controller), path)
            return
        if not controllers:
            v2_path = path
    yield from _upwards(root / "sys/fs/cgroup", v2_path)


def _v1_mount(root: Path, controllers: str, controller: str) -> Path:
    """`/sys/fs/cgroup/cpu,cpuacct` or, where there is no such folder, `/sys/fs/cgroup/cpu`."""
    together = root / "sys/fs/cgroup" / controllers
    return together if together.is_dir() else root / "sys/fs/cgroup" / controller


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for length in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:length])


def _cpu_limit(folder: Path) -> float | None:
    v2 = read_text(folder / "cpu.max").split()
    v1 = [read_text(folder / name).strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")]
    quota, period = v2 if len(v2) == 2 else v1
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _memory_limit(folder: Path) -> int | None:
    text = (read_text(folder / "memory.max") or read_text(folder / "memory.limit_in_bytes")).strip()
    return int(text) if text.isdigit() and int(text) < _UNLIMITED_BYTES else None


def _memory_left(folder: Path) -> int | None:
    """The limit less what cannot be given back: usage without page cache that was not touched for a while."""
    limit = _memory_limit(folder)
    if limit is None:
        return None
    usage = (read_text(folder / "memory.current") or read_text(folder / "memory.usage_in_bytes")).strip()
    stat = _fields(read_text(folder / "memory.stat"))
    reclaimable = stat.get("total_inactive_file", stat.get("inactive_file", 0))
    return max(0, limit - max(0, int(usage or 0) - reclaimable))


@cache
def _quota_file(root: Path) -> Path | None:
    """cpu.stat of the group whose quota is in force: a process changes groups only when it is told to."""
    for folder in _folders(root, "cpu"):
        if _cpu_limit(folder) is not None and (folder / "cpu.stat").is_file():
            return folder / "cpu.stat"
    return None


def _fields(text: str) -> dict[str, int]:
    """`name number` lines, as cpu.stat and memory.stat have them."""
    return {name: int(value) for name, value in re.findall(r"^(\w+) (\d+)$", text, re.MULTILINE)}
