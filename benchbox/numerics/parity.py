"""Reference against candidate outputs: errors, cosine, SQNR, and a judgement. numpy only.

NaN never passes. What cannot be computed is None, never zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from benchbox.schema.asked import Precision, Tolerance
from benchbox.schema.seen import OutputParity, Padding, Parity, less_is_better

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

# Two runs of the same fp32 model may differ by the noise floor each way; beyond twice that, it is the export.
NOISE_FLOOR_FACTOR = 2.0
# Elements smaller than this share of the largest one carry no information about relative error.
RELATIVE_FLOOR = 1e-3
# An output is as large as 99 of 100 of its values: the boxes of a detector, in pixels, are a twentieth of an
# output whose other values are probabilities, and the largest value alone may be an outlier.
SCALE_PERCENTILE = 99.0
# What stands for "never" in masked scores (-3.4e38) says nothing of how large the others are.
SENTINEL = 1e30


@dataclass(frozen=True)
class Criteria:
    """What a candidate is judged by; `noise_floor` is the fp32 reference against itself with other
    thread counts, as max absolute error."""

    precision: Precision
    tolerance: Tolerance
    noise_floor: float
    samples: int


def compare(
    name: str, shape: Mapping[str, int], reference: Array, candidate: Array, read: Array | None = None
) -> OutputParity:
    """How `candidate` differs from `reference`; both (batch, ...) and of the same shape.

    `read` is true where somebody reads them (padding.py), None: everywhere; what is not read is looked at by
    itself. Errors are over the elements where both are finite; an infinity that both have is agreement. SQNR
    is 10 log10(sum ref^2 / sum (cand - ref)^2) in dB.
    """
    import numpy as np

    ref, cand = reference.astype(np.float64), candidate.astype(np.float64)
    if read is None:
        return _compared(name, shape, ref, cand, np.ones(ref.shape, bool))
    read = np.broadcast_to(read, ref.shape)
    found = _compared(name, shape, ref, cand, read)
    return (
        found
        if read.all()
        else replace(found, padding=_padding(_compared(name, shape, ref, cand, ~read), read))
    )


def _compared(name: str, shape: Mapping[str, int], ref: Array, cand: Array, where: Array) -> OutputParity:
    """The comparison of the elements that `where` has."""
    import numpy as np

    nan_count = int((np.isnan(cand) & where).sum())
    inf_count = int((np.isinf(cand) & (cand != ref) & where).sum())
    finite = np.isfinite(ref) & np.isfinite(cand) & where
    both = finite.any()
    error = np.abs(cand[finite] - ref[finite])
    none = None if where.any() else 0.0  # an output without elements has no errors
    told = both and not (nan_count or inf_count)
    rows = _rows(ref, cand, finite) if told else None
    return OutputParity(
        output=name,
        shape=dict(shape),
        max_abs_error=float(error.max()) if both else none,
        mean_abs_error=float(error.mean()) if both else none,
        max_rel_error=_relative(error, np.abs(ref[finite])) if both else None,
        cosine=None if rows is None else _worst_cosine(*rows),
        sqnr_db=_sqnr_db(ref[finite], error) if both else None,
        nan_count=nan_count,
        inf_count=inf_count,
        scale=scale(ref[finite]),
        rel_l2_error=none if rows is None else _worst_l2_error(*rows),
    )


def _padding(found: OutputParity, read: Array) -> Padding:
    return Padding(
        share=1 - float(read.mean()),
        max_abs_error=found.max_abs_error,
        cosine=found.cosine,
        sqnr_db=found.sqnr_db,
        nan_count=found.nan_count,
        inf_count=found.inf_count,
    )


def is_finite(array: Array, read: Array | None = None) -> bool:
    """Whether all its values that are read are numbers; of what is no float, they are."""
    import numpy as np

    if array.dtype.kind != "f":
        return True
    return bool((np.isfinite(array) if read is None else np.isfinite(array) | ~read).all())


def shape_mismatch(name: str, reference: Array, candidate: Array) -> str:
    """What is wrong with the candidate's shape, or an empty string."""
    if reference.shape == candidate.shape:
        return ""
    return f"{name} has shape {list(candidate.shape)}, the reference {list(reference.shape)}"


def judge(
    outputs: Sequence[OutputParity],
    metrics: Mapping[str, float],
    criteria: Criteria,
    reasons: Sequence[str] = (),
    gradient_error: float | None = None,
) -> Parity:
    """The judgement with every reason why it is not passed; `reasons` are those known before.

    `gradient_error` None: not looked at. NaN never passes.
    """
    found = [*reasons]
    if not outputs and not reasons:
        found.append("no output was compared")
    for output in outputs:
        found += _violations(output, criteria.tolerance, criteria.noise_floor)
    for name, bound in criteria.tolerance.metrics.items():
        found += _metric_violation(name, bound, metrics)
    found += _gradient_violation(gradient_error, criteria.tolerance.gradient)
    return Parity(
        passed=not found,
        precision=criteria.precision,
        tolerance=criteria.tolerance,
        noise_floor=criteria.noise_floor,
        samples=criteria.samples,
        outputs=tuple(outputs),
        metrics=dict(metrics),
        reasons=tuple(found),
        gradient_error=gradient_error if gradient_error is None or math.isfinite(gradient_error) else None,
    )


