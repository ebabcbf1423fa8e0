"""The columns of the table that are read off a record; units are in the names, nothing is rounded.

Those of the case alone are apart: many records share a case, and its labels take longer than all else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

from benchbox.numerics import calm
from benchbox.schema.asked import Case
from benchbox.schema.seen import Artifact, Block, Memory, Parity, Record

_MIB = 2**20
# The largest that a column of integers holds; only a sum of counts from a damaged file can exceed it.
_MOST = 2**63 - 1

Cells = tuple[Any, ...]


def fixed(records: Sequence[Record]) -> dict[str, list[Any]]:
    """The columns that every table has, by name."""
    cells = in_columns([of_case(record.case) for record in records], CASE_NAMES) | of_records(records)
    return {name: cells[name] for name in NAMES}


def of_case(case: Case) -> Cells:
    """The cells of the columns that are the case's, as `CASE_NAMES` names them."""
    return tuple([of(case) for of in _OF_CASE.values()])


def of_records(records: Sequence[Record]) -> dict[str, list[Any]]:
    """The columns that are what came out of the cases, by name."""
    measured = [_of_measurement(record) for record in records]
    artifacts = [_NO_ARTIFACT if r.artifact is None else _of_artifact(r.artifact) for r in records]
    parities = [_NO_PARITY if r.parity is None else _of_parity(r.parity) for r in records]
    return {
        "outcome": [record.outcome for record in records],
        "stage": [record.stage or "" for record in records],
        "reason": [record.reason for record in records],
        "hint": [record.hint for record in records],
        "precision": [_precision(record) for record in records],
        "opset_asked": [record.case.opset for record in records],
        "is_baseline": [record.is_baseline for record in records],
        "recorded_at": [record.recorded_at for record in records],
        "command": [record.command for record in records],
        **in_columns(measured, _MEASURED),
        **in_columns(artifacts, _ARTIFACT),
        **in_columns(parities, _PARITY),
    }


def in_columns(rows: Sequence[Cells], names: Iterable[str]) -> dict[str, list[Any]]:
    """Rows of cells as columns by name."""
    if not rows:
        return {name: [] for name in names}
    return {name: list(cells) for name, cells in zip(names, zip(*rows, strict=True), strict=True)}


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
        metrics=record.parity.measures if record.parity else {},
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
    for key in dict.fromkeys(chain.from_iterable(cells)):
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


# In these groups, each taken in one pass: of 100,000 records every pass over the blocks takes a tenth of a
# second.
_MEASURED = (
    "first_call_ms", "cold_ms", "cpu_ms", "energy_joules", "replicates", "rounds", "disturbed_blocks",
    "calm_share", "slow_share", "settled", "stopped_by",
    "load_seconds", "load_memory_mib", "peak_memory_mib", "peak_above_empty_mib", "device_memory_mib",
    "nodes",
)  # fmt: skip
_ARTIFACT = (
    "artifact_size_mib",
    "artifact_sha256",
    "build_seconds",
    "opset",
    "commit",
    "products",
    "products_quantized",
    "quantized_share",
)
_PARITY = (
    "max_abs_error", "mean_abs_error", "max_rel_error", "rel_l2_error", "cosine", "sqnr_db", "nan_count",
    "inf_count", "padding_share", "padding_max_abs_error", "padding_cosine", "parity_samples",
    "parity_reasons", "noise_floor", "notes",
)  # fmt: skip
_NO_ARTIFACT = (None,) * len(_ARTIFACT)
_NO_OUTPUTS: tuple[tuple[Any, ...], ...] = ((),) * 8
_NO_PADDING = (None,) * 3
_NO_PARITY = (*[None] * 12, "", None, "")


def _of_measurement(record: Record) -> Cells:
    """As `_MEASURED` names them."""
    measurement = record.measurement
    if measurement is None:
        return (*[None] * 13, _peak_when_it_failed(record), None, None, None)
    replicates = measurement.replicates
    blocks = [block for replicate in replicates for block in replicate.blocks]
    load, peak, above_empty, device = _memory([replicate.memory for replicate in replicates])
    return (
        _median_ms(_firsts([replicate.warm_up[0] for replicate in replicates if replicate.warm_up])),
        _median_ms(_firsts(blocks)),
        _cpu_ms(blocks),
        _energy_joules(blocks),
        len(replicates),
        sum([len({block.round for block in replicate.blocks}) for replicate in replicates]),
        len([block for block in blocks if calm.is_disturbed(block)]),
        calm.calm_share(blocks),
        _slow_share(blocks),
        all([replicate.settled for replicate in replicates]),
        measurement.stopped_by,
        median([replicate.load_seconds for replicate in replicates]) if replicates else None,
        load,
        _peak_when_it_failed(record) if peak is None else peak,
        above_empty,
        device,
        ", ".join([f"{provider}: {count}" for provider, count in measurement.placement.items()]),
    )


def _firsts(blocks: Sequence[Block]) -> list[int]:
    return [block.first_ns for block in blocks if block.first_ns is not None]


def _cpu_ms(blocks: Sequence[Block]) -> float | None:
    """CPU time of a call, of all threads together: the median over the blocks that nobody held up."""
    known = [block for block in blocks if block.cpu_ns and not calm.is_disturbed(block)]
    return _median_ms([sum(block.cpu_ns) / len(block.latencies_ns) for block in known])


