"""What the pages point at is there: other pages, and files of the repository."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pages
import places

ALL = [*pages.PAGES, places.SUITES / "digits" / "README.md"]


def links(page: Path) -> Iterator[str]:
    """`docs/run.md` of `[all commands](docs/run.md#exit-codes)`."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("http", "#")):
            yield target.partition("#")[0]


def files(page: Path) -> Iterator[str]:
    """`suites/vit.yaml` in prose, or in a command: a path that begins in a folder of the repository."""
    text = page.read_text(encoding="utf-8")
    for path in re.findall(r"(?<![\w./-])(?:benchbox|docs|suites|tests)/[\w./-]*", text):
        yield path.rstrip(".")


@pytest.mark.parametrize("page", ALL, ids=pages.name)
def test_links_lead_somewhere(page: Path) -> None:
    assert [target for target in links(page) if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", ALL, ids=pages.name)
def test_files_that_a_page_names_are_in_the_repository(page: Path) -> None:
    assert [path for path in files(page) if not (places.ROOT / path).exists()] == []


def test_every_page_is_reached_from_the_readme() -> None:
    reached = {(places.ROOT / target).resolve() for target in links(places.ROOT / "README.md")}
    assert {page for page in pages.PAGES if page.name != "README.md"} <= reached


def test_the_readme_is_one_screen() -> None:
    """And its second command is the one that `.ci/run` calls."""
    text = (places.ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 65
    command = "python -m pip install nox && nox -s tests"
    assert command in text
    assert command in (places.ROOT / ".ci" / "run").read_text(encoding="utf-8")
