"""Measuring together, with processes and a clock that the test controls."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest

import cases
from benchbox.errors import ChildDied, StageError, Unavailable
from benchbox.machine.child import Limits
from benchbox.machine.launcher import Local, ThisMachine
from benchbox.machine.neighbours import Look
from benchbox.measure import rounds, stopping
from benchbox.measure.disturbance import disturbance
from benchbox.measure.pace import Pace
from benchbox.measure.rounds import Measured, Ready, Settings, sittings
from benchbox.schema.asked import Case, MeasurePlan, ParityPlan, Step, Tolerance
from benchbox.schema.seen import Artifact, Block, Memory, Neighbours, Noise, OutputParity, Parity

MIB = 2**20
PARITY = Parity(True, "fp32", Tolerance(), 0.0, 4, (OutputParity("logits", {"batch": 1}, 0, 0, 0, 1, None),))
QUIET = Noise(0.0, 0, 0.0, None, 0)
PLAN = MeasurePlan(
    budget_seconds=10.0, precision=0.02, replicates=2, most_replicates=2, min_rounds=2, block_seconds=0.1
)
ONCE = replace(PLAN, replicates=1, most_replicates=1)


@dataclass
class World:
    """A clock, what every process was asked in order, and what each case's processes answer."""

    seconds: float = 0.0
    block_seconds: float = 0.125
    asked: list[tuple[str, str]] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    alive: set[int] = field(default_factory=set)
    latency_ns: Callable[[str, int], int] = lambda title, n: 1_000_000
    noise: Callable[[str, int], Noise] = lambda title, n: QUIET
    failures: dict[tuple[str, str], Exception] = field(default_factory=dict)
    limits: list[tuple[Limits, str | None]] = field(default_factory=list)
    busy_looks: int = 0

    def blocks(self) -> list[str]:
        return [name for name, verb in self.asked if verb == "block"]


class FakeChild:
    """A process of a world; a case is known by its batch: `b1`, `b2` ..."""

    def __init__(self, world: World, limits: Limits, python: str | None) -> None:
        self.world = world
        self.world.limits.append((limits, python))
        self.world.alive.add(id(self))
        self.name = ""
        self.count = 0

    def ask(self, verb: str, **content: Any) -> dict[str, Any]:
        if verb == "open":
            self.name = f"b{content['case'].shape['batch']}"
            self.world.started.append(self.name)
        self.world.asked.append((self.name, verb))
        if (self.name, verb) in self.world.failures:
            raise self.world.failures[self.name, verb]
        answer: dict[str, Any] = getattr(self, verb)(content)
        return answer

    def kill(self) -> None:
        self.world.alive.discard(id(self))

    def open(self, content: Any) -> dict[str, Any]:
        return {"load_seconds": 0.5, "versions": {"onnxruntime": "1"}}

    def warm_up(self, content: Any) -> dict[str, Any]:
        return {"blocks": [asdict(Block(0, 0, 9, (8,)))], "settled": True}

    def block(self, content: Any) -> dict[str, Any]:
        self.count += 1
        self.world.seconds += self.world.block_seconds
        latency = self.world.latency_ns(self.name, self.count)
        noise = self.world.noise(self.name, self.count)
        return asdict(Block(content["round"], 0, 2 * latency, (latency,) * 50, noise))

    def memory(self, content: Any) -> dict[str, Any]:
        return asdict(Memory(1, 2, 3))

    def verify(self, content: Any) -> dict[str, Any]:
        return {"parity": asdict(PARITY), "placement": {"CPU": 7}}


class Paces(Pace):
    """Says what it is told to say."""

    def __init__(self, said: Iterator[float]) -> None:
        self.said = said

    def heard(self) -> float | None:
        return next(self.said)


