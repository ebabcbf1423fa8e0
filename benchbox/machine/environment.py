"""The machine: CPU, GPU, limits of the container, package versions; and what else happens on it.

Everything is read from /proc and /sys, below a `root` that tests may set. Names of hosts, users and home
folders are never read. Only the standard library is imported at the top, because a worker in a foreign
interpreter takes `counters` before and after each block.
"""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import re
import resource
import signal
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

from benchbox.machine import cgroup
from benchbox.machine.cgroup import read_text
from benchbox.machine.gpu import GPU_DISTURBING, first_gpu, gpu_in_use, throttles, visible_gpus
from benchbox.schema.seen import Environment, Host, Noise
from benchbox.version import __version__

ROOT = Path("/")
_KIB = 1024
_Count = TypeVar("_Count", int, float)

# Reading one file of /sys takes 5-10 us; a block's two snapshots must stay small beside its 100 ms.
_MOST_CORES_READ = 8

# Distributions that change what a model computes, or how fast.
_PACKAGES = (
    "accelerate",
    "diffusers",
    "neural-compressor",
    "nncf",
    "numpy",
    "onnx",
    "onnxconverter-common",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-openvino",
    "onnxscript",
    "openvino",
    "optimum",
    "optimum-onnx",
    "pandas",
    "peft",
    "pillow",
    "safetensors",
    "scikit-learn",
    "scipy",
    "tensorrt",
    "timm",
    "tokenizers",
    "torch",
    "torchao",
    "torchvision",
    "transformers",
    "triton",
)


@dataclass(frozen=True)
class Counters:
    """What the kernel has counted up to now, on the cores that this process may use.

    Busy and steal are counted in ticks of 10 ms for each core, own time in microseconds. None: not told.
    `gpu_throttle` has a bit for each of the driver's reasons to hold the clock back now.
    """

    busy_seconds: float | None
    steal_seconds: float | None
    own_cpu_seconds: float
    involuntary_switches: int
    cpu_mhz: float | None
    throttle_count: int | None
    gpu_mhz: float | None = None
    gpu_throttle: int | None = None
    pressure_seconds: float | None = None
    energy_joules: float | None = None
    stopped_count: int = 0


@dataclass(frozen=True)
class CoreTime:
    """What cores have spent since boot: working for anybody, and waiting for the hypervisor."""

    busy_seconds: float
    steal_seconds: float


class _Stops:
    """How often this process was stopped and let go on (SIGSTOP, SIGCONT: a person's job control, a debugger,
    a freezer): no thread waits for a core meanwhile, so nothing else tells."""

    def __init__(self) -> None:
        self.count = 0

    def note(self, *_: object) -> None:
        """A handler of signals."""
        self.count += 1


_stops = _Stops()


def count_stops() -> None:
    """From now on; for the main thread of a process that is ours alone."""
    signal.signal(signal.SIGCONT, _stops.note)


def describe(root: Path = ROOT) -> Environment:
    """The machine and what is installed on it."""
    gpus, driver = visible_gpus()
    return Environment(
        cpu_model=_cpu_model(read_text(root / "proc/cpuinfo")),
        cpu_count=len(_affinity()),
        cpu_features=tuple(sorted(parse_cpu_features(read_text(root / "proc/cpuinfo")))),
        memory_bytes=_meminfo(root).get("MemTotal", 0),
        kernel=platform.release(),
        python=platform.python_version(),
        packages=_package_versions(),
        cpu_limit=cgroup.cpu_limit(root),
        memory_limit_bytes=_memory_limit(root),
        governor=_governor(root),
        virtualized=_virtualized(root),
        gpus=gpus,
        driver=driver,
        git_commit=git_commit(Path(__file__).parents[2]),
        benchbox=__version__,
    )


def host(root: Path = ROOT) -> Host:
    """What an artifact may depend on."""
    gpu, driver = first_gpu()
    return Host(
        cpu_features=parse_cpu_features(read_text(root / "proc/cpuinfo")),
        gpu=gpu.get("name"),
        compute_capability=gpu.get("compute_capability"),
        driver=driver,
    )


def usable_cores(root: Path = ROOT) -> int:
    """How many threads can run at once: the cores that this process may use, or its CPU quota; at least 1."""
    limit = cgroup.cpu_limit(root)
    cores = len(_affinity())
    return cores if limit is None else max(1, min(cores, math.floor(limit)))


def visible_cores() -> int:
    """The cores that this process may run on, whatever its share of them: those whose load is seen."""
    return len(_affinity())


