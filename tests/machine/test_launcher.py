"""Workers and builders are started in one place, and who starts them answers for the machine they run on."""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import benchbox
from benchbox.errors import StageError
from benchbox.machine import environment
from benchbox.machine.child import Limits, ask_for
from benchbox.machine.launcher import LOCAL, Launcher
from benchbox.measure.answers import Checked

PACKAGE = Path(benchbox.__file__).parent


def test_a_child_is_made_by_the_launcher_and_nowhere_else() -> None:
    makers = [
        str(file.relative_to(PACKAGE))
        for file in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "Child"
    ]
    assert set(makers) == {"machine/launcher.py"}


def test_a_worker_that_was_started_here_is_a_process_that_answers() -> None:
    worker = LOCAL.worker(Limits(timeout_seconds=60))
    try:
        checked = ask_for(Checked, worker, "check", word="synthetic")
    finally:
        worker.kill()
    assert checked.providers == ("CPUExecutionProvider",)
    assert list(checked.versions) == ["numpy"]


def test_this_machine_is_asked_for_what_the_environment_says() -> None:
    machine = LOCAL.machine
    assert machine.describe() == environment.describe()
    assert machine.host() == environment.host()
    assert machine.visible_cores() == len(os.sched_getaffinity(0))
    assert machine.usable_cores() == environment.usable_cores()
    assert 0 < machine.available_memory_bytes() <= machine.describe().memory_bytes


def test_a_folder_lies_here_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the root: a builder works in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    assert LOCAL.machine.path_there(Path("suites")) == tmp_path / "suites"
    assert LOCAL.machine.path_there(tmp_path) == tmp_path


def test_the_local_launcher_is_one() -> None:
    launcher: Launcher = LOCAL
    assert launcher.machine is LOCAL.machine


@dataclass
class Mumbling:
    """A process whose answer is fixed."""

    answer: Mapping[str, Any]

    def ask(self, verb: str, **content: Any) -> Mapping[str, Any]:
        return self.answer

    def kill(self) -> None: ...


def test_an_answer_is_the_dataclass_that_was_asked_for() -> None:
    answer = {"providers": ["cpu"], "versions": {"torch": "2"}, "of a newer worker": 1}
    assert ask_for(Checked, Mumbling(answer), "check") == Checked(("cpu",), {"torch": "2"})


def test_an_answer_that_is_something_else_fails_its_case_and_names_the_field() -> None:
    with pytest.raises(StageError) as caught:
        ask_for(Checked, Mumbling({"providers": "cpu"}), "check")
    assert str(caught.value) == (
        "a child of another version? the answer to 'check'.providers is 'cpu', and not a list"
    )
