"""YAML -> Suite -> Cases: reading a suite, multiplying it out, narrowing it down.

    models x paths x backends x providers x sizes x threads

keeps the pairs in which the backend accepts the kind of artifact that the path produces. A path or a
backend that pairs with nothing is an error, and so is an entry that stands in a list twice: both are slips of
whoever wrote the suite, and to drop them silently would hide that a case is not measured.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails

from benchbox.machine import environment
from benchbox.schema import paths
from benchbox import plugins
from benchbox.errors import SuiteError, UsageError
from benchbox.schema import Backend, Case, Step, Suite, Threads
from benchbox.suite.check import MISSING, UNKNOWN_KEY, refuse, said, unknown_keys, wrong
from benchbox.suite.editor_schema import json_schema
from benchbox.suite.form import Inputs, Runtime, SuiteForm, clean_name, produces, sizes_of, validated
from benchbox.suite.selection import select
from benchbox.suite.source import Source, override, parse, read_text

__all__ = ["from_source", "json_schema", "load_suite", "parse_suite", "select"]

MAX_CASES = 10_000  # a day and a half at the shipped budget; more is a slip in a list of sizes
MAX_ERRORS = 10

Sizes = Mapping[str, Mapping[str, int]]
"""The sizes of each model's inputs, and their defaults, by the model's name."""


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
        cases = _cases(form, threads, sizes)
    except ValidationError as error:
        raise _error(error, source) from error
    name = form.name or clean_name(Path(source.file).stem)
    return Suite(
        name=name,
        file=source.file,
        cases=cases,
        parity=form.parity.plan(),
        measure=form.measure.plan(),
        source=_resolved(form, name, threads, sizes),
        folder=folder,
    )


def _cases(form: SuiteForm, threads: tuple[Threads, ...], sizes: Sizes) -> tuple[Case, ...]:
    details = [*_twins(form, threads), *_lonely(form), *_unknown_sizes(form, sizes)]
    if details:
        refuse(*details)
    _few_enough(form, threads)
    return tuple(
        Case(
            model=model,
            path=path,
            backend=backend,
            shape=shape,
            dataset=form.inputs.dataset,
            opset=form.opset,
            dynamic_axes=form.dynamic_axes,
        )
        for model, path in product(form.models, form.paths)
        for runtime in form.backends
        if produces(path) in runtime.accepts
        for chain in runtime.chains
        for shape in _shapes(sizes[model.name], form.inputs)
        for backend in _backends(runtime, chain, threads)
    )


def _backends(runtime: Runtime, chain: tuple[str, ...], threads: tuple[Threads, ...]) -> Iterator[Backend]:
    for count in runtime.threads or threads:
        yield Backend(
            word=runtime.word,
            providers=chain,
            threads=count,
            options=runtime.options,
            provider_options={p: o for p, o in runtime.provider_options.items() if p in chain},
            python=runtime.python,
        )


def _shapes(sizes: Mapping[str, int], inputs: Inputs) -> Iterator[dict[str, int]]:
    """`batch` first, then the family's sizes in its own order."""
    defaults = {"batch": 1, **sizes}
    values = [inputs.sizes.get(name, (default,)) for name, default in defaults.items()]
    for chosen in product(*values):
        yield dict(zip(defaults, chosen, strict=True))


def _twins(form: SuiteForm, threads: tuple[Threads, ...]) -> Iterator[InitErrorDetails]:
    names = [model.name for model in form.models]
    for index, name in enumerate(names):
        if name in names[:index]:
            message = (
                f"{name!r} is the name of models.{names.index(name)} already; give each model its own name"
            )
            yield wrong(message, "models", index)
    for index, path in enumerate(form.paths):
        if path in form.paths[:index]:
            yield wrong(f"this is paths.{form.paths.index(path)} once more", "paths", index)
    seen: dict[str, int] = {}
    for index, runtime in enumerate(form.backends):
        for backend in (b for chain in runtime.chains for b in _backends(runtime, chain, threads)):
            first = seen.setdefault(repr(backend), index)
            if first != index:
                message = f"{backend.label} on {backend.provider} is in backends.{first} already"
                yield wrong(message, "backends", index)
                break