def available_memory_bytes(root: Path = ROOT) -> int:
    """What can be allocated without swapping: the machine's, or the container's where that is less."""
    free = _meminfo(root).get("MemAvailable", 0)
    left = cgroup.available_memory_bytes(root)
    return free if left is None else min(free, left)


def swap_used_bytes(root: Path = ROOT) -> int:
    """How much of the machine's memory lies on its disk now."""
    meminfo = _meminfo(root)
    return meminfo.get("SwapTotal", 0) - meminfo.get("SwapFree", 0)


def counters(root: Path = ROOT) -> Counters:
    """A snapshot that takes under 100 us on a small machine. Own time is of this process with all threads,
    and of its children that have ended. The GPU is asked where this process uses one."""
    time = parse_stat(read_text(root / "proc/stat"), _affinity(), os.sysconf("SC_CLK_TCK"))
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    gpu = gpu_in_use(root)
    return Counters(
        busy_seconds=time.busy_seconds if time else None,
        steal_seconds=time.steal_seconds if time else None,
        own_cpu_seconds=own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime,
        involuntary_switches=own.ru_nivcsw,
        cpu_mhz=_cpu_mhz(root),
        throttle_count=_throttle_count(root),
        gpu_mhz=None if gpu is None else gpu.mhz(),
        gpu_throttle=None if gpu is None else gpu.throttle(),
        pressure_seconds=_pressure_seconds(root),
        energy_joules=_package_joules(root) if gpu is None else gpu.joules(),
        stopped_count=_stops.count,
    )


def noise_between(before: Counters, after: Counters) -> Noise:
    """What else happened between two snapshots. The CPU's clock is the mean of both, the GPU's the later one,
    for it idled before; what held the GPU back is that of both, the rest is what was added."""
    busy = _added(before.busy_seconds, after.busy_seconds)
    own = after.own_cpu_seconds - before.own_cpu_seconds
    return Noise(
        steal_seconds=_added(before.steal_seconds, after.steal_seconds),
        involuntary_switches=after.involuntary_switches - before.involuntary_switches,
        others_cpu_seconds=None if busy is None else max(0.0, busy - own),
        cpu_mhz=_mean(before.cpu_mhz, after.cpu_mhz),
        throttle_count=_added(before.throttle_count, after.throttle_count),
        gpu_mhz=after.gpu_mhz,
        gpu_throttle=throttles(before.gpu_throttle, after.gpu_throttle),
        pressure_seconds=_added(before.pressure_seconds, after.pressure_seconds),
        energy_joules=_positive(_added(before.energy_joules, after.energy_joules)),
        stopped_count=after.stopped_count - before.stopped_count,
    )


def throttled(noise: Noise) -> str:
    """What held the GPU back for a while (heat, a power brake), in words; empty where nothing did."""
    named = (noise.gpu_throttle or "").split(", ")
    reasons = [reason for reason in GPU_DISTURBING if reason in named]
    return f"the GPU throttled: {', '.join(reasons)}" if reasons else ""


def parse_stat(stat: str, cores: frozenset[int], ticks_per_second: int) -> CoreTime | None:
    """The sum over `cores` of /proc/stat; None where it has none of them.

    Guest time is already in user time, and a core that waits for a disk is not busy (man 5 proc).
    """
    busy = steal = seen = 0
    for line in stat.splitlines():
        if not line.startswith("cpu"):
            break  # the cores come first; the line of all interrupts after them is long
        name, *ticks = line.split()
        if name == "cpu" or int(name[3:]) not in cores:
            continue
        user, nice, system, _idle, _io_wait, irq, soft_irq, stolen = map(int, ticks[:8])
        busy += user + nice + system + irq + soft_irq
        steal += stolen
        seen += 1
    return CoreTime(busy / ticks_per_second, steal / ticks_per_second) if seen else None


def parse_cpu_features(cpuinfo: str) -> frozenset[str]:
    """`flags` of x86, or `Features` of Arm, of the first core in /proc/cpuinfo."""
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    return frozenset(found.group(1).split()) if found else frozenset()


def git_commit(checkout: Path) -> str | None:
    """The commit that a checkout is at, read without git; None where it is no checkout."""
    head = read_text(checkout / ".git/HEAD").strip()
    if not head.startswith("ref: "):
        return head or None
    ref = head.removeprefix("ref: ")
    packed = re.search(
        rf"^([0-9a-f]+) {re.escape(ref)}$", read_text(checkout / ".git/packed-refs"), re.MULTILINE
    )
    return read_text(checkout / ".git" / ref).strip() or (packed.group(1) if packed else None)


def _affinity() -> frozenset[int]:
    return frozenset(os.sched_getaffinity(0))


