"""Runs against each other: what is a pair, what a ratio proves, what a gate fails, what is shown."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import golden_records as golden
from benchbox.cli.commands import app
from benchbox.comparison import anchoring, gates, pairing, reports, wording
from benchbox.comparison.rows import Comparison, Row
from benchbox.comparison.runs import compare
from benchbox.errors import StoreError, UsageError
from benchbox.numerics import stats
from benchbox.numerics.stats import Interval
from benchbox.schema.asked import Lora, Threads
from benchbox.schema.seen import Environment, Record

ONNX, INT8 = golden.case("onnx"), golden.case("onnx", golden.INT8)
BASELINE = golden.case("torch", backend=golden.TORCH)

Edit = Callable[[Record], Record]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    """Writes a results folder of the golden records, changed by `edit`, on the golden machine or another."""

    def make(
        name: str,
        edit: Edit = lambda record: record,
        *,
        records: Sequence[Record] = golden.RECORDS,
        machine: Environment = golden.ENVIRONMENT,
        suite: dict[str, object] | None = None,
    ) -> Path:
        folder = golden.write(tmp_path / name)
        lines = [json.dumps(asdict(edit(record))) for record in records]
        (folder / "records.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (folder / "environment.json").write_text(json.dumps(asdict(machine)), encoding="utf-8")
        (folder / "suite.json").write_text(json.dumps(suite or golden.SUITE), encoding="utf-8")
        return folder

    return make


def only(case_id: str, change: Edit) -> Edit:
    return lambda record: change(record) if record.case.id == case_id else record


def slowed(factor: float) -> Edit:
    """The record with every timed call so many times as long."""

    def change(record: Record) -> Record:
        if record.measurement is None:
            return record
        replicates = tuple(
            replace(
                replicate,
                blocks=tuple(
                    replace(block, latencies_ns=tuple(round(ns * factor) for ns in block.latencies_ns))
                    for block in replicate.blocks
                ),
            )
            for replicate in record.measurement.replicates
        )
        return replace(record, measurement=replace(record.measurement, replicates=replicates))

    return change


def slowed_with_companion(factor: float) -> Edit:
    """What the machine's drift does: the baseline that was taken beside a case is slowed too."""

    def change(record: Record) -> Record:
        moved = slowed(factor)(record)
        if record.companion is None:
            return moved
        beside = slowed(factor)(replace(record, measurement=record.companion)).measurement
        return replace(moved, companion=beside)

    return change


def heavier(factor: float) -> Edit:
    def change(record: Record) -> Record:
        assert record.measurement is not None
        replicates = tuple(
            replace(r, memory=replace(r.memory, peak_bytes=round(r.memory.peak_bytes * factor)))
            for r in record.measurement.replicates
        )
        return replace(record, measurement=replace(record.measurement, replicates=replicates))

    return change


def on_threads(count: int) -> Edit:
    def change(record: Record) -> Record:
        backend = replace(record.case.backend, threads=Threads(count))
        return replace(record, case=replace(record.case, backend=backend))

    return change


def row_of(comparison: Comparison, case_id: str) -> Row:
    return next(
        row
        for row in comparison.versus[0].rows
        if (row.pair.before or row.pair.after).case.id == case_id  # type: ignore[union-attr]
    )


def states(comparison: Comparison, *texts: str) -> Counter[str]:
    wanted = [gates.parse(text, comparison.metrics) for text in texts]
    return Counter(finding.state for finding in gates.judge(comparison, wanted).findings)


# What a ratio of two runs proves


def processes(
    rng: np.random.Generator, count: int, offset: float, level: float = 0.0
) -> list[list[np.ndarray]]:
    """Ten rounds of five calls of a case in each fresh process, whose luck differs by `offset`."""
    logs = (
        level
        + rng.normal(0, offset, (count, 1, 1))
        + rng.normal(0, 0.01, (count, 10, 1))
        + rng.normal(0, 0.01, (count, 10, 5))
    )
    return [list(process) for process in 1e6 * np.exp(logs)]


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("offset", [0.0, 0.1])
def test_a_case_against_itself_in_another_run_is_called_different_in_at_most_3_percent(count, offset):
    rng = np.random.default_rng(count)
    found = Counter(
        stats.verdict(
            stats.ratio_of_independent(processes(rng, count, offset), processes(rng, count, offset))
        )
        for _ in range(600)
    )
    assert found["faster"] + found["slower"] <= 18


