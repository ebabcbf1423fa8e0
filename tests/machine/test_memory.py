"""Peak and resident memory are the kernel's own numbers, and belong to the process that was asked for."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchbox.machine import memory

STATUS = """\
Name:	python
Umask:	0022
State:	R (running)
VmPeak:	  901200 kB
VmSize:	  900000 kB
VmHWM:	  234567 kB
VmRSS:	  123456 kB
RssAnon:	  100000 kB
Threads:	3
"""

ZOMBIE = """\
Name:	python
State:	Z (zombie)
Threads:	1
"""

MIB = 2**20


def child(code: str) -> str:
    """What a fresh interpreter prints that runs `code`."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("field", "expected"),
    [("VmHWM", 234567 * 1024), ("VmRSS", 123456 * 1024), ("VmSwap", None), ("Threads", None)],
)
def test_a_field_of_the_status_file_is_read_in_bytes(field: str, expected: int | None) -> None:
    assert memory.parse_status(STATUS, field) == expected


def test_a_zombie_has_no_memory_fields() -> None:
    assert memory.parse_status(ZOMBIE, "VmHWM") is None


def test_the_peak_keeps_what_was_freed_and_a_reset_forgets_it() -> None:
    """64 MiB that were touched and freed stay in the peak until it is reset."""
    low, high, reset, after = child(
        "from benchbox.machine import memory\n"
        "low = memory.peak_bytes()\n"
        "block = bytearray(64 * 2**20); del block\n"
        "high = memory.peak_bytes()\n"
        "reset = memory.reset_peak()\n"
        "print(low, high, reset, memory.peak_bytes())\n"
    ).split()
    assert int(high) - int(low) >= 60 * MIB
    if reset == "True":
        assert int(high) - int(after) >= 50 * MIB
    else:
        assert int(after) >= int(high)


def test_memory_of_another_process_is_read_by_its_number() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "b = bytearray(48 * 2**20); print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        peak, resident = memory.peak_bytes(process.pid), memory.resident_bytes(process.pid)
        process.stdin.write(b"\n")
    assert peak >= resident >= 48 * MIB


def test_a_process_that_has_ended_is_no_process() -> None:
    """A zombie (ended, not yet waited for) and a process that is gone raise the same error."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ProcessLookupError, match="has ended"):
        memory.peak_bytes(process.pid)
    process.wait()
    with pytest.raises(ProcessLookupError, match="no process"):
        memory.peak_bytes(process.pid)


def test_an_allocation_beyond_the_limit_raises_memory_error() -> None:
    assert (
        child(
            "from benchbox.machine import memory\n"
            "memory.limit_address_space(256 * 2**20)\n"
            "bytearray(16 * 2**20)\n"
            "try: bytearray(512 * 2**20)\n"
            "except MemoryError: print('refused')\n"
        )
        == "refused"
    )


def test_nothing_but_the_standard_library_is_needed() -> None:
    """`-S` leaves site-packages out: a worker's interpreter may have none of ours."""
    rooms = "benchbox.machine.memory, benchbox.machine.environment"
    code = f"import sys; sys.path.insert(0, '.'); import {rooms}; print('ok')"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("ok", "")
