"""What moderated intervals promise, on groups of simulated processes: coverage, false alarms, width, power.

A group has a baseline and other cases that are exactly as fast; processes differ by 1 %, or by 1 % times
e^(N(0, 0.5)) from case to case; one process in ten may be slower by 30 %.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import pytest

from benchbox.numerics import moderation, stats
from benchbox.numerics.moderation import Processes

# So many groups that each of the simulations below has 9,000 ratios.
RATIOS = 9000


class Simulated(NamedTuple):
    """Bounds of (groups, others) ratios as logarithms: moderated, and Student's."""

    low: np.ndarray
    point: np.ndarray
    high: np.ndarray
    student_low: np.ndarray
    student_point: np.ndarray
    student_high: np.ndarray
    median_low: np.ndarray
    median_high: np.ndarray


@cache
def simulated(
    processes: int,
    cases: int,
    differing: float,
    hit: float,
    slower: float = 1.0,
    groups: int = 0,
    drawn: int = 0,
) -> Simulated:
    """The first `processes` of as many as are `drawn`."""
    drawn, count = drawn or processes, groups or RATIOS // (cases - 1)
    rng = np.random.default_rng([drawn, cases, round(10 * differing), round(10 * hit)])
    sigma = 0.01 * np.exp(differing * rng.standard_normal((count, cases, 1)))
    logs = sigma * rng.standard_normal((count, cases, drawn))
    logs += np.log(1.3) * (rng.random(logs.shape) < hit)
    logs[:, 1:] += np.log(slower)
    logs = logs[..., :processes]
    case = np.repeat(np.arange(count * cases), processes)
    replicate = np.tile(np.arange(processes), count * cases)
    group = np.repeat(np.arange(count), cases)
    scatter, counts = moderation.scatter_of(logs.reshape(-1), case, replicate, group)
    kept = counts.reshape(logs.shape)
    nothing = np.zeros(case.size)
    medians = moderation.median_intervals(
        Processes(logs.reshape(-1), nothing, case, count * cases, counts), scatter, 0.95
    )
    others = (logs[:, 1:] - logs[:, :1]).reshape(-1)
    owner = np.repeat(np.arange(count * (cases - 1)), processes)
    ours = np.arange(count * cases).reshape(count, cases)[:, 1:].reshape(-1)
    pairs = Processes(others, np.zeros(owner.size), owner, ours.size, (kept[:, 1:] & kept[:, :1]).reshape(-1))
    theirs = ours // cases * cases
    low, point, high = moderation.ratio_intervals(pairs, ours, theirs, scatter, 0.95)
    student = stats.process_intervals(others, np.zeros(owner.size), owner, ours.size, 0.95)
    return Simulated(low, point, high, *student, medians[0], medians[2])


def covered(of: Simulated) -> float:
    known = ~np.isnan(of.low)
    return float(((of.low <= 1) & (of.high >= 1))[known].mean())


def mean_width(low: np.ndarray, high: np.ndarray) -> float:
    return float(np.nanmean(np.log(high / low)) / 2)


ALL = [(n, g, d, h) for n in (2, 3, 5) for g in (4, 6, 12) for d in (0.0, 0.5) for h in (0.0, 0.1)]


@pytest.mark.parametrize(("processes", "cases", "differing", "hit"), ALL)
def test_ratios_are_covered_as_often_as_they_say(processes, cases, differing, hit):
    """93 to 97 %, and up to half a percent more of two processes of twelve cases that scatter alike."""
    share = covered(simulated(processes, cases, differing, hit))
    assert 0.93 <= share <= (0.975 if (processes, cases) == (2, 12) else 0.97)


@pytest.mark.parametrize(("processes", "cases", "differing", "hit"), ALL)
def test_equal_cases_are_told_apart_in_three_of_a_hundred_at_most(processes, cases, differing, hit):
    """3.0 % at most of 12,000 groups each; what these can tell is that to 0.4 %."""
    found = simulated(processes, cases, differing, hit)
    words = stats.verdicts(found.low, found.point, found.high, 0.02)
    assert np.isin(words, ["faster", "slower"]).mean() <= 0.034


