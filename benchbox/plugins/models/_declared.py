"""What the families share whose axes and values the user declares: sizes, ranges, and inputs drawn from them.

What is drawn is a function of the sample: the same photograph or text gives the same numbers, another one
gives others, so what calibrates is never what parity is judged on. numpy only, and PIL for pictures.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from benchbox.errors import StageError
from benchbox.plugins.contract import Sample
from benchbox.schema import tensors
from benchbox.schema.tensors import Array, Feeds, TensorSpec, axis_parts

Range = tuple[float, float]
"""Lowest and highest value, both included."""

DTYPES = ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
"""What numpy, torch and ONNX all have, and an input can be drawn in."""

_EXAMPLE = "{sizes: {sequence: [16, 11]}}"


def sizes(declared: Any) -> dict[str, tuple[int, int]]:
    """`sizes: {sequence: [16, 11], height: 32}` of a config: the default, which is traced, and another that
    proves the axis; one number alone is the only size of its axis. Raises ValueError."""
    if not isinstance(declared, dict):
        raise ValueError(f"sizes should be a mapping such as {_EXAMPLE}, not {declared!r}")
    return {str(name): _pair(str(name), value) for name, value in declared.items()}


def interval(name: str, declared: Any) -> Range:
    """`[0, 29999]`. Raises ValueError."""
    match declared:
        case [int() | float() as low, int() | float() as high] if low <= high:
            return float(low), float(high)
    raise ValueError(f"the range of {name} should be [lowest, highest], such as [0, 29999], not {declared!r}")


def known(given: Mapping[str, Any], allowed: Sequence[str], what: str) -> None:
    """Raises ValueError for a key that is not among the allowed ones, with the nearest of them."""
    for key in given:
        if key not in allowed:
            near = difflib.get_close_matches(str(key), allowed, n=1, cutoff=0.5)
            guess = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"unknown {what}: {key!r}.{guess} Allowed: {', '.join(allowed) or 'none'}.")


def draw(
    specs: Sequence[TensorSpec],
    ranges: Mapping[str, Range],
    samples: Sequence[Sample],
    shape: Mapping[str, int],
) -> Feeds:
    """One batch of the samples for inputs of which only types and axes are known.

    An input without a range that looks like a batch of pictures gets them, divided by 255; other floats are
    normally distributed; an attention mask is a text's length of ones, then zeros; other whole numbers need a
    range. Raises StageError where there is none, and for an axis without a size.
    """
    return {spec.name: _input(spec, ranges.get(spec.name), samples, shape) for spec in specs}


def length(spec: TensorSpec, axis: int | str, shape: Mapping[str, int]) -> int:
    """The size of an axis; that of `past + sequence` is the sum of both."""
    found = tensors.axis_length(axis, shape)
    if found is None:
        part = next(part for part in axis_parts(axis) if part not in shape)
        raise StageError(
            f"the input {spec.name} has the axis {part!r}, and the suite gives it no size: "
            f"write config: {{sizes: {{{part}: [16, 11]}}}} under the model"
        )
    return found


def _pair(name: str, value: Any) -> tuple[int, int]:
    if name == "batch" or not name or not name.isprintable():
        raise ValueError(f"{name!r} cannot be the name of a declared size; batch is given under inputs")
    match value:
        case bool() | [bool(), *_] | [_, bool()]:
            pass
        case int() if value > 0:
            return value, value
        case [int() as default, int() as other] if default > 0 and other > 0:
            return default, other
    raise ValueError(
        f"the size of {name} should be a number, or two: the default and another that proves the axis, "
        f"such as [16, 11], not {value!r}"
    )


def _input(
    spec: TensorSpec, limits: Range | None, samples: Sequence[Sample], shape: Mapping[str, int]
) -> Array:
    import numpy as np

    if spec.dtype not in DTYPES:
        raise StageError(f"the input {spec.name} is {spec.dtype}; what can be fed is {', '.join(DTYPES)}")
    lengths = [length(spec, axis, {**shape, "batch": len(samples)}) for axis in spec.axes]
    if limits is None and _takes_pictures(spec, samples):
        return _pictures(spec, samples, lengths)
    if "batch" not in spec.axes:
        return _drawn(spec, limits, samples[0], lengths)
    where = spec.axes.index("batch")
    row = [length for index, length in enumerate(lengths) if index != where]
    rows = [_drawn(spec, limits, sample, row) for sample in samples]
    return np.ascontiguousarray(np.stack(rows, axis=where))


def _takes_pictures(spec: TensorSpec, samples: Sequence[Sample]) -> bool:
    """Floats of (batch, 3, height, width) or (batch, height, width, 3), and samples that have a picture."""
    layout = len(spec.axes) == 4 and spec.axes[0] == "batch" and 3 in (spec.axes[1], spec.axes[3])
    return layout and spec.dtype.startswith("float") and all(s.image is not None for s in samples)


def _pictures(spec: TensorSpec, samples: Sequence[Sample], lengths: Sequence[int]) -> Array:
    """The samples' pictures in 0..1, resized to what the axes say."""
    import numpy as np
    from PIL import Image

    channels_first = spec.axes[1] == 3
    height, width = lengths[2:] if channels_first else lengths[1:3]
    rows = [
        np.asarray(Image.fromarray(s.image).resize((width, height), Image.Resampling.BILINEAR))
        for s in samples
    ]
    values = np.stack(rows).astype(spec.dtype) / np.asarray(255, spec.dtype)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2) if channels_first else values)


