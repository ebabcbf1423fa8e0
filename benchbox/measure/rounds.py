"""Measuring together: cases loaded side by side, asked in turn, round by round, in fresh processes.

The thread that measures sleeps in the kernel while a worker runs, and only one worker runs at a time.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, Protocol, TypeVar

from benchbox.errors import CaseError
from benchbox.machine import clock
from benchbox.machine.child import Limits, Process, ask_for
from benchbox.machine.launcher import LOCAL, Launcher
from benchbox.measure import stopping
from benchbox.measure.answers import Opened, Verified, WarmedUp
from benchbox.measure.disturbance import disturbance
from benchbox.measure.pace import Pace
from benchbox.measure.quiet import Patience, Witness, wait_for_quiet
from benchbox.numerics import calm
from benchbox.schema.asked import Case, MeasurePlan, ParityPlan, Stage, StoppedBy
from benchbox.schema.seen import Artifact, Block, Measurement, Memory, Neighbours, Parity, Replicate

_T = TypeVar("_T")

# What a runtime holds beside the weights, before anything is measured: seen with onnxruntime, 200 to
# 300 MiB, and twice the weights while it prepacks them.
_RUNTIME_BYTES = 300 * 2**20
_WEIGHT_COPIES = 2
# How often a block that others held up is measured again, and how much of its time must be calm or it is.
_REPETITIONS = 2
_CALM_ENOUGH = 0.5
# What one runtime does alone (compiling for another shape) and what it does on all cores take turns so; more
# of them would only be in each other's way.
_VERIFIED_AT_ONCE = 2


@dataclass(frozen=True)
class Ready:
    """A case whose artifact and reference are built. `reference_content` says shapes and noise floor."""

    case: Case
    artifact: Artifact
    folder: Path
    reference: Path
    reference_content: Mapping[str, Any]
    compiled: Path

    @property
    def expected_bytes(self) -> int:
        """How much memory a worker is expected to take, for deciding what is loaded side by side."""
        return _RUNTIME_BYTES + _WEIGHT_COPIES * self.artifact.size_bytes


@dataclass(frozen=True)
class Measured:
    """How a case came out: a measurement and a parity, or the error and the stage it happened in."""

    measurement: Measurement | None = None
    parity: Parity | None = None
    stage: Stage | None = None
    error: CaseError | None = None


class Watcher(Protocol):
    """Who is told how measuring goes, and who says when to stop."""

    def entered(self, case: Case, stage: Stage) -> None:
        """A case entered a stage."""

    def measured(self, case: Case, latency_ns: float, rounds: int, replicate: int) -> None:
        """A block was measured; the median so far."""

    def replicate_ended(self, cases: int, seconds: float, more: int | None) -> None:
        """So many cases of the group have been measured once more, in fresh processes.

        About so many `more` processes of each are to come; None where nobody has looked yet.
        """

    def waiting(self, neighbours: Neighbours) -> None:
        """Measuring waits until others use less of the machine."""

    def stopping(self) -> bool:
        """Whether to finish what is in hand and begin nothing new."""


@dataclass(frozen=True)
class Settings:
    """What measuring follows, and where. `baseline` is the id of the case that the others are compared with,
    `folder` that of the suite; `pace` tells how fast the machine is (None: nobody asks)."""

    plan: MeasurePlan
    parity: ParityPlan
    session: str
    baseline: str = ""
    folder: Path = Path()
    launcher: Launcher = LOCAL
    pace: Pace | None = None
    ledger: clock.Ledger = field(default_factory=clock.Ledger)


@dataclass
class _Seat:
    """One case's place in the group: what is known of it so far, and its process while it has one."""

    ready: Ready
    replicates: list[Replicate] = field(default_factory=list)
    parity: Parity | None = None
    stage: Stage = "load"
    error: CaseError | None = None
    child: Process | None = None
    opened: Opened = field(default_factory=lambda: Opened(0.0))
    placement: Mapping[str, int] = field(default_factory=dict)
    warm_up: WarmedUp = field(default_factory=lambda: WarmedUp((), settled=False))
    blocks: list[Block] = field(default_factory=list)

    @property
    def rounds(self) -> stopping.Medians:
        """What is known of the process that is there."""
        return stopping.medians_by_round(self.blocks)

    def ask(self, answer: type[_T], verb: str, **content: Any) -> _T | None:
        """The worker's answer; None where it failed, which ends this case and no other."""
        if self.child is None:
            return None
        try:
            return ask_for(answer, self.child, verb, **content)
        except CaseError as error:
            self.error = error
            self.leave()
            return None

    def leave(self) -> None:
        """Ends the process, if there is one."""
        if self.child is not None:
            self.child.kill()
            self.child = None


