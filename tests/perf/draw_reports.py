"""What reports from many records take: `python draw_reports.py OUT RUN...` prints CPU seconds and peak RSS.

A process of its own, because the peak of one that did other things before would say nothing.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchbox.reporters.write import write_reports


def main() -> None:
    """Prints one line of JSON."""
    import jinja2  # noqa: F401  # what an import takes is not what is measured
    import pandas as pd  # noqa: F401
    import pydantic  # noqa: F401
    import scipy.special  # noqa: F401
    from plotly.offline import get_plotlyjs

    from benchbox.results import runs as frame

    get_plotlyjs()
    out, *folders = map(Path, sys.argv[1:])
    seconds: dict[str, float] = {}
    runs = _timed(seconds, "read", lambda: frame.load_results(*folders))
    table = _timed(seconds, "frame", runs.to_pandas)
    for reporter in ("csv", "html", "markdown"):
        _timed(seconds, reporter, lambda word=reporter: write_reports(runs, out, (word,)))
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mib": peak_mib, "rows": len(table)}))


def _timed(seconds: dict[str, float], name: str, do: Callable[[], Any]) -> Any:
    start = time.process_time()
    value = do()
    seconds[name] = time.process_time() - start
    return value


if __name__ == "__main__":
    main()
