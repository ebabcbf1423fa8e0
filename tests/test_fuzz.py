"""Whatever a suite or a results folder holds: a message or a report, never a traceback, never a hang.

`nox -s fuzz` runs the full counts; the usual test run takes a sample.
"""

from __future__ import annotations

import json
import signal
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

import damage
from benchbox.cli import commands
from benchbox.errors import UsageError
from benchbox.results import runs as frame
from benchbox.suite.load import from_source, parse_suite
from mutations import mutated
from places import SUITES

# Far beyond what the slowest example takes (a page with plotly in it, on a machine that is busy): 0.5 s.
HANGS_AFTER_SECONDS = 60

FEW = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
SUITE_COUNT, RECORDS_COUNT, COMPARED_COUNT = 5000, 1000, 400
MANY_SUITES = settings(FEW, max_examples=SUITE_COUNT)
MANY_RECORDS = settings(FEW, max_examples=RECORDS_COUNT)
MANY_COMPARED = settings(FEW, max_examples=COMPARED_COUNT)

# What may be asked of `benchbox compare`, beyond two runs.
ASKED: tuple[tuple[str, ...], ...] = (
    (),
    ("--no-anchor",),
    ("--fail-on", "p50 > 5%", "--fail-on", "peak_memory > 10%", "--strict"),
    ("--fail-on", "size > 1%", "--fail-on", "cosine < 0.99", "--fail-on", "cosine drop > 0.001"),
    ("--fail-on", "max_abs_error > 1e-3", "--fail-on", "outcome"),
    ("--ignore", "provider", "--ignore", "path"),
    ("--ignore", "shape", "--ignore", "seed", "--ignore", "options"),
)


@contextmanager
def no_hang() -> Iterator[None]:
    """Fails what computes for too long; nothing here waits, and a machine may be slow or asleep."""

    def give_up(_number: int, _frame: FrameType | None) -> None:
        raise AssertionError(f"no end after {HANGS_AFTER_SECONDS} s of CPU time")

    before = signal.signal(signal.SIGPROF, give_up)
    signal.setitimer(signal.ITIMER_PROF, HANGS_AFTER_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def written(files: dict[str, bytes], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(commands.app, arguments)


def assert_message_and_no_traceback(result: Result, *codes: int) -> None:
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise AssertionError("".join(traceback.format_exception(result.exception)))
    assert result.exit_code in codes, result.output
    assert "Traceback (most recent call last)" not in result.stderr
    if result.exit_code == 2:
        assert result.stderr.startswith("error: ")


def assert_suite_loads_or_is_refused(text: str) -> None:
    with no_hang():
        try:
            loaded = parse_suite(text, str(SUITES / "mutated.yaml"))
        except UsageError as error:
            assert str(error)
            return
        again = from_source(json.loads(json.dumps(loaded.source, allow_nan=False)), loaded.file)
        assert again == loaded


def assert_reported_or_refused(files: dict[str, bytes]) -> None:
    """By `benchbox report`: 0 with every report written, or 2 with a message; and a frame of what is left."""
    with no_hang(), tempfile.TemporaryDirectory() as place:
        folder = written(files, Path(place) / "run")
        result = invoke("report", str(folder), "--out", str(Path(place) / "out"))
        assert_message_and_no_traceback(result, 0, 2)
        if result.exit_code == 0:
            runs = frame.load_results(folder)
            assert len(runs.to_pandas()) == len(runs.results[0].records)
            assert len(runs.samples()) == sum(len(b.latencies_ns) for b in runs.calls.blocks())
            names = {"summary.csv", "samples.csv", "report.html", "report.md"}
            assert {path.name for path in (Path(place) / "out").iterdir()} == names
            if runs.results[0].unreadable:
                assert "could not be read" in result.stderr


def assert_compared_or_refused(
    one: dict[str, bytes], other: dict[str, bytes], asked: tuple[str, ...]
) -> None:
    """By `benchbox compare`: 0 or 1 (a limit is broken) with every file written, or 2 with a message."""
    with no_hang(), tempfile.TemporaryDirectory() as place:
        a, b = (written(files, Path(place) / name) for name, files in (("a", one), ("b", other)))
        result = invoke("compare", str(a), str(b), "--out", str(Path(place) / "out"), *asked)
        assert_message_and_no_traceback(result, 0, 1, 2)
        if result.exit_code != 2:
            assert result.exit_code == 0 or "--fail-on" in asked
            names = {path.name for path in (Path(place) / "out").iterdir()}
            assert names == {"compare.csv", "compare.md", "compare.html"}


@FEW
@given(mutated())
def test_some_mutated_suites(text: str) -> None:
    assert_suite_loads_or_is_refused(text)


@FEW
@given(damage.folders())
def test_some_damaged_records(files: dict[str, bytes]) -> None:
    assert_reported_or_refused(files)


@FEW
@given(damage.folders(), damage.folders(), st.sampled_from(ASKED))
def test_some_comparisons_of_damaged_records(
    one: dict[str, bytes], other: dict[str, bytes], asked: tuple[str, ...]
) -> None:
    assert_compared_or_refused(one, other, asked)


@pytest.mark.slow
@MANY_SUITES
@given(mutated())
def test_five_thousand_mutated_suites(text: str) -> None:
    assert_suite_loads_or_is_refused(text)


@pytest.mark.slow
@MANY_RECORDS
@given(damage.folders())
def test_a_thousand_damaged_records_files(files: dict[str, bytes]) -> None:
    assert_reported_or_refused(files)


@pytest.mark.slow
@MANY_COMPARED
@given(damage.folders(), damage.folders(), st.sampled_from(ASKED))
def test_four_hundred_comparisons_of_damaged_records(
    one: dict[str, bytes], other: dict[str, bytes], asked: tuple[str, ...]
) -> None:
    assert_compared_or_refused(one, other, asked)
