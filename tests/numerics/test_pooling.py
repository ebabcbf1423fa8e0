"""One vector a text: what padding holds does not count, whatever it is."""

from __future__ import annotations

import numpy as np
import pytest

from benchbox.numerics.pooling import cosines, masked_mean

VALUES = np.array([[[1, 2], [3, 4], [9, 9]], [[5, 6], [7, 7], [8, 8]]], np.float32)
MASK = np.array([[1, 1, 0], [1, 0, 0]])


def test_the_mean_is_over_the_positions_of_the_mask() -> None:
    assert masked_mean(VALUES, MASK).tolist() == [[2.0, 3.0], [5.0, 6.0]]
    assert masked_mean(VALUES, MASK).dtype == np.float64


@pytest.mark.parametrize("noise", [np.nan, np.inf, 1e30])
def test_what_is_behind_the_mask_does_not_count_nan_neither(noise: float) -> None:
    values = np.where(MASK[..., None] == 1, VALUES, np.float32(noise))
    assert masked_mean(values, MASK).tolist() == [[2.0, 3.0], [5.0, 6.0]]


def test_a_row_without_any_position_is_zero() -> None:
    assert masked_mean(VALUES, np.zeros((2, 3), np.int64)).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_many_halves_do_not_overflow() -> None:
    values = np.full((1, 4, 1), 60_000, np.float16)
    assert masked_mean(values, np.ones((1, 4))).tolist() == [[60_000.0]]


def test_cosines_are_those_of_the_rows() -> None:
    reference = np.array([[3, 4], [1, 0], [0.1, 0.3], [0, 0], [0, 0]])
    candidate = np.array([[4, 3], [-1, 0], [0.1, 0.3], [0, 0], [1, 0]])
    assert cosines(reference, candidate).tolist() == pytest.approx([0.96, -1.0, 1.0, 1.0, 0.0], abs=1e-15)
    assert cosines(reference, candidate)[2] == 1.0
