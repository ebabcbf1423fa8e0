"""Records become a table: a row a case, units in the names, nothing rounded, nothing invented."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import golden_records as golden
from benchbox.errors import StoreError, UsageError
from benchbox.numerics import stats
from benchbox.reporters.write import write_reports
from benchbox.results import runs as frame
from benchbox.results import timings
from benchbox.results.store import Results
from benchbox.schema.seen import Block, OutputParity, Padding

BASELINE, ONNX, INT8, STATIC, FP16, CUDA, DYNAMO, TORCH_8, ONNX_8 = range(9)


def runs_of(*records, suite=golden.SUITE):
    return frame.Runs((Results("run", None, tuple(records), golden.ENVIRONMENT, suite),))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return frame.load_results(golden.write(tmp_path_factory.mktemp("results") / "vit-run"))


@pytest.fixture(scope="module")
def table(runs):
    return runs.to_pandas()


def hierarchy(record):
    return [
        [np.array(block.latencies_ns) for block in replicate.blocks]
        for replicate in record.measurement.replicates
    ]


def test_a_row_shows_latency_memory_and_parity_of_one_hashed_artifact(table):
    row = table.iloc[INT8]
    assert row[
        ["model", "weights", "family", "path", "precision", "backend", "provider", "batch", "image_size"]
    ].tolist() == [
        "vit-base",
        "random",
        "vit",
        "onnx + int8_dynamic(weight_range=104)",
        "int8",
        "onnxruntime",
        "CPUExecutionProvider",
        1,
        224,
    ]
    assert row[["outcome", "verdict", "stopped_by", "samples", "replicates", "rounds"]].tolist() == [
        "ok",
        "faster",
        "precision",
        360,
        3,
        12,
    ]
    assert row[
        ["peak_memory_mib", "peak_above_empty_mib", "load_memory_mib", "artifact_size_mib"]
    ].tolist() == [
        221.0,
        181.0,
        200.0,
        84.0,
    ]
    assert row[["max_abs_error", "cosine", "sqnr_db", "top1_agreement", "opset"]].tolist() == [
        0.06,
        0.9987,
        40.5,
        1.0,
        17,
    ]
    assert row["nodes"] == "CPUExecutionProvider: 512"
    assert row["nodes_CPUExecutionProvider"] == 512
    assert len(row["artifact_sha256"]) == 64
    assert row["machine"] == "AMD EPYC (Zen 3), 2 cores, 24 GiB"
    assert row["command"] == f"benchbox run suites/vit.yaml --only {row['case_id']}"


@pytest.mark.parametrize("number", [BASELINE, ONNX, INT8, STATIC])
def test_the_table_says_what_stats_says_of_a_case_that_was_measured_alone_with_its_baseline(number):
    """The columns, computed over all cases at once, are those of the functions for one case."""
    record = golden.RECORDS[number]
    beside = [] if number == BASELINE else [golden.RECORDS[BASELINE]]
    row = runs_of(*beside, record).to_pandas().iloc[len(beside)]
    p50 = stats.hierarchical_median(hierarchy(record))
    found = row[["p50_low_ms", "p50_ms", "p50_high_ms"]].tolist()
    assert found == pytest.approx([p50.low / 1e6, p50.point / 1e6, p50.high / 1e6])
    if number == BASELINE:
        assert math.isnan(row["ratio"])
        return
    ratio = stats.ratio_of_medians(hierarchy(record), hierarchy(golden.RECORDS[BASELINE]))
    assert row[["ratio_low", "ratio", "ratio_high"]].tolist() == pytest.approx(
        [ratio.low, ratio.point, ratio.high]
    )


def test_throughput_is_batch_over_median(table):
    row = table.iloc[ONNX_8]
    assert row["throughput_per_s"] == pytest.approx(8000 / row["p50_ms"])


def test_percentiles_are_absent_until_they_are_earned(table):
    """60 calls earn p90 and not p99, 360 earn both."""
    assert table["p90_ms"].notna().tolist() == [True] * 5 + [False] * 2 + [True] * 2
    assert table.index[table["p99_ms"].notna()].tolist() == [INT8]


def test_what_was_not_measured_is_absent_and_never_zero(table):
    row = table.iloc[CUDA]
    measured = ["p50_ms", "p90_ms", "samples", "rounds", "peak_memory_mib", "cosine", "opset", "load_seconds"]
    assert row[measured].isna().all()
    assert row[["outcome", "stage", "verdict"]].tolist() == ["skipped", "plan", ""]
    assert row["hint"] == 'pip install "benchbox[cuda]"'


def test_a_failed_case_keeps_its_stage_and_its_peak_memory(table):
    row = table.iloc[DYNAMO]
    assert row[["outcome", "stage", "peak_memory_mib"]].tolist() == ["failed", "build", 3072.0]


def test_a_mismatch_is_timed_and_never_ranked(table):
    row = table.iloc[STATIC]
    assert row["p50_ms"] < table.iloc[INT8]["p50_ms"]
    assert row["verdict"] == ""
    assert row["parity_reasons"] == "cosine 0.91 is below 0.99"


def test_nan_in_an_output_makes_the_worst_error_unknown_not_small(table):
    row = table.iloc[FP16]
    assert row[["max_abs_error", "cosine", "sqnr_db"]].isna().all()
    assert row["nan_count"] == 4


def test_the_baseline_is_the_one_measured_in_the_same_rounds(table):
    """The onnx case at batch 8 was measured beside a companion, not beside the baseline's own record."""
    row = table.iloc[ONNX_8]
    candidate = golden.RECORDS[ONNX_8]
    ratio = stats.ratio_of_medians(
        hierarchy(candidate), hierarchy(replace(candidate, measurement=candidate.companion))
    )
    assert row["ratio"] == pytest.approx(ratio.point)
    assert row["verdict"] == "equivalent"