def sittings(
    ready: Sequence[Ready], baseline: Ready | None, budget_bytes: int
) -> tuple[tuple[Ready, ...], ...]:
    """The cases in groups that fit into memory at once; the baseline is in each of them."""
    others = [r for r in ready if r is not baseline]
    fixed = baseline.expected_bytes if baseline else 0
    groups: list[list[Ready]] = [[]]
    used = fixed
    for item in others:
        if groups[-1] and used + item.expected_bytes > budget_bytes:
            groups.append([])
            used = fixed
        groups[-1].append(item)
        used += item.expected_bytes
    return tuple(tuple([baseline, *group] if baseline else group) for group in groups)


def measure_together(ready: Sequence[Ready], settings: Settings, watcher: Watcher) -> Mapping[str, Measured]:
    """Every case by its id, measured in interleaved rounds and in as many fresh processes as it takes."""
    _load_statistics()
    seats = [_Seat(item) for item in ready]
    shuffle = random.Random(settings.session).shuffle  # noqa: S311  # an order, not a secret
    machine = settings.launcher.machine
    sitting = _Sitting(settings, watcher, shuffle, machine.visible_cores(), Witness.of(machine))
    stopped_by = _replicates(seats, sitting)
    return {seat.ready.case.id: _result(seat, sitting, stopped_by) for seat in seats}


@dataclass(frozen=True)
class _Sitting:
    """What all seats have in common."""

    settings: Settings
    watcher: Watcher
    shuffle: Callable[[list[_Seat]], None]
    cores: int
    witness: Witness

    @property
    def ledger(self) -> clock.Ledger:
        """Where the time goes."""
        return self.settings.ledger


def _replicates(seats: Sequence[_Seat], sitting: _Sitting) -> StoppedBy:
    """Fresh processes of all cases until every case is known precisely enough or the budget is spent.

    What is in hand when somebody asks to stop is finished: two processes, the fewest that give an interval.
    """
    plan = sitting.settings.plan
    done, seconds = 0, 0.0
    while any(seat.error is None for seat in seats):
        if sitting.watcher.stopping() and not 0 < done < min(2, plan.replicates):
            break
        watch = clock.Stopwatch.start()
        allowed = stopping.allowance(done, seconds, plan)
        seconds += _replicate(done, seats, allowed, sitting)
        done += 1
        half_width = _half_width(seats, sitting)
        more = stopping.replicates_to_come(done, seconds, half_width, plan)
        sitting.watcher.replicate_ended(len(seats), watch.seconds(), more)
        stopped_by = stopping.replicates_stop(done, seconds, half_width, plan)
        if stopped_by == "precision" or (stopped_by and not sitting.watcher.stopping()):
            return stopped_by
    return "interrupt"


def _replicate(index: int, seats: Sequence[_Seat], allowed: stopping.Allowance, sitting: _Sitting) -> float:
    """How long the rounds took, for one case."""
    living = [seat for seat in seats if seat.error is None]
    try:
        _load_all(living, sitting)
        for seat in living:
            with sitting.ledger.on("warm up", seat.ready.case.id):
                _warm_up(seat, sitting)
        seconds = _rounds(index, [s for s in living if s.child], allowed, sitting)
        _finish_all(index, [seat for seat in living if seat.child], sitting)
    finally:
        for seat in living:
            seat.leave()
    return seconds


def _load_all(seats: Sequence[_Seat], sitting: _Sitting) -> None:
    """Fresh processes, as many loading at a time as there are cores to load on: importing takes one core
    each.

    They are started by this thread, for the kernel ends a child with the thread that started it.
    """
    with sitting.ledger.on("load", *(seat.ready.case.id for seat in seats)):
        for seat in seats:
            _start(seat, sitting)
        started = [seat for seat in seats if seat.child]
        _side_by_side(
            started, lambda seat: _open(seat, sitting), sitting.settings.launcher.machine.usable_cores()
        )


def _start(seat: _Seat, sitting: _Sitting) -> None:
    plan = sitting.settings.plan
    seat.stage, seat.blocks = "load", []
    sitting.watcher.entered(seat.ready.case, "load")
    try:
        seat.child = sitting.settings.launcher.worker(
            Limits(plan.memory_limit_bytes, plan.timeout_seconds), seat.ready.case.backend.python
        )
    except CaseError as error:
        seat.error = error


