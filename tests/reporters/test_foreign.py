"""Text of others in a terminal, a page and a spreadsheet: from an edited record to every file."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

import golden_records as golden
from benchbox.cli import tables
from benchbox.comparison import gates, reports
from benchbox.comparison.runs import compare
from benchbox.reporters import foreign, wording
from benchbox.reporters.formats import csv as csv_files
from benchbox.reporters.write import write_reports
from benchbox.results import runs as frame
from benchbox.results.runs import Runs

# What a spreadsheet would run, what clears a terminal, and what ends a string in C.
FORMULA = "=cmd|' /C calc'!A0"
NAME = f"{FORMULA}\x1b[2J\x00\x9b1m"
SHOWN = f"{FORMULA} [2J  1m"
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run whose records name their model so, on the disk."""
    ok = golden.RECORDS[1]
    assert ok.parity is not None
    model = replace(ok.case.model, name=NAME)
    parity = replace(ok.parity, metrics={"+metric\x1b": 0.5})
    records = [
        replace(ok, case=replace(ok.case, model=model), parity=parity),
        replace(
            golden.RECORDS[5],
            case=replace(golden.RECORDS[5].case, model=model),
            reason="@SUM(1)\x1b",
            detail="one\x00\n\ttwo\x1b[2J",
        ),
    ]
    return golden.write(tmp_path / "run", records)


@pytest.fixture
def runs(folder: Path) -> Runs:
    return frame.load_results(folder)


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\rname", "' name"),
        (" =1", "' =1"),
        ("\x1b=1", "' =1"),
        ("＝1", "'＝1"),  # noqa: RUF001  # the full-width form is meant
        ("vit-base", "vit-base"),
        ("a=b", "a=b"),
        ("two\nlines\x00", "two\nlines "),
        ("", ""),
        (-1.5, -1.5),
        (-3, -3),
        (None, None),
        (True, True),
    ],
)
def test_text_that_a_spreadsheet_would_compute_is_quoted_and_numbers_stay_numbers(
    value: object, cell: object
) -> None:
    assert foreign.cell(value) == cell
    assert type(foreign.cell(value)) is type(cell)


def test_a_formula_as_a_models_name_is_text_in_every_csv_and_the_records_keep_it(
    runs: Runs, folder: Path, tmp_path: Path
) -> None:
    csv_files.write(runs, tmp_path)
    summary = list(csv.DictReader(io.StringIO((tmp_path / "summary.csv").read_text(), newline="")))
    assert [row["model"] for row in summary] == [f"'{SHOWN}"] * 2
    assert summary[1]["reason"] == "'@SUM(1) "
    assert summary[0]["'+metric "] == "0.5"
    comparison = compare([folder, folder])
    reports.write(comparison, gates.judge(comparison, ()), tmp_path)
    compared = list(csv.DictReader(io.StringIO((tmp_path / "compare.csv").read_text(), newline="")))
    assert {row["model"] for row in compared} == {f"'{SHOWN}"}
    assert compared[0]["'+metric _a"] == "0.5"
    assert [record.case.model.name for record in runs.results[0].records] == [NAME, NAME]


def test_a_runs_folder_that_is_a_formula_is_text_in_a_row_for_each_call(tmp_path: Path) -> None:
    folder = golden.write(tmp_path / "=1+1", golden.RECORDS[1:2])
    csv_files.write(frame.load_results(folder), tmp_path)
    with (tmp_path / "samples.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["run"] for row in rows} == {"'=1+1"}
    assert int(rows[0]["latency_ns"]) > 0


def test_no_control_character_of_a_name_or_of_stderr_reaches_a_report_or_the_terminal(
    runs: Runs, folder: Path, tmp_path: Path
) -> None:
    comparison = compare([folder, folder])
    files = [
        *write_reports(runs, tmp_path / "reports"),
        *reports.write(comparison, gates.judge(comparison, ()), tmp_path / "compared"),
    ]
    texts = {file.name: file.read_text(encoding="utf-8") for file in files}
    console = Console(file=io.StringIO(), width=200)
    console.print(tables.results_table(wording.groups(runs)))
    console.print(tables.reasons([([runs.record(1)], 1)]))
    assert isinstance(console.file, io.StringIO)
    texts["terminal"] = console.file.getvalue()
    # plotly.js is ours, and has control characters of its own.
    texts["report.html"] = re.sub(r'(?s)<script id="plotly">.*?</script>', "", texts["report.html"])
    assert len(texts) == 8
    assert {name for name, text in texts.items() if CONTROLS.search(text)} == set()
    assert "one \n\ttwo [2J" in texts["report.html"]
    assert "\\u001b" not in texts["report.html"]
