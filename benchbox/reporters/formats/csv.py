"""summary.csv, a row a case, and samples.csv, a row a call: units in the column names, nothing rounded.

Text that a spreadsheet would take for a formula has an apostrophe before it (foreign.py).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchbox.reporters import foreign

if TYPE_CHECKING:
    import pandas as pd

    from benchbox.results.runs import Runs

REQUIRES = ()


def write(runs: Runs, folder: Path) -> list[Path]:
    """Writes both files; a cell that was not measured is empty."""
    summary, samples = folder / "summary.csv", folder / "samples.csv"
    with summary.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(chain([_titles(runs.table)], _rows(runs.table)))
    with samples.open("w", encoding="utf-8", newline="") as file:
        file.write(_cells(runs.SAMPLE_COLUMNS) + "\n")
        file.writelines(_samples(runs))
    return [summary, samples]


def _rows(table: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    """As `DataFrame.to_csv` writes them, which takes half as long again."""
    return zip(*(_column(table[name]) for name in table.columns), strict=True)


def _titles(table: pd.DataFrame) -> list[object]:
    """Among them are names of metrics and sizes, which are a record's."""
    return [foreign.cell(str(name)) for name in table.columns]


def _column(column: pd.Series[Any]) -> list[Any]:
    values = column.astype(object).where(column.notna(), "").tolist()
    if column.dtype.kind in "biuf":
        return values
    # Each text is looked at once: of 100,000 rows most say the same.
    cells = {value: foreign.cell(value) for value in {v for v in values if isinstance(v, str)}}
    return [cells[v] if isinstance(v, str) else v for v in values]


def _samples(runs: Runs) -> Iterator[str]:
    """The rows of each block.

    What may need quotes is the same for all calls of a block, so its rows are one template into which the
    latencies go: 9 million rows took 13 s with csv.writer, 9 s one by one, and take 2 s this way.
    """
    table = runs.table
    heads = [_cells(pair).replace("%", "%%") for pair in zip(table["run"], table["case_id"], strict=True)]
    for block in runs.calls.blocks():
        before = f"{heads[block.case]},{block.replicate},{block.round}"
        after = _cells([block.disturbed]).replace("%", "%%") + "\n"
        template = (after + before).join(_columns(*block.kinds, len(block.latencies_ns)))
        yield (before + template + after) % block.latencies_ns


@lru_cache(maxsize=256)
def _columns(first: str, rest: str, count: int) -> tuple[str, ...]:
    """Kind, index and a place for the latency, of each of so many calls."""
    return tuple(f",{rest if index else first},{index},%d," for index in range(count))


def _cells(values: Sequence[Any]) -> str:
    """The values as CSV without a line feed at the end, quoted where they must be."""
    if values == [""]:
        return ""  # csv would quote a lone empty cell, to tell it from an empty line
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow([foreign.cell(value) for value in values])
    return text.getvalue()
