"""Intervals and verdicts of numbers that are written here; test_guarantees has those of noisy machines."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchbox.numerics import stats
from benchbox.numerics.stats import Interval


def test_drift_that_both_cases_share_cancels_in_the_ratio():
    """Rounds at 1, 2 and 3 times the speed give the same ratio as rounds at one speed."""
    drift = [1.0, 2.0, 3.0]
    baseline = [[np.array([100.0 * d * luck] * 5) for d in drift] for luck in (1.0, 1.01)]
    candidate = [[np.array([50.0 * d] * 5) for d in drift] for _ in range(2)]
    ratio = stats.ratio_of_medians(candidate, baseline)
    assert ratio is not None
    assert ratio.point == pytest.approx(0.5 / 1.01**0.5)
    # Two processes: t(0.975, 1 degree) = 12.706 times half the distance between the two log ratios.
    assert np.log(ratio.high / ratio.point) == pytest.approx(12.7062 * np.log(1.01) / 2, rel=1e-5)


def test_rounds_that_one_of_the_two_lacks_are_left_out():
    full = [[np.array([100.0]), np.array([100.0])], [np.array([101.0]), np.array([100.0])]]
    holes = [[np.array([50.0]), np.array([])], [np.array([50.5])]]
    ratio = stats.ratio_of_medians(holes, full)
    assert ratio is not None
    assert ratio.point == pytest.approx(0.5)


def test_one_process_says_nothing_of_the_next():
    one = [[np.array([1.0, 2.0]), np.array([1.5, 2.5])]]
    assert stats.hierarchical_median(one) is None
    assert stats.ratio_of_medians(one, one) is None
    assert stats.hierarchical_median([]) is None
    assert stats.ratio_of_medians([], []) is None


def test_processes_that_agree_by_chance_do_not_make_a_point_of_an_interval():
    """Equal centres, but rounds 10 % apart: the interval is as wide as the rounds say it must be."""
    rounds = [np.array([value]) for value in (90.0, 95.0, 100.0, 105.0, 110.0)]
    interval = stats.hierarchical_median([rounds, rounds, rounds])
    assert interval is not None
    assert interval.point == pytest.approx(100.0)
    assert interval.relative_half_width > 0.05


def test_a_process_is_known_by_its_rounds():
    rounds = [np.array([value]) for value in (98.0, 99.0, 100.0, 101.0, 102.0)]
    interval = stats.process_median(rounds)
    assert interval is not None
    assert interval.point == pytest.approx(100.0)
    # median absolute deviation 1 %, t(0.975, 4) = 2.776, sqrt(pi / 2 / 5) = 0.560
    assert interval.relative_half_width == pytest.approx(1.4826 * 0.01 * 2.776 * 0.560, rel=0.02)
    assert stats.process_median(rounds[:2]) is None


@pytest.mark.parametrize(
    ("low", "point", "high", "expected"),
    [
        (0.90, 0.95, 0.97, "faster"),
        (1.03, 1.05, 1.09, "slower"),
        (0.985, 1.0, 1.015, "equivalent"),
        (0.985, 0.99, 0.995, "equivalent"),
        (0.97, 0.985, 0.999, "inconclusive"),
        (0.95, 1.0, 1.05, "inconclusive"),
        (1.001, 1.015, 1.03, "inconclusive"),
    ],
)
def test_verdicts_at_a_margin_of_2_percent(low, point, high, expected):
    assert stats.verdict(Interval(low, point, high)) == expected


def test_without_an_interval_the_verdict_is_inconclusive():
    assert stats.verdict(None) == "inconclusive"
    unknown = np.array([np.nan])
    assert stats.verdicts(unknown, unknown, unknown, 0.02).tolist() == ["inconclusive"]


@given(log_point=st.floats(-0.2, 0.2), half=st.floats(0, 0.2), margin=st.floats(0.001, 0.1))
def test_the_verdict_on_the_inverse_is_the_mirror_image(log_point, half, margin):
    """What is faster than the baseline is what the baseline is slower than."""
    mirror = {"faster": "slower", "slower": "faster"}
    there = Interval(*np.exp([log_point - half, log_point, log_point + half]).tolist())
    back = Interval(1 / there.high, 1 / there.point, 1 / there.low)
    edges = (1.0, 1 + margin, 1 / (1 + margin))
    if any(abs(v - e) < 1e-12 for v in (there.low, there.point, there.high) for e in edges):
        return  # on an edge, rounding decides
    word = stats.verdict(there, margin)
    assert stats.verdict(back, margin) == mirror.get(word, word)


@settings(max_examples=50)
@given(
    data=st.lists(
        st.lists(st.lists(st.floats(1e3, 1e12), min_size=1, max_size=6), min_size=1, max_size=5),
        min_size=2,
        max_size=5,
    ),
    scale=st.floats(0.01, 100),
)
def test_the_unit_does_not_matter(data, scale):
    """Latencies in another unit give the same interval in that unit, and no other ratio."""
    there = [[np.array(block) for block in process] for process in data]
    other = [[block * scale for block in process] for process in there]
    one, two = stats.hierarchical_median(there), stats.hierarchical_median(other)
    assert one is not None
    assert two is not None
    assert one.low <= one.point <= one.high
    assert [two.low, two.point] == pytest.approx([one.low * scale, one.point * scale], rel=1e-6)
    ratio = stats.ratio_of_medians(other, there)
    assert ratio is not None
    assert ratio.point == pytest.approx(scale)


def test_the_order_statistic_interval_of_the_median():
    """Ten values: ranks 2 and 9 hold the median in 97.9 % (David & Nagaraja, table 7.1)."""
    assert stats.median_interval(np.arange(1.0, 11.0)) == Interval(2.0, 5.5, 9.0)
    assert stats.median_interval(np.arange(1.0, 7.0)) == Interval(1.0, 3.5, 6.0)
    assert stats.median_interval(np.arange(1.0, 6.0)) is None
    assert stats.median_interval(np.array([])) is None


def test_percentiles_are_earned():
    assert stats.samples_needed(0.99) == 299
    assert stats.samples_needed(0.9) == 29
    assert stats.quantile_interval(np.arange(367.0), 0.99) is None
    assert stats.quantile_interval(np.arange(368.0), 0.99) is not None


@pytest.mark.parametrize("q", [0.5, 0.9])
def test_order_statistic_intervals_cover_for_any_distribution(q):
    rng = np.random.default_rng(3)
    truth = -np.log(1 - q)
    draws = rng.exponential(1.0, (600, 80))
    intervals = [stats.quantile_interval(row, q) for row in draws]
    held = [i is not None and i.low <= truth <= i.high for i in intervals]
    assert 0.94 <= np.mean(held) <= 0.985


@given(lengths=st.lists(st.integers(0, 7), min_size=1, max_size=12), seed=st.integers(0, 1000))
def test_quantiles_of_segments_are_those_of_each_segment(lengths, seed):
    values = np.random.default_rng(seed).integers(0, 50, sum(lengths)).astype(float)
    found = stats.segment_quantiles(values, np.array(lengths), [0.1, 0.5])
    start = 0
    for length, row in zip(lengths, found, strict=True):
        segment = values[start : start + length]
        start += length
        expected = np.quantile(segment, [0.1, 0.5]) if length else [np.nan, np.nan]
        np.testing.assert_allclose(row, expected)


def test_an_interval_that_no_float_holds_is_none():
    """Two processes that differ by a fourth, at 99.99 %: t is 6366."""
    found = stats.hierarchical_median([[np.array([100.0])], [np.array([125.0])]], 0.9999)
    assert found is None
    assert stats.hierarchical_median([[np.array([100.0])], [np.array([100.1])]], 0.9999) is not None