class TwoCores(ThisMachine):
    """A machine with two cores, on which `pip` uses one of them for so many looks."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.looks = 0
        self.pip_seconds = 0.0
        self.last = 0.0

    def look(self) -> Look:
        self.looks += 1
        if self.looks <= self.world.busy_looks:
            self.pip_seconds += self.world.seconds - self.last
        self.last = self.world.seconds
        return Look(round(self.world.seconds * 1e9), {7: self.pip_seconds}, {7: "pip"}, frozenset())

    def pause(self, seconds: float) -> None:
        self.world.seconds += seconds

    def usable_cores(self) -> int:
        return 1  # so that workers are asked in one order

    def visible_cores(self) -> int:
        return 2


class Worlds(Local):
    """Starts the processes of a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.machine = TwoCores(world)

    def worker(self, limits: Limits, python: str | None = None) -> FakeChild:
        return FakeChild(self.world, limits, python)


@dataclass
class Watcher:
    """Notes what it is told; asks to stop after so many blocks."""

    stop_after: int = 10**9
    told: list[tuple[str, int, int]] = field(default_factory=list)
    stages: list[tuple[str, str]] = field(default_factory=list)
    ended: list[tuple[int, int | None]] = field(default_factory=list)
    waits: list[Neighbours] = field(default_factory=list)

    def entered(self, case: Case, stage: str) -> None:
        self.stages.append((f"b{case.shape['batch']}", stage))

    def measured(self, case: Case, latency_ns: float, rounds: int, replicate: int) -> None:
        self.told.append((f"b{case.shape['batch']}", rounds, replicate))

    def replicate_ended(self, cases: int, seconds: float, more: int | None) -> None:
        self.ended.append((cases, more))

    def waiting(self, neighbours: Neighbours) -> None:
        self.waits.append(neighbours)

    def stopping(self) -> bool:
        return len(self.told) >= self.stop_after


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()

    class Watch:
        def __init__(self) -> None:
            self.since = made.seconds

        @classmethod
        def start(cls) -> Watch:
            return cls()

        def seconds(self) -> float:
            return made.seconds - self.since

    monkeypatch.setattr(rounds.clock, "Stopwatch", Watch)
    return made


def ready(batch: int, size_bytes: int = 0) -> Ready:
    artifact = Artifact("k", "onnx", "fp32", (Step("onnx"),), {}, size_bytes, "", 0.0)
    content = {"noise_floor": 0.0, "samples": 4, "shapes": []}
    return Ready(cases.case("onnx", batch=batch), artifact, Path("a"), Path("r"), content, Path("c"))


def together(
    world: World,
    names: Sequence[int],
    plan: MeasurePlan = PLAN,
    watcher: Watcher | None = None,
    session: str = "s",
    baseline: int | None = None,
) -> dict[str, Measured]:
    """How each case came out, by its short name; without a baseline unless one is named."""
    items = [ready(batch) for batch in names]
    compared_with = "" if baseline is None else ready(baseline).case.id
    settings = Settings(plan, ParityPlan(), session, compared_with, launcher=Worlds(world))
    found = rounds.measure_together(items, settings, watcher or Watcher())
    return {f"b{item.case.shape['batch']}": found[item.case.id] for item in items}


def test_every_round_asks_each_case_once_in_a_shuffled_order(world: World) -> None:
    together(world, [1, 2, 3], replace(ONCE, precision=-1.0, budget_seconds=8.0))
    order = world.blocks()
    by_round = [order[i : i + 3] for i in range(0, len(order), 3)]
    assert all(sorted(names) == ["b1", "b2", "b3"] for names in by_round)
    assert len({tuple(names) for names in by_round}) == 6


def test_the_order_is_that_of_the_session(world: World) -> None:
    plan = replace(PLAN, precision=-1.0, budget_seconds=2.0)
    together(world, [1, 2, 3], plan, session="a")
    first = world.blocks()
    world.asked.clear()
    together(world, [1, 2, 3], plan, session="a")
    assert world.blocks() == first
    world.asked.clear()
    together(world, [1, 2, 3], plan, session="b")
    assert world.blocks() != first


def test_all_are_loaded_side_by_side_before_the_first_block(world: World) -> None:
    together(world, [1, 2], ONCE)
    verbs = [verb for _, verb in world.asked]
    assert verbs[:5] == ["open", "open", "warm_up", "warm_up", "block"]


