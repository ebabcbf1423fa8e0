"""A child process answers, fails or dies, and its parent always knows which."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

import places
from benchbox.errors import ChildDied, ChildTimeout, StageError, Unavailable
from benchbox.machine import child as process
from benchbox.machine.child import Child, Limits
from watching import is_gone

MIB = 2**20
Start = Callable[..., Child]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts children that misbehave when they are asked to."""
    monkeypatch.setenv("PYTHONPATH", str(places.TESTS / "children"))
    children = []

    def make(**limits: Any) -> Child:
        child = Child(cast(process.Role, "misbehaving"), Limits(**{"timeout_seconds": 30.0, **limits}))
        children.append(child)
        return child

    yield make
    for child in children:
        child.kill()


def test_an_answer_is_what_the_handler_returned(start: Start) -> None:
    assert start().ask("echo", text="µ", numbers=[1, 2.5, None]) == {"text": "µ", "numbers": [1, 2.5, None]}


def test_messages_larger_than_a_pipe_arrive_whole(start: Start) -> None:
    """A pipe holds 64 KiB; 3 MiB go both ways."""
    text = "x" * (3 * MIB)
    assert start().ask("echo", text=text)["text"] == text


def test_a_child_that_does_not_read_is_given_up(start: Start) -> None:
    """A pipe takes 64 KiB from a child that is stopped, and then no more."""
    child = start(timeout_seconds=0.5)
    assert child.ask("echo", n=1) == {"n": 1}
    os.kill(child.pid, signal.SIGSTOP)
    with pytest.raises(ChildTimeout, match=r"no answer within 0\.5 s"):
        child.ask("echo", text="x" * MIB)
    assert is_gone(child.pid)


def test_many_answers_come_in_their_order(start: Start) -> None:
    child = start()
    assert [child.ask("echo", n=n)["n"] for n in range(100)] == list(range(100))


def test_a_child_leads_a_session_of_its_own(start: Start) -> None:
    child = start()
    answer = child.ask("pid")
    assert answer == {"pid": child.pid, "session": child.pid}


def test_what_a_child_prints_disturbs_no_answer(start: Start) -> None:
    assert start().ask("print") == {"said": "something"}


def test_a_child_of_ours_imports_no_more_than_its_role_needs(start: Start) -> None:
    modules = start().ask("modules")["modules"]
    assert {"benchbox.machine.child", "benchbox.errors", "misbehaving"} <= set(modules)
    assert not {"numpy", "pydantic", "benchbox.runner.runner", "benchbox.suite"} & set(modules)


def test_unavailable_comes_back_with_its_hint(start: Start) -> None:
    with pytest.raises(Unavailable) as caught:
        start().ask("unavailable")
    assert (caught.value.reason, caught.value.hint) == ("needs a unicorn", "pip install unicorn")


def test_a_failure_comes_back_with_reason_traceback_and_peak_memory(start: Start) -> None:
    with pytest.raises(StageError) as caught:
        start().ask("stage_error")
    assert caught.value.reason == "the graph has no outputs"
    assert "in stage_error" in caught.value.detail
    assert caught.value.peak_memory_bytes is not None
    assert caught.value.peak_memory_bytes > 4 * MIB


def test_any_exception_is_a_failure_and_the_child_lives_on(start: Start) -> None:
    child = start()
    with pytest.raises(StageError, match=r"^ZeroDivisionError: division by zero$"):
        child.ask("crash", divisor=0)
    assert child.ask("crash", divisor=4) == {"value": 0.25}


def test_an_exit_without_an_answer_says_the_code_and_keeps_stderr(start: Start) -> None:
    child = start()
    child.ask("print")
    with pytest.raises(ChildDied, match=r"^the process ended with exit code 3 and no answer$") as caught:
        child.ask("exit", code=3)
    assert "noise on stderr" in caught.value.detail


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (signal.SIGSEGV, "the process was killed by SIGSEGV"),
        (
            signal.SIGKILL,
            (
                "the process was killed by SIGKILL "
                "(the kernel's out-of-memory killer sends this, and so may a person)"
            ),
        ),
    ],
)
def test_a_deadly_signal_is_named(start: Start, number: int, reason: str) -> None:
    with pytest.raises(ChildDied) as caught:
        start().ask("signal", number=int(number))
    assert caught.value.reason == reason


def test_a_child_killed_from_outside_in_the_middle_of_an_answer_is_known_at_once(start: Start) -> None:
    child = start()
    child.ask("pid")
    killer = threading.Timer(0.1, os.kill, (child.pid, signal.SIGKILL))
    killer.start()
    with pytest.raises(ChildDied, match="SIGKILL"):
        child.ask("hang")
    killer.join()


def test_a_dead_child_stays_dead(start: Start) -> None:
    """Killed between two questions: the pipe breaks, or ends, and either is the child's death."""
    child = start()
    child.ask("pid")
    os.kill(child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ChildDied, match="SIGKILL"):
        child.ask("pid")


