"""YAML -> Suite, and what is wrong with it, each error with its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from benchbox.errors import SuiteError, UsageError
from benchbox.machine import environment
from benchbox.schema import paths
from benchbox.schema.asked import Suite, Threads
from benchbox.suite.check import MISSING, UNKNOWN_KEY, said_of_error
from benchbox.suite.form import validated
from benchbox.suite.matrix import multiplied
from benchbox.suite.models import sizes_of
from benchbox.suite.plain import resolved_source
from benchbox.suite.quantities import clean_name
from benchbox.suite.source import Source, override, parse, read_text

MAX_ERRORS = 10


def load_suite(path: str | Path, overrides: Sequence[str] = ()) -> Suite:
    """The suite in a YAML file. Raises SuiteError, or UsageError where an override is what is wrong."""
    file = paths.expanded(str(path))
    return parse_suite(read_text(Path(file)), file, overrides)


def parse_suite(text: str, file: str, overrides: Sequence[str] = ()) -> Suite:
    """The suite in a YAML text; `file` names it in errors, and relative paths are taken from its folder."""
    return _suite(override(parse(text, file), overrides), None)


def from_source(mapping: Mapping[str, Any], file: str, folder: Path | None = None) -> Suite:
    """The suite whose `source` this is: equal to the one that was resolved, on any number of cores.

    Its local paths are taken from `folder`, where that is not the one in which `file` lies.
    """
    return _suite(Source(file=file, data=dict(mapping)), folder)


# --- From source to suite ---


def _suite(source: Source, folder: Path | None) -> Suite:
    cores = environment.usable_cores()
    folder = (folder or Path(source.file).parent).absolute()
    try:
        form = validated(source.data, folder=folder, cores=cores)
        threads = form.threads or (Threads(cores),)
        sizes = {model.name: sizes_of(model, folder) for model in form.models}
        cases = multiplied(form, threads, sizes)
    except ValidationError as error:
        raise _error(error, source) from error
    name = form.name or clean_name(Path(source.file).stem)
    return Suite(
        name=name,
        file=source.file,
        cases=cases,
        parity=form.parity.plan(),
        measure=form.measure.plan(),
        source=resolved_source(form, name, threads, sizes),
        folder=folder,
    )


# --- Errors ---


def _error(error: ValidationError, source: Source) -> UsageError:
    """All that pydantic found, a line each with its place; SuiteError where a line of the file is wrong."""
    placed: list[tuple[int, int, str]] = []
    from_overrides: list[str] = []
    for e in error.errors(include_url=False):
        label = source.label(e["loc"], missing=e["type"] == MISSING)
        text = f"{label}: {said_of_error(e)}" if label else said_of_error(e)
        written = source.override_at(e["loc"])
        if written:
            from_overrides.append(f"{written.place}: {text}")
        else:
            placed.append((*source.mark(e["loc"], at_key=e["type"] == UNKNOWN_KEY), text))
    placed.sort(key=lambda p: p[:2])
    if not placed:
        return UsageError("\n".join(_first(from_overrides)))
    line, column, text = placed[0]
    rest = [f"{source.file}:{at_line}:{at_column}: {other}" for at_line, at_column, other in placed[1:]]
    message = "\n".join(_first([text, *rest, *from_overrides]))
    return SuiteError(message, file=source.file, line=line, column=column)


def _first(lines: Sequence[str]) -> list[str]:
    more = len(lines) - MAX_ERRORS
    return [*lines[:MAX_ERRORS], *([f"... and {more} more"] if more > 0 else [])]