def test_each_replicate_is_a_fresh_process(world: World) -> None:
    found = together(world, [1, 2], replace(PLAN, replicates=3))
    assert world.started == ["b1", "b2"] * 3
    assert [r.index for r in found["b1"].measurement.replicates] == [0, 1, 2]  # type: ignore[union-attr]
    assert world.alive == set()


def test_a_measurement_keeps_what_the_process_said(world: World) -> None:
    (measurement,) = (m.measurement for m in together(world, [1]).values())
    assert measurement is not None
    assert (measurement.session, measurement.placement) == ("s", {"CPU": 7})
    assert measurement.versions == {"onnxruntime": "1"}
    first = measurement.replicates[0]
    assert (first.load_seconds, first.settled, first.memory) == (0.5, True, Memory(1, 2, 3))
    assert first.warm_up == (Block(0, 0, 9, (8,)),)
    assert [block.round for block in first.blocks] == [0, 1, 2]
    assert first.blocks[0] == Block(0, 0, 2_000_000, (1_000_000,) * 50, QUIET)


def test_memory_is_asked_after_the_blocks_and_before_the_shapes_of_parity(world: World) -> None:
    """And parity once: it is the same in every process."""
    together(world, [1])
    verbs = [verb for _, verb in world.asked]
    assert verbs == [
        "open",
        "warm_up",
        *["block"] * 3,
        "memory",
        "verify",
        "open",
        "warm_up",
        *["block"] * 3,
        "memory",
    ]


def test_rounds_end_when_every_case_is_known_precisely_enough(world: World) -> None:
    """Without any spread three rounds are enough, the fewest that have an interval."""
    found = together(world, [1, 2], replace(PLAN, budget_seconds=1000.0))
    assert found["b1"].measurement is not None
    assert found["b1"].measurement.stopped_by == "precision"
    assert [len(r.blocks) for r in found["b1"].measurement.replicates] == [3, 3]


def test_one_noisy_case_keeps_all_going_until_the_budget_is_spent(world: World) -> None:
    """Two cases of 4 s in two processes each: 4 s a replicate, 0.25 s a round."""
    world.latency_ns = lambda name, n: 1_000_000 * (1 + n % 3) if name == "b2" else 1_000_000
    found = together(world, [1, 2], replace(PLAN, budget_seconds=4.0))
    for measured in found.values():
        assert measured.measurement is not None
        assert measured.measurement.stopped_by == "budget"
        assert [len(r.blocks) for r in measured.measurement.replicates] == [16, 16]


def drifting(name: str, n: int) -> int:
    """Every case is slower from block to block, by as much as the others."""
    return 1_000_000 + 50_000 * n


def test_the_ratio_to_the_baseline_decides_and_drift_is_not_in_it(world: World) -> None:
    """Without a baseline it is the median that must be known, and drift keeps it from being so."""
    world.latency_ns = drifting
    plan = replace(PLAN, budget_seconds=4.0)
    ratio = together(world, [1, 2], plan, baseline=1)["b2"].measurement
    median = together(world, [1, 2], plan)["b2"].measurement
    assert ratio is not None
    assert median is not None
    assert (ratio.stopped_by, [len(r.blocks) for r in ratio.replicates]) == ("precision", [3, 3])
    assert (median.stopped_by, [len(r.blocks) for r in median.replicates]) == ("budget", [16, 16])


def test_a_baseline_alone_must_have_its_own_median_known(world: World) -> None:
    world.latency_ns = drifting
    found = together(world, [1], replace(PLAN, budget_seconds=4.0), baseline=1)["b1"].measurement
    assert found is not None
    assert (found.stopped_by, [len(r.blocks) for r in found.replicates]) == ("budget", [16, 16])


