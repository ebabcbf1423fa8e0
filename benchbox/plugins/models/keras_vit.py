"""ViT (Dosovitskiy et al. 2020) written in Keras 3, on its torch backend: image classification.

A Keras layer is a torch.nn.Module there, so it is exported and measured like any other. Parity is that of a
classifier: the same class (top-1), and the same five classes (top-5)? Weights are safetensors, by the paths
of the Keras variables. Blocks are pre-norm, and a class token is read, as in the paper.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from benchbox.errors import StageError, first_line, named_line
from benchbox.plugins.contract import Evidence, Module, Sample
from benchbox.plugins.models import _classes
from benchbox.schema.asked import Model
from benchbox.schema.tensors import Feeds, Signature, TensorSpec

REQUIRES = ("torch", "keras", "safetensors", "PIL")
TASKS: Mapping[str, Mapping[str, int]] = {"image-classification": {"image_size": 224}}

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"


@dataclass(frozen=True)
class Config:
    """The names are those of transformers' ViT; `layer_norm_eps` is the one of the paper's own code."""

    image_size: int = 224
    patch_size: int = 16
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    num_labels: int = 1000
    layer_norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size or self.hidden_size % self.num_attention_heads:
            raise ValueError("image_size is a multiple of patch_size, hidden_size of num_attention_heads")

    @property
    def patches(self) -> int:
        """How many patches an image has."""
        return (self.image_size // self.patch_size) ** 2


SETTINGS = tuple(field.name for field in fields(Config))

# Touvron et al. 2020 (DeiT) for tiny and small, the paper for base.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "keras/vit-base-patch16-224": {},
    "keras/vit-small-patch16-224": {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536},
    "keras/vit-tiny-patch16-224": {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768},
}


def load(model: Model) -> Module:
    """The module in eval mode. Raises StageError where config or weights cannot be had."""
    if model.lora:
        raise StageError(f"{model.name} is a Keras model, which PEFT attaches no LoRA adapters to")
    config = _config(model)
    vit = _build(config, model.seed)
    if model.weights == "pretrained":
        _read_weights(vit, Path(model.source) / WEIGHTS_FILE)
    return _adapter(vit, config)


def save(module: Module, folder: Path) -> None:
    """config.json and model.safetensors."""
    from safetensors.torch import save_file

    state = {v.path: v.value.detach().cpu().contiguous().clone() for v in module.model.variables}
    save_file(state, folder / WEIGHTS_FILE)
    (folder / CONFIG_FILE).write_text(json.dumps(asdict(module.config), indent=2), encoding="utf-8")


def signature(model: Model, shape: Mapping[str, int]) -> Signature:
    """`pixel_values` (batch, 3, height, width) to logits (batch, labels)."""
    config, size = _config(model), shape["image_size"]
    if config.image_size != size:
        raise StageError(
            f"{model.name} takes images of {config.image_size} pixels, and the suite's image_size is {size}"
        )
    return Signature(
        inputs=(TensorSpec("pixel_values", "float32", ("batch", 3, size, size)),),
        outputs=(TensorSpec("logits", "float32", ("batch", config.num_labels)),),
    )


def feeds(model: Model, samples: Sequence[Sample], shape: Mapping[str, int]) -> Feeds:  # noqa: ARG001  # the contract's form
    """`pixel_values`: float32 of shape (len(samples), 3, image_size, image_size), in -1..1."""
    import numpy as np
    from PIL import Image

    size = (shape["image_size"],) * 2
    images = [Image.fromarray(s.image).resize(size, Image.Resampling.BILINEAR) for s in samples]
    values = np.stack([np.asarray(image, np.float32) for image in images]) / 127.5 - 1
    return {"pixel_values": np.ascontiguousarray(values.transpose(0, 3, 1, 2))}


def metrics(model: Model, evidence: Evidence) -> Mapping[str, float]:  # noqa: ARG001  # the contract's form
    """Top-1 and top-5 agreement, and the accuracy where there are labels."""
    return _classes.agreement(evidence)


def label_ids(model: Model, names: Sequence[str]) -> Mapping[str, int]:
    """The place of each name in their order, where there are `num_labels` of them: a config has no names."""
    return _classes.in_order(names, _config(model).num_labels)


def _config(model: Model) -> Config:
    """The preset of that name, or what lies beside saved weights, with the suite's overrides."""
    base: Mapping[str, Any] | None = PRESETS.get(model.source)
    if model.weights == "pretrained":
        base = _read_config(Path(model.source) / CONFIG_FILE)
    if base is None:
        raise StageError(f"no config for {model.source!r}. Known: {', '.join(PRESETS)}.")
    names = [field.name for field in fields(Config)]
    unknown = [name for name in {**base, **model.config} if name not in names]
    if unknown:
        raise StageError(f"unknown in the config: {unknown[0]!r}. Allowed: {', '.join(names)}.")
    try:
        return Config(**{**base, **model.config})
    except (TypeError, ValueError) as error:
        raise StageError(f"the config of {model.name}: {first_line(error)}") from error


def _read_config(file: Path) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StageError(
            f"pretrained weights of {str(file.parent)!r} cannot be had: {first_line(error)}"
        ) from error
    return found


