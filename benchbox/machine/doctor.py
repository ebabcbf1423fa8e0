"""What on this machine makes measurements worse, and what to type about it.

`take_readings` looks, `diagnose` judges: one small function a finding, all of them pure.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchbox.machine import cgroup, clock, environment
from benchbox.machine.cgroup import QuotaUse, read_text
from benchbox.schema.seen import Environment

Level = Literal["ok", "note", "warning"]

_GIB = 2**30

# Building a ViT-base (torch module, traced copy, ONNX file, quantizer) peaks between 2 and 3 GiB.
_ENOUGH_MEMORY_BYTES = 4 * _GIB

# At 1 % steal, medians of the same case drift by 15-30 % over minutes (shared virtual machines).
_STEAL_SHARE = 0.01

# A tenth of one core is what an idle desktop uses; beyond that somebody else is working.
_BUSY_CORES = 0.1

_COMPILERS = ("c++", "g++", "clang++")


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `hurts` and `do` are empty where the level is `ok`."""

    level: Level
    what: str
    hurts: str = ""
    do: str = ""


@dataclass(frozen=True)
class Readings:
    """What a look at the machine showed. None: the kernel does not tell.

    `busy_cores` is how many cores' worth of work others did during the look, `busiest` their programs.
    """

    machine: Environment
    available_memory_bytes: int
    steal_share: float | None = None
    busy_cores: float | None = None
    busiest: tuple[str, ...] = ()
    load_average: float | None = None
    turbo: bool | None = None
    siblings_share_cores: bool = False
    quota: QuotaUse | None = None
    swap_used_bytes: int = 0
    huge_pages: str | None = None
    compiler: str | None = None


def take_readings(machine: Environment, look_seconds: float = 0.5, root: Path = environment.ROOT) -> Readings:
    """Looks at the machine; nothing of ours works for `look_seconds`, so that who works is another."""
    processes = _cpu_seconds_by_process()
    before = environment.counters(root)
    clock.pause(look_seconds)
    noise = environment.noise_between(before, environment.counters(root))
    seen = environment.visible_cores()
    return Readings(
        machine=machine,
        available_memory_bytes=environment.available_memory_bytes(root),
        steal_share=_share(noise.steal_seconds, look_seconds * seen),
        busy_cores=_worked_cores(noise.others_cpu_seconds, look_seconds, seen),
        busiest=busiest(processes, _cpu_seconds_by_process(), look_seconds),
        load_average=os.getloadavg()[0],
        turbo=_turbo(root),
        siblings_share_cores=_siblings_share_cores(root),
        quota=cgroup.quota_use(root),
        swap_used_bytes=environment.swap_used_bytes(root),
        huge_pages=_huge_pages(root),
        compiler=next((name for name in _COMPILERS if shutil.which(name)), None),
    )


def diagnose(readings: Readings) -> tuple[Finding, ...]:
    """One finding for each thing that was looked at and can be told, warnings first."""
    findings = [finding for check in _CHECKS if (finding := check(readings))]
    order = ("warning", "note", "ok")
    return tuple(sorted(findings, key=lambda finding: order.index(finding.level)))


def busiest(
    before: Mapping[tuple[int, str], float], after: Mapping[tuple[int, str], float], seconds: float
) -> tuple[str, ...]:
    """Up to three programs that worked more than a tenth of a core, the busiest first.

    The mappings hold CPU seconds by process number and program.
    """
    worked = {process: used - before[process] for process, used in after.items() if process in before}
    busy = [process for process, used in worked.items() if used > _BUSY_CORES * seconds]
    programs = [program for _, program in sorted(busy, key=lambda process: -worked[process])]
    return tuple(dict.fromkeys(programs))[:3]


def _worked_cores(seconds: float | None, look_seconds: float, most: int) -> float | None:
    """How many cores' worth of work; the kernel counts by the tick, which can be more than there are."""
    share = _share(seconds, look_seconds)
    return None if share is None else min(share, most)


def _share(seconds: float | None, of_seconds: float) -> float | None:
    return None if seconds is None else seconds / of_seconds


def _cpu_seconds_by_process() -> dict[tuple[int, str], float]:
    import psutil

    return {
        (process.pid, process.info["name"]): process.info["cpu_times"].user + process.info["cpu_times"].system
        for process in psutil.process_iter(["name", "cpu_times"])
        if process.pid != os.getpid() and process.info["cpu_times"]
    }


def _turbo(root: Path) -> bool | None:
    cpu = root / "sys/devices/system/cpu"
    no_turbo = read_text(cpu / "intel_pstate/no_turbo").strip()
    boost = read_text(cpu / "cpufreq/boost").strip()
    if no_turbo:
        return no_turbo == "0"
    return boost == "1" if boost else None


def _siblings_share_cores(root: Path) -> bool:
    """Whether two of the cores that this process may use are halves of one."""
    siblings = [
        read_text(root / f"sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list").strip()
        for core in os.sched_getaffinity(0)
    ]
    known = [text for text in siblings if text]
    return len(set(known)) < len(known)


def _huge_pages(root: Path) -> str | None:
    """`always`, `madvise` or `never`: the word in brackets is the one in force."""
    text = read_text(root / "sys/kernel/mm/transparent_hugepage/enabled")
    return text.partition("[")[2].partition("]")[0] or None


def _cores(readings: Readings) -> Finding:
    if readings.machine.cpu_count < 2:
        return Finding(
            "warning",
            "one core only",
            "whatever else runs takes the model's core, and thread scaling cannot be seen",
            "give the machine or the container at least 2 cores (docker run --cpuset-cpus=0-1)",
        )
    return Finding("ok", f"{readings.machine.cpu_count} cores")


