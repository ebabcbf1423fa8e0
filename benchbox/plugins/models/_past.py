"""Past keys and values as graph inputs and outputs: flat tensors here, a cache object in transformers 5.

The order is that of optimum: key and value of layer 0, key and value of layer 1, and so on; of a decoder with
cross-attention, four a layer: the decoder's own key and value, then those over the encoder's states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchbox.schema.tensors import Feeds, Outputs, TensorSpec

Axes = tuple[int | str, ...]


def specs(first: str, layers: int, kinds: Mapping[str, Axes]) -> tuple[TensorSpec, ...]:
    """`past_key_values.0.key`, `past_key_values.0.value` ... with `first` as the word before the layer's
    number.

    `kinds` maps what stands before `key` and `value` (`` or `decoder.` and `encoder.`) to the axes: batch,
    heads, length, size of a head.
    """
    return tuple(
        TensorSpec(f"{first}.{layer}.{kind}{part}", "float32", axes)
        for layer in range(layers)
        for kind, axes in kinds.items()
        for part in ("key", "value")
    )


def fed_back(outputs: Outputs) -> Feeds:
    """What is present now as the past of the next step."""
    return {
        f"past_key_values.{name.removeprefix('present.')}": array
        for name, array in outputs.items()
        if name.startswith("present.")
    }


def cache(tensors: Sequence[Any]) -> Any:
    """transformers' DynamicCache that holds keys and values, which alternate in `tensors`."""
    from transformers import DynamicCache

    made = DynamicCache()
    for layer in range(len(tensors) // 2):
        made.update(tensors[2 * layer], tensors[2 * layer + 1], layer)
    return made


def crossed_cache(tensors: Sequence[Any]) -> Any:
    """transformers' EncoderDecoderCache from four tensors a layer."""
    from transformers import EncoderDecoderCache

    own = [tensor for index, tensor in enumerate(tensors) if index % 4 < 2]
    crossed = [tensor for index, tensor in enumerate(tensors) if index % 4 >= 2]
    return EncoderDecoderCache(cache(own), cache(crossed))


def flat(made: Any) -> tuple[Any, ...]:
    """The tensors of a DynamicCache, key and value by layer."""
    return tuple(tensor for layer in made.layers for tensor in (layer.keys, layer.values))


def crossed_flat(made: Any) -> tuple[Any, ...]:
    """The tensors of an EncoderDecoderCache, four a layer."""
    own, crossed = flat(made.self_attention_cache), flat(made.cross_attention_cache)
    pairs = range(0, len(own), 2)
    return tuple(tensor for i in pairs for tensor in (*own[i : i + 2], *crossed[i : i + 2]))
