"""Swin: windows that shift."""

from __future__ import annotations

import pytest

from families import small

pytest.importorskip("torch")


def test_windows_of_the_small_model_are_shifted_in_every_other_layer() -> None:
    """8 x 8 tokens in windows of 4: the second layer of the first stage shifts them by 2."""
    stages = small("swin").module.model.swin.encoder.layers
    assert [block.shift_size for block in stages[0].blocks] == [0, 2]
