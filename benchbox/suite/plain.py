"""The suite as plain data: its long form, JSON-able, defaults filled in."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from benchbox.schema.asked import Step, Threads
from benchbox.suite.form import SuiteForm
from benchbox.suite.matrix import Sizes
from benchbox.suite.runtimes import Runtime

# --- The suite as plain data ---


def resolved_source(form: SuiteForm, name: str, threads: tuple[Threads, ...], sizes: Sizes) -> dict[str, Any]:
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
