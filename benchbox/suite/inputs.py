"""`inputs`: the dataset, and the values of each size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import InitErrorDetails

from benchbox.schema.asked import (
    Dataset,
)
from benchbox.suite.check import (
    Form,
    custom,
    errors_below,
    refuse,
)
from benchbox.suite.quantities import SIZES_OF_INPUTS
from benchbox.suite.source import kind
from benchbox.suite.words import (
    with_options,
)

# --- inputs ---


@dataclass(frozen=True)
class Inputs:
    """Where inputs come from, and the values of each size that the suite gives."""

    dataset: Dataset
    sizes: Mapping[str, tuple[int, ...]]


def _dataset(data: Any, info: ValidationInfo) -> Dataset:
    _, word, given = with_options("datasets", data, info, "dataset")
    return Dataset(word, given)


class DatasetForm(Form):
    """The part of `inputs` that is no size."""

    dataset: Annotated[Dataset, PlainValidator(_dataset)] = Field(
        description="File name of a plug-in in datasets/."
    )


def read_inputs(data: Any, info: ValidationInfo) -> Inputs:
    """The field `inputs`: the dataset, and every other key a size."""
    if not isinstance(data, dict):
        raise custom(
            f"should be a mapping such as {{dataset: sample_images, batch: [1, 8]}}, not {kind(data)}"
        )
    details: list[InitErrorDetails] = []
    sizes: dict[str, tuple[int, ...]] = {"batch": (1,)}
    for name, value in data.items():
        if name != "dataset":
            try:
                sizes[name] = tuple(SIZES_OF_INPUTS.validate_python(value))
            except ValidationError as error:
                details += errors_below(error, name)
    try:
        form = DatasetForm.model_validate(
            {k: v for k, v in data.items() if k == "dataset"}, context=info.context
        )
    except ValidationError as error:
        details += errors_below(error)
    if details:
        refuse(*details)
    return Inputs(form.dataset, sizes)
