"""summary.csv, a row a case, and samples.csv, a row a call: units in the column names, nothing rounded."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from benchbox.results.runs import Runs

REQUIRES = ()


def write(runs: Runs, folder: Path) -> list[Path]:
    """Writes both files; a cell that was not measured is empty."""
    summary, samples = folder / "summary.csv", folder / "samples.csv"
    with summary.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(chain([runs.table.columns], _rows(runs.table)))
    with samples.open("w", encoding="utf-8", newline="") as file:
        file.write(_cells(runs.SAMPLE_COLUMNS) + "\n")
        file.writelines(_samples(runs))
    return [summary, samples]


def _rows(table: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    """As `DataFrame.to_csv` writes them, which takes half as long again."""
    columns = (table[name] for name in table.columns)
    return zip(*(c.astype(object).where(c.notna(), "").tolist() for c in columns), strict=True)


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
    """The values as CSV without a line feed, quoted where they must be."""
    if values == [""]:
        return ""  # csv would quote a lone empty cell, to tell it from an empty line
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue()
