"""summary.csv, a row a case, and samples.csv, a row a call: units in the column names, nothing rounded."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

REQUIRES = ()


def write(runs: Any, folder: Path) -> list[Path]:
    """Writes both files; a cell that was not measured is empty."""
    summary, samples = folder / "summary.csv", folder / "samples.csv"
    runs.to_pandas().to_csv(summary, index=False, lineterminator="\n")
    with samples.open("w", encoding="utf-8", newline="") as file:
        file.write(_cells(runs.SAMPLE_COLUMNS) + "\n")
        for head, block, calls in runs.blocks():
            # What may need quotes is the same for a whole block; csv.writer would look at it for every call
            # (9 million of them: 13 s, this way 9 s).
            before, after = _cells(head), _cells([block.disturbed])
            file.write(
                "".join(f"{before},{kind},{index},{latency},{after}\n" for kind, index, latency in calls)
            )
    return [summary, samples]


def _cells(values: Sequence[Any]) -> str:
    """The values as CSV without a line feed, quoted where they must be."""
    if values == [""]:
        return ""  # csv would quote a lone empty cell, to tell it from an empty line
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue()
