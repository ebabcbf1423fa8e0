"""One model and shape over several machines and providers: which artifact is how fast where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchbox.reporters import wording
from benchbox.reporters.wording import Group, Row


@dataclass(frozen=True)
class Place:
    """A column: a provider on a machine. `run` is named where a machine has several."""

    machine: str
    provider: str
    run: str


@dataclass(frozen=True)
class Across:
    """A row for each path and backend, a cell for each place; None where it was not timed there."""

    title: str
    places: tuple[Place, ...]
    rows: tuple[tuple[str, tuple[Row | None, ...]], ...]


def of(groups: Sequence[Group]) -> tuple[Across, ...]:
    """The tables that say something: at least one artifact was timed in at least two places."""
    by_key: dict[str, list[Group]] = {}
    for group in groups:
        by_key.setdefault(group.key, []).append(group)
    tables = [_table(f"{alike[0].title} ({alike[0].weights})", alike) for alike in by_key.values()]
    return tuple(table for table in tables if any(_timed(cells) > 1 for _, cells in table.rows))


def _table(title: str, groups: Sequence[Group]) -> Across:
    cells: dict[str, dict[Place, Row]] = {}
    runs = _runs_by_machine(groups)
    for group in groups:
        for row, label in zip(group.rows, group.labels, strict=True):
            if row["p50_ms"] is not None and row["outcome"] == "ok":
                run = row["run"] if len(runs[group.machine]) > 1 else ""
                place = Place(group.machine, _device(row["provider"]), run)
                cells.setdefault(_artifact(row, label), {})[place] = row
    order = {machine: number for number, machine in enumerate(runs)}
    found = dict.fromkeys(place for by_place in cells.values() for place in by_place)
    places = tuple(sorted(found, key=lambda place: (order[place.machine], place.run)))
    return Across(
        title=title,
        places=places,
        rows=tuple((name, tuple(by_place.get(p) for p in places)) for name, by_place in cells.items()),
    )


def _runs_by_machine(groups: Sequence[Group]) -> Mapping[str, Sequence[str]]:
    runs: dict[str, list[str]] = {}
    for group in groups:
        name = group.run
        if name not in runs.setdefault(group.machine, []):
            runs[group.machine].append(name)
    return runs


def _device(provider: str) -> str:
    """`CPU` for PyTorch's `cpu` and for `CPUExecutionProvider`: one column."""
    name = wording.short_provider(provider)
    return name.upper() if name.islower() else name


def _artifact(row: Row, label: str) -> str:
    """The row's label without its provider: `onnx + fp16 · onnxruntime, 1 thread`."""
    plain = f"{row['path']} · {row['backend']}"
    provider = f" {wording.short_provider(row['provider'])}"
    return plain + label.removeprefix(plain).removeprefix(provider)


def _timed(cells: Sequence[Row | None]) -> int:
    return sum(cell is not None for cell in cells)
