"""Case.path -> Artifact, and model + inputs -> Reference, through the cache.

The first half runs anywhere and knows only keys. The second half runs in a builder process (torch lives
there): exporters, passes, and the reference outputs that every worker compares against.

A reference is an entry with `timing.npz` (the feeds that are timed) and `parity-<i>.npz` (feeds as
`in:<name>`, fp32 PyTorch outputs as `out:<name>`); its content says the shapes and the noise floor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

from benchbox import plugins
from benchbox.cache import Cache, Entry, hash_file
from benchbox.contract import ExportJob, Feeds, Host, Module, Outputs, PassJob, Split
from benchbox.errors import StageError
from benchbox.process import Handler, Message
from benchbox.schema import Artifact, Case, Dataset, Model, Step, digest

# The batch that is traced, and the one that proves the axis dynamic. 1 is no choice for either: the
# TorchScript exporter may fold an axis of length 1 into the graph.
EXAMPLE_BATCH = 2
UNSEEN_BATCH = 3


def artifact_keys(case: Case, host: Host) -> tuple[str, ...]:
    """The content address of what each step of the path makes; paths that share a prefix share keys."""
    keys = [digest([*_export_inputs(case), *_step_inputs("exporters", case.path[0], host)])]
    for step in case.path[1:]:
        keys.append(digest([keys[-1], *_dataset_inputs(case.dataset), *_step_inputs("passes", step, host)]))
    return tuple(keys)


def reference_key(case: Case, samples: int) -> str:
    """The content address of the reference outputs for a case's model, inputs and shape."""
    return digest(
        [
            "reference",
            _model_inputs(case.model),
            dict(case.shape),
            case.dynamic_axes,
            samples,
            *_dataset_inputs(case.dataset),
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


def parity_batches(case: Case, samples: int) -> tuple[int, ...]:
    """Batch sizes whose sum is at least `samples`: the case's own, 1 and one that no exporter saw.

    With fixed axes there is only the case's own.
    """
    own = case.shape["batch"]
    sizes = sorted({own, 1, UNSEEN_BATCH}, reverse=True) if case.dynamic_axes else [own]
    batches: list[int] = []
    while sum(batches) < samples:
        batches += sizes
    return tuple(batches)


def handlers() -> Mapping[str, Handler]:
    """What a builder process answers: `reference` and `artifact`."""
    return {"reference": _serve_reference, "artifact": _serve_artifact}


def build_artifact(case: Case, store: Cache, host: Host) -> Entry:
    """The entry of the last step, made from the longest prefix of the path that is there."""
    keys = artifact_keys(case, host)
    for index in range(len(keys) - 1, -1, -1):
        entry = store.find(keys[index])
        if entry is not None:
            break
    else:
        index = 0
        entry = store.make(keys[0], partial(_export, case))
    for step, key in zip(case.path[index + 1 :], keys[index + 1 :], strict=True):
        entry = store.make(key, partial(_apply, case, step, _Source(entry, host)))
    return entry


def build_reference(case: Case, samples: int, store: Cache) -> Entry:
    """The entry with feeds and fp32 PyTorch outputs."""
    return store.make(reference_key(case, samples), partial(_reference, case, samples))


@dataclass(frozen=True)
class _Source:
    entry: Entry
    host: Host


def _serve_artifact(message: Message) -> Mapping[str, Any]:
    host = Host(frozenset(message["cpu_features"]))
    entry = build_artifact(Case.of(message["case"]), Cache(Path(message["cache"])), host)
    return {"key": entry.key}


def _serve_reference(message: Message) -> Mapping[str, Any]:
    case = Case.of(message["case"])
    entry = build_reference(case, message["samples"], Cache(Path(message["cache"])))
    return {"key": entry.key}


def _export(case: Case, folder: Path) -> Mapping[str, Any]:
    step = case.path[0]
    exporter = plugins.load("exporters", step.word)
    family = plugins.load("models", case.model.family)
    traced = EXAMPLE_BATCH if case.dynamic_axes else case.shape["batch"]
    unseen = UNSEEN_BATCH if case.dynamic_axes else traced
    job = ExportJob(
        model=case.model,
        family=family,
        module=_module(case.model.family, _Frozen(case.model)),
        signature=family.signature(case.model, case.shape),
        example=next(_stream(case, "timing", [traced])),
        unseen=next(_stream(case, "timing", [unseen])),
        opset=case.opset,
        dynamic_axes=case.dynamic_axes,
        options=plugins.options(exporter, step.options),
    )
    facts = exporter.export(job, folder)
    return {
        "kind": exporter.PRODUCES,
        "steps": [asdict(step)],
        "precision": "fp32",
        "facts": dict(facts),
        "packages": plugins.versions((*exporter.REQUIRES, *family.REQUIRES)),
        "build_seconds_before": 0.0,
    }


def _apply(case: Case, step: Step, source: _Source, folder: Path) -> Mapping[str, Any]:
    apply = plugins.load("passes", step.word)
    entry = source.entry
    before = artifact_of(entry)
    job = PassJob(
        artifact=before,
        source=entry.folder,
        options=_resolved(apply, step, source.host),
        host=source.host,
        calibration=partial(_calibration, case),
    )
    facts = apply.apply(job, folder)
    return {
        "kind": apply.PRODUCES,
        "steps": [asdict(s) for s in (*before.steps, step)],
        "precision": apply.PRECISION or before.precision,
        "facts": {**before.facts, **facts},
        "packages": {**before.packages, **plugins.versions(apply.REQUIRES)},
        "build_seconds_before": before.build_seconds,
    }


def _reference(case: Case, samples: int, folder: Path) -> Mapping[str, Any]:
    import numpy as np

    module = _module(case.model.family, _Frozen(case.model))
    family = plugins.load("models", case.model.family)
    names = [spec.name for spec in family.signature(case.model, case.shape).outputs]
    np.savez(folder / "timing.npz", **_prefixed("", next(_stream(case, "timing", [case.shape["batch"]]))))
    batches = parity_batches(case, samples)
    noise_floor = 0.0
    for index, feeds in enumerate(_stream(case, "parity", batches)):
        outputs, noise = _run_twice(module, names, feeds)
        noise_floor = max(noise_floor, noise)
        np.savez(folder / f"parity-{index}.npz", **_prefixed("in:", feeds), **_prefixed("out:", outputs))
    shapes = [{**case.shape, "batch": batch} for batch in batches]
    return {"noise_floor": noise_floor, "shapes": shapes, "samples": sum(batches)}


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
    return outputs, max(float(np.abs(outputs[name] - other[name]).max()) for name in names)


def _run(module: Module, names: Sequence[str], feeds: Feeds) -> Outputs:
    import torch

    with torch.inference_mode():
        results = module(*(torch.from_numpy(array) for array in feeds.values()))
    return {name: tensor.numpy() for name, tensor in zip(names, results, strict=True)}


def _calibration(case: Case, *, samples: int, batch: int = 1) -> Iterator[Feeds]:
    """Feeds of `batch` samples each, made one at a time, from images that parity never sees."""
    full, rest = divmod(samples, batch)
    return _stream(case, "calibration", [batch] * full + [rest] * bool(rest))


def _stream(case: Case, split: Split, batches: Sequence[int]) -> Iterator[Feeds]:
    dataset = plugins.load("datasets", case.dataset.word)
    family = plugins.load("models", case.model.family)
    options = plugins.options(dataset, case.dataset.options)
    samples = dataset.samples(options, count=sum(batches), split=split, seed=case.model.seed)
    for batch in batches:
        yield family.feeds(case.model, list(islice(samples, batch)), case.shape)


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


def _export_inputs(case: Case) -> list[Any]:
    sizes = {name: size for name, size in case.shape.items() if name != "batch" or not case.dynamic_axes}
    return ["artifact", _model_inputs(case.model), sizes, case.opset, case.dynamic_axes]


def _model_inputs(model: Model) -> list[Any]:
    """Everything that decides a module: not its name, but the bytes of a local folder."""
    family = plugins.load("models", model.family)
    return [
        replace(model, name=""),
        _folder_digest(Path(model.source)),
        plugins.source_digest("models", model.family),
        plugins.versions(family.REQUIRES),
    ]


def _dataset_inputs(dataset: Dataset) -> list[Any]:
    plugin = plugins.load("datasets", dataset.word)
    fingerprint: Callable[[Any], str] | None = getattr(plugin, "fingerprint", None)
    content = fingerprint(plugins.options(plugin, dataset.options)) if fingerprint else ""
    return [dataset, content, plugins.source_digest("datasets", dataset.word)]


def _folder_digest(source: Path) -> str:
    if not source.is_dir():
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
        step.word,
        options or {},
        plugins.versions(plugin.REQUIRES),
        plugins.source_digest(kind, step.word),
    ]


def _resolved(plugin: Any, step: Step, host: Host) -> Any:
    given = plugins.options(plugin, step.options)
    resolve: Callable[[Any, Host], Any] | None = getattr(plugin, "resolve", None)
    return resolve(given, host) if resolve else given


def _prefixed(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}{name}": array for name, array in arrays.items()}