def test_without_a_baseline_of_the_same_session_the_verdict_is_inconclusive():
    baseline = golden.RECORDS[BASELINE]
    apart = replace(golden.RECORDS[ONNX], measurement=golden.measurement(100.0, peak_mib=1, session="other"))
    row = runs_of(baseline, apart).to_pandas().iloc[1]
    assert math.isnan(row["ratio"])
    assert row["verdict"] == "inconclusive"


def test_nothing_is_ranked_against_a_baseline_that_does_not_agree():
    """Nor in another sitting, whose records carry a copy of its measurement."""
    baseline = replace(golden.RECORDS[BASELINE], outcome="mismatch")
    same = golden.RECORDS[ONNX]
    elsewhere = golden.measurement(50.0, peak_mib=1, session="other")
    apart = replace(golden.RECORDS[INT8], measurement=elsewhere, companion=elsewhere)
    found = runs_of(baseline, same, apart).to_pandas()
    assert found["ratio"].isna().all()
    assert found["verdict"].tolist() == ["", "inconclusive", "inconclusive"]


def test_a_case_with_one_process_has_a_median_and_no_interval():
    once = golden.measurement(100.0, peak_mib=100, offsets=(0.0,))
    row = runs_of(replace(golden.RECORDS[ONNX], measurement=once)).to_pandas().iloc[0]
    assert row["p50_ms"] > 0
    assert row[["p50_low_ms", "p50_high_ms"]].isna().all()


def test_disturbed_blocks_are_left_out_of_the_median_and_kept_in_the_samples():
    measured = golden.measurement(100.0, peak_mib=100)
    slow = Block(0, 0, 10**9, (10**9,) * 50, disturbed="steal 0.5 s")
    disturbed = replace(
        measured, replicates=tuple(replace(r, blocks=(slow, *r.blocks)) for r in measured.replicates)
    )
    calm, noisy = (runs_of(replace(golden.RECORDS[ONNX], measurement=m)) for m in (measured, disturbed))
    columns = ["p50_ms", "p50_low_ms", "p50_high_ms", "samples", "mean_ms"]
    pd.testing.assert_frame_equal(calm.to_pandas()[columns], noisy.to_pandas()[columns])
    assert noisy.to_pandas()["disturbed_blocks"].tolist() == [3]
    assert len(noisy.samples()) - len(calm.samples()) == 3 * 51


def disturbed(record):
    """Each first round measured twice, at first beside somebody else, and a hundred times as long."""
    replicates = []
    for r in record.measurement.replicates:
        first = r.blocks[0]
        worse = replace(first, disturbed="others", latencies_ns=tuple(100 * ns for ns in first.latencies_ns))
        replicates.append(replace(r, blocks=(worse, *r.blocks)))
    return replace(record, measurement=replace(record.measurement, replicates=tuple(replicates)))


def test_a_ratio_is_of_the_blocks_that_count_and_the_mirror_image_of_the_other_way_round():
    records = [disturbed(golden.RECORDS[number]) for number in (BASELINE, ONNX)]
    plain = runs_of(golden.RECORDS[BASELINE], golden.RECORDS[ONNX]).to_pandas()
    columns = ["p50_ms", "ratio", "ratio_low", "ratio_high", "verdict"]
    pd.testing.assert_frame_equal(runs_of(*records).to_pandas()[columns], plain[columns])
    taken = timings.flatten([record.measurement for record in records])
    both = [np.array([0, 1]), np.array([1, 0])]
    _, there_and_back, _ = timings.ratios(taken, *both, np.array([0.95, 0.95]))
    assert math.prod(there_and_back) == pytest.approx(1.0)


