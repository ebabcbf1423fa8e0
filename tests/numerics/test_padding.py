"""Which positions are read: those of the mask, in whichever outputs have its axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from benchbox.numerics.padding import has_padding, read_positions
from benchbox.schema.tensors import Signature, TensorSpec

MASK = np.array([[1, 1, 0], [1, 0, 0]])
TOKENS = ("batch", "length")


def read(
    mask: TensorSpec, axes: Sequence[int | str], values: Any = MASK, shape: Mapping[str, int] | None = None
) -> Any:
    """Of one output with these axes; None: all of it."""
    signature = Signature((mask,), (TensorSpec("y", "float32", tuple(axes)),))
    return read_positions(signature, {mask.name: values}, shape or {"batch": 2, "length": 3}).get("y")


def mask(*axes: int | str, name: str = "attention_mask", dtype: str = "int64", **said: Any) -> TensorSpec:
    return TensorSpec(name, dtype, axes, **said)


def test_what_has_both_axes_of_the_mask_is_read_where_the_mask_is_one() -> None:
    found = read(mask(*TOKENS), ("batch", "length", 64))
    assert found.tolist() == [[[True], [True], [False]], [[True], [False], [False]]]
    assert read(mask(*TOKENS), TOKENS).tolist() == [[True, True, False], [True, False, False]]


def test_keys_and_values_have_their_length_behind_the_heads() -> None:
    found = read(mask(*TOKENS), ("batch", 4, "length", 16))
    assert found.shape == (2, 1, 3, 1)
    assert found[1, 0, :, 0].tolist() == [True, False, False]


def test_a_batch_may_lie_behind_the_length() -> None:
    found = read(mask(*TOKENS), ("length", "batch", 8))
    assert found[..., 0].tolist() == [[True, True], [True, False], [False, False]]


def test_with_a_past_the_logits_are_those_of_the_new_tokens() -> None:
    """Rows are padded between past and new tokens, and behind those: the mask is over both."""
    whole = mask("batch", "past_length + length")
    values = np.array([[1, 0, 1, 1], [1, 1, 1, 0]])
    shape = {"batch": 2, "past_length": 2, "length": 2}
    logits = read(whole, ("batch", "length", 99), values, shape)
    present = read(whole, ("batch", 4, "past_length + length", 16), values, shape)
    past = read(whole, ("batch", 4, "past_length", 16), values, shape)
    assert logits[..., 0].tolist() == [[True, True], [True, False]]
    assert present[:, 0, :, 0].tolist() == values.astype(bool).tolist()
    assert past[:, 0, :, 0].tolist() == [[True, False], [True, True]]


@pytest.mark.parametrize(
    "axes",
    [("batch", 64), ("batch", "decoder_length", 64), ("captions", "length"), ("batch", 3, 64), ()],
)
def test_an_output_without_these_axes_is_read_as_a_whole(axes: tuple[int | str, ...]) -> None:
    """A pooled text has no padding; what a decoder writes is not masked by what its encoder read."""
    assert read(mask(*TOKENS), axes) is None


@pytest.mark.parametrize(
    ("spec", "is_mask"),
    [
        (mask(*TOKENS, name="encoder_attention_mask"), True),
        (mask(*TOKENS, dtype="bool"), True),
        (mask(*TOKENS, name="input_mask"), False),
        (mask(*TOKENS, name="input_mask", mask=True), True),
        (mask(*TOKENS, mask=False), False),
        (mask(*TOKENS, 1, name="image_attention_mask"), False),
        (mask(*TOKENS, dtype="float32"), False),  # some add theirs to the scores: 0 is what is read
        (mask("batch", "height", "width", name="pixel_mask"), False),
    ],
)
def test_a_mask_is_called_so_or_declared(spec: TensorSpec, is_mask: bool) -> None:
    assert spec.is_mask is is_mask


def test_a_mask_that_would_leave_nothing_or_hides_nothing_says_nothing() -> None:
    for value in (0, 1):
        assert read(mask(*TOKENS), (*TOKENS, 8), np.full((2, 3), value)) is None


def test_padding_is_seen_where_there_is_a_mask_that_can_have_some() -> None:
    signature = Signature((mask(*TOKENS),), ())
    assert has_padding(signature, {"attention_mask": MASK}) is True
    assert has_padding(signature, {"attention_mask": np.ones((2, 3))}) is False
    assert has_padding(signature, {"attention_mask": np.ones((2, 1))}) is None
    assert has_padding(Signature((), ()), {}) is None
