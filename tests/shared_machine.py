"""A machine that others use too, in numpy: what measuring on it yields, hundreds of runs at once.

It drifts (a slow wave and a random walk that all cases of a round share), it bursts (for a while everything
is 1.3 to 3 times slower; /proc sees most of it and the block is measured again, some goes unseen), each
process has an offset of its own, and calls have heavy tails. What it gives has the form that rounds.py
produces: replicates, rounds in shuffled order, blocks of at least 100 ms, a first call that is kept apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from benchbox.results.timings import Timings

# Calls of a block that are simulated at most: more would only make the block's median still more certain.
_MOST_CALLS = 20


@dataclass(frozen=True)
class Machine:
    """Relative standard deviations, shares, and seconds.

    `process`: of the offset of a process. `wave`: drift from its mean to its crest, 15 to 30 % from crest to
    trough, over `wave_seconds`; `walk`: of the drift in one second on top. `burst_share` of the time is in
    bursts of `burst_seconds` on average, of which `seen` is noticed. `call`: scale of the calls' one-sided
    Student noise with 3 degrees of freedom, whose variance is all tail.
    """

    process: float = 0.01
    wave: float = 0.10
    wave_seconds: float = 120.0
    walk: float = 0.003
    burst_share: float = 0.06
    burst_seconds: float = 0.7
    seen: float = 0.6
    call: float = 0.02


@dataclass(frozen=True)
class Schedule:
    """How a case is measured: its latency, and what the budget is spent on."""

    latency_seconds: float
    replicates: int
    rounds: int
    load_seconds: float = 2.0
    rest_seconds: float = 0.06
    block_seconds: float = 0.1

    @property
    def calls(self) -> int:
        """Timed calls of a block; the first, cold one is apart."""
        return math.ceil(self.block_seconds / self.latency_seconds)

    @property
    def turn_seconds(self) -> float:
        """What a block takes, the cold call and the rest included."""
        return (self.calls + 1) * self.latency_seconds + self.rest_seconds

    @classmethod
    def within(cls, budget_seconds: float, replicates: int, latency_seconds: float) -> Schedule:
        """As many rounds as the budget of a case allows, where one block in twenty is measured again."""
        turn = cls(latency_seconds, replicates, 1).turn_seconds * 1.05
        return cls(latency_seconds, replicates, max(2, int(budget_seconds / replicates / turn)))


@dataclass(frozen=True)
class Sessions:
    """Latencies in ns, shape (runs, cases, replicates, rounds, calls), and the true log mood of each run.

    `round_seconds`, shape (runs, replicates, rounds): what a round took, for one case, with the blocks that
    were measured again.
    """

    latencies_ns: np.ndarray
    mood: np.ndarray
    round_seconds: np.ndarray

    def timings(self, kept: np.ndarray | None = None) -> Timings:
        """As the reports see them: case number `run * cases + case`; `kept`, by run, replicate and round,
        says which rounds were measured (all of them)."""
        runs, cases, replicates, rounds, calls = self.latencies_ns.shape
        shape = (runs, cases, replicates, rounds)
        kept = np.ones(shape, bool) if kept is None else np.broadcast_to(kept[:, None], shape)
        run, case, replicate, round_ = np.nonzero(kept)
        return Timings(
            cases=runs * cases,
            latencies_ns=self.latencies_ns[kept].reshape(-1),
            lengths=np.full(run.size, calls),
            case=run * cases + case,
            replicate=replicate,
            round=round_,
        )


def measure(
    ratios: tuple[float, ...], machine: Machine, schedule: Schedule, runs: int, rng: np.random.Generator
) -> Sessions:
    """`runs` sessions in which cases, whose true latencies are as `ratios`, are measured together."""
    shape = (runs, len(ratios), schedule.replicates, schedule.rounds)
    starts = _starts(shape, schedule, rng)
    drift, mood = _drift(starts, machine, rng)
    bursts = _Bursts.over(float(starts.max()) + 3 * schedule.turn_seconds, runs, machine, rng)
    calls = min(schedule.calls, _MOST_CALLS)
    within = np.linspace(0, schedule.turn_seconds - schedule.rest_seconds, calls, endpoint=False)
    times = starts[..., None] + schedule.latency_seconds + within
    noticed = rng.random(shape) < machine.seen
    disturbed = (bursts.at(times, schedule.latency_seconds).mean(axis=-1) > 0.05) & noticed
    times = times + disturbed[..., None] * schedule.turn_seconds
    offsets = rng.normal(0, machine.process, (*shape[:3], 1))
    noise = machine.call * np.abs(rng.standard_t(3, (*shape, calls)))
    log = (drift + offsets)[..., None] + bursts.at(times, schedule.latency_seconds) + noise
    true_ns = schedule.latency_seconds * 1e9 * np.array(ratios)
    latencies = true_ns[:, None, None, None] * np.exp(log)
    round_seconds = schedule.turn_seconds * (1 + disturbed.mean(axis=1))
    return Sessions(latencies.astype(np.int64), mood, round_seconds)


def _starts(shape: tuple[int, int, int, int], schedule: Schedule, rng: np.random.Generator) -> np.ndarray:
    """When each block begins: cases in shuffled order in every round, all loaded anew for each replicate."""
    runs, cases, replicates, rounds = shape
    turns = np.argsort(rng.random((runs, replicates, rounds, cases)), axis=-1)
    numbers = turns + cases * np.arange(rounds)[:, None]
    replicate_seconds = cases * (schedule.load_seconds + rounds * schedule.turn_seconds)
    starts = numbers * schedule.turn_seconds + replicate_seconds * np.arange(replicates)[:, None, None]
    return np.moveaxis(starts, -1, 1)


def _drift(starts: np.ndarray, machine: Machine, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Log drift at `starts`, and its mean over each run: the mood in which the run was measured."""
    runs = starts.shape[0]
    per_run = (runs, *(1,) * (starts.ndim - 1))
    seconds = machine.wave_seconds * np.exp(rng.normal(0, 0.4, per_run))
    wave = machine.wave * np.sin(2 * np.pi * (starts / seconds + rng.random(per_run)))
    grid = np.arange(0, starts.max() + 1, 0.1)
    steps = rng.normal(0, machine.walk * math.sqrt(0.1), (runs, grid.size))
    walk = np.cumsum(steps, axis=1)
    at = (starts / 0.1).astype(int)
    drift = wave + np.take_along_axis(walk, at.reshape(runs, -1), axis=1).reshape(starts.shape)
    return drift, drift.reshape(runs, -1).mean(axis=1)


