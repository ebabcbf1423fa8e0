"""The fields of a suite: what is required, what is allowed, what the short forms mean.

A form holds values of `schema` wherever there is one. Plug-ins say the rest: which words exist (their files),
which options a word has (their `Options`), which providers a backend knows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
)

from benchbox.schema.asked import (
    Model,
    Step,
    Threads,
)
from benchbox.suite.check import (
    Between,
    Form,
)
from benchbox.suite.inputs import Inputs, read_inputs
from benchbox.suite.models import read_model
from benchbox.suite.paths import read_path
from benchbox.suite.plans import MeasureForm, ParityForm
from benchbox.suite.quantities import checked_name, listed
from benchbox.suite.runtimes import Runtime, read_runtime, read_threads

# 13 is the first opset with per-axis QuantizeLinear, which int8 needs; 23 the last that torch 2.13 writes.
OPSETS = (13, 23)


# --- the whole ---


class SuiteForm(Form):
    """What is measured: every model, path, backend, provider, size and thread count that fit together."""

    models: Annotated[
        list[Annotated[Model, PlainValidator(read_model)]], BeforeValidator(listed), Field(min_length=1)
    ]
    paths: Annotated[
        list[Annotated[tuple[Step, ...], PlainValidator(read_path)]],
        BeforeValidator(listed),
        Field(min_length=1),
    ]
    backends: Annotated[
        list[Annotated[Runtime, PlainValidator(read_runtime)]], BeforeValidator(listed), Field(min_length=1)
    ]
    inputs: Annotated[Inputs, PlainValidator(read_inputs)]
    opset: Annotated[int, Between(*OPSETS)] = Field(
        default=17, description="ONNX operator set that is asked for."
    )
    dynamic_axes: bool = Field(
        default=True, description="Leave batch (and length) open in the exported graph."
    )
    threads: Annotated[tuple[Threads, ...] | None, PlainValidator(read_threads)] = None
    parity: ParityForm = ParityForm()
    measure: MeasureForm = MeasureForm()
    name: Annotated[str, Field(min_length=1, max_length=80), AfterValidator(checked_name)] | None = Field(
        default=None, description="How results are called; by default the file's name."
    )


def validated(data: Any, *, folder: Path, cores: int) -> SuiteForm:
    """The form of plain data. Raises pydantic's ValidationError."""
    return SuiteForm.model_validate(data, context={"folder": folder, "cores": cores})
