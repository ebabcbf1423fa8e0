"""Runs the small suite of every family and says what came out, path by path, as a Markdown table.

    python tests/zoo.py --results results --page docs/models.md

Exit code 1 where a family has no suite, no `ok` row for [onnx] on ONNX Runtime, or no row at all for a path.
The table is made from the records alone; `--page` puts it between the markers of docs/models.md.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchbox import plugins
from benchbox.results import store
from benchbox.schema.seen import Record

ROOT = Path(__file__).parent.parent
SMALL = ROOT / "suites" / "small"
PATHS = ("onnx", "onnx + fp16", "onnx + int8_dynamic", "onnx + int8_static")
MARKS = ("<!-- zoo: begin -->", "<!-- zoo: end -->")


def main(arguments: Sequence[str]) -> int:
    """Runs, tells, and judges."""
    given = _parse(arguments)
    started = time.monotonic()
    records = _recorded(given.results) if given.redraw else _measured(given.only, given.results)
    seconds = time.monotonic() - started
    text = table(records)
    print(text)
    print(f"{len(records)} cases in {seconds / 60:.1f} minutes")
    if given.page:
        _put(given.page, text)
    wrong = list(_wrong(records, given.only))
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


def table(records: Sequence[Record]) -> str:
    """A row a family and task: how each path came out on ONNX Runtime, with its worst error or cosine."""
    lines = [
        "| family | task | onnx fp32 | fp16 | int8 dynamic | int8 static |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for family, task in dict.fromkeys((r.case.model.family, r.case.model.task) for r in records):
        cells = [_cell(_of(records, family, task, path)) for path in PATHS]
        lines.append(f"| {family} | {task} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("results"), help="where records go")
    parser.add_argument("--redraw", action="store_true", help="run nothing: take the records in --results")
    parser.add_argument("--page", type=Path, help="page whose table is renewed")
    parser.add_argument("--only", action="append", default=[], help="families (file names of suites/small)")
    return parser.parse_args(arguments)


def _measured(only: Sequence[str], results: Path) -> list[Record]:
    return [record for suite in _suites(only) for record in _run(suite, results)]


def _recorded(results: Path) -> list[Record]:
    """What earlier runs have left in a folder."""
    folders = sorted(folder for folder in results.iterdir() if folder.is_dir())
    return [record for folder in folders for record in store.load(folder).records]


def _suites(only: Sequence[str]) -> list[Path]:
    return [file for file in sorted(SMALL.glob("*.yaml")) if not only or file.stem in only]


def _run(suite: Path, results: Path) -> tuple[Record, ...]:
    """The records of one suite; `benchbox run` ends with 1 where a case failed, which the records tell."""
    before = set(results.glob("*")) if results.is_dir() else set()
    print(f"== {suite.relative_to(ROOT)}", flush=True)
    command = ["run", str(suite), "--results", str(results), "--no-report"]
    ended = subprocess.run([sys.executable, "-m", "benchbox", *command], check=False)
    if ended.returncode not in (0, 1):
        raise SystemExit(f"{suite} ended with {ended.returncode}")
    (folder,) = set(results.glob("*")) - before
    return store.load(folder).records


def _of(records: Sequence[Record], family: str, task: str, path: str) -> list[Record]:
    """The records of a path on ONNX Runtime's CPU; options of a step are not part of its name here."""
    return [
        r
        for r in records
        if (r.case.model.family, r.case.model.task) == (family, task)
        and " + ".join(step.word for step in r.case.path) == path
        and r.case.backend.provider == "CPUExecutionProvider"
    ]


def _cell(records: Sequence[Record]) -> str:
    if not records:
        return "-"
    worst = next((r for r in records if r.outcome != "ok"), records[0])
    if worst.parity is None:
        return f"{worst.outcome}: {worst.reason[:60]}"
    return f"{worst.outcome} {_agreement(worst)}".strip()


def _agreement(record: Record) -> str:
    """The largest error of fp32, the worst cosine of what computes in less, the task's first metric."""
    parity = record.parity
    assert parity is not None
    errors = [o.max_abs_error for o in parity.outputs if o.max_abs_error is not None]
    cosines = [o.cosine for o in parity.outputs if o.cosine is not None]
    if parity.precision == "fp32":
        said = f"{max(errors):.0e}" if errors else ""
    else:
        said = f"cos {math.floor(min(cosines) * 1e5) / 1e5:.5f}" if cosines else ""  # never rounded up to 1
    metric = next(((n, v) for n, v in parity.metrics.items() if n.endswith("agreement")), None)
    return f"{said}, {metric[0].removesuffix('_agreement')} {metric[1]:.0%}" if metric else said


def _wrong(records: Sequence[Record], only: Sequence[str]) -> Iterator[str]:
    families = [word for word in plugins.names("models") if not only or word in only]
    for family in families:
        mine = [r for r in records if r.case.model.family == family]
        if not mine:
            yield f"{family}: no record (is there suites/small/{family}.yaml?)"
            continue
        for task in dict.fromkeys(r.case.model.task for r in mine):
            of_paths = {path: _of(mine, family, task, path) for path in PATHS}
            yield from (f"{family} {task}: no row for {path}" for path, rows in of_paths.items() if not rows)
            if not any(r.outcome == "ok" for r in of_paths["onnx"]):
                yield f"{family} {task}: [onnx] is not ok: {[r.reason for r in of_paths['onnx']]}"


def _put(page: Path, text: str) -> None:
    begin, end = MARKS
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{page} has no {begin} ... {end}")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