def alternating(world: World, share: float) -> Callable[[str, int], int]:
    """Processes of b2 are by turns slower and faster than those of b1, by this share."""

    def latency_ns(name: str, n: int) -> int:
        sign = (-1) ** world.started.count("b2")
        return round(1_000_000 * (1 + sign * share)) if name == "b2" else 1_000_000

    return latency_ns


@pytest.mark.parametrize(
    ("share", "processes", "stopped_by", "more"),
    [
        (0.0, 3, "precision", [None, None, 0]),
        (0.01, 4, "precision", [None, None, 3, 0]),
        (0.05, 6, "budget", [None, None, 3, 2, 1, 0]),
    ],
)
def test_more_processes_follow_while_the_ratio_is_not_known_and_as_many_as_the_plan_allows(
    world: World, share: float, processes: int, stopped_by: str, more: list[int | None]
) -> None:
    """Three to six. Processes that differ by 1 % are known to 1.8 % when there are four."""
    world.latency_ns = alternating(world, share)
    watcher = Watcher()
    plan = replace(PLAN, replicates=3, most_replicates=6, budget_seconds=1000.0)
    for measured in together(world, [1, 2], plan, watcher, baseline=1).values():
        assert measured.measurement is not None
        assert measured.measurement.stopped_by == stopped_by
        assert [r.index for r in measured.measurement.replicates] == list(range(processes))
    assert watcher.ended == [(2, m) for m in more]


def test_more_processes_follow_only_while_the_budget_lasts(world: World) -> None:
    """Three rounds of 0.125 s a case are 0.375 s: there is time for five such processes, not for six."""
    world.latency_ns = alternating(world, 0.05)
    plan = replace(PLAN, replicates=2, most_replicates=12, budget_seconds=2.2)
    found = together(world, [1, 2], plan, baseline=1)["b2"].measurement
    assert found is not None
    assert found.stopped_by == "budget"
    assert [len(r.blocks) for r in found.replicates] == [3] * 5


def test_nobody_looks_before_the_fewest_processes_are_there(world: World) -> None:
    """However well the first two agree."""
    found = together(world, [1, 2], replace(PLAN, replicates=5), baseline=1)["b2"].measurement
    assert found is not None
    assert len(found.replicates) == 5


@pytest.mark.parametrize(
    ("block_seconds", "expected"), [(0.125, 5), (1.0, 6), (2.0, 5), (3.0, 4), (5.0, 2), (60.0, 2)]
)
def test_slow_blocks_are_fewer_but_never_fewer_than_two(
    world: World, block_seconds: float, expected: int
) -> None:
    """The default plan: a share of 6 s, of which at least five rounds may take double.

    The ratio is known at once, but for the second: there it is not, and the share is used up.
    """
    world.block_seconds = block_seconds
    if block_seconds == 1.0:
        world.latency_ns = lambda name, n: 1_000_000 * (1 + n % 3) if name == "b2" else 1_000_000
    found = together(world, [1, 2], MeasurePlan(), baseline=1)["b2"].measurement
    assert found is not None
    assert [len(r.blocks) for r in found.replicates] == [expected] * 5


def test_when_the_baseline_fails_the_others_go_by_their_own_medians(world: World) -> None:
    world.latency_ns = drifting
    world.failures["b1", "memory"] = ChildDied("killed")
    found = together(world, [1, 2], replace(PLAN, budget_seconds=4.0), baseline=1)
    assert found["b1"].measurement is None
    assert found["b2"].measurement is not None
    assert [len(r.blocks) for r in found["b2"].measurement.replicates] == [3, 16]


def test_of_a_round_that_was_measured_again_the_last_block_counts() -> None:
    blocks = [Block(0, 0, 0, (9,), disturbed="loud"), Block(0, 0, 0, (5,)), Block(1, 0, 0, (6,))]
    assert stopping.medians_by_round(blocks) == {0: 5.0, 1: 6.0}


