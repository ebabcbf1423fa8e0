"""Text that others wrote (names, reasons, stderr), so that it drives no terminal, page or spreadsheet.

What is shown is changed, what is recorded never is.
"""

from __future__ import annotations

import re

# Unicode's Cc: C0, DEL and C1. ESC moves a cursor, NUL ends a string, and browsers guess at the rest.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CONTROLS_IN_LINES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

# What makes a spreadsheet take a cell for a formula (OWASP, CSV Injection), the full-width forms among them.
# After leading blanks too, which some programs drop.
_FORMULA = re.compile(r"[\t\r\n]|\s*[=+\-@＝＋－＠]")  # noqa: RUF001  # the full-width ones are meant


def clean(text: str) -> str:
    """The text in one line, a blank for each control character."""
    return _CONTROLS.sub(" ", text)


def clean_lines(text: str) -> str:
    """The text with its lines and tabs, a blank for each other control character."""
    return _CONTROLS_IN_LINES.sub(" ", text)


def cell(value: object) -> object:
    """What goes into a CSV: text with an apostrophe before it where a spreadsheet would compute it.

    Control characters become blanks. Numbers stay numbers, negative ones too.
    """
    if not isinstance(value, str):
        return value
    shown = clean_lines(value)
    return f"'{shown}" if _FORMULA.match(value) or _FORMULA.match(shown) else shown
