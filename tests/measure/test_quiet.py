"""Waiting until nobody else uses the machine: with a machine and a clock that the test controls."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from benchbox.machine.launcher import ThisMachine
from benchbox.machine.neighbours import Look
from benchbox.measure import quiet
from benchbox.measure.quiet import Patience, Witness, wait_for_quiet
from benchbox.schema.seen import Neighbours


@dataclass
class Scripted(ThisMachine):
    """`pip` uses `cores` cores until `until_seconds`."""

    cores: float
    until_seconds: float
    now: float = 0.0

    def look(self) -> Look:
        used = self.cores * min(self.now, self.until_seconds)
        return Look(round(self.now * 1e9), {7: used}, {7: "pip"}, frozenset())

    def pause(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def wait(monkeypatch):
    def waited(machine: Scripted, patience: Patience) -> tuple[bool, list[Neighbours], dict[str, float]]:
        class Watch:
            @classmethod
            def start(cls) -> Watch:
                watch = cls()
                watch.since = machine.now
                return watch

            def seconds(self) -> float:
                return machine.now - self.since

        monkeypatch.setattr(quiet.clock, "Stopwatch", Watch)
        told: list[Neighbours] = []
        witness = Witness.of(machine)
        return wait_for_quiet(witness, patience, told.append), told, witness.blamed()

    return waited


def test_a_burst_is_waited_for_and_its_name_is_kept(wait):
    patience = Patience(60.0)
    became_quiet, told, blamed = wait(Scripted(0.9, until_seconds=1.0), patience)
    assert became_quiet
    assert [round(seen.cores, 3) for seen in told] == [0.9] * 10
    assert told[0].busiest == ("pip", pytest.approx(0.9))
    assert blamed == {"pip": pytest.approx(0.9 * 10 / 11)}
    assert patience.seconds == pytest.approx(60 - 1.1)


def test_who_never_stops_is_waited_for_less_and_less(wait):
    machine, patience = Scripted(1.0, until_seconds=1e9), Patience(9.0)
    waits = []
    for _ in range(6):
        before = machine.now
        became_quiet, _, _ = wait(machine, patience)
        waits.append(round(machine.now - before, 1))
        assert not became_quiet
    assert waits == [5.0, 2.5, 1.2, 0.3, 0.0, 0.0]  # until nine seconds are spent


def test_what_an_idle_system_does_is_quiet(wait):
    became_quiet, told, _ = wait(Scripted(0.1, until_seconds=1e9), Patience(9.0))
    assert (became_quiet, told) == (True, [])
