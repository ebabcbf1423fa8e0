"""benchbox: which way to ship a transformer, with evidence.

>>> import benchbox
>>> finished = benchbox.run("suites/smoke.yaml")        # doctest: +SKIP
>>> benchbox.load_results(finished.folder).to_pandas()  # doctest: +SKIP

Importing benchbox loads no ML framework, nor pandas: each name below is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchbox.version import __version__

if TYPE_CHECKING:
    from benchbox.comparison.runs import compare
    from benchbox.results.runs import load_results
    from benchbox.runner.cases import measure_cases
    from benchbox.runner.runner import run
    from benchbox.suite.load import load_suite

__all__ = ["__version__", "compare", "load_results", "load_suite", "measure_cases", "run"]

_HOME = {
    "compare": "benchbox.comparison.runs",
    "load_results": "benchbox.results.runs",
    "load_suite": "benchbox.suite.load",
    "measure_cases": "benchbox.runner.cases",
    "run": "benchbox.runner.runner",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'benchbox' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
