"""Who else uses the CPU: real processes, and a /proc that the test writes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchbox.machine import neighbours
from benchbox.machine.neighbours import Look
from benchbox.schema.seen import Neighbours

TICKS = os.sysconf("SC_CLK_TCK")


def proc(root: Path, *processes: tuple[int, str, int, float]) -> Path:
    """A /proc of processes: pid, command, parent, seconds of CPU time."""
    for pid, name, parent, seconds in processes:
        folder = root / "proc" / str(pid)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "stat").write_text(
            f"{pid} ({name}) S {parent} 1 1 0 -1 0 0 0 0 0 {round(seconds * TICKS)} 0 0 0 20 0 1 0"
        )
    return root


def look(root: Path, seconds: float) -> Look:
    return neighbours.look(root, now_ns=lambda: round(seconds * 1e9))


def test_others_are_named_by_their_commands_and_ours_are_not_among_them(tmp_path):
    me = os.getpid()
    before = look(proc(tmp_path, (me, "benchbox", 1, 0), (90, "worker", me, 0), (7, "a (b) c", 1, 5)), 0)
    after = look(
        proc(
            tmp_path, (me, "benchbox", 1, 1), (90, "worker", me, 2), (7, "a (b) c", 1, 6), (8, "pip", 1, 0.5)
        ),
        2,
    )
    seen = neighbours.between(before, after)
    assert dict(seen.by_name) == {"a (b) c": 0.5, "pip": 0.25}
    assert seen.cores == 0.75
    assert seen.busiest == ("a (b) c", 0.5)


def test_who_did_nothing_is_not_named(tmp_path):
    before = look(proc(tmp_path, (7, "sshd", 1, 5)), 0)
    assert neighbours.between(before, look(tmp_path, 1)) == Neighbours(0.0, {})
    assert Neighbours().busiest is None


def test_without_a_proc_there_are_no_neighbours(tmp_path):
    assert dict(look(tmp_path, 0).seconds) == {}


def test_a_real_process_that_is_not_ours_is_seen():
    """A child of a child that has ended belongs to init."""
    script = f"import subprocess, sys; subprocess.Popen([{sys.executable!r}, '-c', 'while 1: 1']); sys.exit()"
    before = neighbours.look()
    subprocess.run(
        [sys.executable, "-c", script.replace("sys.exit()", "")], check=True, start_new_session=True
    )
    try:
        time.sleep(0.4)
        seen = neighbours.between(before, neighbours.look())
    finally:
        subprocess.run(["pkill", "-f", "while 1: 1"], check=False)
    assert seen.cores > 0.1
    assert any(name.startswith("python") for name in seen.by_name)


@pytest.mark.parametrize("text", ["", "7 (sh", "7 (sh) S 1"])
def test_a_process_that_ends_while_it_is_read_is_left_out(tmp_path, text):
    (tmp_path / "proc/7").mkdir(parents=True)
    (tmp_path / "proc/7/stat").write_text(text)
    assert dict(look(tmp_path, 0).seconds) == {}