def _open(seat: _Seat, sitting: _Sitting) -> None:
    ready, there = seat.ready, sitting.settings.launcher.machine.path_there
    opened = seat.ask(
        Opened,
        "open",
        case=ready.case.located_from(there(sitting.settings.folder)),
        artifact=ready.artifact,
        folder=there(ready.folder),
        reference=there(ready.reference),
        compiled=there(ready.compiled),
    )
    if opened is not None:
        seat.opened, seat.stage = opened, "measure"


def _warm_up(seat: _Seat, sitting: _Sitting) -> None:
    plan = sitting.settings.plan
    seconds = {"at_most_seconds": plan.warm_up_seconds, "block_seconds": plan.block_seconds}
    seat.warm_up = seat.ask(WarmedUp, "warm_up", **seconds) or seat.warm_up


def _side_by_side(seats: Sequence[_Seat], work: Callable[[_Seat], None], at_once: int) -> None:
    """The work of each seat, in threads that sleep while their workers are busy. Whatever ends it ends the
    workers first, or a thread would wait for an answer that nobody wants."""
    pool = ThreadPoolExecutor(max(1, min(at_once, len(seats))))
    try:
        for done in [pool.submit(work, seat) for seat in seats]:
            done.result()
    except BaseException:
        for seat in seats:
            seat.leave()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _rounds(index: int, seats: list[_Seat], allowed: stopping.Allowance, sitting: _Sitting) -> float:
    """Rounds until every case is known precisely enough or the time is spent; the seconds of one case, but
    for those that were spent on waiting and on blocks that others held up."""
    plan = sitting.settings.plan
    watch = clock.Stopwatch.start()
    patience = Patience(stopping.PATIENCE * allowed.seconds * len(seats))
    at_first = patience.seconds
    sitting.witness.look(blame=False)  # of what was while the workers were loaded nobody is to blame
    done, seconds = 0, 0.0
    while any(seat.child for seat in seats):
        _round(done, index, seats, patience, sitting)
        done, seconds = done + 1, (watch.seconds() - (at_first - patience.seconds)) / len(seats)
        if done >= stopping.least_rounds(plan) and sitting.watcher.stopping():
            break
        if stopping.rounds_stop(done, seconds, _half_width_of_process(seats, sitting), allowed, plan):
            break
    return seconds


def _round(number: int, index: int, seats: list[_Seat], patience: Patience, sitting: _Sitting) -> None:
    """A block of each case in turn; those that others held up are measured again when the machine is
    quiet."""
    order = [seat for seat in seats if seat.child]
    sitting.shuffle(order)
    for seat in order:
        _measure_block(number, seat, sitting)
        if seat.blocks:
            sitting.watcher.measured(seat.ready.case, _median_so_far(seat), number + 1, index)
    for _ in range(_REPETITIONS):
        held_up = [seat for seat in order if seat.child and _is_held_up(seat, number)]
        if not held_up or patience.seconds <= 0 or sitting.watcher.stopping():
            return
        sitting.witness.look(blame=True)
        with sitting.ledger.on("wait for quiet", *(seat.ready.case.id for seat in held_up)):
            wait_for_quiet(sitting.witness, patience, sitting.watcher.waiting)
        watch = clock.Stopwatch.start()
        for seat in held_up:
            _measure_block(number, seat, sitting)
        patience.spend(watch.seconds())


def _measure_block(number: int, seat: _Seat, sitting: _Sitting) -> None:
    """The worker's block is kept, and marked where it was disturbed; the pace is that right before it."""
    with sitting.ledger.on("measure", seat.ready.case.id):
        with sitting.ledger.on("canary", seat.ready.case.id):
            pace = sitting.settings.pace.heard() if sitting.settings.pace else None
        block = seat.ask(Block, "block", round=number, block_seconds=sitting.settings.plan.block_seconds)
    if block is not None:
        seat.blocks.append(replace(block, disturbed=disturbance(block, sitting.cores), pace=pace))


def _is_held_up(seat: _Seat, number: int) -> bool:
    """Whether another look at the case is due in this round: more than half of each block's time was not
    calm.

    A machine that is slower by itself stays so for minutes: waiting a moment mends nothing.
    """
    shares = [calm.calm_share([block]) or 0.0 for block in seat.blocks if block.round == number]
    return bool(shares) and max(shares) < _CALM_ENOUGH


