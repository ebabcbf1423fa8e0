"""A child for tests: its handlers do everything that a worker should not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from benchbox.errors import StageError, Unavailable


def handlers() -> Mapping[str, Any]:
    return {
        "echo": lambda message: message,
        "pid": lambda message: {"pid": os.getpid(), "session": os.getsid(0)},
        "modules": lambda message: {"modules": sorted(sys.modules), "path": sys.path},
        "print": print_noise,
        "unavailable": unavailable,
        "stage_error": stage_error,
        "crash": lambda message: {"value": 1 / message["divisor"]},
        "allocate": lambda message: {"size": len(bytearray(message["bytes"]))},
        "exit": lambda message: os._exit(message["code"]),
        "signal": lambda message: os.kill(os.getpid(), message["number"]),
        "not_finite": lambda message: {"value": float("nan")},
        "garbage": garbage,
        "half_a_line": half_a_line,
        "close_pipe": close_pipe,
        "hang": lambda message: time.sleep(3600),
        "grandchild": grandchild,
        "forked_grandchild": forked_grandchild,
    }


def print_noise(message: Mapping[str, Any]) -> Mapping[str, Any]:
    print("noise on stdout", flush=True)
    os.write(2, b"noise on stderr\n")
    return {"said": "something"}


def unavailable(message: Mapping[str, Any]) -> Mapping[str, Any]:
    raise Unavailable("needs a unicorn", "pip install unicorn")


def stage_error(message: Mapping[str, Any]) -> Mapping[str, Any]:
    raise StageError("the graph has no outputs")


def garbage(message: Mapping[str, Any]) -> Mapping[str, Any]:
    write_to_parent(message["text"].encode() + b"\n")
    signal.pause()
    return {}


def half_a_line(message: Mapping[str, Any]) -> Mapping[str, Any]:
    write_to_parent(b'{"half": ')
    os._exit(0)


def close_pipe(message: Mapping[str, Any]) -> Mapping[str, Any]:
    os.close(int(sys.argv[4]))
    signal.pause()
    return {}


def grandchild(message: Mapping[str, Any]) -> Mapping[str, Any]:
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"
    return {"pid": subprocess.Popen([sys.executable, "-c", code]).pid}


def forked_grandchild(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """A fork keeps the pipe open: the end of the child is then no end of the pipe."""
    pid = os.fork()
    if pid == 0:
        while True:
            signal.pause()
    return {"pid": pid}


def write_to_parent(data: bytes) -> None:
    os.write(int(sys.argv[4]), data)
