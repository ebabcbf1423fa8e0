"""Where workers and builders run: a value that starts them, and answers for the machine that they run on.

Whoever measures, builds or plans is given a launcher, and asks nothing of the machine that it runs on itself:
`LOCAL` starts child processes here. One that starts them elsewhere is another class of this form.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from benchbox.machine import clock, environment, neighbours
from benchbox.machine.child import Child, Limits, Process
from benchbox.machine.neighbours import Look
from benchbox.schema.seen import Environment, Host


class Machine(Protocol):
    """What is asked of the machine that runs the workers."""

    def describe(self) -> Environment:
        """The machine and what is installed on it."""

    def host(self) -> Host:
        """What a pass may decide its defaults by."""

    def usable_cores(self) -> int:
        """How many threads can run at once."""

    def visible_cores(self) -> int:
        """The cores whose load is seen, whatever the share of them that may be used."""

    def available_memory_bytes(self) -> int:
        """What can be allocated without swapping."""

    def look(self) -> Look:
        """What every process on it has used of the CPU up to now."""

    def pause(self, seconds: float) -> None:
        """Returns so much later."""

    def path_there(self, path: Path) -> Path:
        """Where a file or folder of the machine that asks lies on this one: the suite's, the cache's."""


class Launcher(Protocol):
    """Starts workers and builders on one machine."""

    @property
    def machine(self) -> Machine:
        """The machine that they run on."""

    def worker(self, limits: Limits, python: str | None = None) -> Process:
        """A fresh worker, in the interpreter `python` (None: the one that runs benchbox).

        Raises ChildDied where it cannot be started.
        """

    def builder(self, limits: Limits) -> Process:
        """A fresh builder. Raises ChildDied where it cannot be started."""


class ThisMachine:
    """The machine that benchbox itself runs on."""

    def describe(self) -> Environment:
        """The machine and what is installed on it."""
        return environment.describe()

    def host(self) -> Host:
        """What a pass may decide its defaults by."""
        return environment.host()

    def usable_cores(self) -> int:
        """The cores that this process may use, or its CPU quota."""
        return environment.usable_cores()

    def visible_cores(self) -> int:
        """The cores that this process may run on."""
        return environment.visible_cores()

    def available_memory_bytes(self) -> int:
        """The machine's, or the container's where that is less."""
        return environment.available_memory_bytes()

    def look(self) -> Look:
        """All processes that this one can see."""
        return neighbours.look()

    def pause(self, seconds: float) -> None:
        """Sleeps."""
        clock.pause(seconds)

    def path_there(self, path: Path) -> Path:
        """The path itself, from the root: a child may work in another folder."""
        return path.absolute()


class Local:
    """Starts child processes on this machine: the one place where they are made."""

    machine: Machine = ThisMachine()

    def worker(self, limits: Limits, python: str | None = None) -> Process:
        """A child process that has loaded nothing yet."""
        return Child("benchbox.measure.worker", limits, python)

    def builder(self, limits: Limits) -> Process:
        """A child process of the interpreter that runs benchbox."""
        return Child("benchbox.build.builder", limits)


LOCAL = Local()