def _median_so_far(seat: _Seat) -> float:
    return median(seat.rounds.values())


def _finish_all(index: int, seats: Sequence[_Seat], sitting: _Sitting) -> None:
    """Memory first, of every worker, and then parity, once: its other shapes would be in the peak."""
    memories = {id(seat): seat.ask(Memory, "memory") for seat in seats}
    if index == 0:
        left = [seat for seat in seats if seat.child]
        for seat in left:
            seat.stage = "verify"
            sitting.watcher.entered(seat.ready.case, "verify")
        with sitting.ledger.on("verify", *(seat.ready.case.id for seat in left)):
            _side_by_side(left, lambda seat: _verify(seat, sitting), _VERIFIED_AT_ONCE)
    for seat in seats:
        memory = memories[id(seat)]
        if seat.child and memory is not None:
            seat.replicates.append(_replicate_of(index, seat, memory))


def _replicate_of(index: int, seat: _Seat, memory: Memory) -> Replicate:
    return Replicate(
        index=index,
        load_seconds=seat.opened.load_seconds,
        settled=_settled(seat),
        warm_up=seat.warm_up.blocks,
        blocks=tuple(seat.blocks),
        memory=memory,
    )


def _settled(seat: _Seat) -> bool:
    """As the warm-up ended; where that was a single long call, whether the first block was as fast."""
    if seat.warm_up.settled or len(seat.warm_up.blocks) != 1:
        return seat.warm_up.settled
    (warm,) = seat.warm_up.blocks
    last = [*([] if warm.first_ns is None else [warm.first_ns]), *warm.latencies_ns][-1:]
    return clock.settled([*last, *(median(block.latencies_ns) for block in seat.blocks[:1])])


def _verify(seat: _Seat, sitting: _Sitting) -> None:
    content = seat.ready.reference_content
    verified = seat.ask(
        Verified,
        "verify",
        tolerances=sitting.settings.parity.tolerances,
        noise_floor=content["noise_floor"],
        samples=content["samples"],
        shapes=content["shapes"],
    )
    if verified is not None:
        seat.parity = replace(verified.parity, notes=tuple(content.get("notes", ())))
        seat.placement = verified.placement
        seat.stage = "measure"


def _half_width_of_process(seats: Sequence[_Seat], sitting: _Sitting) -> float:
    """Of the processes that are there, the widest interval."""
    widths = [
        stopping.process_half_width(
            seat.rounds, base.rounds if base else None, sitting.settings.plan.confidence
        )
        for seat, base in _compared([seat for seat in seats if seat.child], sitting)
    ]
    return max(widths, default=0.0)


def _half_width(seats: Sequence[_Seat], sitting: _Sitting) -> float:
    """Over all processes of the living cases, the widest interval."""
    living = [seat for seat in seats if seat.error is None]
    at = [number for number, seat in enumerate(living) if seat.ready.case.id == sitting.settings.baseline]
    baseline = at[0] if at and len(living) > 1 else None
    finished = [stopping.medians_of_processes(seat.replicates) for seat in living]
    return stopping.group_half_width(finished, baseline, sitting.settings.plan.confidence)


def _compared(living: Sequence[_Seat], sitting: _Sitting) -> list[tuple[_Seat, _Seat | None]]:
    """The cases whose intervals say when to stop, and the baseline that each is compared with.

    Where there is none, it is the interval of the case's own median. The baseline's own counts only where it
    is alone: drift, which no ratio holds, would keep the whole group going (simulated, 12 cases: half as
    many rounds again).
    """
    baseline = next((seat for seat in living if seat.ready.case.id == sitting.settings.baseline), None)
    others = [(seat, baseline) for seat in living if seat is not baseline]
    return others or [(seat, None) for seat in living]


def _load_statistics() -> None:
    """Before any worker is loaded: it takes half a second of a core, which is not to fall into a round."""
    from benchbox.numerics import stats

    stats.load()


def _result(seat: _Seat, sitting: _Sitting, stopped_by: StoppedBy) -> Measured:
    if seat.error is not None:
        return Measured(stage=seat.stage, error=seat.error)
    measurement = Measurement(
        session=sitting.settings.session,
        replicates=tuple(seat.replicates),
        stopped_by=stopped_by,
        placement=seat.placement,
        versions=seat.opened.versions,
        neighbours=sitting.witness.blamed(),
        statistics="moderated",
    )
    return Measured(measurement=measurement, parity=seat.parity)
