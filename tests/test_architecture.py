"""Rules that hold everywhere in the source: who may print, who may exit, who has a clock, what is loaded."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import benchbox

ROOT = Path(benchbox.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
CLOCKS = {"time", "perf_counter", "perf_counter_ns", "monotonic", "process_time", "time_ns", "sleep"}


def name(file: Path) -> str:
    return str(file.relative_to(ROOT))


def calls(file: Path) -> Iterator[str]:
    """What a file calls, as it is written: `print`, `sys.exit`, `datetime.now`."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def imported(file: Path) -> Iterator[tuple[str, str]]:
    """Module and name of everything that a file imports."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)


@pytest.mark.parametrize("file", FILES, ids=name)
def test_only_the_command_line_prints_or_exits(file: Path) -> None:
    if file.is_relative_to(ROOT / "cli"):
        return
    assert {"print", "exit", "quit", "sys.exit"} & set(calls(file)) == set()
    assert ("sys", "exit") not in set(imported(file))


@pytest.mark.parametrize("file", FILES, ids=name)
def test_only_machine_clock_has_a_clock(file: Path) -> None:
    """Whoever needs the time asks machine/clock, so that tests can give it."""
    if name(file) == "machine/clock.py":
        return
    assert "time" not in {module for module, _ in imported(file)}
    clocks = {call for call in calls(file) if call.rpartition(".")[2] in ("now", "utcnow", "today")}
    assert clocks <= {"clock.now"}
    assert not {call for call in calls(file) if call.startswith("time.") and call[5:] in CLOCKS}


@pytest.mark.parametrize("file", FILES, ids=name)
def test_nothing_evaluates_text_or_reads_pickles(file: Path) -> None:
    assert {"eval", "exec", "pickle.load", "pickle.loads", "yaml.load", "torch.load"} & set(
        calls(file)
    ) == set()
    assert "pickle" not in {module for module, _ in imported(file)}


@pytest.mark.parametrize("file", FILES, ids=name)
def test_a_file_is_named_for_what_it_holds(file: Path) -> None:
    assert file.stem not in {"utils", "util", "common", "helpers", "base", "misc"}


def test_importing_benchbox_loads_no_framework_and_no_pandas() -> None:
    assert loaded_by("import benchbox") == []


def test_importing_the_conductor_loads_no_framework_and_no_pandas() -> None:
    """Everything up to measuring: its own memory and threads are beside the model's."""
    rooms = "machine.child build.cache build.keys measure.worker measure.rounds runner.runner runner.planning"
    assert loaded_by("; ".join(f"import benchbox.{room}" for room in rooms.split())) == []


def test_an_attribute_that_benchbox_has_not_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'benchbox' has no attribute 'runn'"):
        assert benchbox.runn


def loaded_by(code: str) -> list[str]:
    heavy = ["torch", "onnx", "onnxruntime", "transformers", "sklearn", "PIL", "pandas", "scipy", "plotly"]
    script = f"import sys; {code}; print(*[name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.split()
