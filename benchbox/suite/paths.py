"""`paths`: an exporter, and the passes that follow it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import (
    ValidationError,
    ValidationInfo,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from benchbox import plugins
from benchbox.schema.asked import (
    Step,
)
from benchbox.suite.check import (
    custom,
    errors_below,
    refuse,
    wrong,
)
from benchbox.suite.quantities import listed
from benchbox.suite.words import (
    with_options,
    word_and_fields,
)

# --- paths ---


def read_path(data: Any, info: ValidationInfo) -> tuple[Step, ...]:
    """Steps of which each accepts what the one before it produces."""
    items = listed(data)
    if not items:
        raise custom(f"is empty; a path begins with an exporter: {', '.join(plugins.names('exporters'))}")
    steps: list[Step] = []
    details: list[InitErrorDetails] = []
    produced: str | None = None
    for index, item in enumerate(items):
        try:
            module, step = _step(item, info, first=index == 0)
            if produced is not None and index > 0:
                _accepts(module, step, steps[-1], produced)
        except ValidationError as error:
            details += errors_below(error, index)
            produced = None
            continue
        except PydanticCustomError as error:
            details.append(wrong(str(error), index))
            produced = None
            continue
        steps.append(step)
        produced = module.PRODUCES
    if details:
        refuse(*details)
    return tuple(steps)


def _step(data: Any, info: ValidationInfo, *, first: bool) -> tuple[Any, Step]:
    word = word_and_fields(data, what="step")[0]
    family: plugins.Kind = "exporters" if first else "passes"
    if first and not plugins.exists("exporters", word) and plugins.exists("passes", word):
        exporters = ", ".join(plugins.names("exporters"))
        raise custom(
            f"{word!r} is a pass; a path begins with an exporter. Allowed: {exporters}. "
            f"A path of several steps is a list: - [onnx, {word}]"
        )
    if not first and not plugins.exists("passes", word) and plugins.exists("exporters", word):
        raise custom(
            f"{word!r} is an exporter, which can only come first. "
            f"Allowed here: {', '.join(plugins.names('passes'))}."
        )
    module, word, given = with_options(family, data, info, "exporter" if first else "pass")
    return module, Step(word, given)


def _accepts(module: Any, step: Step, before: Step, produced: str) -> None:
    if produced not in module.ACCEPTS:
        raise custom(
            f"{step.word!r} cannot follow {before.word!r}, which produces {produced}. "
            f"It accepts: {', '.join(module.ACCEPTS)}."
        )


def produces(path: Sequence[Step]) -> str:
    """The kind of artifact at the end of a path."""
    word = path[-1].word
    return plugins.exporter(word).PRODUCES if len(path) == 1 else plugins.pass_(word).PRODUCES