@pytest.mark.parametrize("noisy", [0, 1])
def test_a_run_five_times_as_noisy_as_the_other_makes_at_most_5_percent_false_alarms(noisy):
    """Where degrees of freedom are estimated from so few processes, it would be 6 %."""
    rng = np.random.default_rng(noisy)
    offsets = (0.05, 0.01) if noisy else (0.01, 0.05)
    centres = [
        [stats.Centres(rng.normal(0, offset, 3), np.zeros(3)) for offset in offsets] for _ in range(4000)
    ]
    off = [
        interval is None or interval.low > 1 or interval.high < 1
        for interval in (stats.independent_ratio(new, old) for new, old in centres)
    ]
    assert np.mean(off) <= 0.05


def test_a_true_10_percent_is_found_between_runs_of_three_processes():
    rng = np.random.default_rng(1)
    found = Counter(
        stats.verdict(
            stats.ratio_of_independent(processes(rng, 3, 0.01, np.log(1.1)), processes(rng, 3, 0.01))
        )
        for _ in range(200)
    )
    assert found["slower"] >= 180


def test_the_interval_is_welchs_with_the_fewer_processes_degrees_of_freedom():
    """Log centres 0 and 0.2 against -0.1, 0 and 0.1: variances 0.02 and 0.01, t(0.975, 1) = 12.706."""
    new = stats.Centres(np.array([0.0, 0.2]), np.zeros(2))
    old = stats.Centres(np.array([-0.1, 0.0, 0.1]), np.zeros(3))
    interval = stats.independent_ratio(new, old)
    assert interval is not None
    assert np.log(interval.point) == pytest.approx(0.1)
    half = 12.7062 * np.sqrt(0.02 / 2 + 0.01 / 3)
    assert np.log(interval.high / interval.point) == pytest.approx(half, rel=1e-5)


def test_what_the_group_knows_of_the_variance_decides_where_it_is_known():
    """Variances 0.0004 and 0.0001 with 8 and 6 degrees of freedom: t(0.975, 6) = 2.447."""
    new = stats.Centres(np.array([0.0, 0.2]), np.zeros(2), between=0.0004, degrees=8.0)
    old = stats.Centres(np.array([-0.1, 0.0, 0.1]), np.zeros(3), between=0.0001, degrees=6.0)
    interval = stats.independent_ratio(new, old)
    assert interval is not None
    half = 2.4469 * np.sqrt(0.0004 / 2 + 0.0001 / 3)
    assert np.log(interval.high / interval.point) == pytest.approx(half, rel=1e-4)


def test_one_process_on_either_side_proves_nothing():
    one = stats.Centres(np.array([0.0]), np.zeros(1))
    two = stats.Centres(np.array([0.0, 0.1]), np.zeros(2))
    assert stats.independent_ratio(one, two) is None
    assert stats.independent_ratio(two, one) is None


def test_drift_between_runs_is_divided_out_by_the_anchor_and_fools_the_plain_ratio():
    """The second run is on a machine that has become 20 % slower as a whole."""
    rng = np.random.default_rng(4)
    plain, anchored = Counter(), Counter()
    for _ in range(200):
        case_a, base_a = processes(rng, 3, 0.004), processes(rng, 3, 0.004)
        case_b, base_b = (processes(rng, 3, 0.004, np.log(1.2)) for _ in range(2))
        plain[stats.verdict(stats.ratio_of_independent(case_b, case_a))] += 1
        new, old = stats.ratio_centres(case_b, base_b), stats.ratio_centres(case_a, base_a)
        anchored[stats.verdict(stats.independent_ratio(new, old))] += 1
    assert plain["slower"] >= 195
    assert anchored["slower"] + anchored["faster"] <= 6


# Runs


def test_a_run_against_itself_has_no_row_that_differs(run):
    folder = run("a")
    comparison = compare([folder, folder])
    rows = comparison.versus[0].rows
    assert len(rows) == len(golden.RECORDS)
    assert {row.verdict for row in rows} <= {"equivalent", "inconclusive", ""}
    # The golden machine drifts by 9 %, which the baseline's own row cannot cancel.
    assert [row.verdict for row in rows[:3]] == ["inconclusive", "equivalent", "equivalent"]
    assert [row.anchored for row in rows[:3]] == ["anchor", "anchored", "anchored"]
    assert comparison.environments == comparison.settings == ()
    assert all(row.same_artifact for row in rows if row.pair.before and row.pair.before.artifact)


