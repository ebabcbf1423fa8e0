"""What a machine is, a fact a line: for reports, for `doctor`, and for what differs between two runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchbox.reporters import numbers
from benchbox.schema.seen import Environment

NAMES = (
    "CPU", "CPU features", "cores", "CPU limit", "memory", "memory limit", "GPUs", "GPU driver",
    "virtualization", "governor", "kernel", "Python", "packages", "benchbox", "commit",
)  # fmt: skip
"""What the facts are called, in their order."""


def facts(environment: Environment) -> Mapping[str, str]:
    """The machine and what is installed on it, by name; what is not known is left out."""
    limit = environment.memory_limit_bytes
    found = {
        "CPU": environment.cpu_model,
        "cores": str(environment.cpu_count),
        "CPU limit": "" if environment.cpu_limit is None else f"{environment.cpu_limit:g} cores",
        "memory": numbers.gib(environment.memory_bytes),
        "memory limit": "" if limit is None else numbers.gib(limit),
        "GPUs": "; ".join(_gpu(gpu) for gpu in environment.gpus),
        "GPU driver": environment.driver,
        "virtualization": environment.virtualized,
        "governor": environment.governor,
        "kernel": environment.kernel,
        "CPU features": " ".join(environment.cpu_features),
        "Python": environment.python,
        "packages": ", ".join(f"{name} {version}" for name, version in environment.packages.items()),
        "benchbox": environment.benchbox,
        "commit": environment.git_commit,
    }
    return {name: str(found[name]) for name in NAMES if found[name]}


def _gpu(gpu: Mapping[str, Any]) -> str:
    size_bytes, capability = gpu.get("memory_bytes"), gpu.get("compute_capability")
    parts = [
        str(gpu.get("name", "GPU")),
        numbers.gib(size_bytes) if size_bytes else "the machine's memory",
        f"compute capability {capability}" if capability else "",
    ]
    return ", ".join(filter(None, parts))