def test_a_refused_allocation_is_out_of_memory(start: Start) -> None:
    child = start(address_space_bytes=512 * MIB)
    assert child.ask("allocate", bytes=16 * MIB) == {"size": 16 * MIB}
    with pytest.raises(StageError, match=r"^out of memory"):
        child.ask("allocate", bytes=1024 * MIB)


@pytest.mark.parametrize("text", ["Segmentation fault", "[1, 2]", "17", "null", "[" * 100_000])
def test_an_answer_that_is_no_message_ends_the_child(start: Start, text: str) -> None:
    child = start()
    with pytest.raises(ChildDied, match=r"^the process answered with something that is no message: "):
        child.ask("garbage", text=text)
    assert is_gone(child.pid)


def test_half_a_message_is_a_death(start: Start) -> None:
    with pytest.raises(ChildDied, match="exit code 0 and no answer"):
        start().ask("half_a_line")


def test_an_answer_with_nan_in_it_is_no_answer(start: Start) -> None:
    """JSON has no NaN: whoever computes one must say None."""
    with pytest.raises(StageError, match="not JSON compliant"):
        start().ask("not_finite")


def test_a_child_that_closes_its_pipe_and_lives_is_ended(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_SECONDS_TO_END", 0.2)
    child = start()
    with pytest.raises(ChildDied, match="closed its pipe without an answer"):
        child.ask("close_pipe")
    assert is_gone(child.pid)


def test_no_answer_in_time_ends_the_whole_group(start: Start) -> None:
    """The grandchild ignores SIGTERM; it goes all the same."""
    child = start(timeout_seconds=1.0)
    grandchild = child.ask("grandchild")["pid"]
    with pytest.raises(ChildTimeout) as caught:
        child.ask("hang")
    assert caught.value.reason == "no answer within 1 s; the process group was killed"
    assert (caught.value.peak_memory_bytes or 0) > 4 * MIB
    assert is_gone(child.pid)
    assert is_gone(grandchild)


def test_a_stopped_child_is_a_timeout(start: Start) -> None:
    child = start(timeout_seconds=0.5)
    child.ask("pid")
    os.kill(child.pid, signal.SIGSTOP)
    with pytest.raises(ChildTimeout):
        child.ask("pid")
    assert is_gone(child.pid)


def test_the_death_of_a_child_ends_its_group(start: Start) -> None:
    child = start()
    grandchild = child.ask("grandchild")["pid"]
    with pytest.raises(ChildDied):
        child.ask("exit", code=1)
    assert is_gone(grandchild)


def test_a_death_is_seen_though_a_grandchild_holds_the_pipe(start: Start) -> None:
    child = start(timeout_seconds=20.0)
    grandchild = child.ask("forked_grandchild")["pid"]
    with pytest.raises(ChildDied, match="exit code 5"):
        child.ask("exit", code=5)
    assert is_gone(grandchild)


def test_killing_twice_is_killing_once(start: Start) -> None:
    child = start()
    child.kill()
    child.kill()
    assert is_gone(child.pid)


def test_an_interpreter_that_does_not_exist_is_named() -> None:
    with pytest.raises(ChildDied, match=r"^cannot start /no/such/python: No such file or directory$"):
        Child("benchbox.measure.worker", Limits(), "/no/such/python")


def test_children_leave_no_open_files(start: Start) -> None:
    start().kill()  # what the first one loads stays open
    before = open_files()
    for _ in range(3):
        child = start()
        child.ask("pid")
        child.kill()
    assert open_files() == before


def open_files() -> dict[str, str]:
    """What this process has open, by number; the listing itself is closed when it is looked up."""
    found = {}
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found[link.name] = str(link.readlink())
    return {number: target for number, target in found.items() if not target.endswith("/fd")}


def test_a_child_ends_with_its_parent() -> None:
    """SIGKILL gives the parent no chance to say goodbye, so the kernel ends the child."""
    code = (
        "from benchbox.machine.child import Child, Limits\n"
        "child = Child('misbehaving', Limits())\n"
        "child.ask('pid')\n"
        "print(child.pid, flush=True)\n"
        "child.ask('hang')\n"
    )
    env = {**os.environ, "PYTHONPATH": str(places.TESTS / "children")}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=env) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    assert is_gone(pid)


@pytest.mark.parametrize(
    ("code", "detail", "sentence"),
    [
        (0, "", "the process ended with exit code 0 and no answer"),
        (134, "", "the process ended with exit code 134 and no answer"),
        (-11, "", "the process was killed by SIGSEGV"),
        (-99, "", "the process was killed by signal 99"),
        (-6, "terminate called after throwing 'std::bad_alloc'", "out of memory: an allocation was refused"),
        (1, "MemoryError", "out of memory: an allocation was refused"),
    ],
)
def test_an_exit_is_described(code: int, detail: str, sentence: str) -> None:
    assert process.describe_exit(code, detail) == sentence


def test_a_cut_does_not_leave_half_a_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's name is in it."""
    monkeypatch.setenv("HOME", "/home/zaphod")
    text = "/home/zaphod/model.py\n" + "x" * (process.DETAIL_BYTES - len("zaphod/model.py\n"))
    assert process._end(text) == "~/model.py\n" + text.partition("\n")[2]