def test_what_could_run_in_neither_is_read_last(run):
    outcomes = [row.outcome for row in compare([run("a"), run("b")]).versus[0].rows]
    assert outcomes.count(("skipped", "skipped")) == 1
    assert outcomes[-1] == ("skipped", "skipped")


def test_drift_of_the_whole_machine_makes_no_case_slower(run):
    """Everything takes 1.25 times as long, the baselines too: that is drift, and the anchor says so."""
    comparison = compare([run("a"), run("b", slowed_with_companion(1.25))])
    rows = comparison.versus[0].rows
    assert {row.verdict for row in rows} == {"equivalent", "inconclusive", ""}
    onnx = row_of(comparison, ONNX.id)
    assert (onnx.anchored, onnx.verdict) == ("anchored", "equivalent")
    assert onnx.plain is not None
    assert onnx.plain.point == pytest.approx(1.25)
    assert row_of(comparison, BASELINE.id).verdict == "inconclusive"
    assert "took 1.25 times as long in B" in wording.drift(comparison.versus[0])[0]


def test_without_anchor_the_same_drift_makes_every_case_slower(run):
    comparison = compare([run("a"), run("b", slowed_with_companion(1.25))], anchor=False)
    ok = [row for row in comparison.versus[0].rows if row.outcome == ("ok", "ok")]
    assert {row.verdict for row in ok} == {"slower"}


def test_a_case_that_became_slower_is_found_and_the_others_are_not(run):
    comparison = compare([run("a"), run("b", only(INT8.id, slowed(1.2)))])
    row = row_of(comparison, INT8.id)
    assert (row.verdict, row.anchored) == ("slower", "anchored")
    assert row.latency.ratio is not None
    assert row.latency.ratio.point == pytest.approx(1.2)
    assert Counter(r.verdict for r in comparison.versus[0].rows)["slower"] == 1


def test_a_baseline_in_the_rounds_of_a_companion_anchors_its_case(run):
    """The last golden record was timed beside a second measurement of its baseline."""
    case_id = golden.RECORDS[-1].case.id
    comparison = compare([run("a"), run("b", slowed_with_companion(1.25))])
    row = row_of(comparison, case_id)
    assert (row.anchored, row.verdict) == ("anchored", "equivalent")


@pytest.mark.parametrize(
    ("edit", "machine", "reason"),
    [
        (lambda r: r, replace(golden.ENVIRONMENT, cpu_model="Xeon"), "the machines differ in CPU"),
        (lambda r: r, replace(golden.ENVIRONMENT, governor="powersave"), "the machines differ in governor"),
        (
            only(BASELINE.id, lambda r: replace(r, artifact=replace(r.artifact, sha256="0" * 64))),
            golden.ENVIRONMENT,
            "baselines are not the same artifact",
        ),
        (
            only(
                BASELINE.id, lambda r: replace(r, measurement=replace(r.measurement, versions={"torch": "3"}))
            ),
            golden.ENVIRONMENT,
            "baselines ran on other versions of onnxruntime, torch",
        ),
        (
            only(BASELINE.id, lambda r: replace(r, artifact=replace(r.artifact, packages={"torch": "3"}))),
            golden.ENVIRONMENT,
            "baselines were built by other versions of onnx, torch",
        ),
        (
            only(BASELINE.id, lambda r: replace(r, measurement=replace(r.measurement, session="other"))),
            golden.ENVIRONMENT,
            "no baseline was timed in the rounds of both",
        ),
        (on_threads(1), golden.ENVIRONMENT, "baselines differ in threads"),
    ],
)
def test_a_ratio_is_plain_where_the_baseline_itself_may_have_changed(run, edit, machine, reason):
    """And it says why: a changed baseline is no measure of drift."""
    comparison = compare([run("a"), run("b", edit, machine=machine)])
    row = comparison.versus[0].rows[1]
    assert (row.anchored, row.why_plain) == ("plain", reason)
    assert row.latency.ratio == row.plain


def test_a_case_on_an_accelerator_is_not_anchored_by_a_baseline_on_the_cpu(run):
    def to_device(record: Record) -> Record:
        replicates = tuple(
            replace(r, memory=replace(r.memory, device_bytes=2**20)) for r in record.measurement.replicates
        )
        return replace(record, measurement=replace(record.measurement, replicates=replicates))

    folder = run("a", only(ONNX.id, to_device))
    row = row_of(compare([folder, folder]), ONNX.id)
    assert (row.anchored, row.why_plain) == ("plain", "the baseline ran on another device")