def test_rounds_that_only_one_of_the_two_has_are_left_out() -> None:
    ours, theirs = {0: 2.0, 1: 4.0, 2: 6.0, 7: 1.0}, {3: 1.0, 0: 1.0, 1: 2.0, 2: 3.0}
    assert stopping.process_half_width(ours, theirs, 0.95) == 0.0
    assert stopping.process_half_width(ours, {0: 1.0, 1: 2.0}, 0.95) == math.inf
    assert stopping.group_half_width([[theirs, theirs], [ours, ours]], 0, 0.95) == 0.0
    assert stopping.group_half_width([[theirs], [ours]], 0, 0.95) == math.inf


@pytest.mark.parametrize(
    ("replicates", "seconds", "expected"),
    [(0, 0.0, (6.0, 12.0)), (4, 24.0, (6.0, 12.0)), (5, 20.0, (6.0, 10.0)), (9, 27.0, (3.0, 3.0))],
)
def test_the_fewest_processes_have_equal_shares_and_others_what_is_left(
    replicates: int, seconds: float, expected: tuple[float, float]
) -> None:
    """30 s for five to twelve."""
    assert stopping.allowance(replicates, seconds, MeasurePlan()) == stopping.Allowance(*expected)


@pytest.mark.parametrize(
    ("replicates", "seconds", "half_width", "expected"),
    [
        (4, 8.0, 0.001, None),  # nobody has looked
        (5, 10.0, 0.02, 0),
        (5, 10.0, 0.025, 3),  # 5 * (2.5 / 2)^2 = 7.8
        (5, 10.0, 0.10, 7),  # twelve at most
        (5, 20.0, 0.10, 2),  # of 4 s each: seven in 30 s
        (5, 29.0, 0.10, 0),
        (5, 10.0, math.inf, 7),
        (12, 24.0, 0.10, 0),
        (5, 0.0, 0.10, 7),  # no time at all was taken
    ],
)
def test_how_many_processes_are_to_come(
    replicates: int, seconds: float, half_width: float, expected: int | None
) -> None:
    """And 0 is where measuring stops."""
    plan = MeasurePlan()
    assert stopping.replicates_to_come(replicates, seconds, half_width, plan) == expected
    stopped_by = stopping.replicates_stop(replicates, seconds, half_width, plan)
    assert (stopped_by is not None) == (expected == 0)


def test_a_budget_that_is_too_small_still_gives_the_fewest_rounds(world: World) -> None:
    found = together(world, [1], replace(PLAN, budget_seconds=0.0, min_rounds=2))
    assert found["b1"].measurement is not None
    assert [len(r.blocks) for r in found["b1"].measurement.replicates] == [2, 2]


def test_what_the_reference_notes_is_in_the_parity(world: World) -> None:
    """Why something was not looked at: the builder knows it, the worker does not."""
    item = ready(1)
    noted = replace(item, reference_content={**item.reference_content, "notes": ["no accuracy: why"]})
    found = rounds.measure_together(
        [noted], Settings(PLAN, ParityPlan(), "s", launcher=Worlds(world)), Watcher()
    )[item.case.id]
    assert found.parity == replace(PARITY, notes=("no accuracy: why",))


def test_an_interrupt_finishes_what_is_in_hand_and_begins_no_other(world: World) -> None:
    """Two processes give an interval; with one, nobody could ever say anything of the case."""
    watcher = Watcher(stop_after=1)
    found = together(world, [1, 2], replace(PLAN, replicates=3), watcher)
    for measured in found.values():
        assert measured.measurement is not None
        assert measured.measurement.stopped_by == "interrupt"
        assert [len(r.blocks) for r in measured.measurement.replicates] == [2, 2]
        assert measured.parity == PARITY
    assert world.alive == set()


def test_an_interrupt_of_a_plan_of_one_process_begins_no_other(world: World) -> None:
    found = together(world, [1], replace(PLAN, replicates=1), Watcher(stop_after=1))
    assert found["b1"].measurement is not None
    assert len(found["b1"].measurement.replicates) == 1


def test_an_interrupt_before_the_first_replicate_starts_nothing(world: World) -> None:
    found = together(world, [1], watcher=Watcher(stop_after=0))
    assert world.started == []
    assert found["b1"].measurement is not None
    assert found["b1"].measurement.replicates == ()


