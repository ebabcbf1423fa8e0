"""Arrays by name, and what is known of them before they are there: names, types, axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Feeds = Mapping[str, np.ndarray[Any, Any]]
    Outputs = Mapping[str, np.ndarray[Any, Any]]
else:
    Array = Any
    Feeds = Mapping[str, Any]
    Outputs = Mapping[str, Any]

Forward = Callable[["Feeds"], "Outputs"]
"""One run of a model, in whatever runtime."""


@dataclass(frozen=True)
class TensorSpec:
    """A graph input or output: `axes` holds a size, or the name of a dynamic axis, for each axis.

    `mask` says of an input whether it is an attention mask: of the axes batch and length, 0 where there is
    padding. What outputs hold there is nobody's answer, in each output that has these two axes. None: it is
    one if it is called as transformers calls them, and has such axes.
    """

    name: str
    dtype: str
    axes: tuple[int | str, ...]
    mask: bool | None = None

    @property
    def dynamic(self) -> dict[int, str]:
        """The dynamic axes by position, as `torch.onnx.export` wants them."""
        return {index: axis for index, axis in enumerate(self.axes) if isinstance(axis, str)}

    @property
    def is_mask(self) -> bool:
        """Whether its zeros are padding: those of GPT-2's `attention_mask` and T5's `encoder_attention_mask`
        are; of IDEFICS' `image_attention_mask`, with three axes, they say which tokens see the image."""
        named = self.name.endswith("attention_mask") and self.dtype.startswith(("int", "uint", "bool"))
        return len(self.axes) == 2 and (named if self.mask is None else self.mask)


def axis_parts(axis: int | str) -> tuple[str, ...]:
    """The names of sizes that a dynamic axis is made of: both of `past + sequence`; none of a fixed one."""
    return () if isinstance(axis, int) else tuple(part.strip() for part in axis.split("+"))


def axis_length(axis: int | str, shape: Mapping[str, int]) -> int | None:
    """The size of an axis, of several names their sum; None where the shape lacks one of them."""
    if isinstance(axis, int):
        return axis
    known = [shape[part] for part in axis_parts(axis) if part in shape]
    return sum(known) if len(known) == len(axis_parts(axis)) else None


@dataclass(frozen=True)
class Signature:
    """The inputs in the order of the module's `forward`, and the outputs in the order of its result."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
