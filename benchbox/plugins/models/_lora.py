"""LoRA adapters (Hu et al. 2021) as PEFT saves them: attached to a module, and saved beside its base.

An adapter adds weight * alpha / r * B A to a layer's weight matrix. Attached, the layer computes both;
merged, the sum is one matrix again (exporters/_lora.py).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchbox.errors import StageError, first_line
from benchbox.plugins import hub
from benchbox.plugins.contract import Module
from benchbox.schema.asked import Lora

ADAPTERS = "adapters"
"""The folder beside the base's weights in which `save` keeps the adapters, in their order."""

# What PEFT puts before the names of a module's parts, in the files that it writes.
_PREFIX = "base_model.model."


def attach(module: Module, loras: Sequence[Lora]) -> Module:
    """The module with all adapters attached and active, each with its weight.

    Raises StageError where an adapter cannot be had or does not fit the module.
    """
    if not loras:
        return module
    import peft

    # PEFT takes an adapter's name out of every key that has it as a part, and `layers.0` has a `0`.
    names = [f"adapter-{index}" for index in range(len(loras))]
    wrapped: Any = None
    for name, lora in zip(names, loras, strict=True):
        _refuse_pickle(lora)
        source, revision = hub.split(lora.source)
        try:
            with warnings.catch_warnings():
                # What a checkpoint lacks would stay random, and PEFT only warns.
                warnings.filterwarnings("error", message="Found missing adapter keys")
                if wrapped is None:
                    wrapped = peft.PeftModel.from_pretrained(module, source, name, revision=revision)
                else:
                    wrapped.load_adapter(source, name, revision=revision)
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, UserWarning) as error:
            raise StageError(
                f"the LoRA adapter {lora.source!r} cannot be attached: {first_line(error)}"
            ) from error
    wrapped.base_model.set_adapter(names)
    for layer in _layers(module):
        for name, lora in zip(names, loras, strict=True):
            if name in layer.scaling:
                layer.set_scale(name, lora.weight)
    return module.eval()


def _refuse_pickle(lora: Lora) -> None:
    """Raises StageError where an adapter lies on the disk as a pickle alone, which runs what is in it."""
    pickle = Path(lora.source) / "adapter_model.bin"
    if pickle.exists() and not (pickle.parent / "adapter_model.safetensors").exists():
        raise StageError(
            f"the LoRA adapter {lora.source!r} is refused: {pickle} is a pickle, which can run any code when "
            "it is read. Where you trust it, load it with PEFT and save it anew: "
            "save_pretrained(folder, safe_serialization=True) writes adapter_model.safetensors"
        )


def attached(module: Module) -> bool:
    """Whether the module has adapters beside its weights."""
    return getattr(module, "peft_config", None) is not None and any(_layers(module))


def save_adapters(module: Module, folder: Path) -> None:
    """One folder an adapter, as PEFT reads them; the weight it was attached with is in its `lora_B`."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    for name, config in module.peft_config.items():
        target = folder / ADAPTERS / name
        target.mkdir(parents=True)
        factor = _factor(module, name)
        state = get_peft_model_state_dict(module, adapter_name=name)
        scaled = {
            f"{_PREFIX}{key}": (value * factor if "lora_B" in key else value).contiguous()
            for key, value in state.items()
        }
        save_file(scaled, target / "adapter_model.safetensors")
        config.save_pretrained(str(target))
        _without_base_path(target / "adapter_config.json")


def saved_adapters(folder: Path) -> tuple[Lora, ...]:
    """What `save_adapters` has left in a folder, in order."""
    found = (folder / ADAPTERS).glob("*/adapter_config.json")
    return tuple(
        Lora(str(f.parent)) for f in sorted(found, key=lambda f: int(f.parent.name.rpartition("-")[2]))
    )


def without_adapters(module: Module) -> Module:
    """A copy of the module as it was before adapters were attached."""
    import copy

    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    base = copy.deepcopy(module)
    for parent in list(base.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, BaseTunerLayer):
                setattr(parent, name, child.get_base_layer())
            elif isinstance(child, AuxiliaryTrainingWrapper):
                setattr(parent, name, child.original_module)
    return base


def _layers(module: Module) -> Iterator[Any]:
    from peft.tuners.lora import LoraLayer

    return (layer for layer in module.modules() if isinstance(layer, LoraLayer))


def _factor(module: Module, name: str) -> float:
    """By how much the adapter's own scaling, alpha / r or alpha / sqrt(r), was multiplied when it was
    attached."""
    for layer in _layers(module):
        if name in layer.scaling:
            config = module.peft_config[name]
            rank = layer.r[name]
            own = layer.lora_alpha[name] / (rank**0.5 if config.use_rslora else rank)
            return float(layer.scaling[name] / own)
    return 1.0


def _without_base_path(file: Path) -> None:
    """An artifact that is shipped does not say where its base lay on the machine that made it."""
    config = json.loads(file.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = None
    file.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
