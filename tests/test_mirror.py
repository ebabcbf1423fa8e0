"""tests/ mirrors the package: a test lies beside what it tests, under the same name."""

from __future__ import annotations

from pathlib import Path

import pytest

import places

PACKAGE = places.ROOT / "benchbox"
FILES = sorted(
    file.relative_to(places.TESTS)
    for file in places.TESTS.glob("*/**/test_*.py")
    if "children" not in file.parts
)
# Folders of tests that are of no room of the package, and what they are of.
FOLDERS = {
    "docs": "the pages for users, whose commands are run",
    "perf": "what measuring costs, and figures that are drawn by hand",
    "suites": "the suites that are shipped, from YAML to reports",
}
# Files without a file of that name in their room, and why.
TOGETHER = {
    "suite/test_settings.py": "`config` of every family, which models.py holds against its architecture",
    "cli/test_startup.py": "what the commands load and start, whichever files they are in",
    "measure/test_guarantees.py": "what stopping and statistics promise together, on a simulated machine",
    "plugins/datasets/test_datasets.py": "what is true of every dataset, and three that are small",
    "plugins/exporters/test_exporters.py": "what is true of every exporter",
    "plugins/models/test_every_family.py": "what is true of every family",
    "plugins/test_loader.py": "__init__.py, which is the loader",
    "reporters/test_formats.py": "formats/, whose files are short and say the same in three ways",
    "results/test_old_runs.py": "a results folder of an older benchbox, from reports to --resume",
    "runner/test_disk.py": "a run whose disk is full, across the room",
    "runner/test_faults.py": "a run whose children die, across the room",
}


@pytest.mark.parametrize("file", [f for f in FILES if f.parts[0] not in FOLDERS], ids=str)
def test_a_test_lies_beside_what_it_tests(file: Path) -> None:
    """`_x.py`, which plug-ins share, is tested by test_x.py too."""
    name = file.name.removeprefix("test_")
    beside = [PACKAGE / file.parent / before for before in (name, f"_{name}")]
    assert any(place.is_file() for place in beside) is (str(file) not in TOGETHER)


def test_what_is_excepted_is_there() -> None:
    assert set(TOGETHER) <= {str(file) for file in FILES}
