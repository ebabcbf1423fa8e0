"""How quiet the machine was while it was measured, and who used it, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from benchbox.reporters import numbers
from benchbox.schema.seen import Neighbours

if TYPE_CHECKING:
    from benchbox.results.runs import Runs

# Of the time in calls: a run that lost less is as good as one that lost nothing, and says nothing of it.
_WORTH_A_WORD = 0.1
_HARDLY_ANY = 0.05
_NAMED = 3


def busy(neighbours: Neighbours) -> str:
    """`pip uses 90 % of a core`; `others use 1.4 cores` where no single one uses most of it."""
    busiest = neighbours.busiest
    if busiest is None or busiest[1] < neighbours.cores / 2:
        return f"others use {_cores(neighbours.cores)}"
    return f"{busiest[0]} uses {_cores(busiest[1])}"


def of_runs(runs: Runs) -> tuple[str, ...]:
    """What a reader must know of the machine before any number, a sentence each; nothing where it was
    quiet."""
    return tuple(_sentences(runs))


def _sentences(runs: Runs) -> Iterator[str]:
    calm = runs.table["calm_share"].dropna().astype(float)
    if len(calm) and 1 - calm.mean() > _WORTH_A_WORD:
        yield (
            f"The machine was not quiet: for {numbers.percent(1 - calm.mean(), 0)} of the measured time "
            f"others held calls up{_by_whom(runs)}. Those calls are kept, and not counted."
        )
        if hardly := int((calm < _HARDLY_ANY).sum()):
            yield (
                f"{numbers.count(hardly, 'row')} had hardly a calm call, and tell how fast the model is on a "
                "busy machine. Measure again on a quieter one before you rely on them."
            )
    slow = runs.table["slow_share"].dropna().astype(float)
    if len(slow) and slow.mean() > _WORTH_A_WORD:
        yield (
            f"The machine itself was slower for {numbers.percent(slow.mean(), 0)} of the time, as a known "
            "piece of work beside the calls shows; they are kept, and not counted where others are there."
        )


def _by_whom(runs: Runs) -> str:
    most: dict[str, float] = {}
    for row in runs.table.index[runs.table["calm_share"].astype(float) < 1 - _WORTH_A_WORD]:
        measurement = runs.record(int(row)).measurement
        for name, cores in (measurement.neighbours if measurement else {}).items():
            most[name] = max(cores, most.get(name, 0.0))
    named = sorted(most.items(), key=lambda item: -item[1])[:_NAMED]
    return f" ({', '.join(f'{name}: {_cores(cores)}' for name, cores in named)})" if named else ""


def _cores(cores: float) -> str:
    return f"{numbers.percent(cores, 0)} of a core" if cores < 1 else f"{cores:.1f} cores"