def _read_weights(vit: Any, file: Path) -> None:
    """All of them, and no others."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(file)
    except (OSError, SafetensorError) as error:
        raise StageError(
            f"pretrained weights of {str(file.parent)!r} cannot be had: {named_line(error)}"
        ) from error
    wanted = {variable.path: tuple(variable.shape) for variable in vit.variables}
    if {name: tuple(tensor.shape) for name, tensor in state.items()} != wanted:
        raise StageError(f"the weights in {file.name} are not those of the config beside them")
    for variable in vit.variables:
        variable.assign(state[variable.path])


def _adapter(vit: Any, its_config: Config) -> Module:
    """A module whose `forward` takes the pixels and returns a tuple; the Keras model is its `model`."""
    import torch

    class KerasVit(torch.nn.Module):  # type: ignore[misc,name-defined,unused-ignore]  # torch is untyped here
        def __init__(self) -> None:
            super().__init__()
            self.model = vit
            self.config = its_config

        def forward(self, pixel_values: Any) -> tuple[Any, ...]:
            return (self.model(pixel_values, training=False),)

    return KerasVit().eval()


def _keras() -> Any:
    """Keras on its torch backend, on the CPU, untouched by a ~/.keras/keras.json.

    It reads all three from the environment when it is first imported, and offers no other way.
    """
    import os

    os.environ["KERAS_BACKEND"] = "torch"
    os.environ["KERAS_TORCH_DEVICE"] = "cpu"
    os.environ["KERAS_HOME"] = os.path.join(os.devnull, "keras")  # noqa: PTH118  # where nothing can be
    import keras

    if keras.config.backend() != "torch":
        raise StageError(f"keras was imported on its {keras.config.backend()} backend before")
    return keras


def _build(config: Config, seed: int) -> Any:
    """The Keras model with seeded weights. Every layer has a name, as its weights are found by it."""
    keras = _keras()
    keras.utils.set_random_seed(seed)
    pixels = keras.Input((3, config.image_size, config.image_size), name="pixel_values")
    tokens = _embedded(keras, config, pixels)
    for index in range(config.num_hidden_layers):
        tokens = _block(keras, config, tokens, f"block_{index}")
    tokens = _norm(keras, config, "norm")(tokens)
    logits = keras.layers.Dense(config.num_labels, name="head")(tokens[:, 0])
    return keras.Model(pixels, logits, name="vit")


def _embedded(keras: Any, config: Config, pixels: Any) -> Any:
    """(batch, 3, height, width) to (batch, 1 + patches, hidden)."""
    patches = keras.layers.Conv2D(
        config.hidden_size,
        config.patch_size,
        strides=config.patch_size,
        data_format="channels_first",
        name="patches",
    )(pixels)
    tokens = keras.layers.Reshape((config.hidden_size, config.patches), name="flat")(patches)
    return _with_positions(keras, config)(keras.layers.Permute((2, 1), name="tokens")(tokens))


def _with_positions(keras: Any, config: Config) -> Any:
    """A layer that puts the class token first and adds the position embeddings."""

    class Embedding(keras.layers.Layer):  # type: ignore[misc,name-defined,unused-ignore]  # untyped here
        def build(self, _shape: Any) -> None:
            normal = keras.initializers.TruncatedNormal(stddev=0.02)  # the paper's code
            self.token = self.add_weight((1, 1, config.hidden_size), normal, name="class_token")
            self.positions = self.add_weight(
                (1, config.patches + 1, config.hidden_size), normal, name="position_embeddings"
            )

        def call(self, tokens: Any) -> Any:
            # As many class tokens as there are samples, by values: a size that is traced becomes a constant.
            first = keras.ops.zeros_like(tokens[:, :1]) + self.token
            return keras.ops.concatenate([first, tokens], axis=1) + self.positions

    return Embedding(name="embedding")


def _block(keras: Any, config: Config, tokens: Any, name: str) -> Any:
    """Attention and MLP, each normalised before and added after."""
    layers = keras.layers
    normed = _norm(keras, config, f"{name}_norm_1")(tokens)
    attended = layers.MultiHeadAttention(
        config.num_attention_heads, config.hidden_size // config.num_attention_heads, name=f"{name}_attention"
    )(normed, normed)
    tokens = layers.Add(name=f"{name}_add_1")([tokens, attended])
    normed = _norm(keras, config, f"{name}_norm_2")(tokens)
    wide = layers.Dense(config.intermediate_size, activation="gelu", name=f"{name}_up")(normed)
    narrow = layers.Dense(config.hidden_size, name=f"{name}_down")(wide)
    return layers.Add(name=f"{name}_add_2")([tokens, narrow])


def _norm(keras: Any, config: Config, name: str) -> Any:
    """Keras' layer normalisation, told what it normalises over: Keras reads that off the tensor, and what is
    read while tracing is no constant, which the TorchScript exporter wants (PyTorch 2.13, Keras 3.15)."""
    import torch

    class Norm(keras.layers.LayerNormalization):  # type: ignore[misc,name-defined,unused-ignore]  # untyped
        def call(self, tokens: Any) -> Any:
            return torch.nn.functional.layer_norm(
                tokens, (config.hidden_size,), self.gamma.value, self.beta.value, self.epsilon
            )

    return Norm(epsilon=config.layer_norm_eps, name=name)
