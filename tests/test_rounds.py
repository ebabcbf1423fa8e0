"""Measuring together, with processes and a clock that the test controls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

import cases
from benchbox import rounds
from benchbox.errors import ChildDied, StageError, Unavailable
from benchbox.process import Limits
from benchbox.rounds import Measured, Ready, Settings, disturbance, sittings
from benchbox.schema import (
    Artifact,
    Block,
    Case,
    MeasurePlan,
    Memory,
    Noise,
    OutputParity,
    Parity,
    ParityPlan,
    Step,
    Tolerance,
)

MIB = 2**20
PARITY = Parity(True, "fp32", Tolerance(), 0.0, 4, (OutputParity("logits", {"batch": 1}, 0, 0, 0, 1, None),))
QUIET = Noise(0.0, 0, 0.0, None, 0)
PLAN = MeasurePlan(budget_seconds=10.0, precision=0.02, replicates=2, min_rounds=2, block_seconds=0.1)


@dataclass
class World:
    """A clock, what every process was asked in order, and what each case's processes answer."""

    seconds: float = 0.0
    asked: list[tuple[str, str]] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    alive: set[int] = field(default_factory=set)
    latency_ns: Callable[[str, int], int] = lambda title, n: 1_000_000
    noise: Callable[[str, int], Noise] = lambda title, n: QUIET
    failures: dict[tuple[str, str], Exception] = field(default_factory=dict)
    limits: list[Limits] = field(default_factory=list)

    def blocks(self) -> list[str]:
        return [name for name, verb in self.asked if verb == "block"]


class FakeChild:
    """A process of a world; a case is known by its batch: `b1`, `b2` ..."""

    world: World

    def __init__(self, role: str, limits: Limits) -> None:
        self.world.limits.append(limits)
        self.world.alive.add(id(self))
        self.name = ""
        self.count = 0

    def ask(self, verb: str, **content: Any) -> dict[str, Any]:
        if verb == "open":
            self.name = f"b{content['case']['shape']['batch']}"
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
        self.world.seconds += 0.125
        latency = self.world.latency_ns(self.name, self.count)
        noise = self.world.noise(self.name, self.count)
        return {"block": asdict(Block(content["round"], 0, 2 * latency, (latency,) * 50, noise))}

    def memory(self, content: Any) -> dict[str, Any]:
        return asdict(Memory(1, 2, 3))

    def verify(self, content: Any) -> dict[str, Any]:
        return {"parity": asdict(PARITY), "placement": {"CPU": 7}}


@dataclass
class Watcher:
    """Notes what it is told; asks to stop after so many blocks."""

    stop_after: int = 10**9
    told: list[tuple[str, int, int]] = field(default_factory=list)
    stages: list[tuple[str, str]] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)

    def entered(self, case: Case, stage: str) -> None:
        self.stages.append((f"b{case.shape['batch']}", stage))

    def measured(self, case: Case, latency_ns: float, rounds: int, replicate: int) -> None:
        self.told.append((f"b{case.shape['batch']}", rounds, replicate))

    def replicate_ended(self, cases: int, seconds: float) -> None:
        self.ended.append(cases)

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

    monkeypatch.setattr(rounds.measure, "Stopwatch", Watch)
    monkeypatch.setattr(rounds, "Child", type("Bound", (FakeChild,), {"world": made}))
    monkeypatch.setattr(rounds.environment, "usable_cores", lambda: 2)
    return made


def ready(batch: int, size_bytes: int = 0) -> Ready:
    artifact = Artifact("k", "onnx", "fp32", (Step("onnx"),), {}, size_bytes, "", 0.0)
    content = {"noise_floor": 0.0, "samples": 4, "shapes": []}
    return Ready(cases.case("onnx", batch=batch), artifact, Path("a"), Path("r"), content, Path("c"))


def together(
    names: Sequence[int], plan: MeasurePlan = PLAN, watcher: Watcher | None = None, session: str = "s"
) -> dict[str, Measured]:
    """How each case came out, by its short name."""
    items = [ready(batch) for batch in names]
    found = rounds.measure_together(items, Settings(plan, ParityPlan(), session), watcher or Watcher())
    return {f"b{item.case.shape['batch']}": found[item.case.id] for item in items}


def test_every_round_asks_each_case_once_in_a_shuffled_order(world: World) -> None:
    together([1, 2, 3], replace(PLAN, precision=-1.0, budget_seconds=8.0, replicates=1))
    order = world.blocks()
    by_round = [order[i : i + 3] for i in range(0, len(order), 3)]
    assert all(sorted(names) == ["b1", "b2", "b3"] for names in by_round)
    assert len({tuple(names) for names in by_round}) == 6


def test_the_order_is_that_of_the_session(world: World) -> None:
    plan = replace(PLAN, precision=-1.0, budget_seconds=2.0)
    together([1, 2, 3], plan, session="a")
    first = world.blocks()
    world.asked.clear()
    together([1, 2, 3], plan, session="a")
    assert world.blocks() == first
    world.asked.clear()
    together([1, 2, 3], plan, session="b")
    assert world.blocks() != first


def test_all_are_loaded_side_by_side_before_the_first_block(world: World) -> None:
    together([1, 2], replace(PLAN, replicates=1))
    verbs = [verb for _, verb in world.asked]
    assert verbs[:4] == ["open", "warm_up", "open", "warm_up"]
    assert verbs[4] == "block"


