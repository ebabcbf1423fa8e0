"""docs/architecture.md shows the house as it is on the disk, and the house keeps its measures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import benchbox
import pages
import places
from benchbox import plugins

ROOT = Path(benchbox.__file__).parent
PAGE = places.ROOT / "docs" / "architecture.md"
# Listed by their folder, because adding a plug-in, or editing a template, touches no page.
BY_FOLDER = {
    *(f"plugins/{kind}/" for kind in plugins.KINDS if kind != "reporters"),
    "reporters/formats/",
    "reporters/page/",
}


def on_disk(root: Path) -> set[str]:
    """Folders (`cli/`) and files (`cli/live.py`); a room's own line is that of its `__init__.py`."""
    return {entry for path in root.rglob("*") for entry in listed(path, root)}


def listed(path: Path, root: Path) -> Iterator[str]:
    name = path.relative_to(root).as_posix()
    if "__pycache__" in path.parts or any(name.startswith(folder) for folder in BY_FOLDER):
        return
    if path.is_dir() and any(child.name != "__pycache__" for child in path.iterdir()):
        yield f"{name}/"
    elif path.suffix == ".py" and (path.name != "__init__.py" or path.parent == root):
        yield name


def in_tree(lines: Sequence[str]) -> list[str]:
    """The entries of a tree that is drawn by indentation, two spaces a level, below its first line."""
    above: list[str] = []
    entries = []
    for line in lines[1:]:
        word, _, said = line.strip().partition(" ")
        depth = (len(line) - len(line.lstrip())) // 2
        assert said.strip(), f"{word} has no description"
        above = [*above[: depth - 1], word]
        entries.append("".join(above))
    return entries


def tree_of_the_page() -> list[str]:
    (tree,) = (block for block in pages.blocks(PAGE) if block.text.startswith("benchbox/\n"))
    return in_tree(tree.text.splitlines())


def test_the_tree_of_the_page_is_the_tree_on_disk() -> None:
    """A file that is new, or gone, fails here; plug-ins and templates count as their folder."""
    entries = tree_of_the_page()
    assert len(entries) == len(set(entries))
    assert set(entries) == on_disk(ROOT)


def test_a_file_that_is_not_in_the_page_is_found(tmp_path: Path) -> None:
    for name in ("__init__.py", "cli/__init__.py", "cli/new.py", "plugins/models/mine.py", "cli/note.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert on_disk(tmp_path) == {"__init__.py", "cli/", "cli/new.py", "plugins/", "plugins/models/"}


def test_the_front_of_the_house_is_read_at_a_glance() -> None:
    assert len([entry for entry in ROOT.iterdir() if entry.name != "__pycache__"]) <= 18


@pytest.mark.parametrize(
    "folder",
    [ROOT, *(path for path in sorted(ROOT.rglob("*")) if path.is_dir() and path.name != "__pycache__")],
    ids=lambda folder: folder.relative_to(ROOT.parent).as_posix(),
)
def test_a_room_holds_no_more_than_16_files(folder: Path) -> None:
    """Families aside: there are as many as there are model families."""
    files = [entry for entry in folder.iterdir() if entry.is_file() and entry.suffix != ".pyc"]
    assert folder == ROOT / "plugins" / "models" or len(files) <= 16
