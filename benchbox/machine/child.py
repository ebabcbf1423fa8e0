"""A child process: spawned in a session of its own, spoken to over a pipe, killed with its whole group.

Messages are lines of JSON on two pipes of their own, so that whatever a runtime prints to stdout or
stderr disturbs nobody; both go to a file whose end is kept for the record. The parent sleeps in the
kernel while it waits. A child ends when its pipe closes, and the kernel ends it when the parent dies.
Only the standard library: the child side runs in interpreters that have nothing else of ours.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, Protocol, TypeVar

from benchbox.errors import BenchboxError, ChildDied, ChildTimeout, StageError, Unavailable
from benchbox.machine import clock
from benchbox.schema import paths, wire

Role = Literal["benchbox.measure.worker", "benchbox.build.builder"]
Message = dict[str, Any]
Handler = Callable[[Message], Any]
"""From a message to its answer: a dataclass, or a mapping."""
T = TypeVar("T")

DETAIL_BYTES = 4000
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# A process whose pipe has ended is ending: the kernel needs milliseconds, a core dump a second or two.
_SECONDS_TO_END = 5.0

# The child loads this very package by its place, so that a foreign interpreter needs no installation of
# benchbox and sees none of our site-packages. In our own interpreter it finds what its parent finds, behind
# what it finds itself: a plug-in of another package is there too, and nothing takes the place of a runtime.
_BOOT = """
import importlib, importlib.util as u, sys
package, role, reader, writer, limit, *beside = sys.argv[1:]
sys.path[:] = [p for p in sys.path if p]
sys.path += [p for p in beside if p not in sys.path]
spec = u.spec_from_file_location("benchbox", package + "/__init__.py", submodule_search_locations=[package])
sys.modules["benchbox"] = module = u.module_from_spec(spec)
spec.loader.exec_module(module)
child = importlib.import_module("benchbox.machine.child")
child.serve(importlib.import_module(role).handlers(), int(reader), int(writer), int(limit))
"""


@dataclass(frozen=True)
class Limits:
    """What a child may use: address space, and time for an answer."""

    address_space_bytes: int | None = None
    timeout_seconds: float = 900.0


class Child:
    """The parent's end. `ask` sends one message and waits for its answer.

    `python` is the child's interpreter; None: ours.
    """

    def __init__(self, role: Role, limits: Limits, python: str | None = None) -> None:
        self._limits = limits
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed by kill()
        self._buffer = bytearray()
        child_reads, self._writer = os.pipe()
        self._reader, child_writes = os.pipe()
        command = [
            python or sys.executable,
            "-c",
            _BOOT,
            str(Path(__file__).parents[1]),
            role,
            str(child_reads),
            str(child_writes),
            str(limits.address_space_bytes or 0),
            *([] if python else filter(None, sys.path)),
        ]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                pass_fds=(child_reads, child_writes),
                start_new_session=True,
            )
        except OSError as error:
            self._close_files()
            raise ChildDied(f"cannot start {command[0]}: {error.strerror}") from error
        finally:
            os.close(child_reads)
            os.close(child_writes)

    @property
    def pid(self) -> int:
        """The child's process id, which is also the id of its group."""
        return self._process.pid

    def ask(self, verb: str, **content: Any) -> Message:
        """The answer to one message, in plain values; dataclasses and paths in `content` are encoded.

        Raises Unavailable and StageError as the child raised them, ChildDied where it ended or answered
        with something that is no message, ChildTimeout where it took too long (its group is killed).
        """
        try:
            self._write(_line({"verb": verb, **content}))
        except BrokenPipeError:
            raise self._died() from None
        return self._unwrap(self._read_line())

    def kill(self) -> None:
        """Ends the child and everything in its process group at once; safe to call twice.

        A child has nothing left to say between two answers, and a framework takes a second to say goodbye.
        """
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._close_files()

    def _write(self, data: bytes) -> None:
        """All of it; a pipe takes 64 KiB from a child that does not read."""
        watch = clock.Stopwatch.start()
        poll = select.poll()
        poll.register(self._writer, select.POLLOUT)
        view = memoryview(data)
        while view:
            left = self._limits.timeout_seconds - watch.seconds()
            if left <= 0 or not poll.poll(left * 1000):
                raise self._timed_out()
            view = view[os.write(self._writer, view[: select.PIPE_BUF]) :]

    def _read_line(self) -> bytes:
        watch = clock.Stopwatch.start()
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            left = self._limits.timeout_seconds - watch.seconds()
            if left <= 0 or not poll.poll(left * 1000):
                raise self._timed_out()
            chunk = os.read(self._reader, 1 << 20)
            if not chunk:
                raise self._died()
            self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def _unwrap(self, line: bytes) -> Message:
        try:
            answer = json.loads(line)
            error = answer.get("error")
        except (ValueError, AttributeError, RecursionError):
            self.kill()
            shown = line[:80]
            raise ChildDied(f"the process answered with something that is no message: {shown!r}") from None
        if error is None:
            return dict(answer)
        if error["kind"] == "unavailable":
            raise Unavailable(error["reason"], error["hint"])
        raise StageError(
            error["reason"], detail=error["detail"], peak_memory_bytes=error["peak_memory_bytes"]
        )

    def _died(self) -> ChildDied:
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        try:
            code = self._process.wait(timeout=_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            detail = self._tail()
            self.kill()
            return ChildDied("the process closed its pipe without an answer; it was killed", detail=detail)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        detail = self._tail()
        self.kill()
        known = peak * 1024 if peak > before else None
        return ChildDied(describe_exit(code, detail), detail=detail, peak_memory_bytes=known)

    def _timed_out(self) -> ChildTimeout:
        from benchbox.machine import memory

        peak: int | None = None
        with contextlib.suppress(OSError):
            peak = memory.peak_bytes(self._process.pid)
        detail = self._tail()
        self.kill()
        return ChildTimeout(
            f"no answer within {self._limits.timeout_seconds:g} s; the process group was killed",
            detail=detail,
            peak_memory_bytes=peak,
        )

    def _tail(self) -> str:
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - 2 * DETAIL_BYTES))
        return _end(self._log.read().decode(errors="replace"))

    def _close_files(self) -> None:
        for descriptor in (self._writer, self._reader):
            if descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        self._writer = self._reader = -1
        self._log.close()


