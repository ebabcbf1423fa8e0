"""The columns of the table that are read off a record; units are in the names, nothing is rounded."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchbox.schema import Measurement, Memory, OutputParity, Record

_MIB = 2**20

Column = Callable[[Record], Any]


def fixed(records: Sequence[Record]) -> dict[str, list[Any]]:
    """The columns that every table has, by name."""
    return {name: [of(record) for record in records] for name, of in _COLUMNS.items()}


@dataclass(frozen=True)
class Found:
    """The columns that depend on what was measured, by name."""

    sizes: Mapping[str, list[Any]]
    metrics: Mapping[str, list[Any]]
    nodes: Mapping[str, list[Any]]


def found(records: Sequence[Record], taken: Iterable[str]) -> Found:
    """Sizes beside the batch, task metrics, and nodes by execution provider.

    A name that is taken already gets a prefix, so that no record can overwrite a column.
    """
    names = set(taken)
    return Found(
        sizes=_spread([_sizes(record) for record in records], "size_", names),
        metrics=_spread([_metrics(record) for record in records], "metric_", names),
        nodes=_spread([_nodes(record) for record in records], "placed_", names),
    )


def _spread(cells: Sequence[Mapping[str, Any]], prefix: str, taken: set[str]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    for key in dict.fromkeys(key for cell in cells for key in cell):
        name = prefix + key if key in taken else key
        if name in taken:
            continue
        taken.add(name)
        columns[name] = [cell.get(key) for cell in cells]
    return columns


def _sizes(record: Record) -> Mapping[str, int]:
    return {name: size for name, size in record.case.shape.items() if name != "batch"}


def _metrics(record: Record) -> Mapping[str, float]:
    return record.parity.metrics if record.parity else {}


def _nodes(record: Record) -> Mapping[str, int]:
    if record.measurement is None:
        return {}
    return {f"nodes_{provider}": count for provider, count in record.measurement.placement.items()}


def _artifact(name: str) -> Column:
    return lambda record: None if record.artifact is None else getattr(record.artifact, name)


def _memory(of: Callable[[Memory], int | None]) -> Column:
    """MiB, the median over replicates; None where any of them is not known."""

    def column(record: Record) -> float | None:
        if record.measurement is None or not record.measurement.replicates:
            return None
        known = [of(replicate.memory) for replicate in record.measurement.replicates]
        values = [value for value in known if value is not None]
        return median(values) / _MIB if len(values) == len(known) else None

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
    return opset if isinstance(opset, int) else None


def _precision(record: Record) -> str | None:
    """What it ran in, as parity judged it; before parity, that of the artifact."""
    if record.parity is not None:
        return record.parity.precision
    return None if record.artifact is None else record.artifact.precision


def _noise_floor(record: Record) -> float | None:
    floor = None if record.parity is None else record.parity.noise_floor
    return floor if floor is None or math.isfinite(floor) else None


_COLUMNS: Mapping[str, Column] = {
    "model": lambda r: r.case.model.name,
    "weights": lambda r: r.case.model.weights,
    "family": lambda r: r.case.model.family,
    "source": lambda r: r.case.model.source,
    "task": lambda r: r.case.model.task,
    "path": lambda r: r.case.path_label,
    "backend": lambda r: r.case.backend.label,
    "provider": lambda r: r.case.backend.provider,
    "provider_options": lambda r: (
        json.dumps(r.case.backend.provider_options) if r.case.backend.provider_options else ""
    ),
    "shape": lambda r: r.case.shape_label,
    "batch": lambda r: r.case.shape.get("batch"),
    "threads": lambda r: r.case.backend.threads.intra_op,
    "threads_inter_op": lambda r: r.case.backend.threads.inter_op,
    "dataset": lambda r: r.case.dataset.word,
    "dynamic_axes": lambda r: r.case.dynamic_axes,
    "outcome": lambda r: r.outcome,
    "stage": lambda r: r.stage or "",
    "reason": lambda r: r.reason,
    "hint": lambda r: r.hint,
    "precision": _precision,
    "first_call_ms": _measured(_first_call_ms),
    "cold_ms": _measured(_cold_ms),
    "replicates": _measured(lambda m: len(m.replicates)),
    "rounds": _measured(lambda m: sum(len({b.round for b in r.blocks}) for r in m.replicates)),
    "disturbed_blocks": _measured(lambda m: sum(bool(b.disturbed) for r in m.replicates for b in r.blocks)),
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
    "nan_count": _parity(lambda outputs: sum(o.nan_count for o in outputs)),
    "inf_count": _parity(lambda outputs: sum(o.inf_count for o in outputs)),
    "parity_samples": lambda r: None if r.parity is None else r.parity.samples,
    "parity_reasons": lambda r: "" if r.parity is None else "; ".join(r.parity.reasons),
    "noise_floor": _noise_floor,
    "is_baseline": lambda r: r.is_baseline,
    "recorded_at": lambda r: r.recorded_at,
    "command": lambda r: r.command,
}

NAMES = tuple(_COLUMNS)
"""The columns that `fixed` gives."""