def test_what_differs_between_the_runs_is_listed_and_nothing_else(run):
    other = replace(
        golden.ENVIRONMENT,
        cpu_model="Xeon",
        cpu_features=("avx2", "avx512f"),
        packages={"onnxruntime": "1.32.0", "torch": "2.13.0"},
    )
    suite = {**golden.SUITE, "measure": {"confidence": 0.95, "margin": 0.05}}
    comparison = compare([run("a"), run("b", machine=other, suite=suite)])
    assert [(fact.name, fact.values) for fact in comparison.environments] == [
        ("CPU", ("AMD EPYC (Zen 3)", "Xeon")),
        ("CPU features", ("fma", "avx512f")),
        ("package onnxruntime", ("1.31.1", "1.32.0")),
    ]
    assert [(fact.name, fact.values) for fact in comparison.settings] == [
        ("measure.margin", ("0.02", "0.05"))
    ]


def test_a_run_of_which_nothing_is_known_has_an_empty_place_in_what_differs(run, tmp_path):
    """Its column stays, so that no value slides under another run's letter."""
    lone = tmp_path / "lone.jsonl"
    shutil.copy(run("a") / "records.jsonl", lone)
    suite = {**golden.SUITE, "measure": {"confidence": 0.95, "margin": 0.05}}
    comparison = compare([run("a"), lone, run("c", suite=suite)])
    assert [(fact.name, fact.values) for fact in comparison.settings] == [
        ("measure.margin", ("0.02", "", "0.05"))
    ]


def test_three_runs_are_each_compared_with_the_first(run):
    folders = [run("a"), run("b", only(ONNX.id, slowed(1.2))), run("c", only(ONNX.id, slowed(0.8)))]
    comparison = compare(folders)
    assert [v.after.letter for v in comparison.versus] == ["B", "C"]
    verdicts = [
        next(r.verdict for r in v.rows if r.pair.before and r.pair.before.case == ONNX)
        for v in comparison.versus
    ]
    assert verdicts == ["slower", "faster"]


def test_a_records_file_that_lies_alone_is_compared_without_a_machine(run, tmp_path):
    lone = tmp_path / "before.jsonl"
    shutil.copy(run("a") / "records.jsonl", lone)
    comparison = compare([lone, run("b")])
    assert comparison.runs[0].environment is None
    assert comparison.environments == comparison.settings == ()
    assert row_of(comparison, ONNX.id).why_plain == "the machine of a run is not known"


def test_a_records_file_in_its_folder_brings_its_machine(run):
    comparison = compare([run("a") / "records.jsonl", run("b")])
    assert comparison.runs[0].machine == "AMD EPYC (Zen 3), 2 cores, 24 GiB"


def test_a_file_without_a_record_and_a_single_run_are_refused(run, tmp_path):
    (tmp_path / "empty.jsonl").write_text("no json\n", encoding="utf-8")
    with pytest.raises(StoreError, match="holds no record"):
        compare([tmp_path / "empty.jsonl", run("a")])
    with pytest.raises(UsageError, match="two to 26 runs"):
        compare([run("a")])


# Pairs


def records(*cases_: object) -> list[Record]:
    return [golden.record(case) for case in cases_]  # type: ignore[arg-type]


def threads(count: int, **changes: object):
    return replace(ONNX, backend=replace(ONNX.backend, threads=Threads(count)), **changes)


def paired(
    before: Sequence[Record], after: Sequence[Record], *ignore: str
) -> list[tuple[int | None, int | None]]:
    return [
        (
            before.index(pair.before) if pair.before else None,
            after.index(pair.after) if pair.after else None,
        )
        for pair in pairing.pair(before, after, ignore)
    ]


def test_cases_of_one_id_are_a_pair_and_the_rest_is_shown_alone():
    before, after = records(ONNX, INT8), records(BASELINE, INT8)
    assert paired(before, after) == [(0, None), (1, 1), (None, 0)]


def test_a_case_is_the_same_under_another_model_name_and_another_interpreter():
    renamed = replace(
        ONNX, model=replace(ONNX.model, name="other"), backend=replace(ONNX.backend, python="/py")
    )
    (pair,) = pairing.pair(records(ONNX), records(renamed))
    assert pair.after is not None
    assert pair.differences == ()


