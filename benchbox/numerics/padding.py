"""Which positions of an output somebody reads: those that no attention mask hides. numpy only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from benchbox.schema.tensors import Feeds, Signature, TensorSpec, axis_length, axis_parts

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


def read_positions(signature: Signature, feeds: Feeds, shape: Mapping[str, int]) -> dict[str, Array]:
    """Of each output that has positions behind a mask, which of them are read: bool, of as many axes as the
    output, of length 1 where the mask has none of them.

    An output of which nothing would be left is not among them: its mask says something else.
    """
    found: dict[str, Array] = {}
    for output in signature.outputs:
        for mask in signature.inputs:
            read = _over(output, mask, feeds[mask.name], shape) if mask.is_mask else None
            if read is not None:
                found[output.name] = found[output.name] & read if output.name in found else read
    return {name: read for name, read in found.items() if read.any() and not read.all()}


def has_padding(signature: Signature, feeds: Feeds) -> bool | None:
    """Whether a mask hides anything; None where there is no mask, or none that could."""
    masks = [feeds[spec.name] for spec in signature.inputs if spec.is_mask]
    masks = [mask for mask in masks if mask.shape[-1] > 1]
    return any(not mask.all() for mask in masks) if masks else None


def _over(output: TensorSpec, mask: TensorSpec, values: Array, shape: Mapping[str, int]) -> Array | None:
    """The mask over the output's axes; None where the output lacks one of them.

    The output may have a part of the mask's length: with past keys and values, logits are those of the new
    tokens alone.
    """
    batch, length = mask.axes
    if batch not in output.axes or not isinstance(length, str):
        return None
    parts = [_part(length, name, shape) for name in output.axes]
    first, second = output.axes.index(batch), next((i for i, part in enumerate(parts) if part), None)
    if second is None:
        return None
    rows = values[:, parts[second]].astype(bool)
    sizes = [1] * len(output.axes)
    sizes[first], sizes[second] = rows.shape
    return (rows if first < second else rows.T).reshape(sizes)


def _part(whole: str, name: int | str, shape: Mapping[str, int]) -> slice | None:
    """Where the axis `name` lies in the axis `whole`, of which it may be a part; None where it does not."""
    parts, wanted = axis_parts(whole), axis_parts(name)
    if not wanted:
        return None
    if wanted == parts:
        return slice(None)
    for start in range(len(parts) - len(wanted) + 1):
        if parts[start : start + len(wanted)] == wanted:
            before = [axis_length(part, shape) for part in parts[:start]]
            length = axis_length(name, shape)
            if length is None or None in before:
                return None
            begin = sum(size for size in before if size is not None)
            return slice(begin, begin + length)
    return None
