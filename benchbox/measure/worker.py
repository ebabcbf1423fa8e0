"""A worker process: loads one artifact into one runtime, runs blocks, verifies, reports its memory.

It holds the standard library, numpy and the runtime under test, nothing else: what else it imported
would be in the numbers. It speaks to who measures over a pipe (machine/child.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from benchbox import plugins
from benchbox.machine import clock, environment, memory
from benchbox.machine.child import Handler, Message
from benchbox.machine.usage import Threads, waited_between
from benchbox.measure.answers import Checked, Opened, Song, Verified, WarmedUp
from benchbox.numerics import arrays, attention, gradient, parity
from benchbox.numerics.gradient import GRADIENT
from benchbox.plugins.contract import BackendPlugin, Evidence, Session, SessionJob
from benchbox.schema import wire
from benchbox.schema.asked import Backend, Case, Tolerance
from benchbox.schema.seen import Artifact, Attention, Block, Memory, OutputParity
from benchbox.schema.tensors import Array, Feeds, Outputs

# To fill the caches of a core and the last level again takes about a millisecond: of half a second 0.2 %.
# ViT-base at batch 8, calls of 0.5 to 2 s: first and second calls of a block are alike (ratio 1.00, 36
# blocks).
_CACHES_ARE_NOTHING_NS = 500_000_000
# Of such a model one call is enough of a warm-up: what it allocates it has, and the next one is as fast.
_ONE_CALL_WARMS_NS = 1_000_000_000


def handlers() -> Mapping[str, Handler]:
    """What a worker answers, in the order in which it is asked."""
    environment.count_stops()
    worker = Worker()
    return {
        "check": check,
        "open": worker.open,
        "warm_up": worker.warm_up,
        "block": worker.block,
        "memory": worker.memory,
        "verify": worker.verify,
        "canary": sing,
    }


def check(message: Message) -> Checked:
    """Raises Unavailable where the backend cannot run here; else says its providers and versions."""
    plugin = plugins.backend(message["word"])
    plugins.require(plugin)
    if message.get("backend"):
        backend = wire.decode(message["backend"], Backend)
        plugin.check(backend, plugins.options(plugin, backend.options))
    return Checked(tuple(plugin.providers()), plugin.versions())


def sing(message: Message) -> Song:
    """How long the canary takes; for a worker that opens nothing, and lends its cores to no runtime."""
    from benchbox.measure import canary

    return canary.sing(message)


class Worker:
    """The state of a worker: a session and the call that is timed."""

    def __init__(self) -> None:
        self._case: Case
        self._artifact: Artifact
        self._session: Session
        self._reference: Path
        self._call: Any
        self._threads = Threads()
        self._cold_first = True
        self._idle_bytes = 0
        self._loaded_bytes = 0

    def open(self, message: Message) -> Opened:
        """Loads the artifact."""
        import numpy  # noqa: F401  # part of an idle worker, so that it is not counted as the model's

        self._idle_bytes = memory.peak_bytes()
        self._case = wire.decode(message["case"], Case)
        self._artifact = wire.decode(message["artifact"], Artifact)
        self._reference = Path(message["reference"])
        plugin = plugins.backend(self._case.backend.word)
        feeds = arrays.load(self._reference / "timing.npz")
        watch = clock.Stopwatch.start()
        self._session = plugin.open(self._job(message, plugin))
        self._call = self._session.prepare(feeds)
        seconds = watch.seconds()
        self._loaded_bytes = memory.peak_bytes()
        clock.rest()
        return Opened(seconds, plugin.versions())

    def warm_up(self, message: Message) -> WarmedUp:
        """Blocks until two readings in a row agree within 5 %, or `at_most_seconds` are over.

        Of a model whose calls are longer than a block every call is a reading, and one more is made at a
        time. Where they are longer than a second the first is all: the rounds tell whether it had settled by
        then.
        """
        watch = clock.Stopwatch.start()
        block_seconds = message["block_seconds"]
        blocks: list[Block] = []
        readings: list[float] = []
        while not clock.settled(readings) and not (blocks and watch.seconds() > message["at_most_seconds"]):
            slow = not readings or readings[-1] > block_seconds * 1e9
            blocks.append(self._block(len(blocks), None if slow else block_seconds))
            readings += _readings(blocks[-1])
            if readings[-1] > _ONE_CALL_WARMS_NS:
                break
        self._cold_first = readings[-1] < _CACHES_ARE_NOTHING_NS
        return WarmedUp(tuple(blocks), clock.settled(readings))

    def block(self, message: Message) -> Block:
        """One timed block, then rest until the runtime's threads have stopped spinning."""
        return self._block(message["round"], message["block_seconds"])

    def memory(self, _message: Message) -> Memory:
        """The high-water marks; asked before `verify`, whose other shapes would be in the peak."""
        return Memory(
            idle_bytes=self._idle_bytes,
            loaded_bytes=self._loaded_bytes,
            peak_bytes=memory.peak_bytes(),
            device_bytes=self._session.device_bytes(),
        )

    def verify(self, message: Message) -> Verified:
        """Parity against the stored reference outputs at each of its shapes, and nodes by provider."""
        plugin = plugins.backend(self._case.backend.word)
        options = plugins.options(plugin, self._case.backend.options)
        precision = plugin.precision(options, self._artifact)
        criteria = parity.Criteria(
            precision=precision,
            tolerance=wire.decode(message["tolerances"][precision], Tolerance),
            noise_floor=message["noise_floor"],
            samples=message["samples"],
        )
        seen = self._compare(message["shapes"])
        judged = parity.judge(seen.outputs, seen.metrics, criteria, seen.reasons, self._gradient_error())
        judged = replace(judged, attention=seen.attention)
        return Verified(judged, self._session.placement())

    def _job(self, message: Message, plugin: BackendPlugin) -> SessionJob:
        case = self._case
        return SessionJob(
            artifact=self._artifact,
            folder=Path(message["folder"]),
            model=case.model,
            family=plugins.family_of(case.model),
            backend=case.backend,
            options=plugins.options(plugin, case.backend.options),
            shape=case.shape,
            cache=Path(message["compiled"]),
        )

    def _block(self, index: int, seconds: float | None) -> Block:
        """A block that lasts so long; a single call where it is None."""
        self._threads.look_for_new()
        before = environment.counters()
        if seconds is None:
            timing = clock.time_call(self._call)
        else:
            timing = clock.time_block(
                self._call, seconds=seconds, usage=self._threads.usage, cold_first=self._cold_first
            )
        noise = environment.noise_between(before, environment.counters())
        clock.rest()
        slices = [(b[0] - a[0], a[1], b[1]) for a, b in pairwise(timing.looks)]
        waited = [waited_between(before, after) for _, before, after in slices]
        return Block(
            round=index,
            started_ns=timing.started_ns,
            first_ns=timing.first_ns,
            latencies_ns=timing.latencies_ns,
            noise=noise,
            slices=tuple(calls for calls, _, _ in slices),
            waited_ns=tuple(ns for ns in waited if ns is not None),
            cpu_ns=tuple(after.cpu_ns - before.cpu_ns for _, before, after in slices),
        )

    def _compare(self, shapes: list[Mapping[str, int]]) -> Compared:
        family = plugins.family_of(self._case.model)
        by_shape: dict[str, tuple[Mapping[str, int], list[tuple[Stored, Outputs]]]] = {}
        shares: dict[str, list[tuple[float, int]]] = {}
        reasons: list[str] = []
        maps: tuple[Attention, ...] = ()
        for index, shape in enumerate(shapes):
            stored = Stored.read(self._reference / f"parity-{index}.npz")
            candidate = self._session.run(stored.feeds)
            wrong = _wrong_shapes(stored.outputs, candidate)
            if wrong:
                reasons += [f"at {_label(shape)}: {text}" for text in wrong]
                continue
            if self._case.model.attention:
                maps = maps or attention.kept_maps(stored.feeds, stored.outputs, candidate)
            by_shape.setdefault(str(shape), (shape, []))[1].append((stored, candidate))
            finite = (
                parity.is_finite(output, stored.positions.get(name)) for name, output in candidate.items()
            )
            if all(finite):  # else a metric means nothing
                found = family.metrics(self._case.model, self._evidence(stored, candidate))
                for name, value in found.items():
                    shares.setdefault(name, []).append((value, shape["batch"]))
        # A picture that the suite asked for is no result; an output of somebody's own may be called the same.
        picture = attention.OUTPUT if self._case.model.attention else None
        outputs = [o for shape, pairs in by_shape.values() for o in _outputs(shape, pairs, but=picture)]
        metrics = {name: _mean(of_batches) for name, of_batches in shares.items()}
        reasons += [f"{name} is not finite" for name, value in metrics.items() if not math.isfinite(value)]
        metrics = {name: value for name, value in metrics.items() if math.isfinite(value)}
        return Compared(outputs, metrics, sorted(set(reasons)), maps)

    def _gradient_error(self) -> float | None:
        """Directional derivatives against the reference's; None where the suite does not ask for them."""
        file = self._reference / GRADIENT
        if not file.exists():
            return None
        probe = gradient.Probe.load(file)
        return gradient.error(probe.derivatives, gradient.differences(self._session.run, probe))

    def _evidence(self, stored: Stored, candidate: Outputs) -> Evidence:
        """What the task's metrics are made of; what the reference was rolled out to, the candidate is too."""
        rolled: Outputs = {}
        rollout = plugins.family_of(self._case.model).rollout
        if stored.rolled and rollout is not None:
            rolled = rollout(self._case.model, self._session.run, stored.feeds)
        return Evidence(
            feeds=stored.feeds,
            reference={**stored.outputs, **stored.rolled},
            candidate={**candidate, **rolled},
            labels=stored.labels,
        )