def sat_apart(record, baseline_ms, p50_ms, session):
    """The record as it comes out of another sitting, beside a baseline that took so long there."""
    beside = golden.measurement(baseline_ms, peak_mib=700, session=session)
    return replace(
        record, measurement=golden.measurement(p50_ms, peak_mib=500, session=session), companion=beside
    )


def two_sittings(onnx_ms, baseline_ms, int8_ms):
    """A baseline of 300 ms with ONNX beside it, and INT8 later beside a baseline that took so long then."""
    return runs_of(
        golden.RECORDS[BASELINE],
        replace(golden.RECORDS[ONNX], measurement=golden.measurement(onnx_ms, peak_mib=500)),
        sat_apart(golden.RECORDS[INT8], baseline_ms, int8_ms, "vit/b"),
    )


def test_cases_of_two_sittings_are_recommended_by_their_ratios():
    """The machine was three times as fast in the second sitting: 0.8 of 100 ms is no match for 0.5 of 300."""
    runs = two_sittings(150.0, 100.0, 80.0)
    assert runs.to_pandas()["ratio"].tolist()[1:] == pytest.approx([0.5, 0.8])
    assert [advice.rows for advice in runs.recommend()] == [(1,)]


def test_a_case_that_is_proven_slower_is_never_among_the_fastest():
    runs = two_sittings(360.0, 100.0, 136.0)
    assert runs.to_pandas()["verdict"].tolist() == ["", "slower", "slower"]
    assert [advice.rows for advice in runs.recommend()] == [(0,)]


def test_whole_numbers_stay_whole_beside_rows_that_have_none():
    broken = replace(
        golden.RECORDS[FP16].parity, outputs=(replace(golden.nan_parity().outputs[0], nan_count=2**63 - 1),)
    )
    table = runs_of(replace(golden.RECORDS[FP16], parity=broken), golden.RECORDS[CUDA]).to_pandas()
    assert table["nan_count"].tolist() == [2**63 - 1, pd.NA]


def test_an_output_that_is_zero_in_both_hides_no_cosine():
    zero = OutputParity("mask", {"batch": 1}, 0.0, 0.0, None, None, None, 0, 0)
    parity = golden.RECORDS[ONNX].parity
    both = replace(parity, outputs=(*parity.outputs, zero))
    assert runs_of(replace(golden.RECORDS[ONNX], parity=both)).to_pandas()["cosine"].tolist() == [0.9999999]


def test_what_lies_behind_a_mask_has_columns_of_its_own():
    """The worst of each; the cosine is not known where a NaN is."""
    parity = golden.RECORDS[ONNX].parity
    hidden = (Padding(0.25, 3.0, 0.5, 1.0), Padding(0.5, 2.0, None, 1.0, nan_count=1))
    outputs = tuple(
        replace(output, rel_l2_error=0.125, padding=padding)
        for output, padding in zip(parity.outputs, hidden, strict=True)
    )
    padded = replace(golden.RECORDS[ONNX], parity=replace(parity, outputs=outputs))
    columns = ["rel_l2_error", "padding_share", "padding_max_abs_error", "padding_cosine", "nan_count"]
    table = runs_of(padded, golden.RECORDS[FP16]).to_pandas()[columns]
    assert table.iloc[0].fillna(-1).tolist() == [0.125, 0.5, 3.0, -1, 0]
    assert table.iloc[1, :4].isna().all()


def test_samples_hold_every_call_as_it_was_recorded(runs):
    samples = runs.samples()
    first = golden.RECORDS[BASELINE]
    rows = samples[samples["case_id"] == first.case.id]
    assert rows["kind"].value_counts().to_dict() == {"timed": 60, "warm_up": 18, "cold": 12}
    timed = rows[(rows["kind"] == "timed") & (rows["replicate"] == 1) & (rows["round"] == 2)]
    assert timed["latency_ns"].tolist() == list(first.measurement.replicates[1].blocks[2].latencies_ns)
    assert timed["index"].tolist() == [1, 2, 3, 4, 5]


def test_the_fastest_that_agrees_is_recommended(runs):
    """int8_static is faster and does not agree; at batch 8 the two cannot be told apart."""
    assert [advice.rows for advice in runs.recommend()] == [(INT8,), (ONNX_8, TORCH_8)]
    assert [advice.decided for advice in runs.recommend()] == [True, False]
    advised = runs.recommended()
    assert advised["case_id"].tolist() == [
        golden.RECORDS[number].case.id for number in (INT8, ONNX_8, TORCH_8)
    ]
    assert advised["decided"].tolist() == [True, False, False]


