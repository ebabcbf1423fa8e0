"""How fast the machine is, by what the canary says: its process is the test's own, or a real one."""

from __future__ import annotations

from typing import Any

import pytest

from benchbox.errors import ChildDied
from benchbox.machine.launcher import LOCAL, Local
from benchbox.measure.pace import Pace


class Scripted(Local):
    """A launcher whose canary takes so long, song after song; it dies where there is none left."""

    def __init__(self, *songs: tuple[int | None, int | None]) -> None:
        self.songs = list(songs)
        self.killed = 0

    def worker(self, limits: Any, python: str | None = None) -> Scripted:
        return self

    def ask(self, verb: str, **content: Any) -> dict[str, Any]:
        if not self.songs:
            raise ChildDied("gone")
        cores_ns, memory_ns = self.songs.pop(0)
        return {"cores_ns": cores_ns, "memory_ns": memory_ns}

    def kill(self) -> None:
        self.killed += 1


def test_the_pace_is_the_slower_part_over_its_own_quartile():
    launcher = Scripted(*[(100, 400)] * 8, (110, 600), (130, 400), (100, 400))
    with Pace(launcher) as pace:
        assert [pace.heard(), pace.heard(), pace.heard()] == [1.5, 1.3, 1.0]
    assert launcher.killed == 1


def test_a_song_during_which_somebody_had_a_core_says_nothing():
    with Pace(Scripted(*[(100, 400)] * 8, (None, 400), (100, 400))) as pace:
        assert [pace.heard(), pace.heard()] == [None, 1.0]


def test_without_a_canary_nobody_knows_the_pace():
    with Pace(Scripted(*[(100, 400)] * 8)) as pace:
        assert [pace.heard(), pace.heard()] == [None, None]


def test_a_real_canary_sings():
    with Pace(LOCAL) as pace:
        found = [pace.heard() for _ in range(3)]
    known = [value for value in found if value is not None]
    assert all(0.2 < value < 20 for value in known)
    assert pace._cores_ns  # it was heard at least once
    assert min(pace._memory_ns) > 100_000


@pytest.mark.parametrize("threads", [1, 2])
def test_each_voice_has_arrays_of_its_own_and_allocates_nothing_while_it_sings(threads):
    import tracemalloc

    from benchbox.measure.canary import Canary

    canary = Canary(threads)
    canary.sing()
    tracemalloc.start()
    canary.sing()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000
