"""What a command costs before it does anything, in CPU time with its children, the caches warm.

    pytest tests/perf/test_startup.py -m 'slow or not slow' -s

Clocks differ, and two cores that others use take twice as long: what is bounded is the ratio to the CPU time
of importing what the command line stands on. Measured beside other work, in the same minutes: ground 0.44 s,
`list` 1.2 s, `plan` 1.2 s, `doctor` 0.9 s, which before were 4.9, 4.1 and 5.0 s.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import places

# typer brings pydantic where a command has parameters.
GROUND = ("-c", "import typer, typer._adapters, rich.table")


def cpu_seconds(*words: str, cache: Path) -> float:
    """Of a process and its children, the median of five."""
    path = os.pathsep.join(filter(None, (str(places.ROOT), os.environ.get("PYTHONPATH"))))
    env = {**os.environ, "BENCHBOX_CACHE": str(cache), "PYTHONPATH": path}
    taken = []
    for _ in range(6):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, *words], env=env, cwd=places.ROOT, stdout=subprocess.DEVNULL, check=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(taken[1:])  # the first one finds the caches cold


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "at_most"),
    [(("--help",), 1.5), (("list",), 5), (("doctor",), 5), (("plan", "suites/vit.yaml"), 6)],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_look_costs_a_few_times_what_it_stands_on(
    words: tuple[str, ...], at_most: float, tmp_path: Path
) -> None:
    ground = cpu_seconds(*GROUND, cache=tmp_path)
    taken = cpu_seconds("-m", "benchbox", *words, cache=tmp_path)
    print(f"\n{words[0]}: {taken:.2f} s of CPU, {taken / ground:.1f} times its ground of {ground:.2f} s")
    assert taken / ground <= at_most
