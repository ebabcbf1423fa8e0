"""Runs against the first of them: which cases became slower, larger, less exact, and what else changed.

Runs were not interleaved with each other, so their processes are independent samples
(`stats.independent_ratio`). Drift between the runs is divided out where that is sound, see `anchoring`; the
anchor's own row is never called faster or slower, for what it moved by is drift.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from benchbox.comparison import anchoring, facts, pairing
from benchbox.comparison.anchoring import Timed
from benchbox.comparison.pairing import Pair
from benchbox.comparison.rows import Anchored, Change, Comparison, Row, Run, Versus
from benchbox.errors import StoreError, UsageError
from benchbox.numerics import calm, stats
from benchbox.numerics.stats import Centres, Hierarchy, Interval
from benchbox.reporters import labels
from benchbox.reporters.labels import Ran
from benchbox.results import columns, store, timings
from benchbox.schema.asked import Case
from benchbox.schema.seen import Measurement, Memory, Record

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def compare(runs: Sequence[str | Path], *, ignore: Collection[str] = (), anchor: bool = True) -> Comparison:
    """Runs (results folders or records.jsonl files) against the first of them.

    `ignore` names parts of a case that pairs need not share; `anchor=False` gives plain ratios only. Raises
    UsageError, and StoreError for what is no run.
    """
    pairing.check_ignorable(ignore)
    if not 2 <= len(runs) <= len(LETTERS):
        raise UsageError(f"compare takes two to {len(LETTERS)} runs: benchbox compare results/A results/B")
    loaded = tuple(load(Path(path), letter) for path, letter in zip(runs, LETTERS, strict=False))
    return Comparison(
        runs=loaded,
        environments=facts.of_machines([run.environment for run in loaded]),
        settings=(
            *facts.of_settings([run.suite or None for run in loaded]),
            *facts.of_statistics([run.records for run in loaded]),
        ),
        versus=tuple(_versus(loaded[0], run, ignore, anchor) for run in loaded[1:]),
    )


def load(path: Path, letter: str) -> Run:
    """A results folder; or a file of records, which may lie alone. Raises StoreError."""
    if path.is_file() and not (path.name == store.RECORDS and (path.parent / store.ENVIRONMENT).is_file()):
        records, damage = store.read_records(path)
        if not records:
            raise StoreError(f"{path} holds no record that can be read" + (f": {damage}" if damage else ""))
        return Run(letter, path.name, records, None, {}, damage)
    found = store.load(path)
    return Run(letter, found.name, tuple(found.records), found.environment, found.suite, found.damage)


def _versus(before: Run, after: Run, ignore: Collection[str], anchor: bool) -> Versus:
    pairs = pairing.pair(before.records, after.records, ignore)
    sides = (_Side.of(before), _Side.of(after))
    cases = [_either(pair).case for pair in pairs]
    runtimes = labels.runtimes([Ran.of_case(case) for case in cases])
    rows = [
        replace(_row(pair, sides, anchor), heading=heading, runtime=runtime)
        for pair, heading, runtime in zip(pairs, _headings(cases), runtimes, strict=True)
    ]
    rows.sort(key=lambda row: set(row.outcome) == {"skipped"})  # read last, as in a report
    return Versus(before, after, tuple(rows), pairing.would_pair(pairs, ignore))


@dataclass(frozen=True)
class _Side:
    """A run and what is derived from all its records at once, by case id."""

    run: Run
    facts: Mapping[str, Mapping[str, Any]]
    metrics: Mapping[str, Mapping[str, float]]
    times: Mapping[str, Centres]
    baselines: Mapping[str, Record]

    @classmethod
    def of(cls, run: Run) -> _Side:
        ids = [record.case.id for record in run.records]
        table = columns.fixed(run.records)
        return cls(
            run=run,
            facts={id_: {name: table[name][i] for name in _FACTS} for i, id_ in enumerate(ids)},
            metrics={
                id_: r.parity.measures if r.parity else {} for id_, r in zip(ids, run.records, strict=True)
            },
            times=dict(
                zip(ids, timings.centres(timings.flatten([r.measurement for r in run.records])), strict=True)
            ),
            baselines={r.case.group: r for r in run.records if r.is_baseline and r.outcome == "ok"},
        )

    def p50_ms(self, case_id: str) -> float | None:
        """The geometric mean of the processes' medians."""
        logs = self.times[case_id].values
        return float(np.exp(logs.mean())) / 1e6 if logs.size else None