def test_what_was_measured_is_read_first_and_what_cannot_run_here_last(runs, table):
    """Within that, the order of the suite."""
    outcomes = table["outcome"].iloc[runs.reading_order()].tolist()
    assert outcomes == ["ok", "ok", "ok", "mismatch", "mismatch", "ok", "ok", "failed", "skipped"]


def test_rows_that_are_not_ok_are_together_where_they_ended_alike():
    """Two without CUDA are one reason; what failed comes first."""
    cuda = golden.RECORDS[CUDA]
    first, last = (replace(cuda, case=replace(cuda.case, opset=opset)) for opset in (18, 19))
    seen = runs_of(first, *golden.RECORDS, last)
    assert seen.not_ok() == ((7,), (4,), (5,), (0, 6, 10))
    assert [seen.record(rows[0]).outcome for rows in seen.not_ok()] == [
        "failed", "mismatch", "mismatch", "skipped",
    ]  # fmt: skip


def test_nothing_is_recommended_where_nothing_agrees():
    assert runs_of(golden.RECORDS[STATIC]).recommend()[0].rows == ()


def test_a_metric_or_a_size_cannot_overwrite_a_column():
    record = golden.RECORDS[ONNX]
    shape = {"batch": 1, "p50_ms": 7}
    hostile = replace(
        record,
        case=replace(record.case, shape=shape),
        parity=replace(record.parity, metrics={"outcome": 0.5, "p50_ms": 0.25}),
    )
    row = runs_of(hostile).to_pandas().iloc[0]
    assert row["p50_ms"] > 200
    assert row["outcome"] == "ok"
    assert row[["size_p50_ms", "metric_outcome", "metric_p50_ms"]].tolist() == [7, 0.5, 0.25]


def test_a_run_without_records_is_a_table_without_rows():
    empty = runs_of()
    assert len(empty.to_pandas()) == 0
    assert {"p50_ms", "verdict", "command"} <= set(empty.to_pandas().columns)
    assert len(empty.samples()) == 0
    assert empty.recommend() == ()


def test_runs_with_only_failures_have_a_table():
    assert runs_of(golden.RECORDS[DYNAMO]).to_pandas()["outcome"].tolist() == ["failed"]


def test_the_frame_is_the_callers_to_change(runs):
    first = runs.to_pandas()
    first.loc[:, "verdict"] = "spoiled"
    assert "spoiled" not in set(runs.to_pandas()["verdict"])


def test_confidence_and_margin_are_those_of_the_suite():
    suite = {"measure": {"confidence": 0.8, "margin": 0.5}}
    wide, narrow = (
        runs_of(golden.RECORDS[BASELINE], golden.RECORDS[ONNX], suite=s).to_pandas().iloc[1]
        for s in (golden.SUITE, suite)
    )
    assert narrow["p50_high_ms"] < wide["p50_high_ms"]
    assert (wide["verdict"], narrow["verdict"]) == ("faster", "equivalent")


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"is not a results folder: it has no records\.jsonl"):
        frame.load_results(tmp_path)


def test_several_runs_share_one_table(runs):
    other = Results("other", None, golden.RECORDS[:2], golden.ENVIRONMENT, {})
    both = frame.Runs((*runs.results, other)).to_pandas()
    assert both["run"].tolist() == ["vit-run"] * 9 + ["other"] * 2
    assert both["verdict"].tolist()[-1] == "faster"


def test_runs_of_the_same_name_are_told_apart(tmp_path):
    one, other = (golden.write(tmp_path / branch / "run") for branch in ("main", "branch"))
    both = frame.load_results(one, other)
    assert [results.name for results in both.results] == ["main/run", "branch/run"]
    alone = frame.load_results(one).to_pandas()
    columns = ["ratio", "verdict", "outcome"]
    first = both.to_pandas().query("run == 'main/run'")
    pd.testing.assert_frame_equal(first[columns], alone[columns])


def test_a_run_is_called_by_its_folder_however_that_is_written(tmp_path, monkeypatch):
    folder = golden.write(tmp_path / "vit-run")
    (folder / "inner").mkdir()
    monkeypatch.chdir(folder)
    assert frame.load_results(".").results[0].name == "vit-run"
    monkeypatch.chdir(folder / "inner")
    assert frame.load_results("..").results[0].name == "vit-run"


def test_an_unknown_reporter_is_a_usage_error(runs, tmp_path):
    with pytest.raises(UsageError, match="markdown"):
        write_reports(runs, tmp_path, ("markdwon",))


def test_reports_that_cannot_be_written_say_so(runs, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write the reports into"):
        write_reports(runs, tmp_path / "file" / "reports")
