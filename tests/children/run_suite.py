"""Runs a suite as a process of its own and prints a line for each thing that happens.

python run_suite.py SUITE.yaml RESULTS CACHE
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import psutil

from benchbox.runner import runner
from benchbox.runner.observer import Silent


class Talking(Silent):
    def started(self, folder: Path, cases: Any, done: Any) -> None:
        print("folder", folder, flush=True)

    def measured(self, case: Any, latency_ns: float, rounds: int, replicate: int) -> None:
        children = (str(child.pid) for child in psutil.Process().children())
        print("measured", case.shape["batch"], *children, flush=True)

    def recorded(self, record: Any) -> None:
        print("recorded", record.case.shape["batch"], flush=True)


suite, results, cache = sys.argv[1:]
runner.run(suite, results=results, reports=None, cache=cache, observer=Talking())
print("finished", flush=True)
