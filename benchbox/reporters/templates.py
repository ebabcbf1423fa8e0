"""How pages are made from the templates in this folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchbox.reporters import foreign

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

_HERE = Path(__file__).parent / "page"


def html(name: str) -> Template:
    """A template whose every value is escaped as HTML, and loses its control characters."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        finalize=_harmless,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template(name)


def _harmless(value: Any) -> Any:
    """Markup is ours as it is, plotly.js with its control characters among it; all else is others' text."""
    from markupsafe import Markup

    return foreign.clean_lines(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def text(name: str, escape: Callable[[Any], str]) -> Template:
    """A template whose every value goes through `escape`."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(  # noqa: S701  # not HTML: `escape` runs on every value, as `finalize`
        loader=FileSystemLoader(_HERE),
        finalize=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    ).get_template(name)


def verbatim(file: str) -> Markup:
    """A style sheet or a script of this folder, to be written into a page as it is."""
    from markupsafe import Markup

    return Markup((_HERE / file).read_text(encoding="utf-8"))  # noqa: S704  # ours, not a user's