@dataclass(frozen=True)
class Compared:
    """What the candidate said beside the reference, over all shapes; `attention` is of the first batch."""

    outputs: list[OutputParity]
    metrics: Mapping[str, float]
    reasons: list[str]
    attention: tuple[Attention, ...]


@dataclass(frozen=True)
class Stored:
    """One batch of the reference, as the builder stored it; `positions` are those that are read, of outputs
    with padding."""

    feeds: Feeds
    outputs: Outputs
    rolled: Outputs
    positions: Mapping[str, Array]
    labels: Array | None

    @classmethod
    def read(cls, path: Path) -> Stored:
        """The arrays of a `parity-<i>.npz`, told apart by what their names begin with."""
        stored = arrays.load(path)
        feeds, outputs, rolled, read = (
            arrays.without_prefix(prefix, stored) for prefix in ("in:", "out:", "roll:", "read:")
        )
        return cls(feeds, outputs, rolled, read, stored.get("labels"))


def _mean(of_batches: Sequence[tuple[float, int]]) -> float:
    """Of a metric, over the batches that have it, each as often as it has samples."""
    return sum(value * count for value, count in of_batches) / sum(count for _, count in of_batches)


def _label(shape: Mapping[str, int]) -> str:
    return " ".join(f"{name}={size}" for name, size in shape.items())


