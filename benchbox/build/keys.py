"""Content addresses: of what each step of a path makes, and of reference outputs.

A key is made of the case as it was written, and of the bytes of the local files that it names; only where
files are opened are their paths absolute (`case.located_from(folder)`, with the suite's folder).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, wraps
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

from benchbox import plugins
from benchbox.build.cache import hash_file
from benchbox.build.feeds import Shape, dynamic_sizes
from benchbox.errors import StageError, named_line
from benchbox.plugins import hub, sources
from benchbox.plugins.contract import Pass, Plugin
from benchbox.schema import wire
from benchbox.schema.asked import Case, Dataset, Model, Step, digest
from benchbox.schema.seen import Host

P = ParamSpec("P")
T = TypeVar("T")


def _readable(key: Callable[P, T]) -> Callable[P, T]:
    """The function, which raises StageError where the files that a key is made of cannot be read."""

    @wraps(key)
    def read(*args: P.args, **named: P.kwargs) -> T:
        try:
            return key(*args, **named)
        except (OSError, ValueError) as error:
            raise StageError(f"what it is built from cannot be read: {named_line(error)}") from error

    return read


@_readable
def artifact_keys(case: Case, host: Host, folder: Path = Path()) -> tuple[str, ...]:
    """The content address of what each step of the path makes; paths that share a prefix share keys.

    `folder` is that of the suite, here and below. Raises StageError where a file cannot be read.
    """
    keys = [digest([*_export_inputs(case, folder), *_step_inputs("exporters", case.path[0], host)])]
    for step in case.path[1:]:
        chosen = plugins.pass_(step.word)
        data = _calibration_inputs(case, folder) if chosen.CALIBRATES else []
        traits = _traits(case, host, chosen)
        keys.append(digest([keys[-1], *data, *_step_inputs("passes", step, host), *traits]))
    return tuple(keys)


@_readable
def reference_key(case: Case, samples: int, directions: int = 0, folder: Path = Path()) -> str:
    """The content address of the reference outputs for a case's model, inputs and shape, and of its
    derivatives along so many directions of the input."""
    return digest(
        [
            "reference",
            shared_digest("reference"),
            _model_inputs(case.model, folder),
            dict(case.shape),
            case.dynamic_axes,
            samples,
            directions,
            *_dataset_inputs(case.dataset, folder),
        ]
    )


@cache
def shared_digest(maker: Literal["artifacts", "reference"]) -> str:
    """A hash of what all plug-ins build with: the maker's own file beside this one, and what it imports."""
    return sources.digest(Path(__file__).with_name(f"{maker}.py"))


def host_in_key(host: Host, chosen: Pass) -> Host:
    """What the pass is told of the machine: what its key holds, and the CPU, which chooses its options."""
    return Host(**{name: value for name, value in vars(host).items() if name in _told(chosen)})


def shape_in_key(case: Case, chosen: Pass) -> Shape:
    """The sizes that the pass is told: those that are fixed in the graph, all where it depends on them."""
    return dict(case.shape) if "shape" in chosen.DEPENDS_ON else _fixed_sizes(case)


def _told(chosen: Pass) -> tuple[str, ...]:
    return ("cpu_features", *chosen.DEPENDS_ON)


def _traits(case: Case, host: Host, chosen: Pass) -> list[Any]:
    """What the pass says that its artifact depends on; of one that says nothing the key is as it was."""
    known = {**wire.encode(host), "shape": dict(case.shape)}
    return [{trait: known[trait] for trait in chosen.DEPENDS_ON}] if chosen.DEPENDS_ON else []


def _fixed_sizes(case: Case) -> Shape:
    dynamic = dynamic_sizes(case) if case.dynamic_axes else {}
    return {name: size for name, size in case.shape.items() if name not in dynamic}


def _calibration_inputs(case: Case, folder: Path) -> list[Any]:
    """What decides the feeds that calibrate: at another length, activations have other ranges."""
    sizes = {name: size for name, size in case.shape.items() if name != "batch"}
    return [*_dataset_inputs(case.dataset, folder), sizes]


def _export_inputs(case: Case, folder: Path) -> list[Any]:
    sizes = _fixed_sizes(case.located_from(folder))
    return ["artifact", _model_inputs(case.model, folder), sizes, case.opset, case.dynamic_axes]


def _model_inputs(model: Model, folder: Path) -> list[Any]:
    """Everything that decides a module: not its name, but the bytes of a folder, the commit at a hub."""
    here = model.located_from(folder)
    family = plugins.family_of(here)
    return [
        replace(model, name=""),
        family.fingerprint(here),
        *(_folder_digest(Path(source)) for source in (here.source, *(a.source for a in here.lora))),
        *(_digest_at(Path(value)) for value in here.config.values() if isinstance(value, str)),
        *(hub.commit(source) for source, _ in of_hub(here)),
        plugins.family_digest(here),
        plugins.versions((*family.REQUIRES, *plugins.required_by(model))),
    ]


def of_hub(model: Model) -> Iterator[tuple[str, str]]:
    """What of a model, its paths absolute, may lie at a hub, and a file that each of them has; a preset with
    random weights asks none."""
    if model.weights == "pretrained" or model.source not in plugins.family_of(model).PRESETS:
        yield model.source, hub.CONFIG
    for adapter in model.lora:
        yield adapter.source, hub.ADAPTER


def _dataset_inputs(dataset: Dataset, folder: Path) -> list[Any]:
    plugin = plugins.dataset(dataset.word)
    content = plugin.fingerprint(plugins.options(plugin, dataset.located_from(folder).options))
    return [dataset, content, plugins.source_digest("datasets", dataset.word)]


def _digest_at(place: Path) -> str:
    """Of the file or folder that a value of `config` names; empty where it names none."""
    try:
        if place.is_absolute() and place.is_file():
            return _file_digest(place, place.stat().st_mtime_ns)
        return _folder_digest(place)
    except (OSError, ValueError):  # text that happens to begin with a slash, and is too long for a path
        return ""


def _folder_digest(source: Path) -> str:
    if not (source.is_absolute() and source.is_dir()):
        return ""
    files = sorted(f for f in source.rglob("*") if f.is_file())
    return digest([[str(f.relative_to(source)), _file_digest(f, f.stat().st_mtime_ns)] for f in files])


@cache
def _file_digest(file: Path, _modified_ns: int) -> str:
    """The file's hash, computed once for each time it was written: a key is asked for by every case."""
    return hash_file(file)


def _step_inputs(kind: plugins.Kind, step: Step, host: Host) -> list[Any]:
    plugin = plugins.load(kind, step.word)
    options = resolved(plugin, step, host)
    return [
        shared_digest("artifacts"),
        step.word,
        options or {},
        plugins.versions(plugin.REQUIRES),
        plugins.source_digest(kind, step.word),
    ]


def resolved(plugin: Plugin, step: Step, host: Host) -> Any:
    """The options of a step as they count: of a pass with what depends on the machine filled in."""
    given = plugins.options(plugin, step.options)
    return plugin.resolve(given, host) if isinstance(plugin, Pass) else given