def test_thread_counts_may_differ_and_are_shown():
    (pair,) = pairing.pair(records(threads(2)), records(threads(1)))
    assert pair.differences == (pairing.Difference("threads", "2", "1"),)


def test_of_several_candidates_the_one_that_differs_in_the_least_is_taken():
    before = records(threads(1), threads(2))
    after = records(threads(2, opset=18), threads(1, opset=18))
    assert paired(before, after) == [(0, 1), (1, 0)]


def test_two_candidates_that_are_as_near_make_no_pair():
    before, after = records(threads(2)), records(threads(1), threads(4))
    assert paired(before, after) == [(0, None), (None, 0), (None, 1)]
    assert [pair.rivals for pair in pairing.pair(before, after)] == [2, 1, 1]


def test_a_model_with_another_adapter_is_another_model():
    four, sixty_four = (
        replace(ONNX, model=replace(ONNX.model, lora=(Lora(f"./lora-r{rank}"),))) for rank in (4, 64)
    )
    assert paired(records(four), records(sixty_four)) == [(0, None), (None, 0)]
    assert pairing.model_key(four) != pairing.model_key(sixty_four)
    assert paired(records(four), records(sixty_four), "lora") == [(0, 0)]


def test_attention_that_is_kept_is_shown_as_a_difference():
    keeping = replace(ONNX, model=replace(ONNX.model, attention=True))
    (pair,) = pairing.pair(records(ONNX), records(keeping))
    assert [(d.name, d.before, d.after) for d in pair.differences] == [("attention", "false", "true")]


def test_another_provider_is_another_case_unless_it_is_ignored():
    before, after = records(ONNX), records(golden.case("onnx", backend=golden.CUDA))
    assert paired(before, after) == [(0, None), (None, 0)]
    assert pairing.would_pair(pairing.pair(before, after), ()) == {"provider": 1}
    assert paired(before, after, "provider") == [(0, 0)]


def test_what_cannot_be_ignored_names_what_can_be():
    with pytest.raises(UsageError, match=r"Did you mean 'provider'.*Allowed: model, weights"):
        pairing.pair([], [], ["providers"])


# Gates