@pytest.mark.parametrize(
    ("verb", "stage"),
    [
        ("open", "load"),
        ("warm_up", "measure"),
        ("block", "measure"),
        ("memory", "measure"),
        ("verify", "verify"),
    ],
)
@pytest.mark.parametrize(
    "error",
    [ChildDied("killed by SIGKILL"), StageError("out of memory"), Unavailable("no such device", "buy one")],
)
def test_a_failing_worker_ends_its_case_with_the_stage_and_no_other(
    world: World, verb: str, stage: str, error: StageError | Unavailable
) -> None:
    world.failures["b2", verb] = error
    found = together(world, [1, 2, 3])
    assert (found["b2"].stage, found["b2"].error, found["b2"].measurement) == (stage, error, None)
    assert world.started.count("b2") == 1
    for name in ("b1", "b3"):
        assert found[name].error is None
        assert [len(r.blocks) for r in found[name].measurement.replicates] == [3, 3]  # type: ignore[union-attr]
    assert world.alive == set()


def test_a_group_of_which_every_worker_fails_ends(world: World) -> None:
    world.failures = {(name, "block"): ChildDied("killed") for name in ("b1", "b2")}
    found = together(world, [1, 2])
    assert [m.stage for m in found.values()] == ["measure", "measure"]


def test_a_worker_that_cannot_be_started_fails_in_load(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_launcher: Worlds, _limits: Limits, _python: str | None) -> Any:
        raise ChildDied("cannot start python9: No such file or directory")

    monkeypatch.setattr(Worlds, "worker", refuse)
    found = together(world, [1])
    assert (found["b1"].stage, str(found["b1"].error)) == (
        "load",
        "cannot start python9: No such file or directory",
    )


def test_no_process_outlives_an_error_of_the_watcher(world: World) -> None:
    class Broken(Watcher):
        def measured(self, *_: Any) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        together(world, [1, 2], watcher=Broken())
    assert world.alive == set()


def test_limits_are_those_of_the_plan_and_the_interpreter_that_of_the_case(world: World) -> None:
    plan = replace(ONCE, memory_limit_bytes=5 * MIB, timeout_seconds=7.0)
    item = ready(1)
    item = replace(item, case=replace(item.case, backend=replace(item.case.backend, python="/x/python")))
    rounds.measure_together([item], Settings(plan, ParityPlan(), "s", launcher=Worlds(world)), Watcher())
    assert world.limits == [(Limits(5 * MIB, 7.0), "/x/python")]


def test_a_disturbed_block_is_measured_again_twice_and_all_are_kept(world: World) -> None:
    """Of 0.1 s on two cores others used 0.19 s, in the first three blocks."""
    loud = replace(QUIET, others_cpu_seconds=0.19)
    world.latency_ns = lambda name, n: 2_000_000  # 52 of them: 0.104 s
    world.noise = lambda name, n: loud if n <= 3 else QUIET
    found = together(world, [1], ONCE)
    blocks = found["b1"].measurement.replicates[0].blocks  # type: ignore[union-attr]
    assert [(b.round, b.disturbed) for b in blocks[:4]] == [
        *[(0, "other processes used 91% of the CPU")] * 3,
        (1, ""),
    ]


def test_what_was_held_up_is_measured_again_when_the_machine_is_quiet(world: World) -> None:
    """`pip` uses a whole core until a tenth of a second after the block, and its name is kept."""
    world.latency_ns = lambda name, n: 2_000_000
    world.noise = lambda name, n: replace(QUIET, others_cpu_seconds=0.19) if n == 1 else QUIET
    world.busy_looks = 4
    watcher = Watcher()
    found = together(world, [1], ONCE, watcher=watcher)
    measurement = found["b1"].measurement
    assert measurement is not None
    assert [block.round for block in measurement.replicates[0].blocks[:3]] == [0, 0, 1]
    assert [(seen.busiest, seen.cores) for seen in watcher.waits] == [(("pip", 1.0), 1.0)]
    assert measurement.neighbours == {"pip": pytest.approx(0.225 / 0.325)}


