"""What is not the same for several runs: facts of their machines, and how was measured and judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchbox.reporters import machines
from benchbox.schema.asked import plan_number
from benchbox.schema.seen import Environment, Record


@dataclass(frozen=True)
class Fact:
    """What is not the same for all runs: a text for each, empty where a run has none."""

    name: str
    values: tuple[str, ...]


def of_machines(environments: Sequence[Environment | None]) -> tuple[Fact, ...]:
    """The machines and what is installed on them; None is a machine that nothing is known of."""
    features = [set(environment.cpu_features) for environment in environments if environment]
    shared = set.intersection(*features) if features else set()
    return _differing([_machine_facts(e, shared) if e else None for e in environments])


def of_settings(suites: Sequence[Mapping[str, Any] | None]) -> tuple[Fact, ...]:
    """What the suites, as they were resolved, say under `measure` and `parity`: a fact a leaf.

    The confidence and the margin are those that were computed with.
    """
    return _differing([_setting_facts(suite) if suite else None for suite in suites])


# By what measuring stopped, in the words of `Measurement.statistics`, and in a reader's.
_STATISTICS = {"t": "Student's t, each case alone", "moderated": "moderated over the cases of a group"}


def of_statistics(runs: Sequence[Sequence[Record]]) -> tuple[Fact, ...]:
    """By which intervals each run decided when to stop, where that is not the same."""
    return _differing([_statistics(records) for records in runs])


def _statistics(records: Sequence[Record]) -> dict[str, str]:
    words = {record.measurement.statistics for record in records if record.measurement}
    said = "; ".join(sorted(_STATISTICS.get(word, word) for word in words))
    return {"intervals that measuring stopped by": said} if said else {}


def _setting_facts(suite: Mapping[str, Any]) -> dict[str, str]:
    parts = ("measure", "parity")
    said = {name: _said(value) for part in parts for name, value in _leaves(suite.get(part), part)}
    used = {f"measure.{name}": _said(plan_number(suite, name)) for name in ("confidence", "margin")}
    return said | used


def _differing(facts: Sequence[Mapping[str, str] | None]) -> tuple[Fact, ...]:
    """The facts whose values are not the same for all of which anything is known."""
    known = [each for each in facts if each is not None]
    names = dict.fromkeys(name for each in known for name in each)
    return tuple(
        Fact(name, tuple((each or {}).get(name, "") for each in facts))
        for name in names
        if len({each.get(name, "") for each in known}) > 1
    )


def _machine_facts(environment: Environment, shared: set[str]) -> dict[str, str]:
    """Of the CPU's features those that not all have; each package by itself."""
    packages = {f"package {name}": version for name, version in environment.packages.items()}
    features = {"CPU features": " ".join(sorted({*environment.cpu_features} - shared))}
    told = {**machines.facts(environment), **features}
    return {name: value for name, value in told.items() if name != "packages"} | packages


def _leaves(value: Any, name: str) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        inner = [(f"{name}.{key}", item) for key, item in value.items()]
        return [leaf for key, item in inner for leaf in _leaves(item, key)]
    return [(name, value)]


def _said(value: Any) -> str:
    return "none" if value is None else str(value)
