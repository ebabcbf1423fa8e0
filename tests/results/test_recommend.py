"""Ranking is a function of records: without files, tables or pandas."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import golden_records as golden
import places
from benchbox.results.recommend import rank, recommend
from benchbox.results.runs import Runs
from benchbox.results.store import Results
from benchbox.schema.asked import MeasurePlan

INT8, ONNX_8, TORCH_8 = 2, 8, 7


def test_records_alone_say_what_to_ship() -> None:
    advice = recommend(golden.RECORDS)
    assert [(one.rows, one.decided) for one in advice] == [((INT8,), True), ((ONNX_8, TORCH_8), False)]


def test_it_is_what_the_runs_recommend() -> None:
    runs = Runs((Results("", places.TESTS, golden.RECORDS, golden.ENVIRONMENT, golden.SUITE),))
    assert recommend(golden.RECORDS) == runs.recommend()
    assert rank(golden.RECORDS).verdicts == runs.table["verdict"].tolist()


def test_the_margin_is_that_of_the_plan() -> None:
    """Within half of the baseline's time nothing is a difference, but what takes less than half of it."""
    wide = rank(golden.RECORDS, replace(MeasurePlan(), margin=0.5))
    assert rank(golden.RECORDS).verdicts[:3] == ["", "faster", "faster"]
    assert wide.verdicts[:3] == ["", "equivalent", "faster"]


def test_no_record_is_no_recommendation() -> None:
    assert recommend([]) == ()


def test_ranking_loads_no_pandas() -> None:
    code = "import sys, benchbox.results.recommend; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=places.ROOT, check=False).returncode == 0
