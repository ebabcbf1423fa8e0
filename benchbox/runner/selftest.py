"""Can this machine tell a small difference? A case against itself, and against itself made slower.

The cases are measured by the very workers and rounds that measure a suite; only the network is made up
(backends/synthetic.py), so that the truth is known: no difference, 3 %, 10 %.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from benchbox import plugins
from benchbox.errors import StageError, Unavailable
from benchbox.machine import clock
from benchbox.machine.launcher import LOCAL, Launcher
from benchbox.measure import rounds
from benchbox.numerics import calm, moderation, stats
from benchbox.numerics.stats import Interval, Verdict
from benchbox.plugins.backends import synthetic
from benchbox.reporters import quietness
from benchbox.results import timings
from benchbox.runner.records import Provenance, measure_ready
from benchbox.schema.asked import Backend, Case, Dataset, MeasurePlan, Model, ParityPlan, Stage, Step, Threads
from benchbox.schema.seen import Artifact, Measurement, Neighbours, Record

# Of the plain case: six pairs, none of which may be told apart.
COPIES = 4
SLOWER_BY = (0.03, 0.10)
# Loading, warm-up and five rounds of one case, on two cores: measured, 1.5 to 2.5 s.
_SECONDS_A_PROCESS = 2.0
_SECONDS_TO_LOAD = 1.0
_LEAST_REPLICATES = 5
# Longer than this nobody waits, and no machine stays as it is.
_LONGEST_MINUTES = 60
# One-sided 90 % of a normal: so often is the smallest provable difference found where there is one.
_POWER = 1.2816

Say = Callable[[str, float], None]
"""Told what is going on, and the share of the time that is over."""


@dataclass(frozen=True)
class Trial:
    """One case against another: the true ratio, the interval that was found, and its verdict."""

    truth: float
    interval: Interval | None
    verdict: Verdict

    @property
    def told_apart(self) -> bool:
        """Whether the two were found to differ."""
        return self.verdict in ("faster", "slower")


@dataclass(frozen=True)
class SelfTest:
    """What came out. `same` are the pairs of A against A, `slower` those of A against a slowed A.

    `smallest` is the least difference that would be found here in nine of ten runs of this length, as a
    share; None where nothing is known. `disturbed` is the share of blocks that others disturbed.
    """

    runtime: str
    seconds: float
    replicates: int
    latency_ns: float
    same: tuple[Trial, ...]
    slower: tuple[Trial, ...]
    smallest: float | None
    disturbed: float
    margin: float

    @property
    def false_alarms(self) -> int:
        """How often A was found to differ from A."""
        return sum(pair.told_apart for pair in self.same)

    @property
    def passed(self) -> bool:
        """Whether A never differed from A."""
        return self.false_alarms == 0


def run(minutes: float = 1.5, say: Say = lambda _words, _share: None, launcher: Launcher = LOCAL) -> SelfTest:
    """Measures for about so many minutes, by workers of the launcher. Raises where one of them failed."""
    watch = clock.Stopwatch.start()
    runtime = _runtime()
    plan = plan_for(minutes * 60)
    cases = _cases(runtime, launcher.machine.usable_cores())
    with tempfile.TemporaryDirectory(prefix="benchbox-selftest-") as folder:
        ready = [_ready(case, Path(folder)) for case in cases]
        settings = rounds.Settings(plan, ParityPlan(), "selftest", cases[0].id, launcher=launcher)
        watcher = _TrialWatcher(say, watch, minutes * 60)
        records = measure_ready(ready, settings, watcher, Provenance(frozenset({cases[0].id})))
    return judge(runtime, watch.seconds(), plan, [_measurement(record) for record in records])


def plan_for(seconds: float) -> MeasurePlan:
    """As many short processes as fit, at least five: more of them prove more than longer ones."""
    cases = COPIES + len(SLOWER_BY)
    replicates = max(_LEAST_REPLICATES, int(seconds / cases / _SECONDS_A_PROCESS))
    budget = max(1.0, seconds / cases - replicates * _SECONDS_TO_LOAD)
    return MeasurePlan(
        budget_seconds=budget, replicates=replicates, most_replicates=replicates, warm_up_seconds=1.0
    )


def judge(runtime: str, seconds: float, plan: MeasurePlan, measurements: Sequence[Measurement]) -> SelfTest:
    """What the measurements say: copies of the plain case first, then those made slower."""
    flat = timings.flatten(measurements)
    plain = list(combinations(range(COPIES), 2))
    slowed = [(COPIES + index, 0) for index in range(len(SLOWER_BY))]
    ours, theirs = np.array([*plain, *slowed], dtype=np.int64).T
    confidence = np.full(ours.size, plan.confidence)
    bounds = zip(*timings.ratios(flat, ours, theirs, confidence), strict=True)
    truths = [1.0] * len(plain) + [1 + share for share in SLOWER_BY]
    found = [_trial(truth, bound, plan) for truth, bound in zip(truths, bounds, strict=True)]
    replicates = min(len(measurement.replicates) for measurement in measurements)
    same = tuple(found[: len(plain)])
    return SelfTest(
        runtime=runtime,
        seconds=seconds,
        replicates=replicates,
        latency_ns=float(timings.medians(flat, np.full(flat.cases, plan.confidence))[1][0]),
        same=same,
        slower=tuple(found[len(plain) :]),
        smallest=smallest_provable([pair.interval for pair in same], replicates, plan),
        disturbed=_disturbed(measurements),
        margin=plan.margin,
    )


def smallest_provable(
    intervals: Sequence[Interval | None], replicates: int, plan: MeasurePlan
) -> float | None:
    """The share by which a case must be slower to be found so in nine of ten runs like this one.

    Its interval must leave 1 and its point the margin, also where chance has moved it down by 1.28 standard
    errors (the one-sided 90 %). The standard error is the root mean square of those of the intervals.
    """
    from scipy.special import stdtrit

    known = [interval for interval in intervals if interval is not None]
    if not known or replicates < 2:
        return None
    degrees = moderation.most_degrees_of_ratio(COPIES + len(SLOWER_BY), replicates)
    t = float(stdtrit(degrees, 0.5 + plan.confidence / 2))
    errors = [math.log(interval.high / interval.low) / 2 / t for interval in known]
    error = math.sqrt(sum(value**2 for value in errors) / len(errors))
    return math.exp(max(t * error, math.log1p(plan.margin)) + _POWER * error) - 1


def advice(found: SelfTest) -> tuple[str, ...]:
    """What to make of it, and what to do, in sentences."""
    return tuple(_advice(found))


def as_json(found: SelfTest) -> Mapping[str, object]:
    """The test as plain values, with what is derived from it."""
    derived = {"false_alarms": found.false_alarms, "passed": found.passed, "advice": list(advice(found))}
    return {**asdict(found), **derived}


def _advice(found: SelfTest) -> Iterator[str]:
    if not found.passed:
        yield (
            f"A case was told apart from itself in {found.false_alarms} of {len(found.same)} comparisons. "
            "Do not trust a verdict from this machine as it is now."
        )
    if found.disturbed > 0.2:
        yield f"Others disturbed {found.disturbed:.0%} of the blocks: see benchbox doctor, or measure later."
    missed = [pair for pair in found.slower if pair.verdict != "slower"]
    if missed and found.smallest is not None:
        wanted = missed[0].truth - 1
        yield f"A true {wanted:.0%} was not proven. {_more_time(found, wanted)}"
    if not missed and found.passed:
        yield "Differences of 3 % and more can be trusted here, where a run takes as long as this one."


def _more_time(found: SelfTest, wanted: float) -> str:
    """Errors shrink with the square root of the time, but a difference must also be beyond the margin."""
    smallest = found.smallest or wanted
    if smallest <= wanted:
        return "That was bad luck: it is found in nine of ten runs of this length."
    if wanted <= found.margin:
        return f"It is within the margin of {found.margin:.0%}."
    minutes = found.seconds / 60 * (smallest / wanted) ** 2
    if minutes > _LONGEST_MINUTES:
        return "More time would not do it: the machine must be quieter."
    return f"It would take about {math.ceil(minutes)} minutes a group of {COPIES + len(SLOWER_BY)} cases."


def _trial(truth: float, bound: tuple[float, float, float], plan: MeasurePlan) -> Trial:
    low, point, high = (float(value) for value in bound)
    interval = None if math.isnan(low) else Interval(low, point, high)
    return Trial(truth, interval, stats.verdict(interval, plan.margin))


def _disturbed(measurements: Sequence[Measurement]) -> float:
    blocks = [b for m in measurements for replicate in m.replicates for b in replicate.blocks]
    return sum(calm.is_disturbed(block) for block in blocks) / max(1, len(blocks))


def _runtime() -> str:
    """A real one where it is installed."""
    case = _case("onnxruntime", 0.0, copy=0)
    try:
        synthetic.check(case.backend, synthetic.Options(**case.backend.options))
    except Unavailable:
        return "numpy"
    return "onnxruntime"


def _cases(runtime: str, threads: int) -> list[Case]:
    copies = [_case(runtime, 0.0, copy, threads) for copy in range(COPIES)]
    return copies + [_case(runtime, share, 0, threads) for share in SLOWER_BY]


def _case(runtime: str, slower_by: float, copy: int, threads: int = 1) -> Case:
    backend = Backend(
        word="synthetic",
        providers=synthetic.DEFAULT_PROVIDERS,
        threads=Threads(intra_op=threads),
        options={"runtime": runtime, "slower_by": slower_by, "copy": copy},
    )
    # A worker looks up the family for its metrics; none is computed, because there is no reference.
    family = plugins.names("models")[0]
    return Case(
        model=Model(name="synthetic", family=family, source="", task=""),
        path=(Step("synthetic"),),
        backend=backend,
        shape={"batch": synthetic.ROWS},
        dataset=Dataset("random"),
    )


def _ready(case: Case, folder: Path) -> rounds.Ready:
    """No file but the feeds: the network is made where it runs."""
    feeds: Any = synthetic.feeds()
    np.savez(folder / "timing.npz", **feeds)
    artifact = Artifact(
        key="",
        kind="synthetic",
        precision="fp32",
        steps=case.path,
        files={},
        size_bytes=0,
        sha256="",
        build_seconds=0.0,
    )
    nothing_to_verify = {"noise_floor": 0.0, "samples": 0, "shapes": []}
    return rounds.Ready(case, artifact, folder, folder, nothing_to_verify, folder)


def _measurement(record: Record) -> Measurement:
    """Raises where there is none, as the case ended: a self-test needs all of them."""
    if record.outcome == "skipped":
        raise Unavailable(record.reason, record.hint)
    if record.measurement is None:
        raise StageError(record.reason, detail=record.detail, peak_memory_bytes=record.peak_memory_bytes)
    return record.measurement


@dataclass
class _TrialWatcher:
    """Passes on how far it is; a self-test is short, and Ctrl-C ends it at once."""

    say: Say
    watch: clock.Stopwatch
    expected_seconds: float

    def entered(self, case: Case, stage: Stage) -> None:
        if stage == "load":
            self._tell(f"loading {_name(case)}")

    def measured(self, case: Case, latency_ns: float, rounds: int, replicate: int) -> None:
        self._tell(f"process {replicate + 1}, round {rounds}: {_name(case)} takes {latency_ns / 1e6:.2f} ms")

    def replicate_ended(self, cases: int, seconds: float, more: int | None) -> None:
        again = f", {more} more of each to come" if more else ""
        self._tell(f"{cases} processes ended after {seconds:.0f} s{again}")

    def waiting(self, neighbours: Neighbours) -> None:
        self._tell(f"waiting for the machine: {quietness.busy(neighbours)}")

    def stopping(self) -> bool:
        return False

    def _tell(self, words: str) -> None:
        self.say(words, min(1.0, self.watch.seconds() / self.expected_seconds))


def _name(case: Case) -> str:
    share = case.backend.options["slower_by"]
    return f"A + {share:.0%}" if share else f"A ({case.backend.options['copy'] + 1} of {COPIES})"