@dataclass(frozen=True)
class _Bursts:
    """Begin, end and log slowness of the bursts of each run, shape (runs, bursts)."""

    begin: np.ndarray
    end: np.ndarray
    slowness: np.ndarray

    @classmethod
    def over(cls, seconds: float, runs: int, machine: Machine, rng: np.random.Generator) -> _Bursts:
        count = math.ceil(machine.burst_share * seconds / machine.burst_seconds)
        begin = rng.uniform(0, seconds, (runs, count))
        length = rng.exponential(machine.burst_seconds, (runs, count))
        return cls(begin, begin + length, np.log(rng.uniform(1.3, 3.0, (runs, count))))

    def at(self, times: np.ndarray, seconds: float) -> np.ndarray:
        """By how much calls that begin at `times` and last `seconds` are slowed, as a logarithm.

        It is the mean over the call, from the integral, which is linear between the ends of bursts.
        """
        slowed = np.zeros(times.shape)
        ends = np.sort(np.concatenate([self.begin, self.end], axis=1), axis=1)
        inside = np.clip(ends[..., None] - self.begin[:, None], 0, (self.end - self.begin)[:, None])
        integrals = (inside * self.slowness[:, None]).sum(axis=-1)
        for run in range(len(slowed) if ends.size else 0):
            before, after = (
                np.interp(t, ends[run], integrals[run]) for t in (times[run], times[run] + seconds)
            )
            slowed[run] = (after - before) / seconds
        return slowed
