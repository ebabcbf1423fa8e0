"""A against A, for real: the smoke suite's model beside a copy of itself, ten times, with the default plan.

    python tests/perf/against_itself.py [--times 10] [--backend onnxruntime]

Both sit in processes of their own and are measured in turn, as any two cases of a suite. Exit code 1 where
one of the comparisons says faster or slower.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchbox.build.artifacts import artifact_of
from benchbox.build.cache import Cache, default_folder
from benchbox.build.client import Builder
from benchbox.machine.child import Limits
from benchbox.measure import rounds
from benchbox.measure.rounds import Ready
from benchbox.numerics import stats
from benchbox.numerics.stats import Interval
from benchbox.results import timings as comparison
from benchbox.schema.asked import Case, MeasurePlan, ParityPlan, Stage
from benchbox.schema.seen import Measurement, Neighbours
from benchbox.suite.load import load_suite
from benchbox.suite.selection import select

SUITE = Path(__file__).resolve().parents[2] / "suites" / "smoke.yaml"
PATHS = {"onnxruntime": "onnx", "pytorch": "torch"}


def main() -> int:
    """Prints a line a comparison; 0 when none tells A from itself."""
    asked = _arguments()
    pair = _pair(asked.backend)
    verdicts = [_compare(pair, f"against-itself-{index}") for index in range(asked.times)]
    wrong = sum(verdict in ("faster", "slower") for verdict in verdicts)
    print(f"{asked.backend}: {wrong} of {len(verdicts)} comparisons tell the case from itself")
    return 1 if wrong else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--backend", choices=sorted(PATHS), default="onnxruntime")
    return parser.parse_args()


def _pair(backend: str) -> list[Ready]:
    """The case, and the same artifact under another name."""
    case = select(load_suite(SUITE).cases, [f"path={PATHS[backend]}", f"backend={backend}"], [])[0]
    cache = Cache(default_folder())
    with Builder(Limits(), cache) as builder:
        reference, entry = builder.reference(case, 4), builder.artifact(case)
    plain = Ready(case, artifact_of(entry), entry.folder, reference.folder, reference.content, cache.folder)
    return [plain, replace(plain, case=replace(case, model=replace(case.model, name="copy")))]


def _compare(pair: list[Ready], session: str) -> stats.Verdict:
    plan = MeasurePlan()
    started = time.monotonic()
    settings = rounds.Settings(plan, ParityPlan(samples=4), session=session, baseline=pair[0].case.id)
    measured = rounds.measure_together(pair, settings, _Silent())
    first, second = (_measurement(measured[item.case.id]) for item in pair)
    timings = comparison.flatten([first, second])
    (low,), (point,), (high,) = comparison.ratios(
        timings, np.array([1]), np.array([0]), np.array([plan.confidence])
    )
    verdict = stats.verdict(Interval(float(low), float(point), float(high)), plan.margin)
    blocks = [block for replicate in first.replicates for block in replicate.blocks]
    disturbed = sum(bool(block.disturbed) for block in blocks) / len(blocks)
    print(
        f"ratio {point:.4f} ({low:.4f} to {high:.4f}) {verdict}; {len(first.replicates)} processes, "
        f"{len(blocks)} blocks each, {disturbed:.0%} disturbed, {time.monotonic() - started:.0f} s",
        flush=True,
    )
    return verdict


def _measurement(found: rounds.Measured) -> Measurement:
    if found.measurement is None:
        raise SystemExit(f"{found.stage}: {found.error}")
    return found.measurement


class _Silent:
    """Nobody watches."""

    def entered(self, case: Case, stage: Stage) -> None: ...

    def measured(self, case: Case, latency_ns: float, rounds: int, replicate: int) -> None: ...

    def replicate_ended(self, cases: int, seconds: float, more: int | None) -> None: ...

    def waiting(self, neighbours: Neighbours) -> None: ...

    def stopping(self) -> bool:
        return False


if __name__ == "__main__":
    raise SystemExit(main())
