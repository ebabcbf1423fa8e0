"""The suite multiplied out: every case, and what pairs with nothing or stands there twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from math import prod

from pydantic_core import InitErrorDetails

from benchbox import plugins
from benchbox.schema.asked import Backend, Case, Threads
from benchbox.suite.check import refuse, unknown_keys, wrong
from benchbox.suite.form import SuiteForm
from benchbox.suite.inputs import Inputs
from benchbox.suite.paths import produces
from benchbox.suite.runtimes import Runtime

MAX_CASES = 10_000  # a day and a half at the shipped budget; more is a slip in a list of sizes

Sizes = Mapping[str, Mapping[str, int]]
"""The sizes of each model's inputs, and their defaults, by the model's name."""


def multiplied(form: SuiteForm, threads: tuple[Threads, ...], sizes: Sizes) -> tuple[Case, ...]:
    """Every case of a suite, in its order. Raises ValidationError for twins and what pairs with nothing."""
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
    words = [word for word in plugins.usable("backends") if kind in plugins.backend(word).ACCEPTS]
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
