"""What the exporters share for modules with LoRA adapters: shipped merged into the weights, or attached."""

from __future__ import annotations

from typing import Any, Literal

from benchbox.plugins.contract import Module

Adapters = Literal["merged", "attached"]


def with_adapters(module: Module, how: Adapters) -> Module:
    """The module as it is shipped. `merged` gives a copy in which each adapted weight is one matrix again,
    the adapters merged in the order in which they were attached; a module without adapters is given back as
    it is.
    """
    if how == "attached" or not _adapted(module):
        return module
    import copy

    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    merged = copy.deepcopy(module)
    for parent in list(merged.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, BaseTunerLayer):
                child.merge(safe_merge=True)
                setattr(parent, name, child.get_base_layer())
            elif isinstance(child, AuxiliaryTrainingWrapper):
                setattr(parent, name, child.modules_to_save[child.active_adapters[0]])
    for part in merged.modules():
        if hasattr(part, "peft_config"):
            del part.peft_config
    return merged


def adapters(module: Module) -> dict[str, Any]:
    """What is attached: trainable parameters of the adapters and their share, or nothing."""
    if not _adapted(module):
        return {}
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [layer for layer in module.modules() if isinstance(layer, BaseTunerLayer)]
    own = sum(
        p.numel()
        for layer in layers
        for name, p in layer.named_parameters()
        if not name.startswith("base_layer.")
    )
    total = sum(p.numel() for p in module.parameters())
    return {"lora_parameters": own, "lora_share": own / total, "lora_layers": len(layers)}


def _adapted(module: Module) -> bool:
    return any(getattr(part, "peft_config", None) for part in module.modules())
