"""Records as a stream: read one at a time, bounded, and left on the disk until they are asked for."""

from __future__ import annotations

import gc
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

import golden_records as golden
from benchbox import cli, frame, store
from benchbox.gather import Gathered
from benchbox.store import Results

LINE = json.dumps(asdict(golden.RECORDS[1]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return golden.write(tmp_path / "vit-run")


def append(folder: Path, *texts: str) -> None:
    with (folder / store.RECORDS).open("a", encoding="utf-8") as file:
        file.writelines(f"{text}\n" for text in texts)


def newer(version: int) -> str:
    return LINE.replace('"schema_version": 1', f'"schema_version": {version}, "surprise": true')


def in_memory(folder: Path) -> frame.Runs:
    return frame.Runs((store.load(folder),))


def test_records_left_on_the_disk_are_those_that_were_read(folder: Path) -> None:
    browsed = store.browse(folder, Gathered().add)
    assert tuple(browsed.records) == store.load(folder).records == golden.RECORDS
    assert (len(browsed.records), browsed.records[2], browsed.records[-1]) == (
        9,
        golden.RECORDS[2],
        golden.RECORDS[8],
    )
    assert tuple(browsed.records[3:5]) == golden.RECORDS[3:5]


def test_tables_of_a_stream_are_those_of_records_in_memory(folder: Path) -> None:
    streamed, loaded = frame.load_results(folder, folder), frame.Runs((store.load(folder),) * 2)
    pd.testing.assert_frame_equal(streamed.to_pandas(), loaded.to_pandas())
    pd.testing.assert_frame_equal(streamed.samples(), loaded.samples())
    assert streamed.recommend() == loaded.recommend()
    assert [streamed.record(row).case for row in (0, 8, 9, 17)] == [
        golden.RECORDS[number].case for number in (0, 8, 0, 8)
    ]
    with pytest.raises(IndexError):
        streamed.record(18)


def test_of_a_case_that_was_recorded_twice_the_last_record_counts(folder: Path) -> None:
    append(folder, json.dumps(asdict(replace(golden.RECORDS[1], reason="again", outcome="mismatch"))))
    runs = frame.load_results(folder)
    pd.testing.assert_frame_equal(runs.to_pandas(), in_memory(folder).to_pandas())
    assert runs.to_pandas()["reason"].tolist()[1] == "again"
    assert len(runs.to_pandas()) == 9


def test_a_case_is_known_by_what_it_is_and_not_by_how_its_line_is_spelt(folder: Path) -> None:
    """A key that stands twice in a line: the last one counts, whatever the line begins with."""
    other = json.dumps(asdict(replace(golden.RECORDS[1].case, opset=18)))
    text = json.dumps(asdict(golden.RECORDS[1]), separators=(",", ":"))
    append(folder, text, text[:-1] + f',"case":{other}}}')
    assert frame.load_results(folder).to_pandas()["opset_asked"].tolist() == [17] * 9 + [18]


def test_a_file_that_changed_after_it_was_read_is_not_believed(folder: Path) -> None:
    records = store.browse(folder, Gathered().add).records
    (folder / store.RECORDS).write_bytes(b"x" * 10**6)
    with pytest.raises(OSError, match=r"records\.jsonl was changed while it was read"):
        records[0]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"first_ns": 276375000', '"first_ns": 9223372036854775808'),
        ('"first_ns": 276375000', '"first_ns": 0'),
        ('"first_ns": 276375000', '"first_ns": -5'),
        ('"size_bytes": 346554368', '"size_bytes": 18446744073709551616'),
        ('"batch": 1', '"batch": 9223372036854775808'),
        ('"cosine": 0.9999999', '"cosine": NaN'),
        ('"cosine": 0.9999999', '"cosine": 1e308'),
        ('"load_seconds": 0.5', '"load_seconds": Infinity'),
        ('"outcome": "ok"', '"outcome": "fine"'),
        ('"name": "vit-base"', '"name": "\\ud800"'),
        ('"name": "vit-base"', '"name": ["vit-base"]'),
    ],
)
def test_a_line_whose_numbers_no_table_holds_is_unreadable(folder: Path, old: str, new: str) -> None:
    assert old in LINE
    append(folder, LINE.replace(old, new, 1))
    loaded = store.load(folder)
    assert (len(loaded.records), loaded.unreadable, loaded.newer) == (9, (10,), ())
    assert frame.load_results(folder).results[0].unreadable == (10,)


def test_a_newer_benchbox_is_named_by_its_version_wherever_the_run_is_shown(
    folder: Path, tmp_path: Path
) -> None:
    append(folder, newer(3), newer(2), newer(3), "{")
    said = (
        "4 lines of records.jsonl could not be read: "
        "a newer benchbox wrote schema version 2, 3, this one knows 1"
    )
    assert (store.load(folder).newer, store.load(folder).damage) == ((2, 3), said)
    result = CliRunner().invoke(cli.app, ["report", str(folder), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0
    assert f"warning: {folder}: {said}" in result.stderr
    for report in ("report.html", "report.md"):
        assert said in (tmp_path / "out" / report).read_text(encoding="utf-8")


def test_a_whole_file_has_no_damage(folder: Path) -> None:
    assert store.load(folder).damage == ""


def test_a_folder_that_cannot_be_read_is_named(folder: Path) -> None:
    """The records are a folder: root may read everything else."""
    results = Results("run", folder, (), golden.ENVIRONMENT, {})
    assert results.damage == ""
    with pytest.raises(store.StoreError, match=r"records\.jsonl cannot be read: Is a directory"):
        store.read_records(_folder_in_its_place(folder / store.RECORDS))


def _folder_in_its_place(path: Path) -> Path:
    path.unlink()
    path.mkdir()
    return path


@pytest.mark.parametrize("collects", [True, False])
def test_reading_leaves_the_collector_as_it_was(folder: Path, collects: bool) -> None:
    before: Any = gc.isenabled()
    try:
        (gc.enable if collects else gc.disable)()
        store.load(folder)
        frame.load_results(folder).to_pandas()
        assert gc.isenabled() is collects
    finally:
        (gc.enable if before else gc.disable)()
