"""What the families share that come from transformers: config, weights, saving, image processing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchbox.errors import StageError
from benchbox.plugins import architecture, hub
from benchbox.plugins.contract import Module, Sample
from benchbox.plugins.models import _lora
from benchbox.schema.asked import Model
from benchbox.schema.tensors import Array

IMAGENET: Mapping[str, Any] = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
"""How the image processors of models trained on ImageNet normalise: mean and deviation of its colours."""

LAYOUT: Mapping[str, Any] = {"input_data_format": "channels_last"}
"""What our pictures are: a processor that has to guess takes a picture three pixels high for one of three
channels."""


# What a config keeps in another form than a suite can write: numbers as keys, types of torch; T5 always ties
# its embeddings, and takes the word for whether the decoder's outputs are scaled.
_SPELT_OTHERWISE = frozenset({"id2label", "label2id", "dtype", "torch_dtype", "tie_word_embeddings"})


def quiet() -> None:
    """Keeps transformers' progress bars and advice off stderr, where failures are looked for."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def config(model: Model, presets: Mapping[str, Mapping[str, Any]], config_class: str) -> Any:
    """The architecture's config with the suite's overrides.

    `random` weights take the preset of that name and need no hub; everything else asks
    `from_pretrained`. Raises StageError where there is no such config, or it is that of another architecture.
    """
    import transformers

    cls = getattr(transformers, config_class)
    if model.weights == "random" and model.source in presets:
        made = cls(**architecture.overridden(presets[model.source], model.config))
        return _in_keeping(model, made)
    name, revision = hub.split(model.source)
    try:
        found = transformers.AutoConfig.from_pretrained(
            name, revision=revision, trust_remote_code=model.trust_remote_code, **model.config
        )
    except (OSError, ValueError) as error:
        raise StageError(
            f"no config for {model.source!r}: {first_line(error)} Known without a hub: {', '.join(presets)}."
        ) from error
    if not isinstance(found, cls) and found.model_type not in _types(cls):
        raise StageError(_of_another_type(model, found.model_type, cls.model_type))
    return _in_keeping(model, found)


def _in_keeping(model: Model, its_config: Any) -> Any:
    """The config itself. Raises StageError where it is not what the suite says, or cannot be."""
    lost = list(_lost(model.config, its_config))
    if lost:
        raise StageError(f"the config of {model.family} does not take {', '.join(lost)}")
    conflicts = list(architecture.head_conflicts(its_config.to_dict()))
    if conflicts and model.config:
        raise StageError(f"the config contradicts itself: {'; '.join(conflicts)}")
    return its_config


def _lost(said: Mapping[str, Any], made: Any, *before: str) -> Iterator[str]:
    """What the suite says and the finished config does not."""
    for name, value in said.items():
        there = getattr(made, name, None)
        if isinstance(value, Mapping) and not isinstance(there, Mapping):
            yield from _lost(value, there, *before, name)
        elif name not in _SPELT_OTHERWISE and _plain(there) != _plain(value):
            yield f"{'.'.join((*before, name))}: {value!r} (it is {there!r})"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _types(config_class: Any) -> list[str]:
    """The type of the whole, and those of its parts, which may have been saved by themselves."""
    parts = [getattr(part, "model_type", "") for part in config_class.sub_configs.values()]
    return [config_class.model_type, *parts]


def _of_another_type(model: Model, found: str, wanted: str) -> str:
    """What is said of a source that holds another architecture, with the family that takes it, if any does.

    The word in the suite is the name of the file; the files are asked because no plug-in imports another.
    """
    families = {file.stem for file in Path(__file__).parent.glob("[!_]*.py")}
    hint = f": write family: {found}" if found in families else ""
    return f"{model.source} holds a model of the type {found}, not {wanted}{hint}"


def keeping_attention(its_config: Any) -> Any:
    """The config of a module that can say where its attention went: fused kernels do not keep it."""
    its_config._attn_implementation = "eager"
    return its_config


