"""Case.path -> Artifact, and model + inputs -> Reference, through the cache.

The first half runs anywhere and knows only keys. The second half runs in a builder process (torch lives
there): exporters, passes, and the reference outputs that every worker compares against.

A reference is an entry with `timing.npz` (the feeds that are timed) and `parity-<i>.npz` (feeds as
`in:<name>`, fp32 PyTorch outputs as `out:<name>`, what they were rolled out to as `roll:<name>`, `labels`
where there are any); its content says the shapes and the noise floor.

A key is made of the case as it was written, and of the bytes of the local files that it names; only where
files are opened are their paths absolute (`case.at(folder)`, with the suite's folder).
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial, wraps
from itertools import islice
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from benchbox.numerics import arrays, gradient
from benchbox.plugins import hub
from benchbox import plugins
from benchbox.build.cache import Cache, Entry, hash_file
from benchbox.plugins.contract import (
    ExportJob,
    Feeds,
    Host,
    Module,
    Outputs,
    PassJob,
    Run,
    Sample,
    Split,
    TensorSpec,
    length,
)
from benchbox.errors import StageError, named_line
from benchbox.machine.child import Handler, Message
from benchbox.schema import Artifact, Case, Dataset, Model, Step, digest

P = ParamSpec("P")
T = TypeVar("T")
Shape = Mapping[str, int]

# The batch that is traced, and the one that proves the axis dynamic. 1 is no choice for either: the
# TorchScript exporter may fold an axis of length 1 into the graph.
EXAMPLE_BATCH = 2
UNSEEN_BATCH = 3

# What an image processor of transformers makes.
_PIXELS = "pixel_values"


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
        data = _calibration_inputs(case, folder) if _calibrates(step) else []
        keys.append(digest([keys[-1], *data, *_step_inputs("passes", step, host)]))
    return tuple(keys)


@_readable
def reference_key(case: Case, samples: int, directions: int = 0, folder: Path = Path()) -> str:
    """The content address of the reference outputs for a case's model, inputs and shape, and of its
    derivatives along so many directions of the input."""
    return digest(
        [
            "reference",
            plugins.shared_digest(),
            _model_inputs(case.model, folder),
            dict(case.shape),
            case.dynamic_axes,
            samples,
            directions,
            *_dataset_inputs(case.dataset, folder),
        ]
    )


def artifact_of(entry: Entry) -> Artifact:
    """The artifact that a cache entry holds."""
    content = entry.content
    return Artifact(
        key=entry.key,
        kind=content["kind"],
        precision=content["precision"],
        steps=tuple(Step(**step) for step in content["steps"]),
        files=entry.files,
        size_bytes=entry.size_bytes,
        sha256=entry.sha256,
        build_seconds=content["build_seconds_before"] + entry.build_seconds,
        facts=content["facts"],
        packages=content["packages"],
    )


def parity_shapes(case: Case, samples: int) -> tuple[Shape, ...]:
    """Shapes whose batches sum up to at least `samples`: the case's own, and others that no exporter saw.

    The others are a batch of 1 with every other dynamic size at three quarters of the case's, and a batch of
    3 with them at half. With fixed axes there is only the case's own.
    """
    own = dict(case.shape)
    shapes = [own]
    if case.dynamic_axes:
        dynamic = [size for size in _dynamic(case) if size != "batch"]
        for batch, quarters in ((UNSEEN_BATCH, 2), (1, 3)):
            if batch != own["batch"]:
                others = {size: max(1, -(-own[size] * quarters // 4)) for size in dynamic}
                shapes.append({**own, **others, "batch": batch})
    shapes.sort(key=lambda shape: shape["batch"], reverse=True)
    taken: list[Shape] = []
    while sum(shape["batch"] for shape in taken) < samples:
        taken += shapes
    return tuple(taken)


def handlers() -> Mapping[str, Handler]:
    """What a builder process answers: `reference` and `artifact`."""
    return {"reference": _serve_reference, "artifact": _serve_artifact}


def build_artifact(case: Case, store: Cache, host: Host, folder: Path = Path()) -> Entry:
    """The entry of the last step, made from the longest prefix of the path that is there."""
    keys = artifact_keys(case, host, folder)
    here = case.at(folder)
    for index in range(len(keys) - 1, -1, -1):
        entry = store.find(keys[index])
        if entry is not None:
            break
    else:
        index = 0
        entry = store.make(keys[0], partial(_export, here, case.path[0]))
    for at, key in enumerate(keys[index + 1 :], index + 1):
        entry = store.make(key, partial(_apply, here, at, case.path[at], _Source(entry, host)))
    return entry


def build_reference(
    case: Case, samples: int, store: Cache, directions: int = 0, folder: Path = Path()
) -> Entry:
    """The entry with feeds and fp32 PyTorch outputs, and derivatives where they are asked for."""
    key = reference_key(case, samples, directions, folder)
    return store.make(key, partial(_reference, case.at(folder), samples, directions))


@dataclass(frozen=True)
class _Source:
    entry: Entry
    host: Host


def _serve_artifact(message: Message) -> Mapping[str, Any]:
    host = Host(frozenset(message["cpu_features"]))
    with _scratch():
        case, folder = Case.of(message["case"]), Path(message["folder"])
        _fetch(case.model)
        entry = build_artifact(case, Cache(Path(message["cache"])), host, folder)
    return {"key": entry.key}


def _serve_reference(message: Message) -> Mapping[str, Any]:
    case = Case.of(message["case"])
    store = Cache(Path(message["cache"]))
    with _scratch():
        folder = Path(message["folder"])
        _fetch(case.model)
        entry = build_reference(case, message["samples"], store, message["directions"], folder)
    return {"key": entry.key}


@contextlib.contextmanager
def _scratch() -> Iterator[None]:
    """Works in a folder that goes: quantization leaves files in the current one."""
    with tempfile.TemporaryDirectory(prefix="benchbox-") as folder, contextlib.chdir(folder):
        yield


def _export(case: Case, written: Step, folder: Path) -> Mapping[str, Any]:
    step = case.path[0]
    exporter = plugins.load("exporters", step.word)
    family = plugins.load("models", case.model.family)
    traced, unseen = _traced(case)
    job = ExportJob(
        model=case.model,
        family=family,
        module=_module(case.model.family, _Frozen(case.model)),
        signature=family.signature(case.model, case.shape),
        example=next(_stream(case, "timing", [traced])).feeds,
        unseen=next(_stream(case, "timing", [unseen])).feeds,
        opset=case.opset,
        dynamic_axes=case.dynamic_axes,
        options=plugins.options(exporter, step.options),
    )
    facts = exporter.export(job, folder)
    commits = {source: found for source, _ in _of_hub(case.model) if (found := hub.commit(source))}
    return {
        "kind": exporter.PRODUCES,
        "steps": [asdict(written)],
        "precision": facts.get("precision", "fp32"),
        "facts": {**facts, **({"commits": commits} if commits else {})},
        "packages": plugins.versions((*exporter.REQUIRES, *family.REQUIRES)),
        "build_seconds_before": 0.0,
    }


def _apply(case: Case, at: int, written: Step, source: _Source, folder: Path) -> Mapping[str, Any]:
    step = case.path[at]
    apply = plugins.load("passes", step.word)
    entry = source.entry
    before = artifact_of(entry)
    job = PassJob(
        artifact=before,
        source=entry.folder,
        options=_resolved(apply, step, source.host),
        host=source.host,
        calibration=partial(_calibration, case) if _calibrates(step) else _no_calibration,
    )
    facts = apply.apply(job, folder)
    return {
        "kind": apply.PRODUCES,
        "steps": [asdict(s) for s in (*before.steps, written)],
        "precision": apply.PRECISION or before.precision,
        "facts": {**before.facts, **facts},
        "packages": {**before.packages, **plugins.versions(apply.REQUIRES)},
        "build_seconds_before": before.build_seconds,
    }


def _reference(case: Case, samples: int, directions: int, folder: Path) -> Mapping[str, Any]:
    import numpy as np

    module = _module(case.model.family, _Frozen(case.model))
    family = plugins.load("models", case.model.family)
    names = [spec.name for spec in family.signature(case.model, case.shape).outputs]
    np.savez(folder / "timing.npz", **arrays.prefixed("", next(_stream(case, "timing", [case.shape])).feeds))
    shapes = parity_shapes(case, samples)
    noise_floor = 0.0
    for index, batch in enumerate(_stream(case, "parity", shapes)):
        outputs, noise = _run_twice(module, names, batch.feeds)
        noise_floor = max(noise_floor, noise)
        np.savez(
            folder / f"parity-{index}.npz",
            **arrays.prefixed("in:", batch.feeds),
            **arrays.prefixed("out:", outputs),
            **arrays.prefixed("roll:", _rolled(case, partial(_run, module, names), batch.feeds)),
            **({} if batch.labels is None else {"labels": batch.labels}),
        )
    if directions:
        first = next(_stream(case, "parity", [case.shape])).feeds
        _probe(case, module, names, first, directions).save(folder / gradient.GRADIENT)
    return {
        "noise_floor": noise_floor,
        "shapes": [dict(shape) for shape in shapes],
        "samples": sum(shape["batch"] for shape in shapes),
        "notes": _notes(case),
    }


def _probe(case: Case, module: Module, names: Sequence[str], feeds: Feeds, directions: int) -> gradient.Probe:
    """Derivatives by autograd, and the step at which central differences see them best.

    Raises StageError for a model that has no continuous input.
    """
    if not gradient.continuous(feeds):
        raise StageError("gradient_directions: this model has no continuous input to differentiate by")
    run = partial(_run, module, names)
    along = gradient.directions(feeds, directions, case.model.seed)
    weights = gradient.cotangents(run(feeds), case.model.seed)
    return gradient.Probe(
        feeds=feeds,
        directions=along,
        cotangents=weights,
        derivatives=_derivatives(module, names, feeds, along, weights),
        step=gradient.choose_step(run, feeds, along, weights),
    )


def _derivatives(
    module: Module, names: Sequence[str], feeds: Feeds, along: Sequence[gradient.Direction], weights: Outputs
) -> list[float]:
    """<grad of <w, f>, v> for each direction v, by torch's autograd, summed in float64."""
    import torch

    inputs = {name: torch.from_numpy(array) for name, array in feeds.items()}
    by = [inputs[name].requires_grad_() for name in gradient.continuous(feeds)]
    outputs = dict(zip(names, module(*inputs.values()), strict=True))
    weighed = sum((outputs[name] * torch.from_numpy(w)).sum() for name, w in weights.items())
    slopes = torch.autograd.grad(weighed, by, allow_unused=True)
    named = zip(gradient.continuous(feeds), slopes, strict=True)
    found = {name: slope.double().numpy() for name, slope in named if slope is not None}
    return [sum(float((found[n] * v[n]).sum()) for n in found) for v in along]


