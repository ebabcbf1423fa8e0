"""One model and shape over several machines and providers: which artifact is how fast where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from benchbox.reporters import labels
from benchbox.reporters.labels import Ran
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
    tables = [_table(alike[0].heading, alike) for alike in by_key.values()]
    return tuple(table for table in tables if any(_timed(cells) > 1 for _, cells in table.rows))


def _table(title: str, groups: Sequence[Group]) -> Across:
    cells: dict[str, dict[Place, Row]] = {}
    runs = _runs_by_machine(groups)
    for group in groups:
        for row, artifact in zip(group.rows, _artifacts(group), strict=True):
            if row["p50_ms"] is not None and row["outcome"] == "ok":
                run = row["run"] if len(runs[group.machine]) > 1 else ""
                place = Place(group.machine, _device(row["provider"]), run)
                cells.setdefault(artifact, {})[place] = row
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
    name = labels.short_provider(provider)
    return name.upper() if name.islower() else name


def _artifacts(group: Group) -> list[str]:
    """The labels without the provider: `onnx + fp16 · onnxruntime, 1 thread`."""
    runtimes = labels.runtimes([replace(Ran.of_row(row), provider="") for row in group.rows])
    return [labels.label(row["path"], runtime) for row, runtime in zip(group.rows, runtimes, strict=True)]


def _timed(cells: Sequence[Row | None]) -> int:
    return sum(cell is not None for cell in cells)