Sides = tuple[_Side, _Side]

# The columns of the table that rows are made of.
_FACTS = ("cosine", "max_abs_error", "peak_memory_mib", "peak_above_empty_mib", "artifact_size_mib")


def _row(pair: Pair, sides: Sides, anchor: bool) -> Row:
    run = sides[0].run
    timed = _timed(pair, sides)
    anchored, why_plain = _anchored(timed, anchor)
    plain = _plain_ratio(pair, sides)
    ratio = _anchored_ratio(timed, run.confidence) if timed and anchored == "anchored" else plain
    return Row(
        heading="",
        path=_either(pair).case.path_label,
        runtime="",
        pair=pair,
        latency=replace(_change(pair, sides, lambda side, r: side.p50_ms(r.case.id)), ratio=ratio),
        plain=plain,
        anchored=anchored,
        why_plain=why_plain,
        verdict=_verdict(pair, ratio, anchored, run.margin),
        peak_memory=_memory(pair, sides, "peak_memory_mib", lambda m: m.peak_bytes),
        peak_above_empty=_memory(pair, sides, "peak_above_empty_mib", lambda m: m.peak_bytes - m.idle_bytes),
        size=_fact(pair, sides, "artifact_size_mib"),
        same_artifact=_same_artifact(pair),
        parity=_parity(pair, sides),
    )


def _either(pair: Pair) -> Record:
    record = pair.before or pair.after
    if record is None:
        raise ValueError("a pair of nothing")
    return record


def _change(pair: Pair, sides: Sides, of: Callable[[_Side, Record], float | None]) -> Change:
    before, after = (
        of(side, record) if record else None
        for side, record in zip(sides, (pair.before, pair.after), strict=True)
    )
    return Change(before, after)


def _fact(pair: Pair, sides: Sides, name: str) -> Change:
    return _change(pair, sides, lambda side, r: side.facts[r.case.id][name])


def _parity(pair: Pair, sides: Sides) -> dict[str, Change]:
    found = {name: _fact(pair, sides, name) for name in ("cosine", "max_abs_error")}
    ids = [(side, r.case.id) for side, r in zip(sides, (pair.before, pair.after), strict=True) if r]
    names = dict.fromkeys(name for side, id_ in ids for name in side.metrics[id_])
    return {name: _metric(pair, sides, name) for name in names} | found


def _metric(pair: Pair, sides: Sides, name: str) -> Change:
    return _change(pair, sides, lambda side, r: side.metrics[r.case.id].get(name))


def _same_artifact(pair: Pair) -> bool | None:
    before, after = (record.artifact if record else None for record in (pair.before, pair.after))
    return None if before is None or after is None else before.sha256 == after.sha256


def _timed(pair: Pair, sides: Sides) -> tuple[Timed, Timed] | None:
    """Both records with their baselines; None where one of them was not timed."""
    if not (pair.before and pair.before.measurement and pair.after and pair.after.measurement):
        return None
    before, after = (
        Timed(record, anchoring.baseline_of(record, side.baselines), side.run.environment)
        for record, side in zip((pair.before, pair.after), sides, strict=True)
    )
    return before, after


def _anchored(timed: tuple[Timed, Timed] | None, wanted: bool) -> tuple[Anchored, str]:
    """How a ratio is taken; if it is not anchored, why."""
    if timed is None:
        return "", ""
    why_plain = anchoring.unsound(*timed) if wanted else "--no-anchor"
    if why_plain:
        return "plain", why_plain
    return ("anchor" if timed[0].is_baseline and timed[1].is_baseline else "anchored"), ""