@pytest.mark.parametrize(("differing", "share"), [(0.0, 0.65), (0.5, 0.67)])
@pytest.mark.parametrize("cases", [4, 6, 12])
def test_of_three_processes_intervals_are_two_thirds_of_students(cases, differing, share):
    """0.64, 0.61 and 0.59 of them where cases scatter alike; 0.66 of four that do not, of which less would
    cost coverage."""
    found = simulated(3, cases, differing, 0.0)
    assert mean_width(found.low, found.high) <= share * mean_width(found.student_low, found.student_high)


def test_a_hit_process_is_no_variance():
    """Where one in ten is hit, intervals are less than half of Student's."""
    found = simulated(3, 6, 0.0, 0.1)
    assert mean_width(found.low, found.high) < 0.5 * mean_width(found.student_low, found.student_high)


class Found(NamedTuple):
    """Of sessions that stopped when every ratio was within 2 %, or at twelve processes: how many differences
    were found, and after how many processes on average."""

    share: float
    processes: float


@cache
def found_in_sessions(cases: int, differing: float, hit: float) -> tuple[Found, Found]:
    """A true 3 %, by moderated intervals and by Student's, from five processes on."""
    first, most = 5, 12
    steps = [
        simulated(n, cases, differing, hit, slower=1.03, groups=1200, drawn=most)
        for n in range(first, most + 1)
    ]
    sides = (
        [(one.low, one.high) for one in steps],
        [(one.student_low, one.student_high) for one in steps],
    )
    points = ([one.point for one in steps], [one.student_point for one in steps])
    return _stopped(sides[0], points[0], cases), _stopped(sides[1], points[1], cases)


def _stopped(bounds: list[tuple[np.ndarray, np.ndarray]], points: list[np.ndarray], cases: int) -> Found:
    narrow = np.array(
        [
            ((high - low) / 2 / point).reshape(-1, cases - 1).max(axis=1) <= 0.02
            for (low, high), point in zip(bounds, points, strict=True)
        ]
    )
    narrow[-1] = True
    stopped_at = narrow.argmax(axis=0)
    words = np.array(
        [
            (stats.verdicts(low, point, high, 0.02) == "slower").reshape(-1, cases - 1)
            for (low, high), point in zip(bounds, points, strict=True)
        ]
    )
    return Found(float(words[stopped_at, np.arange(stopped_at.size)].mean()), float(stopped_at.mean() + 5))


@pytest.mark.parametrize("cases", [4, 6, 12])
@pytest.mark.parametrize("differing", [0.0, 0.5])
@pytest.mark.parametrize("hit", [0.0, 0.1])
def test_three_percent_are_found_by_no_more_processes_than_students(cases, differing, hit):
    """90 to 94 % are found, but of four cases that scatter differently and are hit: 88 % there,
    of which Student's finds 33 % after 11.5 processes."""
    moderated, student = found_in_sessions(cases, differing, hit)
    least = 0.87 if (cases, differing, hit) == (4, 0.5, 0.1) else 0.90
    assert moderated.share >= least
    assert moderated.processes <= student.processes
    assert not hit or moderated.share > student.share + 0.4


def test_two_hits_in_one_replicate_are_hits_and_no_slow_replicate():
    """Two of four cases, in the third of five processes: the others are not faster, they are as always."""
    logs = 0.01 * np.random.default_rng(7).standard_normal((4, 5))
    logs[:2, 2] += np.log(1.3)
    case, replicate = np.repeat(np.arange(4), 5), np.tile(np.arange(5), 4)
    scatter, counts = moderation.scatter_of(logs.reshape(-1), case, replicate, np.zeros(4, dtype=np.int64))
    assert np.flatnonzero(~counts).tolist() == [2, 7]
    assert np.sqrt(np.nanmax(scatter.variances)) < 0.02