def test_each_replicate_is_a_fresh_process(world: World) -> None:
    found = together([1, 2], replace(PLAN, replicates=3))
    assert world.started == ["b1", "b2"] * 3
    assert [r.index for r in found["b1"].measurement.replicates] == [0, 1, 2]  # type: ignore[union-attr]
    assert world.alive == set()


def test_a_measurement_keeps_what_the_process_said(world: World) -> None:
    (measurement,) = (m.measurement for m in together([1]).values())
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
    together([1])
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
    found = together([1, 2], replace(PLAN, budget_seconds=1000.0))
    assert found["b1"].measurement is not None
    assert found["b1"].measurement.stopped_by == "precision"
    assert [len(r.blocks) for r in found["b1"].measurement.replicates] == [3, 3]


def test_one_noisy_case_keeps_all_going_until_the_budget_is_spent(world: World) -> None:
    """Two cases of 4 s in two processes each: 4 s a replicate, 0.25 s a round."""
    world.latency_ns = lambda name, n: 1_000_000 * (1 + n % 3) if name == "b2" else 1_000_000
    found = together([1, 2], replace(PLAN, budget_seconds=4.0))
    for measured in found.values():
        assert measured.measurement is not None
        assert measured.measurement.stopped_by == "budget"
        assert [len(r.blocks) for r in measured.measurement.replicates] == [16, 16]


def test_a_budget_that_is_too_small_still_gives_the_fewest_rounds(world: World) -> None:
    found = together([1], replace(PLAN, budget_seconds=0.0, min_rounds=2))
    assert found["b1"].measurement is not None
    assert [len(r.blocks) for r in found["b1"].measurement.replicates] == [2, 2]


def test_an_interrupt_finishes_the_replicate_in_hand_and_begins_no_other(world: World) -> None:
    watcher = Watcher(stop_after=1)
    found = together([1, 2], replace(PLAN, replicates=3), watcher)
    for measured in found.values():
        assert measured.measurement is not None
        assert measured.measurement.stopped_by == "interrupt"
        assert [len(r.blocks) for r in measured.measurement.replicates] == [2]
        assert measured.parity == PARITY
    assert world.alive == set()


def test_an_interrupt_before_the_first_replicate_starts_nothing(world: World) -> None:
    found = together([1], watcher=Watcher(stop_after=0))
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
    found = together([1, 2, 3])
    assert (found["b2"].stage, found["b2"].error, found["b2"].measurement) == (stage, error, None)
    assert world.started.count("b2") == 1
    for name in ("b1", "b3"):
        assert found[name].error is None
        assert [len(r.blocks) for r in found[name].measurement.replicates] == [3, 3]  # type: ignore[union-attr]
    assert world.alive == set()


def test_a_group_of_which_every_worker_fails_ends(world: World) -> None:
    world.failures = {(name, "block"): ChildDied("killed") for name in ("b1", "b2")}
    found = together([1, 2])
    assert [m.stage for m in found.values()] == ["measure", "measure"]


def test_a_worker_that_cannot_be_started_fails_in_load(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(role: str, limits: Limits) -> Any:
        raise ChildDied("cannot start python9: No such file or directory")

    monkeypatch.setattr(rounds, "Child", refuse)
    found = together([1])
    assert (found["b1"].stage, str(found["b1"].error)) == (
        "load",
        "cannot start python9: No such file or directory",
    )


def test_no_process_outlives_an_error_of_the_watcher(world: World) -> None:
    class Broken(Watcher):
        def measured(self, *_: Any) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        together([1, 2], watcher=Broken())
    assert world.alive == set()


def test_limits_are_those_of_the_plan_and_the_interpreter_that_of_the_case(world: World) -> None:
    plan = replace(PLAN, replicates=1, memory_limit_bytes=5 * MIB, timeout_seconds=7.0)
    item = ready(1)
    item = replace(item, case=replace(item.case, backend=replace(item.case.backend, python="/x/python")))
    rounds.measure_together([item], Settings(plan, ParityPlan(), "s"), Watcher())
    assert world.limits == [Limits("/x/python", 5 * MIB, 7.0)]


def test_a_disturbed_block_is_measured_again_once_and_both_are_kept(world: World) -> None:
    """Of 0.1 s on two cores others used 0.19 s, in the first and the second block."""
    loud = replace(QUIET, others_cpu_seconds=0.19)
    world.latency_ns = lambda name, n: 2_000_000  # 52 of them: 0.104 s
    world.noise = lambda name, n: loud if n <= 2 else QUIET
    found = together([1], replace(PLAN, replicates=1))
    blocks = found["b1"].measurement.replicates[0].blocks  # type: ignore[union-attr]
    assert [(b.round, b.disturbed) for b in blocks[:3]] == [
        (0, "other processes used 91% of the CPU"),
        (0, "other processes used 91% of the CPU"),
        (1, ""),
    ]


def test_the_watcher_hears_of_every_round(world: World) -> None:
    watcher = Watcher()
    together([1], watcher=watcher)
    assert watcher.told == [("b1", r, i) for i in (0, 1) for r in (1, 2, 3)]
    assert watcher.stages == [("b1", "load"), ("b1", "verify"), ("b1", "load")]
    assert watcher.ended == [1, 1]


@pytest.mark.parametrize(
    ("noise", "expected"),
    [
        (Noise(), ""),
        (QUIET, ""),
        (replace(QUIET, throttle_count=2), "the CPU throttled 2 times"),
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