def _violations(output: OutputParity, tolerance: Tolerance, noise_floor: float) -> list[str]:
    where = f"{output.output} at {' '.join(f'{k}={v}' for k, v in output.shape.items())}"
    found = []
    if output.nan_count:
        found.append(f"{where}: {output.nan_count} NaN")
    if output.inf_count:
        found.append(f"{where}: {output.inf_count} Inf that the reference has not")
    if tolerance.atol is not None:
        allowed = max(tolerance.atol * output.scale, NOISE_FLOOR_FACTOR * noise_floor)
        if output.max_abs_error is None or output.max_abs_error > allowed:
            of = f" ({tolerance.atol:g} of {output.scale:.3g})" if output.scale > 1 else ""
            found.append(f"{where}: max abs error {_show(output.max_abs_error)} > {allowed:.3g}{of}")
    if tolerance.cosine is not None and _below(output, output.cosine, tolerance.cosine):
        found.append(f"{where}: cosine {_show(output.cosine, 6)} < {tolerance.cosine:g}")
    if tolerance.sqnr_db is not None and _below(output, output.sqnr_db, tolerance.sqnr_db):
        found.append(f"{where}: SQNR {_show(output.sqnr_db)} dB < {tolerance.sqnr_db:g} dB")
    return found


def _below(output: OutputParity, value: float | None, least: float) -> bool:
    """What is not defined, as for outputs that are all zero, is no violation where both are the same."""
    return output.max_abs_error != 0.0 if value is None else value < least


def _metric_violation(name: str, bound: float, metrics: Mapping[str, float]) -> list[str]:
    if name not in metrics:
        return [f"the task has no metric {name!r}; it has: {', '.join(metrics) or 'none'}"]
    value = metrics[name]
    if less_is_better(name):
        return [] if value <= bound else [f"{name} {value:.4g} > {bound:g}"]
    return [] if value >= bound else [f"{name} {value:.4g} < {bound:g}"]


def _gradient_violation(error: float | None, most: float | None) -> list[str]:
    if error is None:
        return []
    if not math.isfinite(error):
        return ["gradient_error is not finite: the directional derivatives hold NaN or Inf"]
    if most is None or error <= most:
        return []
    return [f"directional derivatives differ by {error:.3g} of the reference's > {most:g}"]


def _relative(error: Array, magnitude: Array) -> float | None:
    import numpy as np

    largest = float(magnitude.max())
    if largest == 0.0:
        return None
    return float((error / np.maximum(magnitude, RELATIVE_FLOOR * largest)).max())


def scale(values: Array) -> float:
    """How large values are, at least 1."""
    import numpy as np

    magnitude = np.abs(values)
    magnitude = magnitude[magnitude < SENTINEL]
    return max(1.0, float(np.percentile(magnitude, SCALE_PERCENTILE))) if magnitude.size else 1.0


def _rows(reference: Array, candidate: Array, where: Array) -> tuple[Array, Array] | None:
    """Both with a row a sample, zero outside `where`; without the rows that are zero in both. None where no
    row is left, or the reference alone is zero in one."""
    import numpy as np

    rows = len(reference) if reference.ndim else 1
    ref, cand = (np.where(where, array, 0.0).reshape(rows, -1) for array in (reference, candidate))
    told = ref.any(axis=1) | cand.any(axis=1)
    ref, cand = ref[told], cand[told]
    return (ref, cand) if len(ref) and ref.any(axis=1).all() else None


def _worst_l2_error(ref: Array, cand: Array) -> float | None:
    """The largest length of a row's difference over that of the reference's row; None beyond all floats."""
    import numpy as np

    with np.errstate(over="ignore"):
        worst = float((np.linalg.norm(cand - ref, axis=1) / np.linalg.norm(ref, axis=1)).max())
    return worst if math.isfinite(worst) else None


def _worst_cosine(ref: Array, cand: Array) -> float:
    """The least cosine over samples (rows).

    Equal rows have 1, which their quotient misses by the rounding of its norms.
    """
    import numpy as np

    norms = np.linalg.norm(ref, axis=1) * np.linalg.norm(cand, axis=1)
    dots = np.einsum("ij,ij->i", ref, cand)
    cosines = np.divide(dots, norms, out=np.zeros_like(dots), where=norms > 0)
    return float(min(1.0, np.where((ref == cand).all(axis=1), 1.0, cosines).min()))


def _sqnr_db(reference: Array, error: Array) -> float | None:
    import numpy as np

    noise, signal = float(np.sum(error**2)), float(np.sum(reference**2))
    if noise == 0.0 or signal == 0.0:
        return None
    return float(10 * np.log10(signal / noise))


def _show(value: float | None, digits: int = 4) -> str:
    return "not known" if value is None else f"{value:.{digits}g}"
