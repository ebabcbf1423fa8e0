"""A builder process: torch lives here, and frameworks that export and quantize."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchbox.build.artifacts import build_artifact
from benchbox.build.cache import Cache
from benchbox.build.keys import of_hub
from benchbox.build.reference import build_reference
from benchbox.machine.child import Handler, Message
from benchbox.plugins import hub
from benchbox.schema import wire
from benchbox.schema.asked import Case, Model
from benchbox.schema.seen import Host


@dataclass(frozen=True)
class Built:
    """What a builder answers: the key of the cache's entry."""

    key: str


def handlers() -> Mapping[str, Handler]:
    """What a builder process answers: `reference` and `artifact`."""
    return {"reference": _serve_reference, "artifact": _serve_artifact}


def _serve_artifact(message: Message) -> Built:
    host = wire.decode(message["host"], Host)
    with _scratch():
        case, folder = wire.decode(message["case"], Case), Path(message["folder"])
        _fetch(case.model.located_from(folder))
        entry = build_artifact(case, Cache(Path(message["cache"])), host, folder)
    return Built(entry.key)


def _serve_reference(message: Message) -> Built:
    case = wire.decode(message["case"], Case)
    store = Cache(Path(message["cache"]))
    with _scratch():
        folder = Path(message["folder"])
        _fetch(case.model.located_from(folder))
        entry = build_reference(case, message["samples"], store, message["directions"], folder)
    return Built(entry.key)


@contextlib.contextmanager
def _scratch() -> Iterator[None]:
    """Works in a folder that goes: quantization leaves files in the current one."""
    with tempfile.TemporaryDirectory(prefix="benchbox-") as folder, contextlib.chdir(folder):
        yield


def _fetch(model: Model) -> None:
    """What is at a hub and not on this machine yet becomes that of one commit, before there is a key."""
    for source, file in of_hub(model):
        if model.weights == "pretrained" or file == hub.ADAPTER:
            hub.fetch(source, file)
