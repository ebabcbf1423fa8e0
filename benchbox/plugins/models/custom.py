"""Your own torch module (`source: path/to/file.py:function`), with the signature that the function declares.

The file is run only where the suite says `trust_remote_code: true`, and only where a model is built or
loaded; `plan`, `report` and the check of a suite never run it. Parity is numeric. The function is called with
what `config` holds beside `sizes`, the random generator seeded, and returns a mapping:

    def mixer(width=64):
        return {
            "module": Mixer(width),                 # a torch.nn.Module; forward takes the inputs in order and
                                                    # returns a tensor, several of them, or a mapping by name
            "inputs": [{"name": "pixel_values", "dtype": "float32", "axes": ["batch", 3, "height", "width"]}],
            "outputs": [{"name": "logits", "dtype": "float32", "axes": ["batch", 10]}],
            "feeds": feeds,                         # optional: feeds(samples, shape) -> arrays by input name
        }

An axis is a size or a name; what is neither `batch` nor a number gets its sizes from the suite
(`config: {sizes: {height: [32, 48]}}`). Without `feeds`, an input that looks like a batch of pictures gets
those of the dataset, in 0..1; others are drawn from their `range: [lowest, highest]`, which whole numbers
must have. `"mask": True` says of an input (batch, length) that it is 0 where there is padding, as of one that
is called `attention_mask`: what outputs along these axes hold there is not judged.

The file may import what is installed and what lies beside it. An edit of any .py file in its folder builds
anew, and so does one of a file that `config` names (`weights: ./trained.safetensors`, from the suite's own
folder); what else it reads is not seen. A trusted file is trusted with everything: it runs as you.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from benchbox.errors import StageError, first_line
from benchbox.plugins import trusted
from benchbox.plugins.contract import Evidence, Module, Sample
from benchbox.plugins.models import _declared
from benchbox.schema.asked import Model, digest
from benchbox.schema.tensors import Feeds, Signature, TensorSpec

REQUIRES = ("torch", "safetensors", "PIL")
TASKS: Mapping[str, Mapping[str, int]] = {"inference": {}}

NOTE = "custom.json"
"""Beside saved weights: which function makes the module that they belong to."""
_CODE, _FILES = "code", "files"
WEIGHTS_FILE = "model.safetensors"

_KEYS = ("module", "inputs", "outputs", "feeds")
_INPUT_KEYS = ("name", "dtype", "axes", "range", "mask")
_OUTPUT_KEYS = ("name", "dtype", "axes")


def sizes(model: Model) -> Mapping[str, tuple[int, int]]:
    """`config: {sizes: ...}`; the rest of the config is the function's. Raises ValueError."""
    return _declared.sizes(model.config.get("sizes", {}))


def fingerprint(model: Model) -> str:
    """A hash of the .py files in the source's folder, which it may import. Runs nothing."""
    folder = Path(model.source.rpartition(".py:")[0]).parent
    content = hashlib.sha256()
    for file in sorted(folder.glob("*.py")) if ".py:" in model.source else ():
        if file.is_file():
            content.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return content.hexdigest()


def load(model: Model) -> Module:
    """The function's module in eval mode, its outputs a tuple. Raises StageError without
    `trust_remote_code: true`, and for what is not as declared."""
    module = _adapter(_made(model))
    stored = Path(model.source) / WEIGHTS_FILE
    if stored.is_file():
        from safetensors.torch import load_model

        load_model(module.model, stored)  # strict: every weight, and no other
    return module


def save(module: Module, folder: Path) -> None:
    """model.safetensors, which function makes the module, and its code: all that loading it again takes.

    An artifact says nothing of where it came from, and does not change with what lies there.
    """
    from safetensors.torch import save_model

    save_model(module.model, str(folder / WEIGHTS_FILE))
    note = _copied(module.origin, folder)
    (folder / NOTE).write_text(json.dumps(note, indent=2, sort_keys=True), encoding="utf-8")


