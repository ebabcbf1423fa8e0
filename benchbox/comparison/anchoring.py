"""Whether the drift between two runs can be divided out of a ratio, and by what.

Runs are not interleaved with each other, so whatever hit one run as a whole is in no interval. A shared
machine drifts by 15 to 30 % over minutes, which is more than most changes that are looked for. Where it is
sound, the drift is divided out by an anchor: the baseline of the case's group, which was measured in the
same interleaved rounds as the case, in both runs. The ratio is then (case / baseline) in B over
(case / baseline) in A. Sound it is only where nothing that we know of could have changed the baseline
itself, so that what it moved by is drift:

* both machines are of one kind, with the same limits, governor, driver and kernel;
* the baseline is the same case, with the same artifact, made by the same packages, in the same runtime;
* case and baseline were on one kind of device: a GPU does not drift with the CPU.

Elsewhere (another machine, another thread count, another torch) only the plain ratio is left, and its
interval knows nothing of drift.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchbox.comparison import pairing
from benchbox.schema.seen import Environment, Measurement, Record


@dataclass(frozen=True)
class Baseline:
    """The baseline of a case's group, and its measurement in the case's own rounds."""

    record: Record
    measurement: Measurement


@dataclass(frozen=True)
class Timed:
    """A record of one run, its baseline there, and the machine; None where they are not known."""

    record: Record
    baseline: Baseline | None
    environment: Environment | None

    @property
    def is_baseline(self) -> bool:
        """Whether the record is its own baseline."""
        return self.baseline is not None and self.baseline.record is self.record


def baseline_of(record: Record, baselines: Mapping[str, Record]) -> Baseline | None:
    """The baseline of the record's group where it was timed in the record's rounds; `baselines` by group."""
    baseline = baselines.get(record.case.group)
    if baseline is None or record.measurement is None:
        return None
    for measurement in (record.companion, baseline.measurement):
        if measurement is not None and measurement.session == record.measurement.session:
            return Baseline(baseline, measurement)
    return None


def unsound(before: Timed, after: Timed) -> str:
    """Why the ratio of two records cannot be anchored; empty where it can."""
    one, other = before.baseline, after.baseline
    if one is None or other is None:
        return "no baseline was timed in the rounds of both"
    return (
        _machines_differ(before.environment, after.environment)
        or _baselines_differ(one.record, other.record)
        or _packages_differ(
            "baselines ran on other versions of", one.measurement.versions, other.measurement.versions
        )
        or _devices_differ(before.record.measurement, one.measurement)
        or _devices_differ(after.record.measurement, other.measurement)
    )


def _machines_differ(before: Environment | None, after: Environment | None) -> str:
    if before is None or after is None:
        return "the machine of a run is not known"
    one, other = _machine(before), _machine(after)
    names = [name for name in one if one[name] != other[name]]
    return f"the machines differ in {', '.join(names)}" if names else ""


def _machine(environment: Environment) -> dict[str, Any]:
    """What changes the speed of everything that runs on a machine."""
    return {
        "CPU": environment.cpu_model,
        "cores": environment.cpu_count,
        "CPU features": environment.cpu_features,
        "CPU limit": environment.cpu_limit,
        # To a GiB: what a kernel keeps for itself differs from boot to boot.
        "memory": round(environment.memory_bytes / 2**30),
        "governor": environment.governor,
        "virtualization": environment.virtualized,
        "GPUs": [gpu.get("name") for gpu in environment.gpus],
        "GPU driver": environment.driver,
        "kernel": environment.kernel,
    }


def _baselines_differ(before: Record, after: Record) -> str:
    names = [difference.name for difference in pairing.differences(before.case, after.case)]
    if names:
        return f"baselines differ in {', '.join(names)}"
    one, other = before.artifact, after.artifact
    if one is None or other is None or one.sha256 != other.sha256:
        return "baselines are not the same artifact"
    return _packages_differ("baselines were built by other versions of", one.packages, other.packages)


def _packages_differ(what: str, before: Mapping[str, str], after: Mapping[str, str]) -> str:
    names = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    return f"{what} {', '.join(names)}" if names else ""


def _devices_differ(case: Measurement | None, baseline: Measurement) -> str:
    return "" if _on_accelerator(case) == _on_accelerator(baseline) else "the baseline ran on another device"


def _on_accelerator(measurement: Measurement | None) -> bool:
    return measurement is not None and any(r.memory.device_bytes is not None for r in measurement.replicates)
