"""A self-test says what the intervals say, and runs through real workers."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

from benchbox import plugins
from benchbox.cli import commands
from benchbox.numerics.stats import Interval
from benchbox.plugins.backends import synthetic
from benchbox.runner import selftest
from benchbox.runner.selftest import SelfTest, Trial
from benchbox.schema.asked import MeasurePlan
from benchbox.schema.seen import Block, Measurement, Memory, Replicate

MS = 1_000_000
PLAN = MeasurePlan(replicates=5)


def measurement(log_ratios: list[float], rounds: int = 5) -> Measurement:
    """A case of 10 ms whose processes are off by `log_ratios`; rounds drift, alike for all cases."""
    return Measurement(
        session="selftest",
        replicates=tuple(
            Replicate(
                index=index,
                load_seconds=0.1,
                settled=True,
                warm_up=(),
                blocks=tuple(
                    Block(number, 0, 0, (round(10 * MS * math.exp(ratio) * (1 + number / 10)),) * 3)
                    for number in range(rounds)
                ),
                memory=Memory(0, 0, 0),
            )
            for index, ratio in enumerate(log_ratios)
        ),
        stopped_by="budget",
    )


def wobble(by: float, centre: float = 0.0) -> list[float]:
    return [centre + by * sign for sign in (1, -1, 0.5, -0.5, 0)]


def test_a_quiet_machine_passes_and_finds_both_differences():
    copies = [measurement(wobble(size)) for size in (0.001, -0.001, 0.002, -0.002)]
    slower = [measurement(wobble(0.001, math.log(ratio))) for ratio in (1.03, 1.10)]
    found = selftest.judge("numpy", 60.0, PLAN, [*copies, *slower])
    assert (found.passed, found.false_alarms, len(found.same)) == (True, 0, 6)
    assert [pair.verdict for pair in found.slower] == ["slower", "slower"]
    assert [pair.interval.point for pair in found.slower if pair.interval] == pytest.approx(
        [1.03, 1.10], rel=1e-3
    )
    assert found.latency_ns == pytest.approx(12 * MS, rel=1e-3)
    assert found.smallest is not None
    assert 0.02 < found.smallest < 0.03
    assert selftest.advice(found) == (
        "Differences of 3 % and more can be trusted here, where a run takes as long as this one.",
    )


def test_a_copy_that_differs_is_a_false_alarm():
    copies = [measurement(wobble(0.001, offset)) for offset in (0.0, 0.0, 0.0, 0.05)]
    slower = [measurement(wobble(0.001, math.log(ratio))) for ratio in (1.03, 1.10)]
    found = selftest.judge("numpy", 60.0, PLAN, [*copies, *slower])
    assert (found.passed, found.false_alarms) == (False, 3)
    assert "told apart from itself in 3 of 6" in selftest.advice(found)[0]


def test_a_noisy_machine_says_what_it_would_take():
    copies = [measurement(wobble(size)) for size in (0.06, -0.06, 0.03, -0.03)]
    slower = [measurement(wobble(-0.06, math.log(ratio))) for ratio in (1.03, 1.10)]
    found = selftest.judge("numpy", 90.0, PLAN, [*copies, *slower])
    assert found.slower[0].verdict == "inconclusive"
    assert found.smallest is not None
    assert found.smallest > 0.03
    minutes = math.ceil(1.5 * (found.smallest / 0.03) ** 2)
    assert selftest.advice(found) == (
        f"A true 3% was not proven. It would take about {minutes} minutes a group of 6 cases.",
    )


def test_the_smallest_provable_difference_leaves_room_for_bad_luck():
    """Five processes, half a width of 2 %: t(0.975, 15.5) is 2.125, of the degrees of two cases of six that
    borrow as much as they may, and 1.28 errors more are asked for."""
    interval = Interval(math.exp(-0.02), 1.0, math.exp(0.02))
    found = selftest.smallest_provable([interval, None, interval], 5, PLAN)
    assert found == pytest.approx(math.exp(0.02 + 1.2816 * 0.02 / 2.1251) - 1, rel=1e-4)


def test_below_the_margin_nothing_is_provable_however_quiet_it_is():
    silent = Interval(1.0, 1.0, 1.0)
    assert selftest.smallest_provable([silent], 5, PLAN) == pytest.approx(0.02)
    assert selftest.smallest_provable([None], 5, PLAN) is None


@pytest.mark.parametrize(("seconds", "replicates"), [(5, 5), (60, 5), (90, 7), (600, 50)])
def test_more_time_is_more_processes(seconds, replicates):
    assert selftest.plan_for(seconds).replicates == replicates


def test_a_slowed_call_takes_its_own_time_and_the_share_more():
    """20 ms and 3 %: the wait ends at the first reading of the clock that is not before 20.6 ms."""
    now_ns = [0]

    def clock() -> int:
        now_ns[0] += 100_000
        return now_ns[0]

    def call() -> str:
        now_ns[0] += 20 * MS - 100_000
        return "result"

    slower = synthetic.slowed(call, 0.03, clock)
    assert slower() == "result"
    assert now_ns[0] == 100_000 + 20_600_000
    assert synthetic.slowed(call, 0.0, clock) is call


@pytest.mark.parametrize("share", [-0.1, math.nan, math.inf])
def test_a_share_below_nothing_is_refused(share):
    with pytest.raises(ValueError, match="slower_by"):
        synthetic.Options(slower_by=share)


def test_both_runtimes_compute_the_same():
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    case = selftest._case("onnxruntime", 0.0, 0)
    feeds = synthetic.feeds()
    one = synthetic._in_onnxruntime(case.backend)(feeds)["y"]
    two = synthetic._in_numpy(case.backend)(feeds)["y"]
    assert one.shape == (synthetic.ROWS, synthetic.WIDTH)
    assert np.abs(one - two).max() <= 1e-3 * np.abs(two).max()


def test_no_suite_can_name_the_synthetic_network():
    """It runs a kind of artifact that no exporter and no pass makes."""
    makers = [plugins.load(kind, word) for kind in ("exporters", "passes") for word in plugins.names(kind)]
    assert not {maker.PRODUCES for maker in makers} & set(synthetic.ACCEPTS)


def test_it_runs_through_real_workers(monkeypatch):
    """Two short processes a case: they prove nothing, but every comparison is there."""
    plan = MeasurePlan(
        replicates=2, budget_seconds=0.05, min_rounds=4, block_seconds=0.005, warm_up_seconds=0.01
    )
    monkeypatch.setattr(selftest, "plan_for", lambda _seconds: plan)
    said: list[float] = []
    found = selftest.run(0.2, lambda _words, share: said.append(share))
    assert (found.replicates, len(found.same), len(found.slower)) == (2, 6, 2)
    assert all(pair.interval is not None for pair in (*found.same, *found.slower))
    assert said == sorted(said)


def result(verdict: str) -> SelfTest:
    pair = Trial(1.0, Interval(0.99, 1.0, 1.01), verdict)
    slower = (Trial(1.03, Interval(1.02, 1.03, 1.04), "slower"), Trial(1.1, None, "inconclusive"))
    return SelfTest("numpy", 60.0, 5, 1e6, (pair,) * 6, slower, 0.025, 0.0, 0.02)


@pytest.mark.parametrize(("verdict", "code"), [("equivalent", 0), ("inconclusive", 0), ("slower", 1)])
def test_the_exit_code_is_1_where_a_case_differs_from_itself(monkeypatch, verdict, code):
    monkeypatch.setattr(selftest, "run", lambda _minutes, _say: result(verdict))
    ran = CliRunner().invoke(commands.app, ["selftest"])
    assert ran.exit_code == code
    assert "A against A" in ran.output
    assert "1.030 (1.020 to 1.040)" in ran.output
    assert "2.5 %" in ran.output


def test_json_holds_every_interval(monkeypatch):
    monkeypatch.setattr(selftest, "run", lambda _minutes, _say: result("equivalent"))
    ran = CliRunner().invoke(commands.app, ["selftest", "--json"])
    value = json.loads(ran.output)
    assert value["passed"] is True
    assert value["slower"][0] == {
        "truth": 1.03,
        "interval": {"low": 1.02, "point": 1.03, "high": 1.04},
        "verdict": "slower",
    }
    assert len(value["same"]) == 6
