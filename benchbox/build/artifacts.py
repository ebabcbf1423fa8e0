"""Case.path -> Artifact: exporters and passes, step by step, through the cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchbox import plugins
from benchbox.build.cache import Cache, Entry
from benchbox.build.feeds import (
    Frozen,
    calibration_feeds,
    loaded_module,
    no_calibration,
    stream,
    traced_shapes,
)
from benchbox.build.keys import artifact_keys, host_in_key, of_hub, resolved, shape_in_key
from benchbox.plugins import hub
from benchbox.plugins.contract import ExportJob, PassJob
from benchbox.schema import wire
from benchbox.schema.asked import Case, Step
from benchbox.schema.seen import Artifact, Host


def artifact_of(entry: Entry) -> Artifact:
    """The artifact that a cache entry holds."""
    stored = {
        **entry.content,
        "key": entry.key,
        "files": entry.files,
        "size_bytes": entry.size_bytes,
        "sha256": entry.sha256,
        "build_seconds": entry.content["build_seconds_before"] + entry.build_seconds,
    }
    return wire.decode(stored, Artifact)


def build_artifact(case: Case, store: Cache, host: Host, folder: Path = Path()) -> Entry:
    """The entry of the last step, made from the longest prefix of the path that is there."""
    keys = artifact_keys(case, host, folder)
    here = case.located_from(folder)
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


@dataclass(frozen=True)
class _Source:
    entry: Entry
    host: Host


def _export(case: Case, written: Step, folder: Path) -> Mapping[str, Any]:
    step = case.path[0]
    exporter = plugins.exporter(step.word)
    family = plugins.family_of(case.model)
    traced, unseen = traced_shapes(case)
    job = ExportJob(
        model=case.model,
        family=family,
        module=loaded_module(Frozen(case.model)),
        signature=family.signature(case.model, case.shape),
        example=next(stream(case, "timing", [traced])).feeds,
        unseen=next(stream(case, "timing", [unseen])).feeds,
        opset=case.opset,
        dynamic_axes=case.dynamic_axes,
        options=plugins.options(exporter, step.options),
    )
    facts = exporter.export(job, folder)
    commits = {source: found for source, _ in of_hub(case.model) if (found := hub.commit(source))}
    return {
        "kind": exporter.PRODUCES,
        "steps": [wire.encode(written)],
        "precision": facts.get("precision", "fp32"),
        "facts": {**facts, **({"commits": commits} if commits else {})},
        "packages": plugins.versions((*exporter.REQUIRES, *family.REQUIRES)),
        "build_seconds_before": 0.0,
    }


def _apply(case: Case, at: int, written: Step, source: _Source, folder: Path) -> Mapping[str, Any]:
    step = case.path[at]
    chosen = plugins.pass_(step.word)
    entry = source.entry
    before = artifact_of(entry)
    job = PassJob(
        artifact=before,
        source=entry.folder,
        signature=plugins.family_of(case.model).signature(case.model, case.shape),
        shape=shape_in_key(case, chosen),
        options=resolved(chosen, step, source.host),
        host=host_in_key(source.host, chosen),
        calibration=partial(calibration_feeds, case) if chosen.CALIBRATES else no_calibration,
    )
    facts = chosen.apply(job, folder)
    return {
        "kind": chosen.PRODUCES,
        "steps": [wire.encode(each) for each in (*before.steps, written)],
        "precision": facts.get("precision", chosen.PRECISION or before.precision),
        "facts": {**before.facts, **facts},
        "packages": {**before.packages, **plugins.versions(chosen.REQUIRES)},
        "build_seconds_before": before.build_seconds,
    }
