"""What is said of a machine that was not quiet."""

from __future__ import annotations

from dataclasses import replace

import pytest

import golden_records as golden
from benchbox.reporters import quietness
from benchbox.reporters.formats import markdown
from benchbox.results.runs import Runs
from benchbox.results.store import Results
from benchbox.schema.seen import Neighbours

BASELINE, ONNX = 0, 1


def runs_of(*records) -> Runs:
    return Runs((Results("run", None, tuple(records), golden.ENVIRONMENT, golden.SUITE),))


def held_up(record, share, pace=None, neighbours=None):
    """The record with such a share of each process's blocks held up, and every other one beside a slow
    canary."""
    replicates = []
    for r in record.measurement.replicates:
        spoilt = round(share * len(r.blocks))
        blocks = tuple(
            replace(block, disturbed="others" if number < spoilt else "", pace=pace)
            for number, block in enumerate(r.blocks)
        )
        replicates.append(replace(r, blocks=blocks))
    measurement = replace(record.measurement, replicates=tuple(replicates), neighbours=neighbours or {})
    return replace(record, measurement=measurement)


def said(*records) -> tuple[str, ...]:
    found: Runs = runs_of(*records)
    return quietness.of_runs(found)


@pytest.mark.parametrize(
    ("neighbours", "words"),
    [
        (Neighbours(0.9, {"pip": 0.85, "sshd": 0.05}), "pip uses 85 % of a core"),
        (Neighbours(1.4, {"a": 0.5, "b": 0.5}), "others use 1.4 cores"),
        (Neighbours(0.3, {}), "others use 30 % of a core"),
        (Neighbours(3.0, {"cc1plus": 2.6}), "cc1plus uses 2.6 cores"),
    ],
)
def test_who_is_busy(neighbours, words):
    assert quietness.busy(neighbours) == words


def test_of_a_quiet_machine_nothing_is_said():
    assert said(golden.RECORDS[BASELINE], golden.RECORDS[ONNX]) == ()


def test_a_machine_that_was_never_quiet_is_the_first_thing_in_a_report():
    record = held_up(golden.RECORDS[ONNX], 1.0, neighbours={"pip": 0.9})
    first, second = said(record)
    assert first == (
        "The machine was not quiet: for 100 % of the measured time others held calls up "
        "(pip: 90 % of a core). Those calls are kept, and not counted."
    )
    assert second.startswith("1 row had hardly a calm call")
    lines = markdown.render(runs_of(record)).splitlines()
    assert lines[2].startswith("> ")
    assert any(line.startswith("> The machine was not quiet") for line in lines[:8])


def test_a_machine_that_was_slow_by_itself_is_named():
    (sentence,) = said(held_up(golden.RECORDS[ONNX], 0.0, pace=1.5))
    assert sentence.startswith("The machine itself was slower for 100 % of the time")
