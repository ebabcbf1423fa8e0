"""What the config of an architecture may say: read from the source of transformers, which is not imported.

A config of transformers takes any key, and keeps what it does not know as an attribute that nobody reads: a
slip of the hand would measure another model. Importing transformers takes two seconds, and a suite is checked
in a tenth of one; its configs are dataclasses, whose fields stand in their source.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

_ROOT = "PreTrainedConfig"
# What PreTrainedConfig takes beside its fields: properties with a setter, and what it reads as it is made.
_METHODS_THAT_TAKE = ("__post_init__", "__init__")

# The names by which architectures call the width of a layer, and how many heads share it, where no other
# field says how wide a head is.
_HEADS = (
    ("hidden_size", "num_attention_heads"),
    ("d_model", "encoder_attention_heads"),
    ("d_model", "decoder_attention_heads"),
    ("n_embd", "n_head"),
    ("embed_dim", "num_heads"),
    ("hidden_sizes", "num_attention_heads"),
)
_HEAD_WIDTHS = ("head_dim", "d_kv", "attention_head_size", "kv_channels")


@dataclass(frozen=True)
class ConfigFields:
    """Every key that a config takes, and those of its parts by name; None for a part that may be anything.

    `defaults` are those that stand in the source as they are; `aliases` are other names of fields.
    """

    names: frozenset[str]
    parts: Mapping[str, ConfigFields | None]
    defaults: Mapping[str, Any]
    aliases: Mapping[str, str]

    def filled(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The config with its defaults, every field under its own name, and so those of its parts."""
        own = {self.aliases.get(name, name): value for name, value in config.items()}
        whole = {**self.defaults, **own}
        for name, part in self.parts.items():
            given = own.get(name)
            if part is not None and (given is None or isinstance(given, Mapping)):
                whole[name] = part.filled(given or {})
        return whole


@cache
def config_fields(config_class: str) -> ConfigFields | None:
    """The fields of a config class of transformers; None where transformers, or such a class, is missing."""
    found = _class_of(config_class)
    if found is None:
        return None
    names: set[str] = set()
    parts: dict[str, ConfigFields | None] = {}
    defaults: dict[str, Any] = {}
    aliases: dict[str, str] = {}
    for body in _with_bases(found):
        names |= _taken(body)
        defaults = {**_defaults(body), **defaults}
        aliases = {**_literal(body, "attribute_map"), **aliases}
        for name, part in _parts(body):
            parts.setdefault(name, None if part.startswith("Auto") else config_fields(part))
    names |= {*aliases, *parts}
    return ConfigFields(frozenset(names), parts, defaults, aliases)


