"""What a command that only looks must not do: load a framework, start a runtime, read what every package
has."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import places

HEAVY = (
    "torch",
    "onnx",
    "onnxruntime",
    "transformers",
    "sklearn",
    "PIL",
    "pandas",
    "scipy",
    "plotly",
    "numpy",
)

# Runs a command in which a child, and a look at what every distribution has installed, are errors.
LOOKING = """
import importlib.metadata, sys
from benchbox.machine import child

def refuse(*_):
    raise SystemExit("refused: " + sys.argv[1])

if sys.argv.pop(1) == "warm":
    child.Child.__init__ = refuse
importlib.metadata.packages_distributions = refuse
from benchbox.cli.commands import main
try:
    main()
except SystemExit as ended:
    print(*([ended.code] if ended.code else []), *sys.modules, file=sys.stderr)
"""

Look = Callable[..., set[str]]


@pytest.fixture(scope="module")
def look(tmp_path_factory: pytest.TempPathFactory) -> Look:
    """Runs a command with a cache of this module's own, and gives the names of what it has loaded."""
    cache = tmp_path_factory.mktemp("cache")
    path = os.pathsep.join(filter(None, (str(places.ROOT), os.environ.get("PYTHONPATH"))))

    def run(*words: str, state: str = "warm") -> set[str]:
        done = subprocess.run(
            [sys.executable, "-c", LOOKING, state, *words],
            env={**os.environ, "BENCHBOX_CACHE": str(cache), "PYTHONPATH": path},
            cwd=places.ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "refused" not in done.stderr
        assert "Traceback" not in done.stderr
        return set(done.stderr.split())

    return run


@pytest.mark.parametrize("words", [("list",), ("doctor",), ("plan", "suites/vit.yaml")], ids=lambda w: w[0])
def test_a_look_loads_no_framework_and_asks_no_runtime_twice(words: tuple[str, ...], look: Look) -> None:
    for state in ("cold", "warm"):
        loaded = look(*words, state=state)
        assert "benchbox.runner.planning" in loaded
        assert loaded & set(HEAVY) == set()


def test_a_look_starts_a_runtime_where_nothing_is_remembered(tmp_path: Path) -> None:
    """What the other test refuses is really refused."""
    done = subprocess.run(
        [sys.executable, "-c", LOOKING, "warm", "list"],
        env={**os.environ, "BENCHBOX_CACHE": str(tmp_path)},
        cwd=places.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "refused: " in done.stderr


def test_help_loads_neither_pydantic_nor_anything_that_reads_a_suite(look: Look) -> None:
    loaded = look("--help")
    assert "benchbox.cli.commands" in loaded
    assert loaded & {*HEAVY, "pydantic", "ruamel", "jinja2", "benchbox.suite", "benchbox.results"} == set()