def weights(model: Model, architecture: Any, its_config: Any) -> Module:
    """The module in eval mode, seeded or from `from_pretrained` (safetensors only), its adapters attached.

    Raises StageError where pretrained weights cannot be had, or are not all there; never falls back to
    random ones.
    """
    import torch
    from safetensors import SafetensorError

    if model.weights == "random":
        torch.manual_seed(model.seed)
        return _lora.attach(architecture(its_config).eval(), model.lora)
    name, revision = hub.split(model.source)
    try:
        module, loading = architecture.from_pretrained(
            name,
            revision=revision,
            config=its_config,
            use_safetensors=True,
            trust_remote_code=model.trust_remote_code,
            output_loading_info=True,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise StageError(
            f"pretrained weights of {model.source!r} cannot be had: {first_line(error)}"
        ) from error
    _require_all(model, architecture, sorted(loading["missing_keys"]))
    loras = model.lora or _lora.saved_adapters(Path(model.source))
    return _lora.attach(module.eval(), loras)


def _require_all(model: Model, architecture: Any, absent: Sequence[str]) -> None:
    """transformers fills in random values for what a checkpoint lacks, such as another task's head."""
    if absent:
        more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
        raise StageError(
            f"pretrained weights of {model.source!r} lack {', '.join(absent[:3])}{more} of "
            f"{architecture.__name__}, which would be random"
        )


def save(module: Module, folder: Path) -> None:
    """config.json and safetensors of the module's `model`, which is one of transformers, as `from_pretrained`
    reads them; adapters that are attached beside them."""
    model = module.model
    if _lora.attached(model):
        _lora.save_adapters(model, folder)
        model = _lora.without_adapters(model)
    model.save_pretrained(folder)


def adapter(
    module: Module,
    inputs: Sequence[str],
    outputs: Sequence[str],
    attend: Callable[[Any], Any] | None = None,
) -> Module:
    """A module whose `forward` takes `inputs` by position and returns the `outputs` as a tuple.

    The module of transformers is its attribute `model`. `attend` makes one more output of a result that holds
    its attention weights.
    """
    import torch

    class Adapter(torch.nn.Module):  # type: ignore[misc,name-defined,unused-ignore]  # torch is untyped here
        def __init__(self) -> None:
            super().__init__()
            self.model = module

        def forward(self, *tensors: Any) -> tuple[Any, ...]:
            named = dict(zip(inputs, tensors, strict=True))
            if attend is None:
                result = self.model(**named)
                return tuple(result[name] for name in outputs)
            result = self.model(**named, output_attentions=True)
            return (*(result[name] for name in outputs), attend(result))

    return Adapter().eval()


def image_module(
    model: Model, architecture: Any, its_config: Any, outputs: Sequence[str], *, special: int
) -> Module:
    """A ViT that takes `pixel_values` and returns the `outputs`; where the model keeps its attention, also
    where its first token looks. `special` tokens stand before the patches."""
    if not model.attention:
        return adapter(weights(model, architecture, its_config), ["pixel_values"], outputs)
    module = weights(model, architecture, keeping_attention(its_config))
    columns = its_config.image_size // its_config.patch_size

    def attend(result: Any) -> Any:
        return over_the_image(result.attentions[-1], special=special, columns=columns)

    return adapter(module, ["pixel_values"], outputs, attend)


def over_the_image(attention: Any, special: int, columns: int) -> Any:
    """Where the first token of a ViT looks: (batch, heads, tokens, tokens) as (batch, rows, columns), the
    mean over the heads; `special` tokens stand before the patches."""
    patches = attention.mean(dim=1)[:, 0, special:]
    return patches.unflatten(1, (-1, columns))


def from_words(attention: Any, columns: int) -> Any:
    """Where each word looks: cross-attention to a ViT's states, (batch, heads, words, tokens), as (batch,
    words, rows, columns), the mean over the heads, without the class token, which stands before the
    patches."""
    patches = attention.mean(dim=1)[:, :, 1:]
    return patches.unflatten(2, (-1, columns))


def watched(part: Module) -> Callable[[], Any]:
    """What gives the weights, (batch, heads, words, tokens), with which an attention layer was last run.

    For those that transformers does not put into a model's result. The layer returns them second.
    """
    kept: list[Any] = []

    def keep(_layer: Module, _inputs: Any, result: Any) -> None:
        kept[:] = result[1:2]

    part.register_forward_hook(keep)
    return kept.pop


def require_image_size(model: Model, configured: int, size: int) -> None:
    """Raises StageError where the suite's image size is not that of the model's position embeddings."""
    if configured != size:
        raise StageError(
            f"{model.name} takes images of {configured} pixels, and the suite's image_size is {size}"
        )


def image_processor(model: Model, class_name: str, **settings: Any) -> Any:
    """The model's own image processor: its preset for random weights, else that of its source.

    `settings` are those of the preset. What the suite decides for pretrained weights too, such as the size of
    an image that may have any, is said where the processor is called. Without torchvision the PIL
    implementation is taken, which gives the same pixels.
    """
    import importlib.util

    import transformers

    quiet()
    if model.weights == "pretrained":
        return _own_processor(model)
    if importlib.util.find_spec("torchvision") is None and hasattr(transformers, f"{class_name}Pil"):
        class_name = f"{class_name}Pil"
    return getattr(transformers, class_name)(**settings)


def _own_processor(model: Model) -> Any:
    import transformers

    name, revision = hub.split(model.source)
    try:
        return transformers.AutoImageProcessor.from_pretrained(
            name, revision=revision, trust_remote_code=model.trust_remote_code
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        if Path(name).is_dir() and not (Path(name) / hub.PROCESSOR).is_file():
            raise StageError(
                f"{name} has no {hub.PROCESSOR}, so nobody knows how to make its images ready. Save the "
                "model's image processor there too, with its save_pretrained"
            ) from error
        raise StageError(
            f"the image processor of {model.source!r} cannot be had: {first_line(error)}"
        ) from error


def images(samples: Sequence[Sample]) -> list[Array]:
    """The samples' pictures. Raises StageError where one has none."""
    found = [sample.image for sample in samples if sample.image is not None]
    if len(found) < len(samples):
        raise StageError("this model looks at pictures, and the dataset has none: sample_images has")
    return found


def pixels(processor: Any, samples: Sequence[Sample], **settings: Any) -> Any:
    """float32 pixel values of shape (batch, 3, height, width) in C order; `settings` go before the
    processor's own."""
    import numpy as np

    found = processor(images=images(samples), return_tensors="np", **LAYOUT, **settings)
    values = found["pixel_values"]
    return np.ascontiguousarray(values, dtype=np.float32)


def first_line(error: Exception) -> str:
    """The first line of an error's text, ended by a full stop."""
    line = str(error).strip().partition("\n")[0]
    return line if line.endswith(".") else f"{line}."