def unknown_keys(
    config: Mapping[str, Any], fields: ConfigFields, preset: Mapping[str, Any], *before: str
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """The place of each key that the architecture does not know, and what it knows there.

    A part that may be of any architecture (a backbone) is of the one that its `model_type` names, in the
    config or in the preset that it overrides; where neither says it, nobody knows what it takes.
    """
    for key, value in config.items():
        if key not in fields.names:
            yield (*before, key), tuple(sorted(fields.names))
        if isinstance(value, Mapping) and key in fields.parts:
            beneath = preset.get(key) or {}
            part = fields.parts[key] or _fields_of_type(value.get("model_type") or beneath.get("model_type"))
            if part is not None:
                yield from unknown_keys(value, part, beneath, *before, key)


def overridden(preset: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The preset with overrides; those of a part (`vision_config`) leave the rest of that part as it is, as
    transformers does with a config that it loads."""
    merged = {**preset}
    for name, value in config.items():
        part = preset.get(name)
        nested = isinstance(part, Mapping) and isinstance(value, Mapping)
        merged[name] = overridden(part or {}, value) if nested else value
    return merged


def head_conflicts(config: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each width that its heads cannot share: the model would be built narrower than it says.

    `config` is that of the finished architecture, defaults filled in; parts are looked at too.
    """
    if not any(config.get(width) for width in _HEAD_WIDTHS):
        for width, heads in _HEADS:
            for size, count in _paired(config.get(width), config.get(heads)):
                if size % count:
                    yield f"{heads}: {count} heads cannot share {width}: {size}, which is no multiple of it"
    for name, part in config.items():
        if isinstance(part, Mapping):
            yield from (f"{name}: {said}" for said in head_conflicts(part))


def _paired(sizes: Any, counts: Any) -> Iterator[tuple[int, int]]:
    """A size with its count; of lists, one for each stage."""
    if isinstance(sizes, int) and isinstance(counts, int):
        sizes, counts = [sizes], [counts]
    if isinstance(sizes, Sequence) and isinstance(counts, Sequence) and len(sizes) == len(counts):
        both = zip(sizes, counts, strict=True)
        yield from ((s, c) for s, c in both if isinstance(s, int) and isinstance(c, int) and c > 0)


def _fields_of_type(model_type: Any) -> ConfigFields | None:
    """Of the config class that says `model_type = "resnet"`, in the folder of that name."""
    home = _home()
    if home is None or not isinstance(model_type, str) or not model_type.isidentifier():
        return None
    file = home / "models" / model_type / f"configuration_{model_type}.py"
    for node in _parsed(file).body if file.is_file() else ():
        if isinstance(node, ast.ClassDef):
            said = _assigned(node, "model_type")
            if isinstance(said, ast.Constant) and said.value == model_type:
                return config_fields(node.name)
    return None


@cache
def _home() -> Path | None:
    spec = importlib.util.find_spec("transformers")
    return Path(spec.origin).parent if spec is not None and spec.origin else None


@cache
def _class_of(name: str) -> ast.ClassDef | None:
    for file in _files_with(name):
        for node in _parsed(file).body:
            if isinstance(node, ast.ClassDef) and node.name == name:
                return node
    return None


@cache
def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _files_with(name: str) -> Iterator[Path]:
    home = _home()
    if home is None:
        return
    if name == _ROOT:
        yield home / "configuration_utils.py"
        return
    word = name.removesuffix("Config").lower()
    usual = home / "models" / word / f"configuration_{word}.py"  # ViTConfig: models/vit/configuration_vit.py
    others = (home / "models").glob("*/configuration_*.py")
    for file in chain([usual], others):
        if file.is_file() and f"class {name}(".encode() in file.read_bytes():
            yield file


def _with_bases(node: ast.ClassDef) -> Iterator[ast.ClassDef]:
    yield node
    for base in node.bases:
        found = _class_of(base.id) if isinstance(base, ast.Name) else None
        if found is not None:
            yield from _with_bases(found)


def _taken(body: ast.ClassDef) -> set[str]:
    """Fields, aliases, properties that can be set, and what is taken out of `kwargs`."""
    names: set[str] = set()
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            if "ClassVar" not in ast.unparse(node.annotation):
                names.add(node.target.id)
        elif isinstance(node, ast.FunctionDef):
            if any(ast.unparse(mark).endswith(".setter") for mark in node.decorator_list):
                names.add(node.name)
            if node.name in _METHODS_THAT_TAKE:
                names |= _out_of_kwargs(node)
    return {name for name in names if not name.startswith("_")}


def _defaults(body: ast.ClassDef) -> dict[str, Any]:
    found = {}
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            with contextlib.suppress(ValueError):  # a default that is made when the config is
                found[node.target.id] = ast.literal_eval(node.value)
    return found


def _out_of_kwargs(function: ast.FunctionDef) -> set[str]:
    return {
        call.args[0].value
        for call in ast.walk(function)
        if isinstance(call, ast.Call)
        and ast.unparse(call.func) in ("kwargs.pop", "kwargs.setdefault")
        and call.args
        and isinstance(call.args[0], ast.Constant)
        and isinstance(call.args[0].value, str)
    }


def _parts(body: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """The config classes of a config's parts by field."""
    for name in ("sub_configs", "sub_configs_defaults"):
        value = _assigned(body, name)
        if isinstance(value, ast.Dict):
            for key, part in zip(value.keys, value.values, strict=True):
                if isinstance(key, ast.Constant):
                    yield str(key.value), ast.unparse(part)


def _literal(body: ast.ClassDef, name: str) -> Mapping[str, Any]:
    value = _assigned(body, name)
    return ast.literal_eval(value) if isinstance(value, ast.Dict) else {}


def _assigned(body: ast.ClassDef, name: str) -> ast.expr | None:
    for node in body.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return node.value
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == name:
            return node.value
    return None