@pytest.mark.parametrize(
    ("text", "name", "kind", "limit"),
    [
        ("p50 > 5%", "p50", "growth", 0.05),
        (" p50>5% ", "p50", "growth", 0.05),
        ("peak_memory > 10%", "peak_memory", "growth", 0.1),
        ("size > 0.5%", "size", "growth", 0.005),
        ("cosine < 0.99", "cosine", "below", 0.99),
        ("cosine drop > 1e-3", "cosine", "drop", 0.001),
        ("max_abs_error > 1e-3", "max_abs_error", "above", 0.001),
        ("top1_agreement < .9", "top1_agreement", "below", 0.9),
        ("top1_agreement < 90%", "top1_agreement", "below", 0.9),
        ("top1_agreement drop > 1 %", "top1_agreement", "drop", 0.01),
        ("gradient_error > 0.01", "gradient_error", "above", 0.01),
        ("cross_entropy > 2.5", "cross_entropy", "above", 2.5),
        ("outcome", "outcome", "outcome", 0.0),
    ],
)
def test_gates_are_read(text, name, kind, limit):
    gate = gates.parse(text, ["top1_agreement", "gradient_error", "cross_entropy"])
    assert (gate.name, gate.kind) == (name, kind)
    assert gate.limit == pytest.approx(limit)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("p5O > 5%", "Did you mean 'p50'"),
        ("p50 < 5%", "write 'p50 > 5%'"),
        ("p50 > 5", "write 'p50 > 5%'"),
        ("cosine > 0.9", "write 'cosine < 0.9' or 'cosine drop > 0.9'"),
        ("max_abs_error > 5%", "write 'max_abs_error > 5'"),
        ("gradient_error < 0.01", "write 'gradient_error > 0.01'"),
        ("top1_agreement < 90", "write 'top1_agreement < 90%' or 'top1_agreement drop > 90%'"),
        ("outcome > 1%", "write 'outcome'"),
        ("outcome < 1", "write 'outcome'"),
        ("p50 > -5%", "cannot be read"),
        ("p50 > nan%", "cannot be read"),
        ("p50 > 5% or outcome", "cannot be read"),
        ("outcomes", "Did you mean 'outcome'"),
        ("", "cannot be read"),
    ],
)
def test_a_gate_that_cannot_be_read_says_what_can_be(text, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        gates.parse(text, ["top1_agreement", "gradient_error"])


def test_latency_fails_only_beyond_the_limit_that_the_interval_proves(run):
    comparison = compare([run("a"), run("b", only(INT8.id, slowed(1.2)))])
    row = row_of(comparison, INT8.id)
    assert row.latency.ratio is not None
    assert 1.15 < row.latency.ratio.low < 1.2 < row.latency.ratio.high < 1.25

    def state(text: str) -> str:
        judged = gates.judge(comparison, [gates.parse(text, [])])
        return next(finding.state for finding in judged.findings if finding.row is row)

    assert [state("p50 > 15%"), state("p50 > 20%"), state("p50 > 25%")] == [
        "failed",
        "inconclusive",
        "passed",
    ]


def test_the_anchor_is_not_judged_by_its_latency(run):
    comparison = compare([run("a"), run("b", slowed_with_companion(1.25))])
    found = gates.judge(comparison, [gates.parse("p50 > 5%", [])])
    assert not found.failed
    anchors = [finding for finding in found.findings if finding.row.anchored == "anchor"]
    assert [finding.state for finding in anchors] == ["not judged", "not judged"]


def test_memory_fails_by_its_interval_and_size_by_its_value(run):
    def larger(record: Record) -> Record:
        artifact = replace(
            record.artifact, size_bytes=round(record.artifact.size_bytes * 1.02), sha256="1" * 64
        )
        return heavier(1.3)(replace(record, artifact=artifact))

    comparison = compare([run("a"), run("b", only(ONNX.id, larger))])
    assert states(comparison, "peak_memory > 10%")["failed"] == 1
    assert states(comparison, "size > 1%")["failed"] == 1
    assert states(comparison, "size > 2.1%")["failed"] == 0
    assert row_of(comparison, ONNX.id).same_artifact is False


def test_parity_fails_by_its_value_by_its_fall_and_where_it_is_no_number(run):
    less = only(ONNX.id, lambda r: replace(r, parity=golden.parity("fp32", 0.985, error=0.002)))
    comparison = compare([run("a"), run("b", less)])
    assert states(comparison, "cosine < 0.98")["failed"] == 2  # both golden mismatches: 0.91, and NaN
    assert states(comparison, "cosine < 0.99")["failed"] == 3
    assert states(comparison, "cosine drop > 0.01")["failed"] == 1
    assert states(comparison, "cosine drop > 0.02")["failed"] == 0
    nan = only(ONNX.id, lambda r: replace(r, outcome="mismatch", parity=golden.nan_parity()))
    broken = compare([run("a"), run("c", nan)])
    assert states(broken, "cosine drop > 0.5")["failed"] == 1
    assert states(broken, "outcome")["failed"] == 1


def test_a_case_that_is_gone_fails_outcome_and_leaves_other_gates_open(run):
    left = [record for record in golden.RECORDS if record.case != ONNX]
    comparison = compare([run("a"), run("b", records=left)])
    row = row_of(comparison, ONNX.id)
    assert (row.outcome, row.worsened) == (("ok", "missing"), True)
    assert states(comparison, "outcome")["failed"] == 1
    found = gates.judge(comparison, [gates.parse("p50 > 1000%", [])])
    assert [f.reason for f in found.inconclusive] == ["it was not measured: the case is missing"]
    assert found.passes(strict=False)
    assert not found.passes(strict=True)


def test_a_gate_that_can_judge_nothing_does_not_pass_silently(run):
    comparison = compare([run("a", records=golden.RECORDS[5:7]), run("b", records=golden.RECORDS[5:7])])
    found = gates.judge(comparison, [gates.parse("p50 > 5%", [])])
    assert [gate.text for gate in found.idle] == ["p50 > 5%"]
    assert found.passes(strict=False)
    assert not found.passes(strict=True)


# What is shown


def test_the_csv_has_a_row_a_case_with_units_and_nothing_rounded(run, tmp_path):
    comparison = compare([run("a"), run("b", only(INT8.id, slowed(1.2)))])
    reports.write(comparison, gates.judge(comparison, []), tmp_path / "out")
    with (tmp_path / "out" / "compare.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(golden.RECORDS)
    row = rows[2]
    assert [row["path"], row["outcome_a"], row["outcome_b"], row["verdict"], row["anchored"]] == [
        "onnx + int8_dynamic(weight_range=104)", "ok", "ok", "slower", "anchored",
    ]  # fmt: skip
    assert float(row["ratio"]) == pytest.approx(1.2)
    assert float(row["p50_ms_b"]) == pytest.approx(1.2 * float(row["p50_ms_a"]))
    assert row["cosine_a"] == row["cosine_b"] == "0.9987"
    assert row["same_artifact"] == "True"
    assert rows[5]["p50_ms_a"] == ""


def test_names_from_files_are_escaped_in_html_and_markdown(run, tmp_path):
    comparison = compare([run("a"), run("b")])
    judged = gates.judge(comparison, [gates.parse("cosine < 0.99", [])])
    page = reports.html(comparison, judged)
    assert golden.HOSTILE not in page
    assert "&lt;script&gt;alert(1)" in page
    assert golden.HOSTILE not in reports.markdown(comparison, judged)


def test_the_page_needs_no_network(run):
    comparison = compare([run("a"), run("b")])
    page = reports.html(comparison, gates.judge(comparison, []))
    assert re.findall(r"""(?:src|href)=["']?(?!compare\.csv)[^"'\s>]+""", page) == []
    assert "default-src 'none'" in page


def test_markdown_tables_have_as_many_cells_as_columns(run):
    """A name with a pipe or a line feed in it would break the row."""
    comparison = compare([run("a"), run("b", only(INT8.id, slowed(1.2)))])
    text = reports.markdown(comparison, gates.judge(comparison, []))
    tables = re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE)
    assert len(tables) == 3
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1
    assert "1.20 (1.1" in text


def test_a_wild_interval_is_said_in_few_signs():
    from benchbox.comparison.rows import Change

    wild = Change(1.0, 2.0, Interval(1e-9, 2.0, 1e12))
    assert wording.ratio(wild) == "2.00 (1e-09 to 1,000 or more)"


# The command


def cli(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["compare", *map(str, arguments)], env={"COLUMNS": "80", "TERM": "dumb"})
    return result.exit_code, result.stdout, result.stderr


def test_the_command_shows_every_row_within_80_columns(run):
    code, out, _ = cli(run("a"), run("b", only(INT8.id, slowed(1.2))))
    assert code == 0
    assert max(len(line) for line in out.splitlines()) <= 80
    assert "slower" in out
    assert "B against A: 2 anchor, 2 equivalent, 1 slower, 4 not ranked" in " ".join(out.split())


def test_a_slower_case_passes_without_a_limit_and_fails_with_one(run):
    a, b = run("a"), run("b", only(INT8.id, slowed(1.2)))
    assert cli(a, b)[0] == 0
    code, out, _ = cli(a, b, "--fail-on", "p50 > 5%", "--fail-on", "outcome")
    assert code == 1
    assert "failed" in out
    assert cli(a, a, "--fail-on", "p50 > 5%", "--fail-on", "outcome")[0] == 0


def test_one_thread_in_place_of_two_is_slower_in_every_row(run):
    a, b = run("a"), run("b", lambda record: slowed(1.6)(on_threads(1)(record)))
    comparison = compare([a, b])
    ok = [row for row in comparison.versus[0].rows if row.outcome == ("ok", "ok")]
    assert len(ok) == 5
    assert {row.verdict for row in ok} == {"slower"}
    assert cli(a, b, "--fail-on", "p50 > 5%")[0] == 1


def test_an_inconclusive_limit_is_a_warning_and_fails_with_strict(run):
    a, b = run("a"), run("b", only(INT8.id, slowed(1.2)))
    code, out, _ = cli(a, b, "--fail-on", "p50 > 20%")
    assert (code, "inconclusive p50 > 20%" in " ".join(out.split())) == (0, True)
    assert cli(a, b, "--fail-on", "p50 > 20%", "--strict")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fail-on", "p5O > 5%"], "Did you mean 'p50'"),
        (["--strict"], "--strict is about --fail-on"),
        (["--ignore", "providers"], "Did you mean 'provider'"),
    ],
)
def test_a_wrong_option_is_one_sentence_and_exit_code_2(run, arguments, message):
    folder = run("a")
    code, _, err = cli(folder, folder, *arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_the_reports_are_written_where_they_are_asked_for(run, tmp_path):
    folder = run("a")
    assert cli(folder, folder, "--out", tmp_path / "out")[0] == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "compare.csv", "compare.html", "compare.md",
    ]  # fmt: skip


