"""What is not the same for several runs: facts of their machines, and how was measured and judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchbox.schema.seen import Environment


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
    """What the suites, as they were resolved, say under `measure` and `parity`: a fact a leaf."""
    return _differing([_setting_facts(suite) if suite else None for suite in suites])


def _setting_facts(suite: Mapping[str, Any]) -> dict[str, str]:
    parts = ("measure", "parity")
    return {name: _said(value) for part in parts for name, value in _leaves(suite.get(part), part)}


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
    limit = environment.memory_limit_bytes
    facts = {
        "CPU": environment.cpu_model,
        "cores": str(environment.cpu_count),
        "core limit": "" if environment.cpu_limit is None else f"{environment.cpu_limit:g}",
        "memory": f"{environment.memory_bytes / 2**30:.1f} GiB",
        "memory limit": "" if limit is None else f"{limit / 2**30:.1f} GiB",
        "governor": environment.governor or "",
        "virtualized": environment.virtualized or "",
        "CPU features": " ".join(sorted({*environment.cpu_features} - shared)),
        "GPUs": ", ".join(str(gpu.get("name", "GPU")) for gpu in environment.gpus),
        "GPU driver": environment.driver or "",
        "kernel": environment.kernel,
        "Python": environment.python,
        "benchbox": environment.benchbox,
        "commit": environment.git_commit or "",
    }
    return facts | {f"package {name}": value for name, value in environment.packages.items()}


def _leaves(value: Any, name: str) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        inner = [(f"{name}.{key}", item) for key, item in value.items()]
        return [leaf for key, item in inner for leaf in _leaves(item, key)]
    return [(name, value)]


def _said(value: Any) -> str:
    return "none" if value is None else str(value)