def _plain_ratio(pair: Pair, sides: Sides) -> Interval | None:
    """After over before; None where one of them was not timed in two processes."""
    if pair.before is None or pair.after is None:
        return None
    old, new = sides[0].times[pair.before.case.id], sides[1].times[pair.after.case.id]
    return stats.independent_ratio(new, old, sides[0].run.confidence)


def _anchored_ratio(timed: tuple[Timed, Timed], confidence: float) -> Interval | None:
    """After over before, each over its baseline in the same rounds."""
    old, new = (_times_anchored(one) for one in timed)
    return stats.independent_ratio(new, old, confidence)


def _times_anchored(timed: Timed) -> Centres:
    baseline = timed.baseline.measurement if timed.baseline else None
    return stats.ratio_centres(*_aligned(_rounds(timed.record.measurement), _rounds(baseline)))


Rounds = Mapping[int, Mapping[int, np.ndarray[Any, np.dtype[np.float64]]]]
"""Replicate -> round -> latencies in ns."""


def _rounds(measurement: Measurement | None) -> Rounds:
    found: dict[int, dict[int, list[int]]] = {}
    replicates = measurement.replicates if measurement else ()
    for replicate, counting in zip(replicates, calm.counting(replicates), strict=True):
        for block, counts in counting:
            if block.latencies_ns and min(block.latencies_ns) > 0:
                calls = compress(block.latencies_ns, counts)
                found.setdefault(replicate.index, {}).setdefault(block.round, []).extend(calls)
    return {
        index: {number: np.array(calls, dtype=np.float64) for number, calls in rounds.items()}
        for index, rounds in found.items()
    }


def _aligned(ours: Rounds, theirs: Rounds) -> tuple[Hierarchy, Hierarchy]:
    """The rounds that both have, in one order."""
    shared = [(i, number) for i in sorted(ours) for number in sorted(ours[i]) if number in theirs.get(i, {})]
    indices = sorted({i for i, _ in shared})
    first, second = (
        [[side[i][number] for j, number in shared if j == i] for i in indices] for side in (ours, theirs)
    )
    return first, second


def _verdict(pair: Pair, ratio: Interval | None, anchored: Anchored, margin: float) -> str:
    """Empty where there is nothing to rank. An anchor is not ranked by what it moved: that is drift."""
    both = (pair.before, pair.after)
    if any(record is None or record.outcome != "ok" or record.measurement is None for record in both):
        return ""
    word = stats.verdict(ratio, margin)
    return "inconclusive" if anchored == "anchor" and word in ("faster", "slower") else word


def _memory(pair: Pair, sides: Sides, name: str, of: Callable[[Memory], int]) -> Change:
    """Processes are the sample here too: memory differs between them by up to 18 %."""
    # Of a child that failed it is another quantity.
    known = _change(pair, sides, lambda side, r: side.facts[r.case.id][name] if r.measurement else None)
    if pair.before is None or pair.after is None:
        return known
    old, new = (_peaks(record.measurement, of) for record in (pair.before, pair.after))
    return replace(known, ratio=stats.independent_ratio(new, old, sides[0].run.confidence))


def _peaks(measurement: Measurement | None, of: Callable[[Memory], int]) -> Centres:
    replicates = measurement.replicates if measurement else ()
    values = np.array([of(replicate.memory) for replicate in replicates], dtype=np.float64)
    logs = np.log(values) if (values > 0).all() else np.zeros(0)
    return Centres(logs, np.zeros(logs.size))


def _headings(cases: Sequence[Case]) -> list[str]:
    """Model and shape; a model that has two names goes by its first."""
    names: dict[str, str] = {}
    headings = []
    for case in cases:
        name = names.setdefault(pairing.model_key(case), case.model.name)
        headings.append(labels.heading(name, case.model.weights, case.shape_label))
    return headings