def test_anchoring_without_a_baseline_says_so():
    timed = anchoring.Timed(golden.RECORDS[1], None, golden.ENVIRONMENT)
    assert anchoring.unsound(timed, timed) == "no baseline was timed in the rounds of both"


def test_an_error_of_the_finite_values_alone_passes_no_gate(run):
    """A NaN in one of four values, the others equal: the largest error is 0."""
    output = replace(golden.nan_parity().outputs[0], max_abs_error=0.0, nan_count=1)
    parity = replace(golden.nan_parity(), outputs=(output,), metrics={})
    nan = only(ONNX.id, lambda r: replace(r, outcome="mismatch", parity=parity))
    comparison = compare([run("a"), run("b", nan)])
    row = row_of(comparison, ONNX.id)
    assert row.parity["max_abs_error"].after == 0.0
    for text in ("max_abs_error > 1e-3", "top1_agreement < 50%", "cosine < 0.5"):
        found = gates.judge(comparison, [gates.parse(text, comparison.metrics)]).findings
        assert [(f.state, f.reason) for f in found if f.row is row] == [
            ("failed", f"{text.split()[0]} is not a number")
        ]


def test_derivatives_that_are_no_numbers_fail_their_gate_and_those_not_asked_for_do_not(run):
    def derived(error: float | None, *reasons: str) -> Edit:
        return only(
            ONNX.id,
            lambda r: replace(r, parity=replace(r.parity, gradient_error=error, reasons=reasons)),
        )

    before = run("a", derived(1e-4))
    unasked = compare([before, run("b", derived(None))])
    assert states(unasked, "gradient_error > 0.01")["inconclusive"] == 1
    reason = "gradient_error is not finite: the directional derivatives hold NaN or Inf"
    broken = compare([before, run("c", derived(None, reason))])
    assert states(broken, "gradient_error > 0.01")["failed"] == 1