def _rolled(case: Case, run: Run, feeds: Feeds) -> Outputs:
    """What comes of several runs, for a family whose task is judged by that, where axes are dynamic."""
    rollout = getattr(plugins.load("models", case.model.family), "rollout", None)
    if rollout is None or not case.dynamic_axes:
        return {}
    rolled: Outputs = rollout(case.model, run, feeds)
    return rolled


def _run_twice(module: Module, names: Sequence[str], feeds: Feeds) -> tuple[Outputs, float]:
    """The outputs, and how far they move when another number of threads computes them."""
    import numpy as np
    import torch

    usual = torch.get_num_threads()
    outputs = _run(module, names, feeds)
    torch.set_num_threads(1 if usual > 1 else 2)
    other = _run(module, names, feeds)
    torch.set_num_threads(usual)
    for name, array in outputs.items():
        if not np.isfinite(array).all():
            raise StageError(f"the PyTorch reference itself gives values that are not finite in {name!r}")
    return outputs, max(_difference(outputs[name], other[name]) for name in names)


def _difference(array: Any, other: Any) -> float:
    """The largest one; of booleans and unsigned integers too, which cannot be subtracted as they are."""
    import numpy as np

    return float(np.abs(array.astype(np.float64) - other.astype(np.float64)).max(initial=0.0))


