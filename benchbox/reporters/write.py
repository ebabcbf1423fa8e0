"""All reports of runs, drawn into a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchbox import plugins
from benchbox.errors import DiskError

if TYPE_CHECKING:
    from benchbox.results.runs import Runs

REPORTERS = ("csv", "html", "markdown")


def write_reports(runs: Runs, folder: str | Path, reporters: Sequence[str] = REPORTERS) -> tuple[Path, ...]:
    """Draws the reports into `folder`. Raises UsageError for a reporter that does not exist."""
    loaded = [plugins.reporter(word) for word in reporters]
    for plugin in loaded:
        plugins.require(plugin)
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
        return tuple(path for plugin in loaded for path in plugin.write(runs, target))
    except OSError as error:
        raise DiskError(f"cannot write the reports into {target}: {error.strerror or error}") from error
