"""Local paths: how a suite writes them, and where they lie on this machine.

What is recorded is as it was written (`./base`, from the suite's own folder): it names nobody's home folder,
and a case is the same case on every machine. Only who opens a file asks where it lies.
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path


def is_local(text: str) -> bool:
    """Whether a text is written as a path: `./x`, `../x`, `~/x`."""
    return text in {".", "..", "~"} or text.startswith(("./", "../", "~/"))


def written(text: str) -> str:
    """The one way to write a path: `x`, `./x/` and `.//x` are `./x`; what is in the home folder is `~/x`."""
    plain = os.path.normpath(text) if text else "."
    home = _home()
    if home and (plain == home or plain.startswith(f"{home}/")):
        return f"~{plain.removeprefix(home)}"
    return plain if is_local(plain) or plain.startswith("/") else f"./{plain}"


def located(text: str, folder: Path) -> str:
    """Where a path lies that was written in a suite of this folder; any other text as it is.

    Links are kept, because a virtualenv's python is one. Raises RuntimeError where `~` is nobody's.
    """
    if not is_local(text):
        return text
    return os.path.abspath(folder / Path(text).expanduser())  # noqa: PTH100 - resolve() follows links


def expanded(text: str) -> str:
    """`~/x` as a path from the root, where there is a home folder; any other text as it is."""
    return os.path.expanduser(text) if text.startswith("~/") else text  # noqa: PTH111 - which raises


def path_between(folder: Path, start: Path) -> str:
    """How to get from one folder to another; from the home folder, where only the goal lies in it."""
    goal = without_home(str(folder))
    if goal.startswith("~") and not without_home(str(start)).startswith("~"):
        return goal
    return os.path.relpath(folder, start)


def without_home(text: str) -> str:
    """A text in which the user's home folder is `~`, wherever it stands."""
    home = _home()
    return _whole(home).sub("~", text) if home else text


def _home() -> str:
    """Empty for a user who has none, or the root."""
    try:
        home = str(Path.home())
    except RuntimeError:
        return ""
    return "" if home == "/" else home


@cache
def _whole(path: str) -> re.Pattern[str]:
    """The path where it is a whole one, or begins one. `/root` is a part of other paths too; what is longer
    is replaced also in `-I/home/alice/x` and `file:///home/alice/x`."""
    before = r"(?<![\w.~/-])" if path.count("/") == 1 else "(?<![.~])"
    return re.compile(rf"{before}{re.escape(path)}(?![\w-]|\.\w)")