def _run(module: Module, names: Sequence[str], feeds: Feeds) -> Outputs:
    import torch

    with torch.inference_mode():
        results = module(*(torch.from_numpy(array) for array in feeds.values()))
    if len(results) != len(names):
        declared = f"{len(names)} are declared: {', '.join(names)}"
        raise StageError(f"the module returns {len(results)} outputs, and {declared}")
    return {name: tensor.numpy() for name, tensor in zip(names, results, strict=True)}


def _calibrates(step: Step) -> bool:
    return bool(getattr(plugins.load("passes", step.word), "CALIBRATES", False))


def _calibration_inputs(case: Case, folder: Path) -> list[Any]:
    """What decides the feeds that calibrate: at another length, activations have other ranges."""
    sizes = {name: size for name, size in case.shape.items() if name != "batch"}
    return [*_dataset_inputs(case.dataset, folder), sizes]


def _no_calibration(**_asked: int) -> Iterator[Feeds]:
    raise StageError("this pass does not say CALIBRATES = True: what it calibrates with would be in no key")


def _calibration(case: Case, *, samples: int, batch: int = 1) -> Iterator[Feeds]:
    """Feeds of `batch` samples each, made one at a time, from images that parity never sees.

    A graph with fixed axes takes batches of its own size alone; of samples there are then as many more.
    """
    if case.dynamic_axes:
        full, rest = divmod(samples, batch)
        batches = [batch] * full + [rest] * bool(rest)
    else:
        batches = [case.shape["batch"]] * -(-samples // case.shape["batch"])
    shapes = [{**case.shape, "batch": size} for size in batches]
    return (stored.feeds for stored in _stream(case, "calibration", shapes))


@dataclass(frozen=True)
class _Batch:
    feeds: Feeds
    labels: Any


def _stream(case: Case, split: Split, shapes: Sequence[Shape]) -> Iterator[_Batch]:
    """A batch of each shape, made one at a time."""
    dataset = plugins.load("datasets", case.dataset.word)
    options = plugins.options(dataset, case.dataset.options)
    count = sum(shape["batch"] for shape in shapes)
    samples = dataset.samples(options, count=count, split=split, seed=case.model.seed)
    ids = _label_ids(case, _classes(case)) if split == "parity" else {}  # elsewhere nobody reads labels
    for shape in shapes:
        taken = list(islice(samples, shape["batch"]))
        yield _Batch(_feeds(case, taken, shape), _labels(taken, ids))


def _feeds(case: Case, samples: Sequence[Sample], shape: Shape) -> Feeds:
    family = plugins.load("models", case.model.family)
    feeds: Feeds = family.feeds(case.model, samples, shape)
    derive = getattr(family, "derive", None)
    if derive is not None:
        feeds = derive(case.model, _module(case.model.family, _Frozen(case.model)), feeds, shape)
    for spec in family.signature(case.model, shape).inputs:
        _require_shape(case.model, spec, feeds[spec.name].shape, shape)
    return feeds


def _require_shape(model: Model, spec: TensorSpec, seen: Sequence[int], shape: Shape) -> None:
    """Raises StageError where an input is not of the size that the suite asks for and the report will say."""
    wanted = tuple(length(axis, shape) for axis in spec.axes)
    if len(wanted) == len(seen) and all(w in (s, None) for w, s in zip(wanted, seen, strict=True)):
        return
    takes = [axis if size is None else size for axis, size in zip(spec.axes, wanted, strict=True)]
    reason = ""
    if model.weights == "pretrained" and spec.name == _PIXELS:
        reason = (
            ": so makes it the model's own image processor. Mend size or do_resize in the "
            f"{hub.PROCESSOR} of {model.source}, or change what is under inputs"
        )
    raise StageError(
        f"the input {spec.name} is {' x '.join(map(str, seen))}, "
        f"and {model.family} takes {' x '.join(map(str, takes))}{reason}"
    )


def _classes(case: Case) -> tuple[str, ...]:
    """The names of the dataset's classes, where it has some that the family could know."""
    dataset = plugins.load("datasets", case.dataset.word)
    classes: Callable[[Any], tuple[str, ...]] | None = getattr(dataset, "classes", None)
    family = plugins.load("models", case.model.family)
    if classes is None or not hasattr(family, "label_ids"):
        return ()
    return classes(plugins.options(dataset, case.dataset.options))


def _label_ids(case: Case, names: tuple[str, ...]) -> Mapping[str, int]:
    """The model's index of each of the dataset's classes; empty where one of them is unknown."""
    if not names:
        return {}
    ids: Mapping[str, int] = plugins.load("models", case.model.family).label_ids(case.model, names)
    return ids


def _notes(case: Case) -> list[str]:
    """Why there is no accuracy, where the dataset has classes."""
    names = _classes(case)
    if not names or _label_ids(case, names):
        return []
    shown = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
    return [f"no accuracy: the classes of {case.dataset.word} ({shown}) are not the labels of the model"]


def _labels(samples: Sequence[Sample], ids: Mapping[str, int]) -> Any:
    """Class indices of shape (batch,), or None where a sample has none; `ids` are those of the names."""
    import numpy as np

    labels = [ids.get(s.label_name or "") if s.label is None else s.label for s in samples]
    return None if None in labels else np.asarray(labels, dtype=np.int64)


def _dynamic(case: Case) -> Mapping[str, tuple[int, int]]:
    """The sizes that are dynamic axes: what is traced, and what proves the axis."""
    family = plugins.load("models", case.model.family)
    known: Mapping[str, tuple[int, int]] = getattr(family, "DYNAMIC", {})
    sizes: Callable[[Model], Mapping[str, tuple[int, int]]] | None = getattr(family, "sizes", None)
    declared = {**known, **(sizes(case.model) if sizes else {})}
    moving = {size: pair for size, pair in declared.items() if size in case.shape and pair[0] != pair[1]}
    return {"batch": (EXAMPLE_BATCH, UNSEEN_BATCH), **moving}


def _traced(case: Case) -> tuple[Shape, Shape]:
    """The shape that an exporter traces, and the one that proves the axes."""
    if not case.dynamic_axes:
        return case.shape, case.shape
    sizes = _dynamic(case).items()
    traced = {**case.shape, **{name: seen for name, (seen, _) in sizes}}
    return traced, {**traced, **{name: unseen for name, (_, unseen) in sizes}}


class _Frozen:
    """A model as a hashable argument, so that one module is kept for the cases that share it."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._key = digest(model)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Frozen) and self._key == other._key


@cache
def _module(family: str, frozen: _Frozen) -> Module:
    return plugins.load("models", family).load(frozen.model)


def _export_inputs(case: Case, folder: Path) -> list[Any]:
    dynamic = _dynamic(case.at(folder)) if case.dynamic_axes else {}
    sizes = {name: size for name, size in case.shape.items() if name not in dynamic}
    return ["artifact", _model_inputs(case.model, folder), sizes, case.opset, case.dynamic_axes]


def _model_inputs(model: Model, folder: Path) -> list[Any]:
    """Everything that decides a module: not its name, but the bytes of a folder, the commit at a hub."""
    here = model.at(folder)
    family = plugins.load("models", model.family)
    fingerprint: Callable[[Model], str] | None = getattr(family, "fingerprint", None)
    return [
        replace(model, name=""),
        fingerprint(here) if fingerprint else "",
        *(_folder_digest(Path(source)) for source in (here.source, *(a.source for a in here.lora))),
        *(_digest_at(Path(value)) for value in here.config.values() if isinstance(value, str)),
        *(hub.commit(source) for source, _ in _of_hub(model)),
        plugins.source_digest("models", model.family),
        plugins.versions((*family.REQUIRES, *plugins.required_by(model))),
    ]


def _of_hub(model: Model) -> Iterator[tuple[str, str]]:
    """What of a model may lie at a hub, and a file that each of them has; a preset with random weights asks
    none."""
    presets = getattr(plugins.load("models", model.family), "PRESETS", {})
    if model.weights == "pretrained" or model.source not in presets:
        yield model.source, hub.CONFIG
    for adapter in model.lora:
        yield adapter.source, hub.ADAPTER


def _fetch(model: Model) -> None:
    """What is at a hub and not on this machine yet becomes that of one commit, before there is a key."""
    for source, file in _of_hub(model):
        if model.weights == "pretrained" or file == hub.ADAPTER:
            hub.fetch(source, file)


def _dataset_inputs(dataset: Dataset, folder: Path) -> list[Any]:
    plugin = plugins.load("datasets", dataset.word)
    fingerprint: Callable[[Any], str] | None = getattr(plugin, "fingerprint", None)
    content = fingerprint(plugins.options(plugin, dataset.at(folder).options)) if fingerprint else ""
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
    options = _resolved(plugin, step, host)
    return [
        plugins.shared_digest(),
        step.word,
        options or {},
        plugins.versions(plugin.REQUIRES),
        plugins.source_digest(kind, step.word),
    ]


def _resolved(plugin: Any, step: Step, host: Host) -> Any:
    given = plugins.options(plugin, step.options)
    resolve: Callable[[Any, Host], Any] | None = getattr(plugin, "resolve", None)
    return resolve(given, host) if resolve else given
