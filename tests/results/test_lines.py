"""Records as a stream: read one at a time, bounded, and left on the disk until they are asked for."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from pydantic import TypeAdapter
from typer.testing import CliRunner

import damage
import golden_records as golden
from benchbox.cli import commands
from benchbox.comparison.runs import compare
from benchbox.results import lines, store
from benchbox.results import runs as frame
from benchbox.results.gather import Gathered
from benchbox.results.store import Results
from benchbox.schema.seen import Record

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


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            '"cosine": 0.9999999',
            '"cosine": 7.0',
            "Expected `float` <= 1.000001 - at `$.parity.outputs[0].cosine`",
        ),
        ('"nan_count": 0', '"nan_count": -3', "Expected `int` >= 0 - at `$.parity.outputs[0].nan_count`"),
        (
            '"top1_agreement": 1.0',
            '"top1_agreement": 1.5',
            "top1_agreement is 1.5, and a share is from 0 to 1",
        ),
        ('"passed": true', '"passed": false', "the outcome is ok, and its parity did not pass"),
    ],
)
def test_what_cannot_be_is_told_by_its_line_wherever_the_run_is_read(
    folder: Path, tmp_path: Path, old: str, new: str, said: str
) -> None:
    """An edited record of cosine 7 passed every gate: `report`, `compare` and `--resume` ask one reader."""
    assert old in LINE
    append(folder, LINE.replace(old, new, 1))
    whole = f"1 line of records.jsonl could not be read (line 10: {said})"
    assert store.load(folder).damage == whole
    assert frame.load_results(folder).results[0].damage == whole
    assert compare([folder, folder]).runs[0].damage == whole
    result = CliRunner().invoke(commands.app, ["report", str(folder), "--out", str(tmp_path / "out")])
    assert (result.exit_code, f"warning: {folder}: {whole}" in result.stderr) == (0, True)


def test_a_line_that_would_fill_the_memory_is_passed_over_and_told(folder: Path) -> None:
    """A valid record of 115 MB, most of it calls, took 3.5 GB; the lines around it are read."""
    assert '"latencies_ns": [' in LINE
    append(folder, LINE.replace('"latencies_ns": [', '"latencies_ns": [' + "1234567," * 14_400_000, 1), LINE)
    code = (
        "import sys; from pathlib import Path; from benchbox.machine import memory\n"
        "from benchbox.results import store\n"
        "results = store.load(Path(sys.argv[1]))\n"
        "print(len(results.records), results.damage)\n"
        "print(memory.peak_bytes())\n"
    )
    command = [sys.executable, "-c", code, str(folder)]
    said, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said == (
        "9 1 line of records.jsonl could not be read "
        "(line 10: 110 MiB in one line, and 32 are the most that is read)"
    )
    assert int(peak) < 400 * 2**20


def test_a_mark_of_byte_order_loses_no_line(folder: Path) -> None:
    """Editors of Windows write one before the first line, which holds the baseline."""
    before = (folder / store.RECORDS).read_bytes()
    (folder / store.RECORDS).write_bytes(b"\xef\xbb\xbf" + before)
    assert store.load(folder).records == golden.RECORDS
    assert tuple(store.browse(folder, Gathered().add).records) == golden.RECORDS
    assert store.load(folder).damage == ""


def test_a_newer_benchbox_is_named_by_its_version_wherever_the_run_is_shown(
    folder: Path, tmp_path: Path
) -> None:
    append(folder, newer(3), newer(2), newer(3), "{")
    said = (
        "4 lines of records.jsonl could not be read (line 13: Input data was truncated): "
        "a newer benchbox wrote schema version 2, 3, this one knows 1"
    )
    assert (store.load(folder).newer, store.load(folder).damage) == ((2, 3), said)
    result = CliRunner().invoke(commands.app, ["report", str(folder), "--out", str(tmp_path / "out")])
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


BY_PYDANTIC = TypeAdapter(Record)


# Without shrinking: lines are long, and it takes minutes.
@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)
@given(damage.folders())
def test_what_is_read_of_a_damaged_line_is_what_pydantic_reads_of_it(files: dict[str, bytes]) -> None:
    """Another library as the judge: nothing is read that it refuses, or as something else."""
    for line in files["records.jsonl"].split(b"\n"):
        record = lines.parse(line) if line.strip() else None
        if record is not None:
            assert BY_PYDANTIC.validate_json(line) == record


def test_whole_lines_are_read_as_pydantic_reads_them() -> None:
    for text in damage.LINES:
        assert lines.parse(text.encode()) == BY_PYDANTIC.validate_json(text)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"seed": 0', '"seed": "0"'),
        ('"seed": 0', '"seed": true'),
        ('"dynamic_axes": true', '"dynamic_axes": 1'),
        ('"artifact": {', '"artifact": [], "was": {'),
        ('"opset": 17}', '"opset": 17, "x": 1e999}'),
        ('"opset": 17}', '"opset": 17, "x": NaN}'),
    ],
)
def test_a_value_of_another_type_is_not_converted(old: str, new: str) -> None:
    assert old in LINE
    assert lines.parse(LINE.encode()) is not None
    assert lines.parse(LINE.replace(old, new, 1).encode()) is None


def test_what_a_later_benchbox_of_this_schema_version_adds_is_passed_over() -> None:
    """At every level: a field that is not known here."""
    tree = json.loads(LINE)
    later = _with_a_field_more(tree, ("config", "options", "provider_options", "shape", "files", "facts"))
    assert lines.parse(json.dumps(later).encode()) == golden.RECORDS[1]


def _with_a_field_more(tree: Any, free: tuple[str, ...]) -> Any:
    """`free` are mappings whose names are the user's, so that a name more is a value more."""
    if isinstance(tree, list):
        return [_with_a_field_more(item, free) for item in tree]
    if not isinstance(tree, dict):
        return tree
    also = (*free, "packages", "placement", "versions", "metrics", "neighbours", "seconds")
    inner = {key: value if key in also else _with_a_field_more(value, free) for key, value in tree.items()}
    return inner | {"surprise": [1, {"a": None}]}


def test_a_field_that_an_earlier_benchbox_did_not_write_has_its_default() -> None:
    tree = json.loads(LINE)
    for block in tree["measurement"]["replicates"][0]["blocks"]:
        del block["noise"], block["disturbed"]
    del tree["companion"], tree["is_baseline"], tree["case"]["opset"]
    assert lines.parse(json.dumps(tree).encode()) == golden.RECORDS[1]


def test_a_case_that_many_lines_share_is_made_once(folder: Path) -> None:
    reader = lines.Reader()
    first, again = (list(lines.read(folder / store.RECORDS, reader)) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        assert one.record is not None and other.record is not None
        assert one.record.case is other.record.case
        assert one.record.artifact is other.record.artifact


def test_what_is_read_has_the_attributes_of_a_record_all_the_way_down(folder: Path) -> None:
    """Whoever is given a record may ask it for what `schema` says of it, properties too."""
    for line in lines.read(folder / store.RECORDS, lines.Reader()):
        assert line.record is not None
        assert_same_attributes(line.record, lines.whole(line.record))


def assert_same_attributes(light: Any, whole: Any) -> None:
    if isinstance(whole, tuple):
        for one, other in zip(light, whole, strict=True):
            assert_same_attributes(one, other)
    elif is_dataclass(whole):
        derived = [name for name, value in vars(type(whole)).items() if isinstance(value, property)]
        for name in [*derived, *(field.name for field in fields(whole))]:
            assert_same_attributes(getattr(light, name), getattr(whole, name))
    else:
        assert light == whole