def _slow_share(blocks: Sequence[Block]) -> float | None:
    """The share of the blocks in which the machine itself was slower; None where no canary sang."""
    known = [block for block in blocks if block.pace is not None]
    return sum([calm.is_slow(block) for block in known]) / len(known) if known else None


def _energy_joules(blocks: Sequence[Block]) -> float | None:
    """What a call took, the first of a block among them: the median over blocks; None where nothing tells."""
    taken = [
        block.noise.energy_joules / (1 + len(block.latencies_ns))
        for block in blocks
        if block.noise.energy_joules is not None
    ]
    return median(taken) if taken else None


def _median_ms(values_ns: Sequence[float]) -> float | None:
    return median(values_ns) / 1e6 if values_ns else None


def _memory(memories: Sequence[Memory]) -> tuple[float | None, ...]:
    """MiB after load, at the peak, above an empty worker, and on the device: the median over replicates."""
    if not memories:
        return (None,) * 4
    device = [memory.device_bytes for memory in memories]
    return (
        median([memory.loaded_bytes for memory in memories]) / _MIB,
        median([memory.peak_bytes for memory in memories]) / _MIB,
        median([memory.peak_bytes - memory.idle_bytes for memory in memories]) / _MIB,
        None if None in device else median([size for size in device if size is not None]) / _MIB,
    )


def _peak_when_it_failed(record: Record) -> float | None:
    return None if record.peak_memory_bytes is None else record.peak_memory_bytes / _MIB


def _of_artifact(artifact: Artifact) -> Cells:
    """As `_ARTIFACT` names them."""
    opset = artifact.facts.get("opset")
    return (
        artifact.size_bytes / _MIB,
        artifact.sha256,
        artifact.build_seconds,
        opset if isinstance(opset, int) and abs(opset) <= _MOST else None,
        _commits(artifact.facts.get("commits")),
        *_products(artifact.facts),
    )


def _products(facts: Mapping[str, Any]) -> tuple[int | None, int | None, float | None]:
    """MatMul, Gemm and Conv nodes, how many are quantized, and their share; None where no pass counted."""
    total, quantized = facts.get("products"), facts.get("products_quantized")
    # The facts of an edited record are whatever somebody wrote.
    if type(total) is not int or type(quantized) is not int or not 0 <= quantized <= total <= _MOST:
        return (None, None, None)
    return (total, quantized, quantized / total if total else None)


def _commits(found: Any) -> str | None:
    """Which commit a hub id stood for; of several, each with its id."""
    if not isinstance(found, dict) or not found:
        return None
    if len(found) == 1:
        return str(*found.values())
    return ", ".join(f"{source}: {commit}" for source, commit in found.items())


def _of_parity(parity: Parity) -> Cells:
    """As `_PARITY` names them: the worst over outputs and shapes."""
    taken = [
        (
            o.max_abs_error, o.mean_abs_error, o.max_rel_error, o.rel_l2_error, o.cosine, o.sqnr_db,
            o.nan_count, o.inf_count,
        )
        for o in parity.outputs
    ]  # fmt: skip
    largest, mean, relative, lengths, cosines, ratios, nans, infs = (
        zip(*taken, strict=True) if taken else _NO_OUTPUTS
    )
    # An output without any error has no ratio to offer, nor an angle where it is zero in both.
    same = [
        o.cosine is None and o.max_abs_error == 0 and not (o.nan_count or o.inf_count) for o in parity.outputs
    ]
    cosines, lengths = (
        tuple([value for value, left_out in zip(values, same, strict=True) if not left_out])
        for values in (cosines, lengths)
    )
    ratios = tuple([ratio for ratio, error in zip(ratios, largest, strict=True) if error != 0])
    return (
        _worst(largest, max),
        _worst(mean, max),
        _worst(relative, max),
        _worst(lengths, max),
        _worst(cosines, min),
        _worst(ratios, min),
        min(_MOST, sum(nans)),
        min(_MOST, sum(infs)),
        *_of_padding(parity),
        parity.samples,
        "; ".join(parity.reasons),
        parity.noise_floor if math.isfinite(parity.noise_floor) else None,
        "; ".join(parity.notes),
    )


def _of_padding(parity: Parity) -> Cells:
    """The largest share that lies behind a mask, and the worst of what differs there."""
    hidden = [output.padding for output in parity.outputs if output.padding is not None]
    if not hidden:
        return _NO_PADDING
    return (
        max([padding.share for padding in hidden]),
        _worst(tuple([padding.max_abs_error for padding in hidden]), max),
        _worst(tuple([padding.cosine for padding in hidden]), min),
    )


def _worst(values: tuple[Any, ...], pick: Callable[[tuple[float, ...]], float]) -> float | None:
    """None where any of them is not a number."""
    return None if not values or None in values else pick(values)


def _precision(record: Record) -> str | None:
    """What it ran in, as parity judged it; before parity, that of the artifact."""
    if record.parity is not None:
        return record.parity.precision
    return None if record.artifact is None else record.artifact.precision


_OF_CASE: Mapping[str, Callable[[Case], Any]] = {
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

CASE_NAMES = tuple(_OF_CASE)

NAMES = (
    *CASE_NAMES, "outcome", "stage", "reason", "hint", "precision", *_MEASURED[:-1], *_ARTIFACT,
    "opset_asked", "nodes", *_PARITY, "is_baseline", "recorded_at", "command",
)  # fmt: skip
"""The columns that every table has, in its order."""
