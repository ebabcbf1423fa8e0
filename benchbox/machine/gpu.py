"""NVIDIA GPUs as the driver tells of them: what they are, their clock, what throttles them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchbox.machine.cgroup import read_text

# Why a GPU's clock is held back, as nvml.h numbers the reasons (nvmlClocksEventReasons). Idleness is none.
_GPU_THROTTLES = {
    0x02: "application clocks",
    0x04: "sw power cap",
    0x08: "hw slowdown",
    0x10: "sync boost",
    0x20: "sw thermal slowdown",
    0x40: "hw thermal slowdown",
    0x80: "hw power brake",
    0x100: "display clocks",
}
# Those that come and go. A power cap is how a GPU at full load runs, and the clocks that somebody set stay.
GPU_DISTURBING = ("hw slowdown", "sw thermal slowdown", "hw thermal slowdown", "hw power brake")


def visible_gpus() -> tuple[tuple[Mapping[str, Any], ...], str | None]:
    """Name, memory and compute capability of each NVIDIA GPU, and the driver's version."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # no driver: there is nothing to say
        return (), None
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return tuple(_gpu(handle) for handle in handles), pynvml.nvmlSystemGetDriverVersion()
    finally:
        pynvml.nvmlShutdown()


def first_gpu() -> tuple[Mapping[str, Any], str | None]:
    """Name, memory and compute capability of the GPU that CUDA uses first, and the driver's version; empty
    and None where there is none."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # no driver: there is nothing to say
        return {}, None
    try:
        return _gpu(_first_visible(pynvml)), pynvml.nvmlSystemGetDriverVersion()
    except pynvml.NVMLError:  # none that this process may use
        return {}, None
    finally:
        pynvml.nvmlShutdown()


def _gpu(handle: Any) -> Mapping[str, Any]:
    import pynvml

    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    gpu = {"name": pynvml.nvmlDeviceGetName(handle), "compute_capability": f"{major}.{minor}"}
    try:
        return {**gpu, "memory_bytes": pynvml.nvmlDeviceGetMemoryInfo(handle).total}
    except pynvml.NVMLError_NotSupported:  # the GPU shares the machine's memory
        return gpu


@dataclass(frozen=True)
class _Gpu:
    """The GPU that this process uses, as the driver's library knows it; it stays open until the process
    ends."""

    nvml: Any
    handle: Any

    def mhz(self) -> float | None:
        """The clock of its multiprocessors now."""
        try:
            return float(self.nvml.nvmlDeviceGetClockInfo(self.handle, self.nvml.NVML_CLOCK_SM))
        except self.nvml.NVMLError:
            return None

    def joules(self) -> float | None:
        """What it has taken since the driver was loaded; None before Volta, and on many laptops."""
        try:
            return float(self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle)) / 1e3
        except self.nvml.NVMLError:
            return None

    def throttle(self) -> int | None:
        """The reasons to hold its clock back now, as bits. Drivers before 535 know them by their older
        name."""
        for name in ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"):
            try:
                return int(getattr(self.nvml, name)(self.handle))
            except (AttributeError, self.nvml.NVMLError):
                continue
        return None


@cache
def gpu_in_use(root: Path) -> _Gpu | None:
    """None where this process has not loaded CUDA's driver: a worker on the CPU is not to load NVML either,
    which would be in its memory. Asked first after the runtime was loaded, and remembered."""
    if "libcuda.so" not in read_text(root / "proc/self/maps"):
        return None
    try:
        import pynvml
    except ImportError:  # a foreign interpreter that has the runtime only
        return None
    try:
        pynvml.nvmlInit()
        return _Gpu(pynvml, _first_visible(pynvml))
    except pynvml.NVMLError:
        return None


def _first_visible(nvml: Any) -> Any:
    """The first GPU that CUDA may use: CUDA_VISIBLE_DEVICES has numbers, or ids that begin with GPU or
    MIG."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    if first.startswith(("GPU-", "MIG-")):
        return nvml.nvmlDeviceGetHandleByUUID(first)
    return nvml.nvmlDeviceGetHandleByIndex(int(first) if first.isdigit() else 0)


def throttles(*bits: int | None) -> str | None:
    """What held the clock back, by the driver's bits; None where the driver told nothing."""
    known = [each for each in bits if each is not None]
    if not known:
        return None
    return ", ".join(name for bit, name in _GPU_THROTTLES.items() if any(each & bit for each in known))
