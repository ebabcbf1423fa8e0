"""Where the time of a run went."""

from __future__ import annotations

from dataclasses import replace

import golden_records as golden
from benchbox.reporters import timeline
from benchbox.results.runs import Runs
from benchbox.results.store import Results


def runs_of(*records) -> Runs:
    return Runs((Results("run", None, tuple(records), golden.ENVIRONMENT, golden.SUITE),))


def test_parts_add_up_to_the_wall_clock_and_the_rest_is_named():
    first = replace(golden.RECORDS[0], seconds={"measure": 60.0, "load": 30.0})
    second = replace(golden.RECORDS[1], seconds={"measure": 20.0, "verify": 10.0})
    runs = runs_of(first, second)
    (results,) = runs.results
    runs = replace(runs, results=(replace(results, wall_seconds=(100.0, 50.0)),))
    found = timeline.of_runs(runs)
    assert found is not None
    assert [(part.what, part.said) for part in found.parts] == [
        ("load", "0:30 (20 %)"),
        ("measure", "1:20 (53 %)"),
        ("verify", "0:10 (7 %)"),
        ("the rest", "0:30 (20 %)"),
    ]
    assert found.said == "2:30 in all."


def test_an_old_run_has_no_timeline():
    assert timeline.of_runs(runs_of(golden.RECORDS[0])) is None