def _readings(block: Block) -> list[float]:
    """What a warm-up block says: its median; of a slow model, whose block is one or two calls, each."""
    if len(block.latencies_ns) <= 1:
        first = [] if block.first_ns is None else [block.first_ns]
        return [*first, *block.latencies_ns]
    return [median(block.latencies_ns)]


def _wrong_shapes(reference: Outputs, candidate: Outputs) -> list[str]:
    missing = [f"output {name!r} is missing" for name in reference if name not in candidate]
    if missing:
        return missing
    found = (parity.shape_mismatch(name, reference[name], candidate[name]) for name in reference)
    return [text for text in found if text]


def _outputs(
    shape: Mapping[str, int], pairs: list[tuple[Stored, Outputs]], *, but: str | None
) -> Iterator[OutputParity]:
    """One comparison an output but the one named, over all feeds of this shape together."""
    import numpy as np

    for name in (n for n in pairs[0][0].outputs if n != but):
        reference = np.concatenate([np.atleast_1d(stored.outputs[name]) for stored, _ in pairs])
        candidate = np.concatenate([np.atleast_1d(c[name]) for _, c in pairs])
        yield parity.compare(name, shape, reference, candidate, _read(name, [stored for stored, _ in pairs]))


def _read(name: str, batches: Sequence[Stored]) -> Array | None:
    """Where an output is read, over all batches; None: everywhere."""
    import numpy as np

    if not any(name in stored.positions for stored in batches):
        return None
    return np.concatenate(
        [np.broadcast_to(s.positions.get(name, np.True_), s.outputs[name].shape) for s in batches]
    )
