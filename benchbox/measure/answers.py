"""What a worker answers, as it goes over the pipe (schema/wire.py). Blocks and memory are answers too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchbox.schema.seen import Block, Parity


@dataclass(frozen=True)
class Checked:
    """A backend that can run here: the providers that it has, and the versions of its runtime."""

    providers: tuple[str, ...]
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Opened:
    """An artifact is loaded: how long it took, and by which versions of the runtime."""

    load_seconds: float
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class WarmedUp:
    """The blocks that were called first, and whether they had settled when they ended."""

    blocks: tuple[Block, ...]
    settled: bool


@dataclass(frozen=True)
class Verified:
    """Agreement with the reference, and how many graph nodes each provider took."""

    parity: Parity
    placement: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Song:
    """How long the canary took, by what it went through; None where somebody had one of its cores."""

    cores_ns: int | None
    memory_ns: int | None