def _lonely(form: SuiteForm) -> Iterator[InitErrorDetails]:
    """Paths that no backend runs, and backends that no path feeds."""
    kinds = {produces(path): None for path in form.paths}
    for index, path in enumerate(form.paths):
        if not any(produces(path) in runtime.accepts for runtime in form.backends):
            label = " + ".join(step.word for step in path)
            message = f"no backend of this suite runs {label}, which produces {produces(path)}."
            yield wrong(f"{message} Backends that do: {_accepting(produces(path))}.", "paths", index)
    for index, runtime in enumerate(form.backends):
        if not any(kind in runtime.accepts for kind in kinds):
            accepts = ", ".join(runtime.accepts)
            message = f"{runtime.word} has nothing to run: it accepts {accepts}, and the paths produce"
            yield wrong(f"{message} {', '.join(kinds)}.", "backends", index)


def _accepting(kind: str) -> str:
    words = [w for w in plugins.names("backends") if kind in plugins.load("backends", w).ACCEPTS]
    return ", ".join(words) or "none"


def _unknown_sizes(form: SuiteForm, sizes: Sizes) -> list[InitErrorDetails]:
    known = ["dataset", "batch"]
    for of_model in sizes.values():
        known += [name for name in of_model if name not in known]
    return [
        InitErrorDetails(**{**detail, "loc": ("inputs", *detail["loc"])})
        for detail in unknown_keys(form.inputs.sizes, known, what="size")
    ]


def _few_enough(form: SuiteForm, threads: tuple[Threads, ...]) -> None:
    shapes = prod(len(values) for values in form.inputs.sizes.values())
    backends = sum(len(r.chains) * len(r.threads or threads) for r in form.backends)
    count = len(form.models) * len(form.paths) * shapes * backends
    if count > MAX_CASES:
        refuse(wrong(f"the matrix has up to {count} cases; at most {MAX_CASES} are allowed", "inputs"))


# --- Errors ---


def _error(error: ValidationError, source: Source) -> UsageError:
    """All that pydantic found, a line each with its place; SuiteError where a line of the file is wrong."""
    placed: list[tuple[int, int, str]] = []
    from_overrides: list[str] = []
    for e in error.errors(include_url=False):
        label = source.label(e["loc"], missing=e["type"] == MISSING)
        text = f"{label}: {said(e)}" if label else said(e)
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


# --- The suite as plain data ---


def _resolved(form: SuiteForm, name: str, threads: tuple[Threads, ...], sizes: Sizes) -> dict[str, Any]:
    """The suite in its long form, JSON-able, defaults filled in: `from_source` reads it back."""
    parity = form.parity.plan()
    plain = {
        "name": name,
        "models": [dataclasses.asdict(model) for model in form.models],
        "paths": [[_plain_step(step) for step in path] for path in form.paths],
        "backends": [_plain_backend(runtime) for runtime in form.backends],
        "inputs": {
            "dataset": _plain_word(form.inputs.dataset.word, form.inputs.dataset.options),
            **{size: list(values) for size, values in _all_sizes(form, sizes).items()},
        },
        "opset": form.opset,
        "dynamic_axes": form.dynamic_axes,
        "threads": _plain_threads(threads),
        "parity": {
            "samples": parity.samples,
            "gradient_directions": parity.gradient_directions,
            "tolerances": {precision: vars(tolerance) for precision, tolerance in parity.tolerances.items()},
        },
        "measure": form.measure.model_dump(),
    }
    copy: dict[str, Any] = json.loads(json.dumps(plain))
    return copy


def _all_sizes(form: SuiteForm, of_models: Sizes) -> dict[str, tuple[int, ...]]:
    """The suite's sizes, and the defaults on which all families that have the size agree."""
    sizes = dict(form.inputs.sizes)
    defaults: dict[str, set[int]] = {}
    for of_model in of_models.values():
        for name, default in of_model.items():
            defaults.setdefault(name, set()).add(default)
    for name, values in defaults.items():
        if len(values) == 1:
            sizes.setdefault(name, tuple(values))
    return sizes


def _plain_word(word: str, options: Mapping[str, Any]) -> str | dict[str, Any]:
    return {word: dict(options)} if options else word


def _plain_step(step: Step) -> str | dict[str, Any]:
    return _plain_word(step.word, step.options)


def _plain_backend(runtime: Runtime) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "providers": [chain[0] if len(chain) == 1 else list(chain) for chain in runtime.chains],
        "provider_options": dict(runtime.provider_options),
        "threads": _plain_threads(runtime.threads) if runtime.threads else None,
        "python": runtime.python,
        **runtime.options,
    }
    return {runtime.word: {name: value for name, value in fields.items() if value not in (None, {})}}


def _plain_threads(threads: Sequence[Threads]) -> dict[str, list[int]]:
    return {
        "intra_op": list(dict.fromkeys(count.intra_op for count in threads)),
        "inter_op": list(dict.fromkeys(count.inter_op for count in threads)),
    }