def _copied(origin: _Origin, folder: Path) -> Mapping[str, Any]:
    """The note for an artifact that holds the .py files, and what files the function is called with."""
    (folder / _CODE).mkdir()
    for file in origin.file.parent.glob("*.py"):
        shutil.copyfile(file, folder / _CODE / file.name)
    files: dict[str, str] = {}
    for name, value in origin.arguments.items():
        place = Path(value) if isinstance(value, str) and value.startswith("/") else None
        if place is None or not place.exists():
            continue
        files[name] = f"{_FILES}/{len(files)}/{place.name}"
        (folder / files[name]).parent.mkdir(parents=True)
        copy = shutil.copytree if place.is_dir() else shutil.copyfile
        copy(place, folder / files[name])
    arguments = {name: value for name, value in origin.arguments.items() if name not in files}
    return {
        "file": f"{_CODE}/{origin.file.name}",
        "function": origin.function,
        "arguments": arguments,
        "files": files,
    }


def signature(model: Model, shape: Mapping[str, int]) -> Signature:  # noqa: ARG001  # the contract's form
    """What the function declares."""
    return _declaration(_Key(model)).signature


def feeds(model: Model, samples: Sequence[Sample], shape: Mapping[str, int]) -> Feeds:
    """What the function's own `feeds` makes of the samples, else pictures and numbers from the ranges."""
    made = _declaration(_Key(model))
    specs = made.signature.inputs
    if made.feeds is None:
        return _declared.draw(specs, made.ranges, samples, shape)
    given = made.feeds(samples, shape)
    return {spec.name: _checked(spec, given, shape) for spec in specs}


def metrics(model: Model, evidence: Evidence) -> Mapping[str, float]:  # noqa: ARG001  # the contract's form
    """None: nobody knows what the outputs mean. The file is not run here: a worker has no torch."""
    return {}


@dataclass(frozen=True)
class _Made:
    """What the function gave, checked."""

    module: Module
    signature: Signature
    ranges: Mapping[str, _declared.Range]
    feeds: Callable[..., Any] | None
    origin: _Origin


@dataclass(frozen=True)
class _Origin:
    """Which function of which file, and what it is called with."""

    file: Path
    function: str
    arguments: Mapping[str, Any]

    @classmethod
    def of(cls, model: Model) -> _Origin:
        """From the suite, or from what `save` left beside the weights. Raises StageError."""
        note = Path(model.source) / NOTE
        if note.is_file():
            told = json.loads(note.read_text(encoding="utf-8"))
            files = {name: str(note.parent / place) for name, place in told["files"].items()}
            return cls(note.parent / told["file"], told["function"], {**told["arguments"], **files})
        stem, mark, function = model.source.rpartition(".py:")
        if not mark or not function.isidentifier():
            raise StageError(
                f"the source of {model.name} should be a file and a function, ./file.py:function, "
                f"not {model.source!r}"
            )
        arguments = {name: value for name, value in model.config.items() if name != "sizes"}
        return cls(Path(f"{stem}.py"), function, arguments)


