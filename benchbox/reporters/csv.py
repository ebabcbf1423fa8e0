"""summary.csv, a row a case, and samples.csv, a row a call: units in the column names, nothing rounded."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

REQUIRES = ()


def write(runs: Any, folder: Path) -> list[Path]:
    """Writes both files; a cell that was not measured is empty."""
    summary, samples = folder / "summary.csv", folder / "samples.csv"
    runs.to_pandas().to_csv(summary, index=False, lineterminator="\n")
    with samples.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(runs.SAMPLE_COLUMNS)
        rows.writerows(runs.calls())
    return [summary, samples]
