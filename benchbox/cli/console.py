"""What is printed, and how a command ends: consoles, JSON, errors, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text


OK, NOT_OK, USAGE, INTERRUPTED = 0, 1, 2, 130

REPORTS = Path("reports")


def open_console(*, stderr: bool = False) -> Console:
    """A terminal in which no text is markup."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def show(what: RenderableType) -> None:
    """Prints what rich can render."""
    open_console().print(what)


def show_lines(lines: Text) -> None:
    """Long lines are left to the terminal, so that what is copied from them is whole."""
    if lines:
        open_console().print(lines, soft_wrap=True)


def echo_json(value: Any) -> None:
    """Prints a value as indented JSON."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def stop(message: str, code: int) -> NoReturn:
    """Prints an error and ends with the code."""
    from benchbox.reporters import foreign

    typer.echo(f"error: {foreign.clean_lines(message)}", err=True)
    raise typer.Exit(code)