class _Key:
    """A model as a hashable argument: the same for the same model, and the same files."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._key = digest([model, fingerprint(model)])

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._key == other._key


@cache
def _declaration(key: _Key) -> _Made:
    """What the function declares; its module is not kept."""
    made = _made(key.model)
    return replace(made, module=None)


def _made(model: Model) -> _Made:
    """Calls the function. Raises StageError, and whatever the file and the function raise."""
    import torch

    trusted.require(model)
    if model.lora:
        raise StageError(f"{model.name} is a module of your own: attach its LoRA adapters in its function")
    origin = _Origin.of(model)
    function = getattr(trusted.imported(origin.file), origin.function, None)
    if not callable(function):
        raise StageError(f"{origin.file.name} has no function {origin.function!r}")
    torch.manual_seed(model.seed)
    made = function(**origin.arguments)
    try:
        return _understood(made, origin)
    except (KeyError, TypeError, ValueError) as error:
        raise StageError(
            f"{origin.file.name}:{origin.function} should return a mapping with module, inputs and outputs: "
            f"{first_line(error)}"
        ) from error


def _understood(made: Any, origin: _Origin) -> _Made:
    """Raises KeyError, TypeError or ValueError for what is not as the module's docstring says."""
    import torch

    if not isinstance(made, Mapping):
        raise TypeError(f"it returned {type(made).__name__}")
    _declared.known(made, _KEYS, "key")
    absent = [key for key in _KEYS[:3] if key not in made]
    if absent:
        raise ValueError(f"{absent[0]} is missing")
    if not isinstance(made["module"], torch.nn.Module):
        raise TypeError(f"module is {type(made['module']).__name__}, not a torch.nn.Module")
    if made.get("feeds") is not None and not callable(made["feeds"]):
        raise TypeError("feeds is not a function")
    inputs = tuple(_tensor(entry, _INPUT_KEYS) for entry in made["inputs"])
    if not any("batch" in spec.axes for spec in inputs):
        raise ValueError("no input has an axis called batch: call that so along which samples lie")
    return _Made(
        module=made["module"],
        signature=Signature(
            inputs,
            tuple(_tensor(entry, _OUTPUT_KEYS) for entry in made["outputs"]),
        ),
        ranges={
            e["name"]: _declared.interval(e["name"], list(e["range"])) for e in made["inputs"] if "range" in e
        },
        feeds=made.get("feeds"),
        origin=origin,
    )


def _tensor(entry: Any, keys: Sequence[str]) -> TensorSpec:
    if not isinstance(entry, Mapping):
        raise TypeError(f"an input or output should be a mapping with {', '.join(keys)}, not {entry!r}")
    _declared.known(entry, keys, "key")
    name, dtype, axes = str(entry["name"]), str(entry["dtype"]), tuple(entry["axes"])
    if dtype not in _declared.DTYPES:
        raise ValueError(f"{name} has the dtype {dtype!r}; allowed: {', '.join(_declared.DTYPES)}")
    if not all(isinstance(axis, int | str) and not isinstance(axis, bool) for axis in axes):
        raise ValueError(f"{name} has the axes {list(axes)}; an axis is a size or a name")
    mask = entry.get("mask")
    if not isinstance(mask, bool | None) or (mask and len(axes) != 2):
        raise ValueError(
            f"mask of {name} should be True for one with the axes batch and length, not {mask!r}"
        )
    return TensorSpec(name, dtype, axes, mask)


def _checked(spec: TensorSpec, given: Any, shape: Mapping[str, int]) -> Any:
    """An array of the user's own feeds, as it was declared. Raises StageError."""
    import numpy as np

    if not isinstance(given, Mapping) or spec.name not in given:
        raise StageError(f"feeds returned no array for the input {spec.name!r}")
    array = np.asarray(given[spec.name], order="C")
    wanted = tuple(_declared.length(spec, axis, shape) for axis in spec.axes)
    if str(array.dtype) != spec.dtype or array.shape != wanted:
        raise StageError(
            f"feeds returned {spec.name!r} as {array.dtype} of shape {array.shape}, "
            f"and {spec.dtype} of shape {wanted} was declared"
        )
    return array


def _adapter(made: _Made) -> Module:
    """A module whose `forward` returns a tuple, whatever the user's own, its attribute `model`, returns."""
    import torch

    names = [spec.name for spec in made.signature.outputs]

    class Custom(torch.nn.Module):  # type: ignore[misc,name-defined,unused-ignore]  # torch is untyped here
        def __init__(self) -> None:
            super().__init__()
            self.model = made.module
            self.origin = made.origin

        def forward(self, *tensors: Any) -> tuple[Any, ...]:
            result = self.model(*tensors)
            if isinstance(result, torch.Tensor):
                return (result,)
            return tuple(result[name] for name in names) if isinstance(result, Mapping) else tuple(result)

    return Custom().eval()
