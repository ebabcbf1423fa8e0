"""`parity` and `measure`: how agreement is judged, how long and how precisely is measured."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    ValidationInfo,
)

from benchbox.schema.asked import (
    DEFAULT_TOLERANCES,
    MeasurePlan,
    ParityPlan,
    Precision,
    Tolerance,
)
from benchbox.suite.check import (
    Between,
    Form,
    custom,
)
from benchbox.suite.quantities import Bytes, Rest, Seconds

# --- parity, measurement ---


class ToleranceForm(Form):
    """What agreement demands at one precision; null demands nothing, what is left out keeps its default."""

    atol: Annotated[float, Between(0, 1e9)] | None = Field(
        default=None,
        description="Largest absolute error of an output whose values are about 1; of one in the hundreds, "
        "hundreds of times as much.",
    )
    cosine: Annotated[float, Between(-1, 1)] | None = Field(
        default=None, description="Lowest cosine of any sample."
    )
    sqnr_db: Annotated[float, Between(-1000, 1000)] | None = Field(
        default=None, description="Lowest signal-to-quantization-noise ratio, in decibels."
    )
    metrics: dict[str, Annotated[float, Between(0, 1)]] = Field(
        default={}, description="Lower bounds of task metrics, by name: {top1_agreement: 0.99}."
    )
    gradient: Annotated[float, Between(0, 1e6)] | None = Field(
        default=None, description="Largest error of directional derivatives, relative to the reference's."
    )


def _tolerance(data: Any) -> dict[str, Any]:
    return ToleranceForm.model_validate(data).model_dump(exclude_unset=True)


class ParityForm(Form):
    """How agreement with the reference is judged."""

    samples: Annotated[int, Between(1, 100_000)] = Field(
        default=ParityPlan().samples, description="How many inputs are compared."
    )
    gradient_directions: Annotated[int, Between(0, 1000)] = Field(
        default=0,
        description="Along how many random directions of continuous inputs derivatives are compared.",
    )
    tolerances: dict[Precision, Annotated[dict[str, Any], PlainValidator(_tolerance)]] = Field(
        default={}, description="By precision: fp32, fp16, bf16, int8, int4."
    )

    def plan(self) -> ParityPlan:
        """The plan, with the default of every tolerance that the suite does not name."""
        defaults = {**DEFAULT_TOLERANCES}
        for precision, given in self.tolerances.items():
            defaults[precision] = dataclasses.replace(defaults.get(precision, Tolerance()), **given)
        return ParityPlan(self.samples, self.gradient_directions, defaults)


_PLAN = MeasurePlan()


def _most_replicates(data: Any, info: ValidationInfo) -> Any:
    """The plan's default, or as many as the fewest where these are more."""
    return max(_PLAN.most_replicates, info.data.get("replicates", 0)) if data is None else data


def _no_fewer_than_replicates(most: int, info: ValidationInfo) -> int:
    fewest = info.data.get("replicates", most)
    if most < fewest:
        raise custom(
            f"{most} is less than replicates, which is {fewest}. Give at least {fewest} here, "
            f"or a smaller number there (it is {_PLAN.replicates} where the suite does not say)."
        )
    return most


class MeasureForm(Form):
    """How long and how precisely is measured. Durations may be written 20s or 2m, sizes 4 GiB."""

    budget_seconds: Seconds = Field(
        default=_PLAN.budget_seconds, description="For one case over all replicates, loading not counted."
    )
    precision: Annotated[float, Between(0.0001, 1)] = Field(
        default=_PLAN.precision,
        description="Half-width, relative, of the interval of the ratio to the baseline at which a case is "
        "done; of the median's, where there is no baseline.",
    )
    confidence: Annotated[float, Between(0.5, 0.9999)] = Field(
        default=_PLAN.confidence, description="Of every interval."
    )
    margin: Annotated[float, Between(0, 1)] = Field(
        default=_PLAN.margin, description="Relative difference below which two cases are equivalent."
    )
    replicates: Annotated[int, Between(2, 100)] = Field(
        default=_PLAN.replicates,
        description="Fresh processes per case at least; below two, nothing is known of their spread.",
    )
    most_replicates: Annotated[
        int | None,
        Between(2, 100),
        BeforeValidator(_most_replicates),
        AfterValidator(_no_fewer_than_replicates),
    ] = Field(
        default=None,
        validate_default=True,
        description=f"Fresh processes at most, while a case is not done and the budget lasts; null for "
        f"{_PLAN.most_replicates}, or for replicates where that is more.",
    )
    min_rounds: Annotated[int, Between(1, 10_000)] = Field(
        default=_PLAN.min_rounds,
        description="Rounds of a process at least, if they take no more than twice its share of the budget.",
    )
    block_seconds: Seconds = Field(
        default=_PLAN.block_seconds, description="How long one block of calls lasts at least."
    )
    warm_up_seconds: Rest = Field(
        default=_PLAN.warm_up_seconds, description="Warm-up at most; it ends when blocks settle."
    )
    timeout_seconds: Seconds = Field(
        default=_PLAN.timeout_seconds, description="For each answer of a worker or a builder."
    )
    memory_limit_bytes: Bytes | None = Field(
        default=None, description="Address space of workers and builders; null for no limit."
    )
    memory_budget_bytes: Bytes | None = Field(
        default=None, description="What may be loaded side by side; null for what the machine has free."
    )

    def plan(self) -> MeasurePlan:
        """The same as the value that flows through benchbox."""
        return MeasurePlan(**self.model_dump())