def test_where_one_of_two_processes_was_hit_the_group_has_students_intervals():
    """Nobody knows which of the two was, nor of which cases both were."""
    logs = 0.001 * np.random.default_rng(2).standard_normal((5, 2))
    logs[3, 1] += np.log(1.3)
    case, replicate = np.repeat(np.arange(5), 2), np.tile(np.arange(2), 5)
    scatter, counts = moderation.scatter_of(logs.reshape(-1), case, replicate, np.zeros(5, dtype=np.int64))
    assert counts.all()
    assert np.isnan(scatter.variances).all()


def test_medians_are_covered_too():
    for processes, cases, differing, hit in [(3, 4, 0.5, 0.1), (3, 12, 0.0, 0.0), (5, 6, 0.5, 0.0)]:
        found = simulated(processes, cases, differing, hit)
        known = ~np.isnan(found.median_low)
        low, high = np.log(found.median_low), np.log(found.median_high)
        # The baseline and the others have the same median, exp(0).
        assert ((low <= 0) & (high >= 0))[known].mean() >= 0.93


def test_a_slow_replicate_is_in_a_median_and_not_in_a_ratio():
    """All cases of the third process are slower by a fourth."""
    rng = np.random.default_rng(5)
    logs = 0.001 * rng.standard_normal((4, 3))
    logs[:, 2] += 0.25
    case, replicate = np.repeat(np.arange(4), 3), np.tile(np.arange(3), 4)
    scatter, counts = moderation.scatter_of(logs.reshape(-1), case, replicate, np.zeros(4, dtype=np.int64))
    assert counts.all()
    assert np.nanmax(scatter.variances) < 1e-5
    assert scatter.of_replicates == pytest.approx(np.full(4, 0.25**2 / 3), rel=0.05)


def test_two_cases_and_cases_without_a_group_have_student_alone():
    logs = np.array([0.0, 0.01, 0.02, 0.0, 0.03, 0.01])
    case, replicate = np.repeat(np.arange(2), 3), np.tile(np.arange(3), 2)
    for groups in ([0, 0], [-1, -1], [0, 1]):
        scatter, counts = moderation.scatter_of(logs, case, replicate, np.array(groups))
        assert np.isnan(scatter.variances).all()
        assert counts.all()


def test_a_case_with_a_process_that_is_faster_by_far_knows_only_itself():
    rng = np.random.default_rng(3)
    logs = 0.001 * rng.standard_normal((5, 3))
    logs[1, 0] -= 0.3
    case, replicate = np.repeat(np.arange(5), 3), np.tile(np.arange(3), 5)
    scatter, counts = moderation.scatter_of(logs.reshape(-1), case, replicate, np.zeros(5, dtype=np.int64))
    assert counts.all()
    assert np.isnan(scatter.variances).tolist() == [False, True, False, False, False]


def test_groups_of_different_sizes_do_not_mix():
    rng = np.random.default_rng(1)
    logs = 0.01 * rng.standard_normal((9, 3))
    case, replicate = np.repeat(np.arange(9), 3), np.tile(np.arange(3), 9)
    groups = np.array([0, 1, 0, 1, 0, 1, 1, 2, -1])
    together, _ = moderation.scatter_of(logs.reshape(-1), case, replicate, groups)
    for group in (0, 1):
        members = np.flatnonzero(groups == group)
        alone, _ = moderation.scatter_of(
            logs[members].reshape(-1),
            np.repeat(np.arange(members.size), 3),
            np.tile(np.arange(3), members.size),
            np.zeros(members.size, dtype=np.int64),
        )
        np.testing.assert_allclose(together.variances[members], alone.variances)
        np.testing.assert_allclose(together.degrees[members], alone.degrees)
    assert np.isnan(together.variances[[7, 8]]).all()