def test_beside_a_neighbour_that_never_stops_waiting_ends_with_the_patience(world: World) -> None:
    """Ten seconds for one process, and three quarters of them again for waiting and for repeating."""
    world.latency_ns = lambda name, n: 2_000_000 + n
    world.noise = lambda name, n: replace(QUIET, others_cpu_seconds=0.19)
    world.busy_looks = 10**9
    found = together(world, [1], replace(ONCE, precision=0.0))
    blocks = found["b1"].measurement.replicates[0].blocks  # type: ignore[union-attr]
    assert all(block.disturbed for block in blocks)
    assert world.seconds == pytest.approx(10.0 + stopping.PATIENCE * 10.0, abs=0.5)


def test_the_pace_stands_beside_each_block_and_slow_blocks_are_not_repeated(world: World) -> None:
    paces = chain([1.0, 1.6], repeat(1.0))
    plan = replace(ONCE, min_rounds=3)
    settings = Settings(plan, ParityPlan(), "s", launcher=Worlds(world), pace=Paces(paces))
    found = rounds.measure_together([ready(1)], settings, Watcher())
    (measured,) = found.values()
    blocks = measured.measurement.replicates[0].blocks  # type: ignore[union-attr]
    assert [(block.round, block.pace) for block in blocks[:3]] == [(0, 1.0), (1, 1.6), (2, 1.0)]


def test_the_watcher_hears_of_every_round(world: World) -> None:
    watcher = Watcher()
    together(world, [1], watcher=watcher)
    assert watcher.told == [("b1", r, i) for i in (0, 1) for r in (1, 2, 3)]
    assert watcher.stages == [("b1", "load"), ("b1", "verify"), ("b1", "load")]
    assert watcher.ended == [(1, None), (1, 0)]


@pytest.mark.parametrize(
    ("noise", "expected"),
    [
        (Noise(), ""),
        (QUIET, ""),
        (replace(QUIET, throttle_count=2), "the CPU throttled 2 times"),
        (
            replace(QUIET, gpu_throttle="sw power cap, hw thermal slowdown"),
            "the GPU throttled: hw thermal slowdown",
        ),
        (replace(QUIET, others_cpu_seconds=2.0), "other processes used 100% of the CPU"),
        (replace(QUIET, steal_seconds=1.0), "the hypervisor took 50% of the CPU"),
    ],
)
def test_what_disturbed_a_block_is_said_in_words(noise: Noise, expected: str) -> None:
    """A block of one second on two cores."""
    assert disturbance(Block(0, 0, 500_000_000, (500_000_000,), noise), cores=2) == expected


def test_cases_sit_together_as_far_as_memory_goes_and_the_baseline_in_every_sitting() -> None:
    """Each takes 300 MiB and twice its weights: 320 MiB for 10 MiB."""
    base, *others = [ready(n, 10 * MIB) for n in range(1, 5)]
    assert base.expected_bytes == 320 * MIB
    everything = [base, *others]
    assert sittings(everything, base, 4 * 320 * MIB) == ((base, *others),)
    assert sittings(everything, base, 3 * 320 * MIB) == ((base, *others[:2]), (base, others[2]))
    assert sittings(everything, base, 2 * 320 * MIB) == tuple((base, other) for other in others)


def test_a_case_that_is_too_large_for_the_budget_is_measured_all_the_same() -> None:
    base, big, small = ready(1), ready(2, 10**12), ready(3)
    assert sittings([base, big, small], base, MIB) == ((base, big), (base, small))


def test_without_a_baseline_every_case_sits_once() -> None:
    items = [ready(n) for n in (1, 2, 3)]
    assert sittings(items, None, 601 * MIB) == ((items[0], items[1]), (items[2],))


def test_a_baseline_alone_is_a_sitting() -> None:
    base = ready(1)
    assert sittings([base], base, 10**12) == ((base,),)
