"""A results folder that an older benchbox wrote (92cd9bd) is read, drawn, compared and gone on with."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

import benchbox
import places
from benchbox.machine import environment
from benchbox.reporters.write import write_reports

OLD = places.TESTS / "golden" / "run-92cd9bd"
PATHS = ["torch", "onnx", "dynamo", "onnx + fp16", "onnx + int8_dynamic", "onnx + int8_static"]


def test_every_record_of_an_older_run_is_read() -> None:
    runs = benchbox.load_results(OLD)
    table = runs.to_pandas()
    assert [results.damage for results in runs.results] == [""]
    assert table["path"].tolist() == PATHS
    assert table["outcome"].tolist() == ["ok"] * 6
    assert table["p50_ms"].notna().all()
    assert table["ratio"].notna().tolist() == [False] + [True] * 5
    assert len(runs.samples()) > 6


def test_an_older_run_has_all_reports(tmp_path: Path) -> None:
    written = write_reports(benchbox.load_results(OLD), tmp_path)
    assert [path.name for path in written] == ["summary.csv", "samples.csv", "report.html", "report.md"]
    with written[0].open(encoding="utf-8", newline="") as file:
        assert [row["path"] for row in csv.DictReader(file)] == PATHS
    for page in written[2:]:
        text = page.read_text(encoding="utf-8")
        assert all(f"{path} · " in text for path in PATHS)


def test_an_older_run_is_compared_with_itself() -> None:
    comparison = benchbox.compare([OLD, OLD])
    rows = comparison.versus[0].rows
    assert [row.path for row in rows] == PATHS
    assert {row.verdict for row in rows} <= {"equivalent", "inconclusive"}
    assert comparison.environments == comparison.settings == ()


def test_compared_with_a_newer_run_each_says_by_which_intervals_measuring_stopped(tmp_path: Path) -> None:
    newer = tmp_path / "newer"
    shutil.copytree(OLD, newer)
    records = [json.loads(line) for line in (newer / "records.jsonl").read_text().splitlines()]
    for record in records:
        record["measurement"]["statistics"] = "moderated"
    (newer / "records.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    comparison = benchbox.compare([OLD, newer])
    assert [(fact.name, fact.values) for fact in comparison.settings] == [
        (
            "intervals that measuring stopped by",
            ("Student's t, each case alone", "moderated over the cases of a group"),
        )
    ]
    assert {row.verdict for row in comparison.versus[0].rows} <= {"equivalent", "inconclusive"}


def test_an_older_run_is_gone_on_with(tmp_path: Path, cache_folder: Path) -> None:
    """Its last two cases are lost; on this machine they are built and measured, and the others are kept."""
    for package in ("torch", "onnxruntime", "onnx"):
        pytest.importorskip(package)
    from benchbox.runner import runner

    folder = tmp_path / "results" / OLD.name
    shutil.copytree(OLD, folder)
    lines = (folder / "records.jsonl").read_text(encoding="utf-8").splitlines()
    (folder / "records.jsonl").write_text("\n".join(lines[:4]) + "\n", encoding="utf-8")
    here = json.dumps(asdict(environment.describe()))  # a run goes on only on the machine it was begun on
    (folder / "environment.json").write_text(here, encoding="utf-8")
    suite, request = runner.resumed(folder)
    finished = benchbox.run(suite, **request, cache=cache_folder, reports=None, resume=folder)
    kept = (folder / "records.jsonl").read_text(encoding="utf-8").splitlines()
    assert kept[:4] == lines[:4]
    assert [record.case.path_label for record in finished.results.records] == PATHS
    assert [record.outcome for record in finished.results.records] == ["ok"] * 6
    assert not finished.interrupted
