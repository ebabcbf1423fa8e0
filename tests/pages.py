"""The Markdown pages of the repository, block by block: what the tests of the documentation read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import places

PAGES = (
    places.ROOT / "README.md",
    places.ROOT / "CONTRIBUTING.md",
    *sorted((places.ROOT / "docs").glob("*.md")),
)
_FENCE = re.compile(r"\s*```(.*)")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its lines, and the line of the page on which they begin."""

    page: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        """`docs/run.md:6`."""
        return f"{self.page}:{self.line}"

    @property
    def mark(self) -> str:
        """What a comment on the first line says: `part of a suite`, `wrong`, or the name of a file."""
        first = self.text.partition("\n")[0]
        return first.removeprefix("#").strip() if first.startswith("#") else ""


def blocks(page: Path) -> tuple[Block, ...]:
    """The fenced blocks of a page. Raises ValueError for one that does not end."""
    return tuple(_blocks(page, page.read_text(encoding="utf-8").splitlines()))


def name(page: Path) -> str:
    """A page as the repository knows it."""
    return str(page.relative_to(places.ROOT))


def _blocks(page: Path, lines: list[str]) -> Iterator[Block]:
    language, begun = "", None
    for number, line in enumerate(lines, 1):
        fence = _FENCE.fullmatch(line)
        if fence and begun is None:
            language, begun = fence.group(1).strip(), number
        elif fence and begun is not None:
            text = "".join(f"{content}\n" for content in lines[begun : number - 1])
            yield Block(name(page), begun + 1, language, text)
            begun = None
    if begun is not None:
        raise ValueError(f"{name(page)}:{begun}: the block does not end")