@pytest.mark.parametrize(
    ("before", "after", "text", "state"),
    [
        (0.95, 0.94, "top1_agreement drop > 1%", "passed"),
        (0.95, 0.9399, "top1_agreement drop > 1%", "failed"),
        (0.999, 0.999, "top1_agreement < 99.9%", "passed"),
        (0.999, 0.999, "top1_agreement < 0.999", "passed"),
        (0.999, 0.9989, "top1_agreement < 99.9%", "failed"),
    ],
)
def test_the_limit_itself_is_kept(run, before, after, text, state):
    def agreeing(share: float) -> Edit:
        return only(
            ONNX.id,
            lambda r: replace(r, parity=replace(r.parity, metrics={"top1_agreement": share})),
        )

    comparison = compare([run("a", agreeing(before)), run("b", agreeing(after))])
    found = gates.judge(comparison, [gates.parse(text, comparison.metrics)]).findings
    row = row_of(comparison, ONNX.id)
    assert [finding.state for finding in found if finding.row is row] == [state]


def test_the_memory_of_a_child_that_failed_is_compared_with_none(run):
    failed = only(
        ONNX.id,
        lambda r: replace(
            r, outcome="failed", stage="build", measurement=None, artifact=None, parity=None,
            peak_memory_bytes=9 * 2**30,
        ),
    )  # fmt: skip
    comparison = compare([run("a"), run("b", failed)])
    row = row_of(comparison, ONNX.id)
    assert (row.peak_memory.after, row.peak_memory.factor) == (None, None)
    found = gates.judge(comparison, [gates.parse("peak_memory > 10%", [])])
    assert [f.reason for f in found.inconclusive if f.row is row] == [
        "it was not measured: the case is failed"
    ]


def test_lines_of_a_newer_benchbox_are_called_so(run):
    folder = run("b")
    lines = (folder / "records.jsonl").read_text().splitlines()
    newer = json.dumps({**json.loads(lines[1]), "schema_version": 9})
    (folder / "records.jsonl").write_text("\n".join([lines[0], newer, *lines[2:]]) + "\n")
    said = (
        "B: 1 line of records.jsonl could not be read: "
        "a newer benchbox wrote schema version 9, this one knows 1"
    )
    assert wording.unreadable(compare([run("a"), folder])) == (said,)
    alone = folder / "alone.jsonl"
    (folder / "records.jsonl").rename(alone)
    assert wording.unreadable(compare([run("a"), alone])) == (said,)