def _cpu_model(cpuinfo: str) -> str:
    found = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return found.group(1).strip() if found else platform.machine()


def _package_versions() -> dict[str, str]:
    return {name: version for name in _PACKAGES if (version := _version(name))}


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _memory_limit(root: Path) -> int | None:
    """The container's limit, where it is one: some are larger than the machine."""
    limit = cgroup.memory_limit_bytes(root)
    return limit if limit is not None and limit < _meminfo(root).get("MemTotal", 0) else None


def _governor(root: Path) -> str | None:
    """`performance`, or `performance, powersave` where the cores differ; None on most virtual machines."""
    folders = (root / f"sys/devices/system/cpu/cpu{core}/cpufreq" for core in sorted(_affinity()))
    governors = {read_text(folder / "scaling_governor").strip() for folder in folders} - {""}
    return ", ".join(sorted(governors)) or None


def _virtualized(root: Path) -> str | None:
    """`KVM`, `hypervisor, container`: what lies between this process and the machine; None: nothing."""
    layers = []
    if "hypervisor" in parse_cpu_features(read_text(root / "proc/cpuinfo")):
        vendor = read_text(root / "sys/class/dmi/id/sys_vendor").strip()
        layers.append(f"hypervisor ({vendor})" if vendor else "hypervisor")
    if _in_container(root):
        layers.append("container")
    return ", ".join(layers) or None


def _in_container(root: Path) -> bool:
    if any((root / mark).exists() for mark in (".dockerenv", "run/.containerenv")):
        return True
    return bool(re.search(r"docker|kubepods|containerd|libpod|lxc", read_text(root / "proc/self/cgroup")))


def _meminfo(root: Path) -> dict[str, int]:
    found = re.findall(r"^(\w+):\s+(\d+) kB$", read_text(root / "proc/meminfo"), re.MULTILINE)
    return {name: int(kib) * _KIB for name, kib in found}


def _cpu_mhz(root: Path) -> float | None:
    """The mean clock of the first cores; None on a virtual machine, where /proc/cpuinfo says a constant."""
    readings = [read_text(path).strip() for path in _clock_files(root)]
    clocks_khz = [int(reading) for reading in readings if reading.isdigit()]
    return sum(clocks_khz) / len(clocks_khz) / 1000 if clocks_khz else None


def _throttle_count(root: Path) -> int | None:
    """How often heat, or the container's quota, has held the cores back."""
    readings = [read_text(path).strip() for path in _thermal_files(root)]
    counts = [int(reading) for reading in readings if reading.isdigit()]
    quota = cgroup.quota_use(root)
    if quota:
        counts.append(quota.throttled)
    return sum(counts) if counts else None


def _pressure_seconds(root: Path) -> float | None:
    """How long some process of the machine has waited for a core (Documentation/accounting/psi.rst)."""
    found = re.search(r"^some .*total=(\d+)", read_text(root / "proc/pressure/cpu"), re.MULTILINE)
    return int(found.group(1)) / 1e6 if found else None


def _package_joules(root: Path) -> float | None:
    """What the CPU packages have taken, by RAPL (Documentation/power/powercap.rst); most virtual machines
    have none, and most kernels show it to root alone."""
    readings = [read_text(path).strip() for path in _energy_files(root)]
    taken = [int(reading) for reading in readings if reading.isdigit()]
    return sum(taken) / 1e6 if taken else None


@cache
def _energy_files(root: Path) -> tuple[Path, ...]:
    """A package a file; its parts (cores, memory) are below it and in it already."""
    zones = root / "sys/class/powercap"
    return tuple(sorted(zones.glob("intel-rapl:[0-9]/energy_uj"))) if zones.is_dir() else ()


@cache
def _clock_files(root: Path) -> tuple[Path, ...]:
    return _existing(root, "cpufreq/scaling_cur_freq")


@cache
def _thermal_files(root: Path) -> tuple[Path, ...]:
    return _existing(root, "thermal_throttle/core_throttle_count")


def _existing(root: Path, name: str) -> tuple[Path, ...]:
    cores = sorted(_affinity())[:_MOST_CORES_READ]
    paths = (root / f"sys/devices/system/cpu/cpu{core}" / name for core in cores)
    return tuple(path for path in paths if path.is_file())


def _added(before: _Count | None, after: _Count | None) -> _Count | None:
    return None if before is None or after is None else after - before


def _positive(value: float | None) -> float | None:
    """None for a counter that began anew in the meantime."""
    return None if value is None or value < 0 else value


def _mean(*values: float | None) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
