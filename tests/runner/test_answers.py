"""What a runtime said of itself counts while all that it depends on is as it was."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import cases
from benchbox.errors import StageError, Unavailable
from benchbox.machine.child import Limits
from benchbox.machine.launcher import Local
from benchbox.plugins import packages
from benchbox.runner import answers, planning
from benchbox.runner.answers import Answer, Answers, Question
from benchbox.schema.asked import Backend, Threads
from benchbox.schema.seen import Host

HOST = Host(frozenset())
PYTORCH = Question("pytorch", Backend("pytorch", ("cpu",), Threads(1)))
YES = Answer(("cpu",))
NO = Answer(unavailable=Unavailable("sees no cuda device", "buy one"))


@pytest.fixture
def kept(tmp_path: Path) -> Answers:
    answers_ = Answers(tmp_path, HOST)
    answers_.keep(PYTORCH, YES)
    return answers_


def test_what_was_said_is_found_again(kept: Answers) -> None:
    assert kept.find(PYTORCH) == YES
    kept.keep(PYTORCH, NO)
    found = kept.find(PYTORCH)
    assert found is not None
    assert found.unavailable is not None
    assert (found.unavailable.reason, found.unavailable.hint) == ("sees no cuda device", "buy one")


@pytest.mark.parametrize(
    "other",
    [
        Question("pytorch"),
        Question("synthetic", PYTORCH.backend),
        Question("pytorch", Backend("pytorch", ("cpu",), Threads(1), {"compile": True})),
    ],
)
def test_another_question_has_no_answer(kept: Answers, other: Question) -> None:
    assert kept.find(other) is None


def another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "installed", lambda names: {"torch": ["99", "/somewhere", 1]})


def another_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers.sys, "executable", "/another/python")


def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")


def other_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")


def edited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchbox.plugins.source_digest", lambda kind, word: "edited")


@pytest.mark.parametrize("change", [another_version, another_interpreter, no_compiler, other_devices, edited])
def test_an_answer_ends_with_what_it_depends_on(
    kept: Answers, change: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(monkeypatch)
    assert kept.find(PYTORCH) is None
    kept.keep(PYTORCH, NO)
    assert kept.find(PYTORCH) is not None


def test_another_driver_or_gpu_is_asked_anew(kept: Answers) -> None:
    assert replace(kept, host=replace(HOST, driver="580.1")).find(PYTORCH) is None
    assert replace(kept, host=replace(HOST, gpu="NVIDIA L4")).find(PYTORCH) is None


def test_a_package_that_was_put_there_anew_is_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime-gpu of the same version brings the same module."""
    module = tmp_path / "acme_runtime.py"
    module.write_text("", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = packages.installed(["acme_runtime", "no_such_package"])
    assert list(before) == ["acme_runtime"]
    os.utime(module, ns=(1, 1))
    assert packages.installed(["acme_runtime"]) != before


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"depends_on": 1}', "\x00"])
def test_a_damaged_answer_is_none(kept: Answers, damage: str) -> None:
    kept._file(PYTORCH).write_text(damage, encoding="utf-8")
    assert kept.find(PYTORCH) is None


def test_an_answer_of_the_wrong_kind_is_none(kept: Answers) -> None:
    content = json.loads(kept._file(PYTORCH).read_text(encoding="utf-8"))
    kept._file(PYTORCH).write_text(json.dumps({**content, "unavailable": 5}), encoding="utf-8")
    assert kept.find(PYTORCH) is None


def test_a_cache_that_takes_no_file_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "runtimes").write_text("a file", encoding="utf-8")
    answers_ = Answers(tmp_path, HOST)
    answers_.keep(PYTORCH, YES)
    assert answers_.find(PYTORCH) is None


class FakeChild:
    """A worker that counts how often it was asked."""

    asked = 0

    def ask(self, verb: str, **content: Any) -> dict[str, Any]:
        self.asked += 1
        if content["backend"].options.get("compile"):
            raise StageError("it broke")
        return {"providers": ["cpu"], "versions": {}}

    def kill(self) -> None:
        pass


class FakeLauncher(Local):
    """Whichever worker is wanted, it is the same one."""

    def __init__(self, child: FakeChild) -> None:
        self.child = child

    def worker(self, limits: Limits, python: str | None = None) -> FakeChild:
        return self.child


def why(case: Any, remembered: Answers | None, child: FakeChild) -> Any:
    with planning.Availability(Path(), remembered, FakeLauncher(child)) as availability:
        return availability.why_not(case)


def test_a_runtime_is_asked_once_and_before_a_run_anew(tmp_path: Path) -> None:
    child, case = FakeChild(), cases.case("torch")
    for _ in range(2):
        assert why(case, Answers(tmp_path, HOST), child) is None
    assert child.asked == 1
    for _ in range(2):
        assert why(case, None, child) is None
    assert child.asked == 3


def test_what_broke_and_what_is_elsewhere_is_not_remembered(tmp_path: Path) -> None:
    child = FakeChild()
    broken = cases.case("torch", options={"compile": True})
    foreign = cases.case("torch")
    foreign = replace(foreign, backend=replace(foreign.backend, python="/another/python"))
    for _ in range(2):
        assert str(why(broken, Answers(tmp_path, HOST), child)) == "it broke"
        assert why(foreign, Answers(tmp_path, HOST), child) is None
    assert child.asked == 4
