"""Every call of many measurements in flat arrays: 8 bytes a call, 24 a block; as objects, 32 and 600."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from benchbox.numerics import calm
from benchbox.numerics.stats import Ints
from benchbox.schema.seen import Block, Measurement, Replicate

Phase = Literal["warm_up", "timed"]

# Of a block that made no call for cold caches.
_NONE = -1
# Blocks that are turned into Python's own numbers at a time.
_CHUNK = 4096


class Calls:
    """The calls of cases that are added one by one; numbers fit 64 bits.

    Cases, replicates and blocks lie one after another as they were added: of a replicate its warm-up first.
    """

    def __init__(self) -> None:
        self.cases = 0
        self._latencies = array("q")
        self._rounds, self._firsts, self._lengths = array("q"), array("q"), array("q")
        self._case, self._replicate = array("q"), array("q")
        self._session_numbers: dict[str, int] = {}
        self._sessions = array("q")
        self._warm, self._timed = array("q"), array("q")
        self._disturbed: dict[int, str] = {}
        self._left_out: list[int] = []
        self._held_up: list[tuple[int, npt.NDArray[np.bool_]]] = []

    def add(self, measurements: Sequence[Measurement | None]) -> None:
        """The next cases; one has no calls where it was not measured."""
        of = [(n, r) for n, m in enumerate(measurements, self.cases) if m is not None for r in m.replicates]
        replicates = [replicate for _, replicate in of]
        start = len(self._rounds)
        numbers = self._session_numbers
        self._sessions.extend(
            [-1 if m is None else numbers.setdefault(m.session, len(numbers)) for m in measurements]
        )
        self._case.extend([case for case, _ in of])
        self._replicate.extend([replicate.index for replicate in replicates])
        self._warm.extend([len(replicate.warm_up) for replicate in replicates])
        self._timed.extend([len(replicate.blocks) for replicate in replicates])
        if self._add_blocks([b for r in replicates for phase in (r.warm_up, r.blocks) for b in phase]):
            self._note_what_does_not_count(replicates, start)
        self.cases += len(measurements)

    @property
    def sessions(self) -> Sequence[str | None]:
        """Of each case the session in which it was measured."""
        names = [*self._session_numbers, None]
        return [names[number] for number in self._sessions]

    def timed(self) -> TimedCalls:
        """The blocks that count: timed, not empty, the calmest of their round; of their calls those that
        count."""
        lengths = _view(self._lengths)
        counts = (self._phases() == 1) & (lengths > 0)
        counts[self._left_out] = False
        blocks = _view(self._warm) + _view(self._timed)
        calls, kept = np.repeat(counts, lengths), lengths.copy()
        starts = np.cumsum(lengths) - lengths
        for number, counting in self._held_up:
            calls[starts[number] : starts[number] + counting.size] = counting
            kept[number] = counting.sum()
        return TimedCalls(
            latencies_ns=_view(self._latencies)[calls],
            lengths=kept[counts],
            case=np.repeat(_view(self._case), blocks)[counts],
            replicate=np.repeat(_view(self._replicate), blocks)[counts],
            round=_view(self._rounds)[counts],
        )

    def blocks(self) -> Iterator[CallsOfBlock]:
        """Every block, one at a time, for there may be more calls than memory holds as objects."""
        blocks = _view(self._warm) + _view(self._timed)
        owner = np.repeat(np.arange(blocks.size), blocks)
        phases = self._phases()
        at = 0
        for start in range(0, len(self._lengths), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            columns = (self._rounds[chunk], self._firsts[chunk], self._lengths[chunk])
            whose = (owner[chunk].tolist(), phases[chunk].tolist())
            for number, (of, phase, round_, first, length) in enumerate(
                zip(*whose, *columns, strict=True), start
            ):
                yield CallsOfBlock(
                    case=self._case[of],
                    replicate=self._replicate[of],
                    round=round_,
                    phase="timed" if phase else "warm_up",
                    first_ns=first if first != _NONE else None,
                    timed_ns=tuple(self._latencies[at : at + length]),
                    disturbed=self._disturbed.get(number, ""),
                )
                at += length

    def _add_blocks(self, blocks: Sequence[Block]) -> bool:
        """Adds them; whether there is any whose calls may not all count."""
        start = len(self._rounds)
        self._rounds.extend([block.round for block in blocks])
        self._firsts.extend([_NONE if block.first_ns is None else block.first_ns for block in blocks])
        latencies = [block.latencies_ns for block in blocks]
        self._lengths.extend([len(of_block) for of_block in latencies])
        flat = [*chain.from_iterable(latencies)]
        self._latencies.frombytes(struct.pack(f"{len(flat)}q", *flat))  # half the time of `extend`
        disturbed = [
            (number, block.disturbed) for number, block in enumerate(blocks, start) if block.disturbed
        ]
        self._disturbed.update(disturbed)
        return not all([calm.is_surely_calm(block) and not calm.is_slow(block) for block in blocks])

    def _note_what_does_not_count(self, replicates: Sequence[Replicate], start: int) -> None:
        """Of the replicates that were added last; `start` is the number of their first block."""
        for counting, replicate in zip(self._counting(replicates), replicates, strict=True):
            timed = start + len(replicate.warm_up)
            counts = {id(block): calls for block, calls in counting}
            for number, block in enumerate(replicate.blocks, timed):
                calls = counts.get(id(block))
                if calls is None:
                    self._left_out.append(number)
                elif not calls.all():
                    self._held_up.append((number, calls))
            start = timed + len(replicate.blocks)

    def _counting(self, replicates: Sequence[Replicate]) -> Iterator[tuple[calm.Counting, ...]]:
        """Of each of the replicates that were added last; those of a case lie together."""
        cases = self._case[len(self._case) - len(replicates) :]
        for _, of_case in groupby(zip(cases, replicates, strict=True), key=lambda pair: pair[0]):
            yield from calm.counting([replicate for _, replicate in of_case])

    def _phases(self) -> npt.NDArray[np.int8]:
        """Of each block: 0 warm-up, 1 timed."""
        counts = np.column_stack([_view(self._warm), _view(self._timed)]).reshape(-1)
        return np.repeat(np.tile(np.array([0, 1], dtype=np.int8), counts.size // 2), counts)


class TimedCalls(NamedTuple):
    """The calls of all blocks; the other arrays have one value a block."""

    latencies_ns: Ints
    lengths: Ints
    case: Ints
    replicate: Ints
    round: Ints


class CallsOfBlock(NamedTuple):
    """A block: whose it is, and its calls; `first_ns` found cold caches, where such a call was made."""

    case: int
    replicate: int
    round: int
    phase: Phase
    first_ns: int | None
    timed_ns: tuple[int, ...]
    disturbed: str

    @property
    def latencies_ns(self) -> tuple[int, ...]:
        """Those of all its calls, the first one too."""
        return self.timed_ns if self.first_ns is None else (self.first_ns, *self.timed_ns)

    @property
    def kinds(self) -> tuple[str, str]:
        """What its first call is, and what the others are."""
        if self.phase == "warm_up":
            return ("warm_up", "warm_up")
        return ("timed" if self.first_ns is None else "cold", "timed")

    def calls(self) -> Iterator[tuple[str, int, int]]:
        """Of each call: its kind, its number in the block, its latency in nanoseconds."""
        first, rest = self.kinds
        for index, latency_ns in enumerate(self.latencies_ns):
            yield rest if index else first, index, latency_ns


def _view(numbers: array[Any]) -> Ints:
    """The array as numpy sees it, without a copy."""
    return np.frombuffer(numbers, dtype=np.int64)
