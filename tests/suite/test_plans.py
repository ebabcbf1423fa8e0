"""`parity` and `measure`: defaults, units, and bounds."""

# ruff: noqa: E501 - the messages of the tables are literals, one a line, as the user reads them

from __future__ import annotations

from dataclasses import fields

import pytest

from benchbox.schema.asked import DEFAULT_TOLERANCES, MeasurePlan, Tolerance
from benchbox.suite.load import from_source
from suite_texts import GOOD, each_is_told_with_its_place, parsed


def test_tolerances_keep_the_defaults_that_are_not_named():
    """A named bound replaces its default, null lifts it, other precisions stay."""
    plan = parsed(
        GOOD + "parity: {samples: 5, tolerances: {fp32: {atol: 1e-3}, int8: {cosine: null, sqnr_db: 20}}}"
    ).parity
    assert plan.samples == 5
    assert plan.tolerances == {
        **DEFAULT_TOLERANCES,
        "fp32": Tolerance(atol=1e-3, cosine=0.99999, gradient=1e-2),
        "int8": Tolerance(cosine=None, sqnr_db=20.0),
    }


def test_durations_and_sizes_have_units():
    """20s, 2m and 4 GiB are seconds and bytes."""
    measure = parsed(
        GOOD
        + "measure: {budget_seconds: 2m, block_seconds: 250ms, timeout_seconds: 1.5 h, warm_up_seconds: 0,"
        " memory_limit_bytes: 4 GiB, memory_budget_bytes: 500MB, precision: 1e-2}"
    ).measure
    assert measure == MeasurePlan(
        budget_seconds=120.0,
        precision=0.01,
        block_seconds=0.25,
        timeout_seconds=5400.0,
        warm_up_seconds=0.0,
        memory_limit_bytes=4294967296,
        memory_budget_bytes=500000000,
    )
    assert type(measure.memory_limit_bytes) is int


@pytest.mark.parametrize(
    ("written", "fewest", "most"),
    [
        ("{}", 5, 12),
        ("{replicates: 3}", 3, 12),
        ("{replicates: 20}", 20, 20),
        ("{replicates: 3, most_replicates: 3}", 3, 3),
        ("{most_replicates: 7}", 5, 7),
        ("{replicates: 14, most_replicates: null}", 14, 14),
    ],
)
def test_the_most_processes_are_never_fewer_than_the_fewest(written, fewest, most):
    """And a suite that is read again from what a run kept says the same."""
    loaded = parsed(GOOD + f"measure: {written}\n")
    assert (loaded.measure.replicates, loaded.measure.most_replicates) == (fewest, most)
    assert from_source(loaded.source, loaded.file).measure == loaded.measure


def test_measure_takes_every_field_of_the_plan_with_its_default():
    """A field added to MeasurePlan can be written in a suite, or this fails."""
    assert parsed().measure == MeasurePlan()
    assert set(parsed().source["measure"]) == {field.name for field in fields(MeasurePlan)}


test_a_plan_that_is_wrong_is_told_with_its_place = each_is_told_with_its_place({
    "unknown precision": ("threads: 2", "parity: {tolerances: {fp23: {atol: 1}}}", "s.yaml:5:23: parity.tolerances.fp23: unknown word: 'fp23'. Did you mean 'fp32'? Allowed: fp32, fp16, "),
    "unknown tolerance": ("threads: 2", "parity: {tolerances: {fp32: {atl: 1}}}", "s.yaml:5:30: parity.tolerances.fp32.atl: unknown field: 'atl'. Did you mean 'atol'? Allowed: "),
    "cosine 2": ("threads: 2", "parity: {tolerances: {fp32: {cosine: 2}}}", "s.yaml:5:38: parity.tolerances.fp32.cosine: 2.0 is out of range. Allowed: -1 to 1."),
    "unknown unit": ("threads: 2", "measure: {budget_seconds: 20 years}", "s.yaml:5:27: measure.budget_seconds: '20 years' is not understood. Allowed: a number, or one with a unit "),
    "one replicate": ("threads: 2", "measure: {replicates: 1}", "s.yaml:5:23: measure.replicates: 1 is out of range. Allowed: 2 to 100."),
    "fewer processes at most than at least": ("threads: 2", "measure: {most_replicates: 4}", "s.yaml:5:28: measure.most_replicates: 4 is less than replicates, which is 5. Give at least 5 here, "),
    "measure is a number": ("threads: 2", "measure: 3", "s.yaml:5:10: measure: should be a mapping, not 3"),
})  # fmt: skip