def _quota(readings: Readings) -> Finding | None:
    if readings.machine.cpu_limit is None:
        return None
    seen = readings.quota or QuotaUse(periods=0, throttled=0)
    return Finding(
        "warning" if seen.throttled else "note",
        f"CPU quota of {readings.machine.cpu_limit:g} cores: "
        f"{seen.throttled} of {seen.periods} periods were cut short",
        "a thread that has used its share stops for up to 100 ms: latencies get a second peak",
        "give whole cores in place of a quota: docker run --cpuset-cpus=0-3 (Kubernetes: static CPU manager)",
    )


def _memory(readings: Readings) -> Finding:
    gib = readings.available_memory_bytes / _GIB
    if readings.available_memory_bytes >= _ENOUGH_MEMORY_BYTES:
        return Finding("ok", f"{gib:.1f} GiB of memory free")
    return Finding(
        "warning",
        f"{gib:.1f} GiB of memory free",
        "exporting and quantizing a base-size model takes 2 to 3 GiB; cases may fail for want of memory",
        "stop other programs, or load fewer cases at once: --set measure.memory_budget_bytes=1000000000",
    )


def _swap(readings: Readings) -> Finding:
    if readings.swap_used_bytes < _GIB // 16:  # cold pages of services that sleep
        return Finding("ok", "no memory in swap")
    return Finding(
        "warning",
        f"{readings.swap_used_bytes / _GIB:.1f} GiB of memory in swap",
        "weights that were swapped out come back from the disk within a timed call",
        "sudo swapoff -a",
    )


def _governor(readings: Readings) -> Finding | None:
    if readings.machine.governor is None:
        return None
    if readings.machine.governor == "performance":
        return Finding("ok", "CPU governor is performance")
    return Finding(
        "warning",
        f"CPU governor is {readings.machine.governor}",
        "the clock follows the load, so short blocks run slower than long ones",
        "sudo cpupower frequency-set -g performance",
    )


def _boost(readings: Readings) -> Finding | None:
    if readings.turbo is None:
        return None
    if not readings.turbo:
        return Finding("ok", "turbo is off")
    return Finding(
        "note",
        "turbo is on",
        "the clock depends on heat and on how many cores work, so runs an hour apart differ by some per cent",
        "echo 1 | sudo tee /sys/devices/system/cpu/intel_pstate/no_turbo  "
        "(AMD: echo 0 | sudo tee /sys/devices/system/cpu/cpufreq/boost)",
    )


def _siblings(readings: Readings) -> Finding:
    if not readings.siblings_share_cores:
        return Finding("ok", "each core is a whole one")
    return Finding(
        "note",
        "cores are hyper-threads: two of them share one core's arithmetic",
        "matrix products gain nothing from the second thread of a core, and wait for it",
        "set the suite's thread count to the number of whole cores (lscpu shows it)",
    )


def _steal(readings: Readings) -> Finding | None:
    if readings.steal_share is None or readings.machine.virtualized is None:
        return None
    if readings.steal_share < _STEAL_SHARE:
        return Finding("ok", f"the hypervisor took {readings.steal_share:.1%} of the time")
    return Finding(
        "warning",
        f"the hypervisor took {readings.steal_share:.1%} of the time",
        "other virtual machines use the same cores: blocks get disturbed and are measured again",
        "use a dedicated or a larger machine, or measure at another time; ratios suffer less than times",
    )


def _others(readings: Readings) -> Finding | None:
    if readings.busy_cores is None:
        return None
    if readings.busy_cores < _BUSY_CORES:
        return Finding("ok", "nobody else is working")
    names = f" ({', '.join(readings.busiest)})" if readings.busiest else ""
    load = f", load average {readings.load_average:.1f}" if readings.load_average is not None else ""
    return Finding(
        "warning",
        f"others keep {readings.busy_cores:.1f} of {readings.machine.cpu_count} cores busy{names}{load}",
        "they take time and cache from the model, and intervals get wide",
        "stop them before measuring (top shows them)",
    )


def _container(readings: Readings) -> Finding | None:
    if readings.machine.virtualized is None:
        return Finding("ok", "no virtual machine and no container")
    return Finding(
        "note",
        f"inside: {readings.machine.virtualized}",
        "clock, heat and neighbours are hidden from here; times drift by 15-30 % on shared machines",
        "compare rows of one run with each other, not with those of another day",
    )


def _pages(readings: Readings) -> Finding | None:
    if readings.huge_pages is None:
        return None
    if readings.huge_pages != "always":
        return Finding("ok", f"transparent huge pages: {readings.huge_pages}")
    return Finding(
        "note",
        "transparent huge pages: always",
        "the kernel regroups memory when it likes: peak memory is rounded up to 2 MiB pages and varies more",
        "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled",
    )


def _compiler(readings: Readings) -> Finding:
    if readings.compiler:
        return Finding("ok", f"C++ compiler: {readings.compiler}")
    return Finding(
        "note",
        "no C++ compiler",
        "torch.compile needs one on a CPU: those cases are skipped",
        "sudo apt-get install g++",
    )


_CHECKS: tuple[Callable[[Readings], Finding | None], ...] = (
    _cores,
    _quota,
    _memory,
    _swap,
    _governor,
    _boost,
    _siblings,
    _steal,
    _others,
    _container,
    _pages,
    _compiler,
)
