"""Results folders with as many records as a reader can have: the golden run over and over, other batches.

A suite has at most 10,000 cases, so 100,000 records are ten runs of such a suite. Of seven records five were
timed: three processes, five blocks each, 90 calls in all; a line has 5 kB. Written as text, because
100,000 records as objects take longer to make than all that is measured here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import golden_records as golden
from benchbox.schema.asked import Case
from benchbox.schema.seen import Environment, Record

RECORDS_OF_A_RUN = 10_000
_BATCH = 77_777  # stands in the templates where a record's own batch goes


def write(root: Path, runs: int, records: int = RECORDS_OF_A_RUN) -> list[Path]:
    """So many results folders, each with the same cases, measured at different speeds."""
    folders = [root / f"vit-2026112{number}T020304-1a2b3c" for number in range(runs)]
    for number, folder in enumerate(folders):
        templates = [_template(record, slower=1 + number / 100) for record in golden.RECORDS[:7]]
        lines = (
            templates[i % 7].replace(f'"batch":{_BATCH}', f'"batch":{i // 7 + 1}') for i in range(records)
        )
        _folder(folder, golden.SUITE, golden.ENVIRONMENT, lines)
    return folders


def write_finished(folder: Path, cases: Sequence[Case], suite: object, environment: Environment) -> None:
    """A run in which every one of these cases is done."""
    before, after = json.dumps(asdict(replace(golden.RECORDS[1], case="@"))).split('"@"')
    lines = (f"{before}{json.dumps(asdict(case))}{after}" for case in cases)
    _folder(folder, suite, environment, lines)


def _folder(folder: Path, suite: object, environment: Environment, lines: object) -> None:
    folder.mkdir(parents=True)
    (folder / "environment.json").write_text(json.dumps(asdict(environment)), encoding="utf-8")
    (folder / "suite.json").write_text(json.dumps(suite), encoding="utf-8")
    with (folder / "records.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


def _template(record: Record, slower: float) -> str:
    case = replace(record.case, shape={"batch": _BATCH, "image_size": 224})
    text = json.dumps(asdict(replace(record, case=case)), separators=(",", ":"))
    if record.measurement is None:
        return text
    changed = json.loads(text)
    for replicate in changed["measurement"]["replicates"]:
        for block in replicate["blocks"]:
            block["latencies_ns"] = [round(latency * slower) for latency in block["latencies_ns"]]
    return json.dumps(changed, separators=(",", ":"))
