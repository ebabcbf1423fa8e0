"""`threads` and `backends`: which runtimes run the artifacts, and how."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import PydanticCustomError

from benchbox import plugins
from benchbox.schema.asked import (
    Threads,
)
from benchbox.suite.check import (
    UNKNOWN_KEY,
    Form,
    cut_text,
    errors_below,
    refuse,
    said_of_error,
    unknown_keys,
    wrong,
)
from benchbox.suite.quantities import ThreadCounts, listed
from benchbox.suite.words import (
    folder_of,
    homeless,
    local_path,
    options,
    plugin,
    word_and_fields,
)

GENERIC = ("providers", "provider_options", "threads", "python")
"""What every backend takes; the plug-in's own options stand beside them."""


# --- threads, backends ---


class ThreadsForm(Form):
    """Thread counts, the same for every backend; several make several cases."""

    intra_op: ThreadCounts | None = Field(
        default=None, description="Threads within an operator; by default all cores."
    )
    inter_op: ThreadCounts = Field(default=[1], description="Operators that run side by side.")


def read_threads(data: Any, info: ValidationInfo) -> tuple[Threads, ...]:
    """The field `threads`: counts, or a mapping of counts."""
    try:
        form = ThreadsForm.model_validate(data if isinstance(data, dict) else {"intra_op": data})
    except ValidationError as error:
        if isinstance(data, dict):
            raise
        # `threads: x` has no field intra_op: what is wrong is the value itself.
        refuse(*(wrong(said_of_error(e), *e["loc"][1:]) for e in error.errors(include_url=False)))
    cores = [info.context["cores"]] if info.context else [1]
    intra_op = form.intra_op or cores
    return tuple(Threads(intra, inter) for intra in intra_op for inter in form.inter_op)


@dataclass(frozen=True)
class Runtime:
    """A backend entry: `chains` are the providers of each of its cases; `threads` None takes the suite's."""

    word: str
    chains: tuple[tuple[str, ...], ...]
    threads: tuple[Threads, ...] | None
    options: Mapping[str, Any]
    provider_options: Mapping[str, Mapping[str, Any]]
    python: str | None
    accepts: tuple[str, ...]


class GenericForm(Form):
    """What every backend takes, beside its own options."""

    providers: Annotated[list[Any], BeforeValidator(listed), Field(min_length=1)] | None = Field(
        default=None,
        description="Each entry makes a case; an entry that is a list is the priority list of one session.",
    )
    provider_options: dict[str, dict[str, Any]] = Field(default={}, description="Options by provider.")
    threads: Annotated[tuple[Threads, ...] | None, PlainValidator(read_threads)] = Field(
        default=None, description="Other thread counts than the suite's."
    )
    python: Annotated[str, Field(min_length=1, max_length=1000)] | None = Field(
        default=None,
        description="Interpreter of the worker, for a runtime that lives in another environment.",
    )


def read_runtime(data: Any, info: ValidationInfo) -> Runtime:
    """An entry of `backends`: a word, or a word with its options."""
    word, fields = word_and_fields(data, what="backend")
    module = plugin("backends", word, what="backend")
    try:
        return _runtime_of(module, word, fields, info)
    except ValidationError as error:
        refuse(*errors_below(error, word))


def _runtime_of(module: Any, word: str, fields: Mapping[str, Any], info: ValidationInfo) -> Runtime:
    generic = {key: value for key, value in fields.items() if key in GENERIC}
    own = {key: value for key, value in fields.items() if key not in GENERIC}
    _known_fields(module, own)
    form = GenericForm.model_validate(generic, context=info.context)
    chains = _chains(module, form.providers)
    _known_provider_options(form.provider_options, chains)
    return Runtime(
        word=word,
        chains=chains,
        threads=form.threads,
        options=options(module, own, folder_of(info)),
        provider_options=homeless(form.provider_options),
        python=_python(form.python, folder_of(info)),
        accepts=tuple(module.ACCEPTS),
    )


def _known_fields(module: Any, own: Mapping[str, Any]) -> None:
    """Unknown options are told from generic fields too, so that `provider` finds `providers`."""
    names = [] if module.Options is None else [f.name for f in dataclasses.fields(module.Options)]
    details = unknown_keys(own, [*names, *GENERIC], what="option")
    if details:
        refuse(*details)


def _chains(module: Any, given: Sequence[Any] | None) -> tuple[tuple[str, ...], ...]:
    if given is None:
        return tuple((provider,) for provider in module.DEFAULT_PROVIDERS)
    details = []
    for index, entry in enumerate(given):
        for place, provider in enumerate(listed(entry)):
            if not isinstance(provider, str) or provider not in module.KNOWN_PROVIDERS:
                message = plugins.unknown(cut_text(provider), module.KNOWN_PROVIDERS, what="provider")
                details.append(wrong(message, "providers", index, place))
        if entry == [] or listed(entry) in [listed(other) for other in given[:index]]:
            message = "is empty" if entry == [] else "stands in the list twice"
            details.append(wrong(message, "providers", index))
    if details:
        refuse(*details)
    return tuple(tuple(listed(entry)) for entry in given)


def _known_provider_options(given: Mapping[str, Any], chains: Sequence[Sequence[str]]) -> None:
    used = sorted({provider for chain in chains for provider in chain})
    message = f"is not among this backend's providers: {', '.join(used)}"
    details = [wrong(message, "provider_options", name, of=UNKNOWN_KEY) for name in given if name not in used]
    if details:
        refuse(*details)


def _python(text: str | None, folder: Path) -> str | None:
    if text is None or "/" not in text:
        return text
    try:
        return local_path(text, folder)
    except PydanticCustomError as error:
        refuse(wrong(str(error), "python"))