def _drawn(spec: TensorSpec, limits: Range | None, sample: Sample, lengths: Sequence[int]) -> Array:
    import numpy as np

    rng = np.random.default_rng(_seed(sample, spec.name))
    if limits is not None:
        _require_holds(spec, limits)
    if spec.is_mask and len(lengths) == 1 and limits in (None, (0, 1)):
        text = rng.integers(1, lengths[0], endpoint=True)
        return (np.arange(lengths[0]) < text).astype(spec.dtype)
    if spec.dtype == "bool":
        low, high = limits or (0, 1)
        return rng.integers(int(low), int(high), lengths, endpoint=True).astype(bool)
    if spec.dtype.startswith("float"):
        drawn = rng.standard_normal(lengths) if limits is None else rng.uniform(*limits, lengths)
        return drawn.astype(spec.dtype)
    if limits is None:
        raise StageError(
            f"the input {spec.name} is {spec.dtype}, and nothing says which values it may have: declare the "
            "lowest and the highest, such as [0, 29999], as its range"
        )
    low, high = (int(limit) for limit in limits)
    return rng.integers(low, high, lengths, endpoint=True).astype(spec.dtype)


def _require_holds(spec: TensorSpec, limits: Range) -> None:
    """Raises StageError where the type has no such values: numpy would wrap them round, or give infinity."""
    import numpy as np

    least: float
    most: float
    if spec.dtype == "bool":
        least, most = 0, 1
    elif spec.dtype.startswith("float"):
        most = float(np.finfo(spec.dtype).max)
        least = -most
    else:
        least, most = int(np.iinfo(spec.dtype).min), int(np.iinfo(spec.dtype).max)
    low, high = limits
    whole = spec.dtype.startswith("float") or (low.is_integer() and high.is_integer())
    if not (whole and least <= low and high <= most):
        raise StageError(
            f"the range of {spec.name}, [{low:g}, {high:g}], is none of {spec.dtype}, whose values lie in "
            f"[{least:g}, {most:g}]" + ("" if whole else " and are whole numbers")
        )


def _seed(sample: Sample, name: str) -> int:
    content = hashlib.sha256(name.encode())
    if sample.image is not None:
        content.update(sample.image.tobytes())
    content.update((sample.text or "").encode())
    return int.from_bytes(content.digest()[:8], "big")
