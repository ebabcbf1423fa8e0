"""Host memory of a process as the kernel counts it: high-water mark, resident now, and a limit.

Nothing is polled: a high-water mark that the kernel keeps misses no spike and costs the process nothing.
Only the standard library is imported, because a worker in a foreign interpreter imports this file.
"""

from __future__ import annotations

import re
import resource
from pathlib import Path

_KIB = 1024  # /proc/<pid>/status says `kB` and means 1,024 bytes (man 5 proc)
_RESET_PEAK = "5"  # man 5 proc, /proc/<pid>/clear_refs: resets VmHWM to the present VmRSS


def peak_bytes(pid: int | str = "self") -> int:
    """The most memory that was ever resident in the process, since its start or since `reset_peak`.

    Raises ProcessLookupError where there is no such process, or none any more.
    """
    return _from_status(pid, "VmHWM")


def resident_bytes(pid: int | str = "self") -> int:
    """What is resident in the process now. Raises ProcessLookupError where there is no such process."""
    return _from_status(pid, "VmRSS")


def reset_peak() -> bool:
    """Whether this process's high-water mark could be set back to what is resident now."""
    try:
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK, encoding="ascii")
    except OSError:  # a sandbox without the file, or one that forbids it: the mark then stands since start
        return False
    return True


def limit_address_space(limit_bytes: int) -> None:
    """Makes allocations of this process, and of its children, fail beyond so much address space."""
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))


def parse_status(status: str, field: str) -> int | None:
    """Bytes of a `kB` field of /proc/<pid>/status; None where the field is not there (a zombie)."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found.group(1)) * _KIB if found else None


def _from_status(pid: int | str, field: str) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError as error:
        raise ProcessLookupError(f"no process {pid}") from error
    size_bytes = parse_status(status, field)
    if size_bytes is None:
        raise ProcessLookupError(f"process {pid} has ended: /proc/{pid}/status has no {field}")
    return size_bytes
