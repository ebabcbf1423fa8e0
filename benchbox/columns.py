"""The columns of the table that are read off a record; units are in the names, nothing is rounded.

Those of the case alone are apart: many records share a case, and its labels take longer than all else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from benchbox.schema import Case, Measurement, Memory, OutputParity, Record

_MIB = 2**20
# The largest that a column of integers holds; only a sum of counts from a damaged file can exceed it.
_MOST = 2**63 - 1

Column = Callable[[Record], Any]


def fixed(records: Sequence[Record]) -> dict[str, list[Any]]:
    """The columns that every table has, by name."""
    of_case = {name: [of(record.case) for record in records] for name, of in OF_CASE.items()}
    return of_case | {name: [of(record) for record in records] for name, of in OF_RECORD.items()}


@dataclass(frozen=True)
class Found:
    """The columns that depend on what was measured, by name."""

    sizes: Mapping[str, list[Any]]
    metrics: Mapping[str, list[Any]]
    nodes: Mapping[str, list[Any]]


class Named(NamedTuple):
    """What a record brings under names of its own: sizes, task metrics, nodes by execution provider."""

    sizes: Mapping[str, int]
    metrics: Mapping[str, float]
    nodes: Mapping[str, int]


def named(record: Record) -> Named:
    """What of a record goes into columns whose names are not known before."""
    return Named(
        sizes=record.case.shape,
        metrics=record.parity.metrics if record.parity else {},
        nodes=record.measurement.placement if record.measurement else {},
    )


def found(cells: Sequence[Named], taken: Iterable[str]) -> Found:
    """Sizes beside the batch, task metrics, and nodes by execution provider.

    A name that is taken already gets a prefix, so that no record can overwrite a column.
    """
    names = set(taken)
    return Found(
        sizes=_spread([cell.sizes for cell in cells], ("", "size_"), names),
        metrics=_spread([cell.metrics for cell in cells], ("", "metric_"), names),
        nodes=_spread([cell.nodes for cell in cells], ("nodes_", "placed_nodes_"), names),
    )


def _spread(
    cells: Sequence[Mapping[str, Any]], prefixes: tuple[str, str], taken: set[str]
) -> dict[str, list[Any]]:
    """A column for each key; the second prefix is for a name that is taken with the first."""
    columns: dict[str, list[Any]] = {}
    for key in dict.fromkeys(key for cell in cells for key in cell):
        name = next((prefix + key for prefix in prefixes if prefix + key not in taken), None)
        if name is None or (key == "batch" and not prefixes[0]):
            continue
        taken.add(name)
        columns[name] = [cell.get(key) for cell in cells]
    return columns


def median(values: Sequence[float]) -> float:
    """That of at least one value; `statistics.median` without its checks, a third of its time."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _artifact(name: str) -> Column:
    return lambda record: None if record.artifact is None else getattr(record.artifact, name)


def _memory(of: Callable[[Memory], int | None]) -> Column:
    """MiB, the median over replicates; None where any of them is not known."""

    def column(record: Record) -> float | None:
        if record.measurement is None or not record.measurement.replicates:
            return None
        values: list[Any] = [of(replicate.memory) for replicate in record.measurement.replicates]
        return None if None in values else median(values) / _MIB

    return column


def _peak_memory(record: Record) -> float | None:
    measured: float | None = _memory(lambda memory: memory.peak_bytes)(record)
    if measured is None and record.peak_memory_bytes is not None:
        return record.peak_memory_bytes / _MIB
    return measured


def _measured(of: Callable[[Measurement], Any]) -> Column:
    return lambda record: None if record.measurement is None else of(record.measurement)


def _median_or_none(values: Sequence[float]) -> float | None:
    return median(values) if values else None


def _first_call_ms(measurement: Measurement) -> float | None:
    """The very first call in a fresh process: the first of its warm-up."""
    firsts = [replicate.warm_up[0].first_ns for replicate in measurement.replicates if replicate.warm_up]
    return median(firsts) / 1e6 if firsts else None


def _cold_ms(measurement: Measurement) -> float | None:
    """The first call of a block, after other workers ran."""
    firsts = [block.first_ns for replicate in measurement.replicates for block in replicate.blocks]
    return median(firsts) / 1e6 if firsts else None


def _rounds(measurement: Measurement) -> int:
    """Over all replicates; a block that was measured again is of the same round."""
    return sum([len({block.round for block in replicate.blocks}) for replicate in measurement.replicates])


def _disturbed_blocks(measurement: Measurement) -> int:
    return sum([1 for replicate in measurement.replicates for block in replicate.blocks if block.disturbed])


def _placement(measurement: Measurement) -> str:
    return ", ".join(f"{provider}: {count}" for provider, count in measurement.placement.items())


