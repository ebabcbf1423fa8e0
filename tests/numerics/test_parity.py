"""Reference against candidate: literal numbers for what differs, and no way for NaN to pass."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchbox.numerics import parity
from benchbox.numerics.parity import Criteria
from benchbox.schema.asked import DEFAULT_TOLERANCES, Tolerance
from benchbox.schema.seen import OutputParity

SHAPE = {"batch": 2}
NAN, INF = float("nan"), float("inf")
CLEAN = OutputParity("logits", SHAPE, 0.0, 0.0, 0.0, 1.0, None)
NOTHING = Tolerance()


def compare(reference: Any, candidate: Any) -> OutputParity:
    return parity.compare("logits", SHAPE, np.array(reference, np.float32), np.array(candidate, np.float32))


def judge(output: OutputParity, tolerance: Tolerance, **changes: Any) -> tuple[str, ...]:
    criteria = replace(Criteria("fp32", tolerance, noise_floor=0.0, samples=2), **changes)
    judged = parity.judge([output], {"top1_agreement": 0.5}, criteria)
    assert judged.passed is (judged.reasons == ())
    return judged.reasons


def test_errors_cosine_and_sqnr_of_a_candidate_that_is_a_little_off() -> None:
    """Errors 0.5, 0, 0, 0, 0, 1; signal 9 + 16 + 25 = 50, noise 1.25."""
    found = compare([[3, 4, 0], [0, 0, 5]], [[3.5, 4, 0], [0, 0, 4]])
    assert found == OutputParity(
        output="logits",
        shape={"batch": 2},
        max_abs_error=1.0,
        mean_abs_error=0.25,
        max_rel_error=0.2,  # 1 of 5; 0.5 of 3 is less
        cosine=pytest.approx((3 * 3.5 + 16) / (5 * math.hypot(3.5, 4)), abs=1e-12),
        sqnr_db=pytest.approx(16.020599913, abs=1e-9),
        scale=pytest.approx(4.95),
        rel_l2_error=pytest.approx(0.2),  # 1 of 5 in the second row; 0.5 of 5 in the first
    )


def test_two_logits_make_the_cosine_blind_and_not_the_length_of_the_error() -> None:
    found = compare([[3, -3], [4, -4]], [[3, -3], [2, -2]])
    assert (found.cosine, found.rel_l2_error) == (pytest.approx(1.0), 0.5)


PADDED = np.array([[True, True, False], [True, False, False]])[..., None]
TOKENS = np.arange(1, 13, dtype=np.float32).reshape(2, 3, 2)
STRICT = Tolerance(atol=1e-4, cosine=0.99999, sqnr_db=80.0)


def beside(changes: Any) -> OutputParity:
    return parity.compare("tokens", SHAPE, TOKENS, TOKENS + np.asarray(changes, np.float32), PADDED)


def test_noise_behind_the_mask_is_shown_and_not_judged() -> None:
    noise = np.random.default_rng(0).standard_normal(TOKENS.shape) * 100 * ~PADDED
    found = beside(noise)
    assert (found.max_abs_error, found.cosine, found.sqnr_db, found.rel_l2_error) == (0.0, 1.0, None, 0.0)
    assert judge(found, STRICT) == ()
    assert found.padding is not None
    assert (found.padding.share, found.padding.nan_count) == (0.5, 0)
    assert found.padding.max_abs_error == pytest.approx(np.abs(noise).max(), rel=1e-6)
    assert found.padding.cosine is not None
    assert found.padding.cosine < 0.5


def test_an_error_before_the_padding_is_judged_however_much_of_it_there_is() -> None:
    off = np.zeros(TOKENS.shape)
    off[1, 0, 1] = 0.5
    found = beside(off)
    assert found.max_abs_error == 0.5
    assert found.mean_abs_error == pytest.approx(0.5 / 6)  # of six values that are read, not of twelve
    assert found.scale == pytest.approx(7.95)  # of 1 to 4, 7 and 8: those behind the mask are up to 12
    assert [reason.partition(":")[2].split()[:3] for reason in judge(found, STRICT)] == [
        ["max", "abs", "error"],
        ["cosine", "0.999553", "<"],
        ["SQNR", "27.57", "dB"],
    ]
    assert found.padding is not None
    assert (found.padding.max_abs_error, found.padding.cosine) == (0.0, 1.0)


def test_nan_behind_the_mask_is_counted_there_and_nowhere_else() -> None:
    found = beside(np.where(PADDED, 0.0, np.nan))
    assert (found.nan_count, found.cosine) == (0, 1.0)
    assert judge(found, STRICT) == ()
    assert found.padding is not None
    assert (found.padding.nan_count, found.padding.max_abs_error, found.padding.cosine) == (6, None, None)
    assert judge(beside(np.where(PADDED, np.nan, 0.0)), STRICT)[0].endswith(": 6 NaN")


def test_a_mask_of_ones_hides_nothing() -> None:
    found = parity.compare("tokens", SHAPE, TOKENS, TOKENS, np.ones((2, 3, 1), bool))
    assert found == parity.compare("tokens", SHAPE, TOKENS, TOKENS)
    assert found.padding is None


def test_an_output_is_finite_where_it_is_read() -> None:
    values = np.where(PADDED, TOKENS, np.float32("nan"))
    assert parity.is_finite(values, PADDED)
    assert not parity.is_finite(values)
    assert not parity.is_finite(values, ~PADDED)


def test_the_cosine_is_that_of_the_worst_sample() -> None:
    """The second row is orthogonal to its reference; the first agrees."""
    assert compare([[1, 0], [1, 0]], [[2, 0], [0, 1]]).cosine == 0.0
    assert compare([[1, 0], [1, 0]], [[2, 0], [-1, 0]]).cosine == -1.0


def test_identical_outputs_have_no_error_and_no_sqnr() -> None:
    found = compare([[1, 2], [3, 4]], [[1, 2], [3, 4]])
    assert (found.max_abs_error, found.mean_abs_error, found.max_rel_error) == (0.0, 0.0, 0.0)
    assert found.cosine == 1.0
    assert found.sqnr_db is None
    assert judge(found, Tolerance(atol=0.0, cosine=0.99999, sqnr_db=100.0)) == ()


def test_elements_that_are_tiny_beside_the_largest_do_not_decide_the_relative_error() -> None:
    """1e-6 beside 1000 counts as 1, a thousandth of the largest: an error of 0.5 is 0.5 of it."""
    assert compare([[1000, 1e-6]], [[1000, 0.5]]).max_rel_error == pytest.approx(0.5, rel=1e-5)


def test_float16_and_integers_are_compared_in_double() -> None:
    reference = np.array([[60000, 60000]], np.float16)
    found = parity.compare("logits", SHAPE, reference, -reference)
    assert found.max_abs_error == 120000.0
    ids = parity.compare("ids", SHAPE, np.array([[250]], np.uint8), np.array([[251]], np.uint8))
    assert ids.max_abs_error == 1.0


def test_nan_is_counted_and_leaves_the_cosine_unknown() -> None:
    found = compare([[1, 2], [3, 4]], [[1, NAN], [3.5, 4]])
    assert (found.nan_count, found.inf_count, found.cosine) == (1, 0, None)
    assert (found.max_abs_error, found.mean_abs_error) == (0.5, pytest.approx(0.5 / 3))


def test_nothing_but_nan_leaves_everything_unknown() -> None:
    found = compare([[1, 2]], [[NAN, NAN]])
    assert found == OutputParity("logits", SHAPE, None, None, None, None, None, nan_count=2)


def test_an_infinity_that_both_have_is_agreement() -> None:
    """A mask of -inf: shared, it is no error; alone, or with the other sign, it is counted."""
    shared = compare([[1, -INF]], [[1, -INF]])
    assert (shared.inf_count, shared.max_abs_error, shared.cosine) == (0, 0.0, 1.0)
    assert compare([[1, -INF]], [[1, INF]]).inf_count == 1
    assert compare([[1, 2]], [[1, INF]]).inf_count == 1


def test_a_zero_reference_has_no_relative_error_no_cosine_and_no_sqnr() -> None:
    found = compare([[0, 0]], [[0.25, 0]])
    assert (found.max_abs_error, found.max_rel_error, found.cosine, found.sqnr_db) == (0.25, None, None, None)


def test_a_sample_that_is_zero_on_one_side_only_leaves_the_cosine_unknown() -> None:
    assert compare([[1, 2], [0, 0]], [[1, 2], [0, 1]]).cosine is None


def test_equal_outputs_have_a_cosine_of_one_and_nearly_equal_ones_less() -> None:
    """Five decimals are rounded down, and these rows by themselves give 0.9999999999999998."""
    logits = np.random.default_rng(0).normal(size=(8, 1000)).astype(np.float32)
    assert compare(logits, logits).cosine == 1.0
    assert 0.9999 < compare(logits, logits + np.float32(1e-3)).cosine < 1.0


def test_an_output_without_elements_agrees() -> None:
    """Boxes where nothing was found."""
    nothing = np.zeros((2, 0, 4))
    found = parity.compare("boxes", SHAPE, nothing, nothing)
    assert (found.max_abs_error, found.mean_abs_error, found.cosine) == (0.0, 0.0, None)
    assert judge(found, Tolerance(atol=0.0, cosine=0.99999, sqnr_db=100.0)) == ()


def test_outputs_that_are_the_same_agree_though_some_are_zero() -> None:
    """Class indices, masks and dead units: where both are zero there is no angle, and no error."""
    strict = Tolerance(atol=0.0, cosine=0.99999, sqnr_db=100.0)
    found = compare([[1, 2], [0, 0]], [[1, 2], [0, 0]])
    assert found.cosine == 1.0
    assert judge(found, strict) == ()
    nothing = compare([[0, 0], [0, 0]], [[0, 0], [0, 0]])
    assert nothing.cosine is None
    assert judge(nothing, strict) == ()
    labels = parity.compare("label", SHAPE, np.array([0, 3]), np.array([0, 3]))
    assert judge(labels, strict) == ()


def test_a_bound_on_a_loss_or_an_error_is_an_upper_one() -> None:
    criteria = Criteria("fp32", Tolerance(metrics={"cross_entropy": 2.0, "top1_agreement": 0.9}), 0.0, 2)
    assert parity.judge([CLEAN], {"cross_entropy": 1.5, "top1_agreement": 0.95}, criteria).reasons == ()
    assert parity.judge([CLEAN], {"cross_entropy": 2.5, "top1_agreement": 0.85}, criteria).reasons == (
        "cross_entropy 2.5 > 2", "top1_agreement 0.85 < 0.9",
    )  # fmt: skip


def test_a_candidate_of_zeros_is_as_wrong_as_can_be() -> None:
    found = compare([[1, 2]], [[0, 0]])
    assert (found.cosine, found.sqnr_db, found.max_rel_error) == (0.0, 0.0, 1.0)


def test_one_number_a_sample_and_many_axes_are_both_outputs() -> None:
    assert parity.compare("score", SHAPE, np.array([2.0, 4.0]), np.array([2.0, 5.0])).max_abs_error == 1.0
    cube = np.ones((2, 3, 4, 5))
    assert parity.compare("map", SHAPE, cube, cube).cosine == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((2, 3), ""), ((2, 4), "logits has shape [2, 4], the reference [2, 3]")],
)
def test_another_shape_is_named(shape: tuple[int, ...], expected: str) -> None:
    assert parity.shape_mismatch("logits", np.zeros((2, 3)), np.zeros(shape)) == expected


def test_a_judgement_keeps_what_it_was_judged_by() -> None:
    criteria = Criteria("int8", Tolerance(cosine=0.99), noise_floor=1e-7, samples=12)
    judged = parity.judge([CLEAN], {"top1_agreement": 1.0}, criteria)
    assert judged.passed
    assert (judged.precision, judged.tolerance, judged.noise_floor) == ("int8", Tolerance(cosine=0.99), 1e-7)
    assert (judged.samples, judged.outputs, judged.metrics) == (12, (CLEAN,), {"top1_agreement": 1.0})


@pytest.mark.parametrize(
    ("changes", "tolerance", "reason"),
    [
        ({"max_abs_error": 2e-4}, Tolerance(atol=1e-4), "max abs error 0.0002 > 0.0001"),
        ({"max_abs_error": None}, Tolerance(atol=1e-4), "max abs error not known > 0.0001"),
        ({"cosine": 0.98}, Tolerance(cosine=0.99), "cosine 0.98 < 0.99"),
        ({"cosine": None, "max_abs_error": 1.0}, Tolerance(cosine=0.99), "cosine not known < 0.99"),
        ({"sqnr_db": 19.0, "max_abs_error": 0.1}, Tolerance(sqnr_db=20.0), "SQNR 19 dB < 20 dB"),
        ({"sqnr_db": None, "max_abs_error": 0.1}, Tolerance(sqnr_db=20.0), "SQNR not known dB < 20 dB"),
        ({"nan_count": 3}, NOTHING, "3 NaN"),
        ({"inf_count": 1}, NOTHING, "1 Inf that the reference has not"),
    ],
)
def test_what_is_beyond_a_tolerance_is_a_reason(
    changes: dict[str, Any], tolerance: Tolerance, reason: str
) -> None:
    assert judge(replace(CLEAN, **changes), tolerance) == (f"logits at batch=2: {reason}",)


@pytest.mark.parametrize(
    ("changes", "tolerance"),
    [
        ({"max_abs_error": 1e-4}, Tolerance(atol=1e-4)),
        ({"cosine": 0.99}, Tolerance(cosine=0.99)),
        ({"sqnr_db": 20.0, "max_abs_error": 0.1}, Tolerance(sqnr_db=20.0)),
        ({"max_abs_error": 1e9, "cosine": -1.0, "sqnr_db": -9.0}, NOTHING),
    ],
)
def test_what_is_just_within_a_tolerance_passes(changes: dict[str, Any], tolerance: Tolerance) -> None:
    assert judge(replace(CLEAN, **changes), tolerance) == ()


def test_nan_passes_no_default_tolerance() -> None:
    found = compare([[1, 2]], [[1, NAN]])
    assert all(judge(found, tolerance) for tolerance in DEFAULT_TOLERANCES.values())


def test_the_noise_floor_widens_an_absolute_tolerance_to_twice_itself() -> None:
    output = replace(CLEAN, max_abs_error=3e-4)
    assert judge(output, Tolerance(atol=1e-4), noise_floor=2e-4) == ()
    assert judge(output, Tolerance(atol=1e-4), noise_floor=1.4e-4) == (
        "logits at batch=2: max abs error 0.0003 > 0.00028",
    )


def test_a_noise_floor_below_the_tolerance_narrows_nothing() -> None:
    assert judge(replace(CLEAN, max_abs_error=9e-5), Tolerance(atol=1e-4), noise_floor=1e-9) == ()


def test_metrics_have_lower_bounds_by_name() -> None:
    assert judge(CLEAN, Tolerance(metrics={"top1_agreement": 0.5})) == ()
    assert judge(CLEAN, Tolerance(metrics={"top1_agreement": 0.99})) == ("top1_agreement 0.5 < 0.99",)
    assert judge(CLEAN, Tolerance(metrics={"top3": 0.9})) == (
        "the task has no metric 'top3'; it has: top1_agreement",
    )


def test_a_metric_that_is_not_a_number_does_not_pass() -> None:
    criteria = Criteria("fp32", Tolerance(metrics={"recall": 0.5}), 0.0, 2)
    assert not parity.judge([CLEAN], {"recall": NAN}, criteria).passed


def test_reasons_known_before_are_kept_and_fail() -> None:
    judged = parity.judge([], {}, Criteria("fp32", NOTHING, 0.0, 0), ["output 'logits' is missing"])
    assert (judged.passed, judged.reasons) == (False, ("output 'logits' is missing",))


def test_every_violation_of_every_output_is_a_reason() -> None:
    bad = replace(CLEAN, max_abs_error=1.0, cosine=0.5)
    judged = parity.judge(
        [bad, replace(bad, output="boxes")], {}, Criteria("fp32", Tolerance(atol=0.1, cosine=0.9), 0.0, 2)
    )
    assert judged.reasons == (
        "logits at batch=2: max abs error 1 > 0.1",
        "logits at batch=2: cosine 0.5 < 0.9",
        "boxes at batch=2: max abs error 1 > 0.1",
        "boxes at batch=2: cosine 0.5 < 0.9",
    )


def test_a_case_without_a_single_compared_output_does_not_pass() -> None:
    """No evidence is not agreement."""
    assert not parity.judge([], {}, Criteria("fp32", NOTHING, 0.0, 0)).passed


# --- A bound that is absolute is one on the output's own scale ---


def boxes(error: float) -> OutputParity:
    """Boxes in pixels, some hundreds of them, of which one is off by so much."""
    reference = np.linspace(0.0, 640.0, 400, dtype=np.float32).reshape(1, 100, 4)
    candidate = reference.copy()
    candidate[0, 50, 0] += error
    return parity.compare("boxes", {"batch": 1}, reference, candidate)


def test_an_output_in_the_hundreds_may_be_off_by_what_rounding_makes_of_it() -> None:
    """2.4e-4 of a pixel, of 640: the error that fp32 has there, which an absolute 1e-4 called a mismatch."""
    assert boxes(2.4e-4).scale == pytest.approx(633.6, abs=0.1)
    assert judge(boxes(2.4e-4), Tolerance(atol=1e-4), noise_floor=9e-5) == ()


def test_what_is_beyond_the_bound_on_its_scale_says_so() -> None:
    assert judge(boxes(0.5), Tolerance(atol=1e-4), noise_floor=9e-5) == (
        "boxes at batch=1: max abs error 0.5 > 0.0634 (0.0001 of 634)",
    )


def test_a_mask_of_lowest_numbers_and_a_single_outlier_make_no_scale() -> None:
    """-3.4e38 stands for "never"; one value of a thousand says nothing of the others."""
    reference = np.full((1, 1000), 0.5, dtype=np.float32)
    reference[0, :50] = np.finfo(np.float32).min
    reference[0, 99] = 1e6
    assert compare(reference, reference).scale == 1.0


def test_a_record_from_before_scales_is_judged_as_it_was() -> None:
    assert replace(CLEAN, max_abs_error=2e-4).scale == 1.0