class Process(Protocol):
    """A worker or a builder, wherever it runs, as who asks it sees it."""

    def ask(self, verb: str, **content: Any) -> Mapping[str, Any]:
        """The answer to one message, in plain values. Raises as `Child.ask` does."""

    def kill(self) -> None:
        """Ends it, and all that it started, at once; safe to call twice."""


def ask_for(answer: type[T], process: Process, verb: str, **content: Any) -> T:
    """The answer to one message as the dataclass that it is. Raises as `Child.ask` does, and StageError where
    the answer is something else: the child may be of another version, or damaged."""
    plain = process.ask(verb, **content)
    try:
        return wire.decode(plain, answer, f"the answer to {verb!r}")
    except wire.WireError as error:
        raise StageError(f"a child of another version? {error}") from error


def _end(text: str) -> str:
    """The last lines; the home folder goes before the cut, which would leave the user's name of it."""
    return paths.without_home(text)[-DETAIL_BYTES:]


def describe_exit(code: int, detail: str) -> str:
    """A sentence for an exit code: the signal's name, what the kernel usually means by it."""
    if "bad_alloc" in detail or "MemoryError" in detail:
        return "out of memory: an allocation was refused"
    if code >= 0:
        return f"the process ended with exit code {code} and no answer"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (the kernel's out-of-memory killer sends this, and so may a person)" if code == -9 else ""
    return f"the process was killed by {name}{hint}"


def serve(handlers: Mapping[str, Handler], reader: int, writer: int, address_space_bytes: int) -> None:
    """The child's loop: one answer for each line, until the pipe closes."""
    from benchbox.machine import memory

    _die_with_parent()
    _keep_from_grandchildren(reader, writer)
    if address_space_bytes:
        memory.limit_address_space(address_space_bytes)
    with os.fdopen(reader, "rb") as messages:
        for line in messages:
            message = json.loads(line)
            answer = _answer(handlers[message.pop("verb")], message)
            try:
                _write_all(writer, answer)
            except BrokenPipeError:
                return


def _answer(handler: Handler, message: Message) -> bytes:
    try:
        return _line(handler(message))
    except Unavailable as error:
        return _line({"error": {"kind": "unavailable", "reason": error.reason, "hint": error.hint}})
    except BenchboxError as error:
        return _line(_failure(str(error)))
    except MemoryError as error:
        return _line(_failure(f"out of memory: {error}".rstrip(": ")))
    except Exception as error:  # a child's boundary: whatever it was becomes a record
        return _line(_failure(_reason(error)))


def _line(message: Any) -> bytes:
    return json.dumps(wire.encode(message), allow_nan=False).encode() + b"\n"


def _failure(reason: str) -> Mapping[str, Any]:
    from benchbox.machine import memory

    detail = _end(traceback.format_exc())
    peak = memory.peak_bytes()
    return {"error": {"kind": "failed", "reason": reason, "detail": detail, "peak_memory_bytes": peak}}


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    lowered = text.lower()
    if "bad_alloc" in lowered or "failed to allocate" in lowered or "can't allocate memory" in lowered:
        return f"out of memory: {text[:300]}"
    return f"{type(error).__name__}: {text[:500]}"


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _keep_from_grandchildren(*descriptors: int) -> None:
    """A grandchild that held the pipe would hide the end of the child from its parent."""

    def close() -> None:
        for descriptor in descriptors:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    os.register_at_fork(after_in_child=close)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