def _parity(of: Callable[[Sequence[OutputParity]], Any]) -> Column:
    return lambda record: None if record.parity is None else of(record.parity.outputs)


def _worst(name: str, pick: Callable[[list[float]], float]) -> Column:
    """The worst over outputs and shapes; None where any of them is not a number."""

    def of(outputs: Sequence[OutputParity]) -> float | None:
        values = [getattr(output, name) for output in outputs]
        return None if not values or None in values else pick(values)

    return _parity(of)


def _worst_sqnr(outputs: Sequence[OutputParity]) -> float | None:
    """The least; an output without any error has none to offer, one that is not a number spoils it."""
    noisy = [output.sqnr_db for output in outputs if output.max_abs_error != 0]
    if any(value is None for value in noisy):
        return None
    return min((value for value in noisy if value is not None), default=None)


def _opset(record: Record) -> int | None:
    opset = None if record.artifact is None else record.artifact.facts.get("opset")
    return opset if isinstance(opset, int) and abs(opset) <= _MOST else None


def _precision(record: Record) -> str | None:
    """What it ran in, as parity judged it; before parity, that of the artifact."""
    if record.parity is not None:
        return record.parity.precision
    return None if record.artifact is None else record.artifact.precision


def _noise_floor(record: Record) -> float | None:
    floor = None if record.parity is None else record.parity.noise_floor
    return floor if floor is None or math.isfinite(floor) else None


OF_CASE: Mapping[str, Callable[[Case], Any]] = {
    "model": lambda c: c.model.name,
    "weights": lambda c: c.model.weights,
    "family": lambda c: c.model.family,
    "source": lambda c: c.model.source,
    "task": lambda c: c.model.task,
    "path": lambda c: c.path_label,
    "backend": lambda c: c.backend.label,
    "provider": lambda c: c.backend.provider,
    "provider_options": lambda c: (
        json.dumps(c.backend.provider_options) if c.backend.provider_options else ""
    ),
    "shape": lambda c: c.shape_label,
    "batch": lambda c: c.shape.get("batch"),
    "threads": lambda c: c.backend.threads.intra_op,
    "threads_inter_op": lambda c: c.backend.threads.inter_op,
    "dataset": lambda c: c.dataset.word,
    "dynamic_axes": lambda c: c.dynamic_axes,
}
"""The columns that are the case's."""

OF_RECORD: Mapping[str, Column] = {
    "outcome": lambda r: r.outcome,
    "stage": lambda r: r.stage or "",
    "reason": lambda r: r.reason,
    "hint": lambda r: r.hint,
    "precision": _precision,
    "first_call_ms": _measured(_first_call_ms),
    "cold_ms": _measured(_cold_ms),
    "replicates": _measured(lambda m: len(m.replicates)),
    "rounds": _measured(_rounds),
    "disturbed_blocks": _measured(_disturbed_blocks),
    "settled": _measured(lambda m: all(r.settled for r in m.replicates)),
    "stopped_by": _measured(lambda m: m.stopped_by),
    "load_seconds": _measured(lambda m: _median_or_none([r.load_seconds for r in m.replicates])),
    "load_memory_mib": _memory(lambda m: m.loaded_bytes),
    "peak_memory_mib": _peak_memory,
    "peak_above_empty_mib": _memory(lambda m: m.peak_bytes - m.idle_bytes),
    "device_memory_mib": _memory(lambda m: m.device_bytes),
    "artifact_size_mib": lambda r: None if r.artifact is None else r.artifact.size_bytes / _MIB,
    "artifact_sha256": _artifact("sha256"),
    "build_seconds": _artifact("build_seconds"),
    "opset": _opset,
    "opset_asked": lambda r: r.case.opset,
    "nodes": _measured(_placement),
    "max_abs_error": _worst("max_abs_error", max),
    "mean_abs_error": _worst("mean_abs_error", max),
    "max_rel_error": _worst("max_rel_error", max),
    "cosine": _worst("cosine", min),
    "sqnr_db": _parity(_worst_sqnr),
    "nan_count": _parity(lambda outputs: min(_MOST, sum(o.nan_count for o in outputs))),
    "inf_count": _parity(lambda outputs: min(_MOST, sum(o.inf_count for o in outputs))),
    "parity_samples": lambda r: None if r.parity is None else r.parity.samples,
    "parity_reasons": lambda r: "" if r.parity is None else "; ".join(r.parity.reasons),
    "noise_floor": _noise_floor,
    "is_baseline": lambda r: r.is_baseline,
    "recorded_at": lambda r: r.recorded_at,
    "command": lambda r: r.command,
}
"""The columns that are what came out of it."""

NAMES = (*OF_CASE, *OF_RECORD)
"""The columns that `fixed` gives."""
