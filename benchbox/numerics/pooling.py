"""One vector a text: the mean of its tokens, padding left out. numpy only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


def masked_mean(values: Array, mask: Array) -> Array:
    """The mean of `values` (batch, length, size) over the positions that `mask` (batch, length) has: float64
    of shape (batch, size).

    As sentence encoders pool their tokens (Reimers and Gurevych 2019). What is behind the mask does not
    count, NaN neither; a row without any position is zero.
    """
    import numpy as np

    counted = mask.astype(bool)
    summed = values.astype(np.float64).sum(axis=1, where=counted[..., None])
    pooled: Array = summed / np.maximum(counted.sum(axis=1), 1)[:, None]
    return pooled


def cosines(reference: Array, candidate: Array) -> Array:
    """The cosine of each row of one with that row of the other, both (batch, size): float64 of (batch,).

    Equal rows have 1, zero ones too; a row that is zero on one side alone has 0.
    """
    import numpy as np

    ref, cand = reference.astype(np.float64), candidate.astype(np.float64)
    norms = np.linalg.norm(ref, axis=1) * np.linalg.norm(cand, axis=1)
    dots = np.einsum("ij,ij->i", ref, cand)
    angles = np.divide(dots, norms, out=np.zeros_like(dots), where=norms > 0)
    return np.clip(np.where((ref == cand).all(axis=1), 1.0, angles), -1.0, 1.0)
