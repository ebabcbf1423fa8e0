"""One report of several runs: the same artifact, by machine and by provider."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import golden_records as golden
from benchbox.reporters import across, wording
from benchbox.reporters.formats import html, markdown
from benchbox.results import runs as frame
from benchbox.schema.seen import Record

XEON = replace(golden.ENVIRONMENT, cpu_model=f"Xeon {golden.HOSTILE}", cpu_count=16)


def folder(path: Path, records: tuple[Record, ...], machine: object) -> Path:
    golden.write(path)
    lines = [json.dumps(asdict(record)) for record in records]
    (path / "records.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (path / "environment.json").write_text(json.dumps(asdict(machine)), encoding="utf-8")  # type: ignore[call-overload]
    return path


def tables(*folders: Path) -> tuple[across.Across, ...]:
    return across.of(wording.groups(frame.load_results(*folders)))


def test_one_run_on_one_provider_has_no_such_table(tmp_path: Path) -> None:
    assert tables(golden.write(tmp_path / "a")) == ()


def test_two_machines_stand_side_by_side_named_by_what_they_are(tmp_path: Path) -> None:
    a = golden.write(tmp_path / "a")
    b = folder(tmp_path / "b", golden.RECORDS[:2], XEON)
    table = tables(a, b)[0]
    assert [(place.machine, place.provider, place.run) for place in table.places] == [
        ("AMD EPYC (Zen 3), 2 cores, 24 GiB", "CPU", ""),
        (f"Xeon {golden.HOSTILE}, 16 cores, CPU limit 2, 24 GiB", "CPU", ""),
    ]
    timed = {label: [cell is not None for cell in cells] for label, cells in table.rows}
    assert timed == {
        "torch · pytorch": [True, True],
        "onnx · onnxruntime": [True, True],
        "onnx + int8_dynamic(weight_range=104) · onnxruntime": [True, False],
    }


def test_runs_of_one_machine_are_told_apart_by_name(tmp_path: Path) -> None:
    a, b = golden.write(tmp_path / "a"), golden.write(tmp_path / "b")
    assert [place.run for place in tables(a, b)[0].places] == ["a", "b"]


def test_providers_of_one_machine_stand_side_by_side(tmp_path: Path) -> None:
    on_cuda = replace(golden.RECORDS[1], case=golden.case("onnx", backend=golden.CUDA))
    (table,) = tables(folder(tmp_path / "a", (*golden.RECORDS[:2], on_cuda), golden.ENVIRONMENT))
    assert [place.provider for place in table.places] == ["CPU", "CUDA"]
    assert [label for label, _ in table.rows] == ["torch · pytorch", "onnx · onnxruntime"]
    assert [cell is not None for cell in table.rows[1][1]] == [True, True]


def test_both_reports_show_the_table_and_escape_the_machine(tmp_path: Path) -> None:
    a = golden.write(tmp_path / "a")
    runs = frame.load_results(a, folder(tmp_path / "b", golden.RECORDS[:2], XEON))
    page, text = html.render(runs, ""), markdown.render(runs)
    assert "Machines and providers" in page
    assert golden.HOSTILE not in page
    assert golden.HOSTILE not in text
    head, _, row = re.search(r"(\| case \| CPU.*\n)(.*\n)(.*\n)", text).groups()  # type: ignore[union-attr]
    assert head.count("|") == row.count("|") == 4
    assert row.startswith("| torch · pytorch | 310.6 (300.5 to 321.0) |")


def test_models_of_one_name_that_are_built_otherwise_are_not_in_one_row(tmp_path: Path) -> None:
    wide = replace(golden.VIT, config={"hidden_size": 128})
    records = tuple(replace(r, case=replace(r.case, model=wide)) for r in golden.RECORDS[:2])
    a, b = golden.write(tmp_path / "a"), folder(tmp_path / "b", records, XEON)
    assert tables(a, b) == ()
