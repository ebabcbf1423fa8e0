"""The machine is described from what the kernel says, inside and outside containers, and noise is counted."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import places
from benchbox.machine import cgroup, doctor, environment
from benchbox.machine.cgroup import QuotaUse
from benchbox.machine.doctor import Finding, Readings
from benchbox.machine.environment import CoreTime, Counters
from benchbox.schema.seen import Environment, Noise

GIB = 2**30

CPUINFO_X86 = """\
processor	: 0
model name	: AMD EPYC 7R13 Processor
cpu MHz		: 2649.998
flags		: fpu avx2 fma hypervisor

processor	: 1
model name	: AMD EPYC 7R13 Processor
flags		: fpu avx2 fma hypervisor
"""

CPUINFO_ARM = """\
processor	: 0
BogoMIPS	: 243.75
Features	: fp asimd asimddp
CPU implementer	: 0x41
"""

STAT = """\
cpu  700 70 270 9000 90 7 8 60 0 0
cpu0 100 10 20 3000 30 1 2 10 40 0
cpu1 200 20 50 3000 30 2 2 20 0 0
cpu2 400 40 200 3000 30 4 4 30 0 0
intr 1 2 3
ctxt 4
"""

MEMINFO = """\
MemTotal:       16777216 kB
MemFree:         1000000 kB
MemAvailable:    8388608 kB
SwapTotal:       2097152 kB
SwapFree:        1048576 kB
"""


def write(root: Path, files: dict[str, str]) -> Path:
    """A tree that looks like / to the functions under test."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})


class TestCpu:
    def test_features_are_the_flags_of_x86_and_the_features_of_arm(self) -> None:
        assert environment.parse_cpu_features(CPUINFO_X86) == {"fpu", "avx2", "fma", "hypervisor"}
        assert environment.parse_cpu_features(CPUINFO_ARM) == {"fp", "asimd", "asimddp"}
        assert environment.parse_cpu_features("") == frozenset()

    def test_the_host_tells_passes_whether_int8_saturates(self, tmp_path: Path) -> None:
        assert not environment.host(write(tmp_path / "x86", {"proc/cpuinfo": CPUINFO_X86})).has_vnni
        assert environment.host(write(tmp_path / "arm", {"proc/cpuinfo": CPUINFO_ARM})).has_vnni

    @pytest.mark.usefixtures("two_cores")
    @pytest.mark.parametrize(
        ("cpu_max", "cores"),
        [("max 100000", 2), ("150000 100000", 1), ("50000 100000", 1), ("900000 100000", 2)],
    )
    def test_usable_cores_are_those_of_the_affinity_or_of_the_quota(
        self, tmp_path: Path, cpu_max: str, cores: int
    ) -> None:
        root = write(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": cpu_max})
        assert environment.usable_cores(root) == cores


class TestCgroup:
    def test_v2_limits_of_the_group_and_of_its_parents_hold(self, tmp_path: Path) -> None:
        """The group itself has no limit, the group above it has."""
        root = write(
            tmp_path,
            {
                "proc/self/cgroup": "0::/kubepods/pod1\n",
                "sys/fs/cgroup/kubepods/pod1/cpu.max": "max 100000\n",
                "sys/fs/cgroup/kubepods/pod1/memory.max": "max\n",
                "sys/fs/cgroup/kubepods/cpu.max": "250000 100000\n",
                "sys/fs/cgroup/kubepods/cpu.stat": "usage_usec 5\nnr_periods 40\nnr_throttled 3\n",
                "sys/fs/cgroup/kubepods/memory.max": f"{4 * GIB}\n",
                "sys/fs/cgroup/kubepods/memory.current": f"{3 * GIB}\n",
                "sys/fs/cgroup/kubepods/memory.stat": f"anon 1\ninactive_file {GIB}\n",
            },
        )
        assert cgroup.cpu_limit(root) == 2.5
        assert cgroup.memory_limit_bytes(root) == 4 * GIB
        assert cgroup.available_memory_bytes(root) == 2 * GIB
        assert cgroup.quota_use(root) == QuotaUse(periods=40, throttled=3)

    def test_v1_limits_are_read_where_the_controllers_are_mounted(self, tmp_path: Path) -> None:
        """In a container the group's path is the host's; only the top of it is there."""
        root = write(
            tmp_path,
            {
                "proc/self/cgroup": "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "150000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GIB}\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIB}\n",
                "sys/fs/cgroup/memory/memory.stat": "inactive_file 7\ntotal_inactive_file 1024\n",
            },
        )
        assert cgroup.cpu_limit(root) == 1.5
        assert cgroup.memory_limit_bytes(root) == 2 * GIB
        assert cgroup.available_memory_bytes(root) == GIB + 1024

    def test_no_limit_is_none_in_both_versions(self, tmp_path: Path) -> None:
        v1 = write(
            tmp_path / "v1",
            {
                "proc/self/cgroup": "4:memory:/\n1:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu/cpu.stat": "nr_periods 0\nnr_throttled 0\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
        )
        v2 = write(
            tmp_path / "v2",
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/cpu.max": "max 100000\n",
                "sys/fs/cgroup/memory.max": "max\n",
            },
        )
        for root in (v1, v2, tmp_path / "nothing"):
            assert cgroup.cpu_limit(root) is None
            assert cgroup.memory_limit_bytes(root) is None
            assert cgroup.available_memory_bytes(root) is None
            assert cgroup.quota_use(root) is None

    def test_a_path_in_the_group_file_cannot_leave_the_mount(self, tmp_path: Path) -> None:
        root = write(tmp_path, {"proc/self/cgroup": "0::/../../proc\n", "proc/cpu.max": "1 100000\n"})
        assert cgroup.cpu_limit(root) is None


class TestMemory:
    def test_available_memory_is_the_machines_or_the_containers_where_that_is_less(
        self, tmp_path: Path
    ) -> None:
        machine = write(tmp_path / "machine", {"proc/meminfo": MEMINFO})
        container = write(
            tmp_path / "container",
            {
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/memory.max": f"{2 * GIB}\n",
                "sys/fs/cgroup/memory.current": f"{3 * GIB}\n",
            },
        )
        assert environment.available_memory_bytes(machine) == 8 * GIB
        assert environment.available_memory_bytes(container) == 0

    def test_swap_in_use_is_what_is_not_free(self, tmp_path: Path) -> None:
        assert environment.swap_used_bytes(write(tmp_path, {"proc/meminfo": MEMINFO})) == GIB


class TestDescribe:
    @pytest.mark.usefixtures("two_cores")
    def test_a_machine_is_described_from_the_kernels_files(self, tmp_path: Path) -> None:
        cpu = "sys/devices/system/cpu"
        root = write(
            tmp_path,
            {
                "proc/cpuinfo": CPUINFO_X86,
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/cpu.max": "100000 100000\n",
                "sys/fs/cgroup/memory.max": f"{32 * GIB}\n",
                f"{cpu}/cpu0/cpufreq/scaling_governor": "performance\n",
                f"{cpu}/cpu1/cpufreq/scaling_governor": "powersave\n",
                "sys/class/dmi/id/sys_vendor": "QEMU\n",
                ".dockerenv": "",
            },
        )
        described = environment.describe(root)
        assert described == replace(
            described,
            cpu_model="AMD EPYC 7R13 Processor",
            cpu_count=2,
            cpu_features=("avx2", "fma", "fpu", "hypervisor"),
            memory_bytes=16 * GIB,
            memory_limit_bytes=None,  # the container may have more than there is
            cpu_limit=1.0,
            governor="performance, powersave",
            virtualized="hypervisor (QEMU), container",
            kernel=platform.release(),
            python=platform.python_version(),
            benchbox="0.1.0",
        )
        assert described.packages["numpy"].count(".") == 2

    def test_names_of_hosts_users_and_folders_are_not_in_it(self) -> None:
        text = json.dumps(asdict(environment.describe()))
        assert not re.search(rf"\b{re.escape(platform.node())}\b", text)
        assert str(Path.home()) + "/" not in text
        assert str(places.ROOT) not in text

    def test_the_commit_is_read_from_a_branch_a_packed_branch_and_a_detached_head(
        self, tmp_path: Path
    ) -> None:
        branch = write(
            tmp_path / "a", {".git/HEAD": "ref: refs/heads/main\n", ".git/refs/heads/main": "abc123\n"}
        )
        packed = write(
            tmp_path / "b",
            {
                ".git/HEAD": "ref: refs/heads/main\n",
                ".git/packed-refs": "# pack-refs\n111 refs/heads/maint\ndef456 refs/heads/main\n",
            },
        )
        detached = write(tmp_path / "c", {".git/HEAD": "0123abcd\n"})
        folders = (branch, packed, detached, tmp_path)
        assert [environment.git_commit(f) for f in folders] == ["abc123", "def456", "0123abcd", None]


class NotSupported(Exception):
    """What NVML says of a question that the GPU has no answer to."""


def nvml(gpus: Sequence[str], unified: bool = False) -> ModuleType:
    """A driver with these GPUs of 80 GiB, or with GPUs that share the machine's memory."""

    def memory(handle: int) -> SimpleNamespace:
        if unified:
            raise NotSupported
        return SimpleNamespace(total=80 * GIB)

    fake = ModuleType("pynvml")
    fake.NVMLError = fake.NVMLError_NotSupported = NotSupported
    fake.nvmlInit = fake.nvmlShutdown = lambda: None
    fake.nvmlDeviceGetCount = lambda: len(gpus)
    fake.nvmlDeviceGetHandleByIndex = lambda index: index
    fake.nvmlDeviceGetName = lambda handle: gpus[handle]
    fake.nvmlDeviceGetCudaComputeCapability = lambda handle: (9, 0)
    fake.nvmlDeviceGetMemoryInfo = memory
    fake.nvmlSystemGetDriverVersion = lambda: "580.1"
    return fake


class TestGpu:
    def test_each_gpu_is_described_and_the_driver_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pynvml", nvml(["H100", "L4"]))
        described = environment.describe()
        assert described.driver == "580.1"
        assert described.gpus == (
            {"name": "H100", "compute_capability": "9.0", "memory_bytes": 80 * GIB},
            {"name": "L4", "compute_capability": "9.0", "memory_bytes": 80 * GIB},
        )

    def test_a_gpu_without_memory_of_its_own_has_no_size(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pynvml", nvml(["GB10"], unified=True))
        assert environment.describe().gpus == ({"name": "GB10", "compute_capability": "9.0"},)

    def test_without_a_driver_there_are_no_gpus(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fake = nvml(["never seen"])

        def no_library() -> None:
            raise NotSupported

        fake.nvmlInit = no_library
        monkeypatch.setitem(sys.modules, "pynvml", fake)
        described = environment.describe()
        assert (described.gpus, described.driver) == ((), None)


CUDA_LOADED = "7f10-7f20 r-xp 00000000 08:01 42 /usr/lib/x86_64-linux-gnu/libcuda.so.580.1\n"


class Driver(ModuleType):
    """NVML of one GPU whose clock and reasons tests set; knows which GPU was asked for."""

    NVML_CLOCK_SM = 1
    NVMLError = NotSupported

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.mhz: int | None = 1980
        self.reasons = 0
        self.millijoules: int | None = 5000
        self.asked: list[int | str] = []

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        self.asked.append(index)
        return "handle"

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        self.asked.append(uuid)
        return "handle"

    def nvmlDeviceGetClockInfo(self, handle: str, kind: int) -> int:
        assert (handle, kind) == ("handle", 1)
        if self.mhz is None:
            raise NotSupported
        return self.mhz

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: str) -> int:
        assert handle == "handle"
        return self.reasons

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        assert handle == "handle"
        if self.millijoules is None:
            raise NotSupported
        return self.millijoules


class OldDriver(Driver):
    """Below 535: the function is in the package, and not in the library that it calls."""

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: str) -> int:
        raise NotSupported

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: str) -> int:
        assert handle == "handle"
        return self.reasons


class SilentDriver(Driver):
    """Tells neither by the new name nor by the old one."""

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: str) -> int:
        raise NotSupported


@pytest.fixture
def with_cuda(tmp_path: Path) -> Path:
    return write(tmp_path, {"proc/stat": STAT, "proc/self/maps": CUDA_LOADED})


class TestGpuNoise:
    @pytest.mark.parametrize("driver", [Driver(), OldDriver()])
    def test_clock_and_what_holds_it_back_are_read_at_both_ends_of_a_block(
        self, driver: Driver, with_cuda: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Idle before (bit 0 is no reason to be slow), power cap and heat after."""
        monkeypatch.setitem(sys.modules, "pynvml", driver)
        driver.mhz, driver.reasons = 345, 0x01
        before = environment.counters(with_cuda)
        driver.mhz, driver.reasons, driver.millijoules = 1200, 0x04 | 0x40, 7500
        after = environment.counters(with_cuda)
        noise = environment.noise_between(before, after)
        assert (noise.gpu_mhz, noise.gpu_throttle) == (1200.0, "sw power cap, hw thermal slowdown")
        assert noise.energy_joules == 2.5
        assert environment.noise_between(after, before).gpu_throttle == "sw power cap, hw thermal slowdown"
        assert environment.noise_between(before, before).gpu_throttle == ""

    @pytest.mark.parametrize(
        ("said", "throttled"),
        [
            (None, ""),
            ("", ""),
            ("application clocks, sw power cap, sync boost, display clocks", ""),
            ("hw slowdown", "the GPU throttled: hw slowdown"),
            ("sw power cap, sw thermal slowdown", "the GPU throttled: sw thermal slowdown"),
            (
                "hw thermal slowdown, hw power brake",
                "the GPU throttled: hw thermal slowdown, hw power brake",
            ),
        ],
    )
    def test_heat_and_power_brakes_disturb_and_what_is_always_so_does_not(
        self, said: str | None, throttled: str
    ) -> None:
        assert environment.throttled(Noise(gpu_throttle=said)) == throttled

    def test_a_process_without_cuda_loads_no_driver_library(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It would be in the memory of a worker on the CPU."""
        monkeypatch.setitem(sys.modules, "pynvml", None)
        mapped = {"proc/self/maps": "7f10-7f20 r-xp /usr/lib/libc.so.6\n"}
        seen = environment.counters(write(tmp_path, mapped))
        assert (seen.gpu_mhz, seen.gpu_throttle) == (None, None)

    def test_an_interpreter_without_the_package_does_not_know(
        self, with_cuda: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "pynvml", None)
        seen = environment.counters(with_cuda)
        assert (seen.gpu_mhz, seen.gpu_throttle) == (None, None)
        assert environment.noise_between(seen, seen).gpu_throttle is None

    def test_a_gpu_that_does_not_tell_is_unknown(
        self, with_cuda: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        driver = SilentDriver()
        driver.mhz = None
        monkeypatch.setitem(sys.modules, "pynvml", driver)
        seen = environment.counters(with_cuda)
        assert (seen.gpu_mhz, seen.gpu_throttle) == (None, None)

    @pytest.mark.parametrize(
        ("visible", "asked"), [(None, 0), ("", 0), ("2,3", 2), ("GPU-8c5e,GPU-1", "GPU-8c5e"), ("none", 0)]
    )
    def test_the_gpu_is_the_first_that_cuda_may_use(
        self, visible: str | None, asked: int | str, with_cuda: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        driver = Driver()
        monkeypatch.setitem(sys.modules, "pynvml", driver)
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        environment.counters(with_cuda)
        environment.counters(with_cuda)
        assert driver.asked == [asked]

    def test_names_and_bits_are_those_of_the_package(self) -> None:
        import pynvml

        for name in (name for name in vars(Driver) if name.startswith("nvml")):
            assert callable(getattr(pynvml, name))
        assert callable(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons)
        assert pynvml.NVML_CLOCK_SM == Driver.NVML_CLOCK_SM
        bits = {
            "application clocks": pynvml.nvmlClocksEventReasonApplicationsClocksSetting,
            "sw power cap": pynvml.nvmlClocksEventReasonSwPowerCap,
            "hw slowdown": pynvml.nvmlClocksEventReasonHwSlowdown,
            "sync boost": pynvml.nvmlClocksEventReasonSyncBoost,
            "sw thermal slowdown": pynvml.nvmlClocksEventReasonSwThermalSlowdown,
            "hw thermal slowdown": pynvml.nvmlClocksEventReasonHwThermalSlowdown,
            "hw power brake": pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown,
            "display clocks": pynvml.nvmlClocksEventReasonDisplayClockSetting,
        }
        for name, bit in bits.items():
            seen = replace(TestNoise.BEFORE, gpu_throttle=bit)
            assert environment.noise_between(seen, seen).gpu_throttle == name


class TestMachine:
    """The line that names a machine in reports."""

    @pytest.mark.parametrize(
        ("changes", "line"),
        [
            ({}, "a CPU, 4 cores, 16 GiB"),
            ({"cpu_limit": 4.0, "memory_limit_bytes": 16 * GIB}, "a CPU, 4 cores, 16 GiB"),
            (
                {"cpu_limit": 1.5, "memory_limit_bytes": GIB // 2},
                "a CPU, 4 cores, CPU limit 1.5, 16 GiB, memory limit 0.5 GiB",
            ),
            ({"driver": "580.1"}, "a CPU, 4 cores, 16 GiB"),
            (
                {"gpus": ({"name": "L4"}, {"name": "H100"}, {"name": "L4"}), "driver": "580.1"},
                "a CPU, 4 cores, 16 GiB, 2 x L4, H100, driver 580.1",
            ),
            ({"gpus": ({},)}, "a CPU, 4 cores, 16 GiB, GPU"),
        ],
    )
    def test_a_machine_is_named_by_what_it_is(self, changes: dict[str, Any], line: str) -> None:
        assert replace(MACHINE, **changes).machine == line


class TestNoise:
    BEFORE = Counters(
        busy_seconds=100.0,
        steal_seconds=1.0,
        own_cpu_seconds=5.0,
        involuntary_switches=10,
        cpu_mhz=3000.0,
        throttle_count=2,
    )

    def test_core_time_is_summed_over_the_cores_that_may_be_used(self) -> None:
        """Waiting for a disk is idle, and guest time is in user time already: 133 and 274 ticks."""
        assert environment.parse_stat(STAT, frozenset({0, 1}), 100) == CoreTime(4.07, 0.3)
        assert environment.parse_stat(STAT, frozenset({2}), 100) == CoreTime(6.48, 0.3)
        assert environment.parse_stat(STAT, frozenset({7}), 100) is None
        assert environment.parse_stat("", frozenset({0}), 100) is None

    def test_noise_is_what_others_did_between_two_snapshots(self) -> None:
        after = Counters(
            busy_seconds=100.5,
            steal_seconds=1.25,
            own_cpu_seconds=5.25,
            involuntary_switches=13,
            cpu_mhz=2000.0,
            throttle_count=3,
        )
        assert environment.noise_between(self.BEFORE, after) == Noise(
            steal_seconds=0.25,
            involuntary_switches=3,
            others_cpu_seconds=0.25,
            cpu_mhz=2500.0,
            throttle_count=1,
        )

    def test_others_never_work_less_than_nothing(self) -> None:
        """The kernel counts all cores in ticks and this process in microseconds."""
        after = replace(self.BEFORE, own_cpu_seconds=5.004)
        assert environment.noise_between(self.BEFORE, after).others_cpu_seconds == 0.0

    def test_what_the_kernel_does_not_tell_stays_unknown(self) -> None:
        unknown = Counters(None, None, 5.0, 10, None, None)
        assert environment.noise_between(self.BEFORE, unknown) == Noise(
            steal_seconds=None,
            involuntary_switches=0,
            others_cpu_seconds=None,
            cpu_mhz=3000.0,
            throttle_count=None,
        )

    @pytest.mark.usefixtures("two_cores")
    def test_clock_heat_and_quota_are_read_where_the_kernel_shows_them(self, tmp_path: Path) -> None:
        cpu = "sys/devices/system/cpu"
        root = write(
            tmp_path,
            {
                "proc/stat": STAT,
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/cpu.max": "100000 100000\n",
                "sys/fs/cgroup/cpu.stat": "nr_periods 9\nnr_throttled 4\n",
                f"{cpu}/cpu0/cpufreq/scaling_cur_freq": "3000000\n",
                f"{cpu}/cpu1/cpufreq/scaling_cur_freq": "2000000\n",
                f"{cpu}/cpu0/thermal_throttle/core_throttle_count": "5\n",
                f"{cpu}/cpu1/thermal_throttle/core_throttle_count": "6\n",
            },
        )
        seen = environment.counters(root)
        assert (seen.cpu_mhz, seen.throttle_count) == (2500.0, 15)
        assert (seen.busy_seconds, seen.steal_seconds) == (4.07, 0.3)

    def test_own_work_counts_as_own(self) -> None:
        """A child process works for 0.2 s of CPU time: after it was waited for, that is our own time."""
        before = environment.counters()
        subprocess.run(
            [sys.executable, "-c", "import time\nwhile time.process_time() < 0.2: pass"], check=True
        )
        own = environment.counters().own_cpu_seconds - before.own_cpu_seconds
        assert 0.2 <= own < 1.0


MACHINE = Environment(
    cpu_model="a CPU",
    cpu_count=4,
    cpu_features=("avx2",),
    memory_bytes=16 * GIB,
    kernel="6.1.0",
    python="3.11.7",
    packages={},
)
QUIET = Readings(
    machine=MACHINE,
    available_memory_bytes=8 * GIB,
    steal_share=0.0,
    busy_cores=0.05,
    load_average=0.1,
    turbo=False,
    huge_pages="madvise",
    compiler="g++",
)


class TestDoctor:
    def test_a_quiet_machine_has_nothing_but_ok(self) -> None:
        quiet = replace(QUIET, machine=replace(MACHINE, governor="performance"))
        assert doctor.diagnose(quiet) == tuple(
            Finding("ok", what)
            for what in (
                "4 cores",
                "8.0 GiB of memory free",
                "no memory in swap",
                "CPU governor is performance",
                "turbo is off",
                "each core is a whole one",
                "nobody else is working",
                "no virtual machine and no container",
                "transparent huge pages: madvise",
                "C++ compiler: g++",
            )
        )

    @pytest.mark.parametrize(
        ("readings", "level", "what", "do"),
        [
            (
                replace(QUIET, machine=replace(MACHINE, cpu_count=1)),
                "warning",
                "one core only",
                "give the machine or the container at least 2 cores (docker run --cpuset-cpus=0-1)",
            ),
            (
                replace(QUIET, machine=replace(MACHINE, governor="powersave")),
                "warning",
                "CPU governor is powersave",
                "sudo cpupower frequency-set -g performance",
            ),
            (
                replace(QUIET, machine=replace(MACHINE, cpu_limit=1.5), quota=QuotaUse(40, 3)),
                "warning",
                "CPU quota of 1.5 cores: 3 of 40 periods were cut short",
                (
                    "give whole cores in place of a quota: docker run --cpuset-cpus=0-3 "
                    "(Kubernetes: static CPU manager)"
                ),
            ),
            (
                replace(QUIET, machine=replace(MACHINE, virtualized="hypervisor"), steal_share=0.031),
                "warning",
                "the hypervisor took 3.1% of the time",
                (
                    "use a dedicated or a larger machine, or measure at another time; "
                    "ratios suffer less than times"
                ),
            ),
            (
                replace(QUIET, busy_cores=1.5, busiest=("cc1plus", "firefox"), load_average=2.25),
                "warning",
                "others keep 1.5 of 4 cores busy (cc1plus, firefox), load average 2.2",
                "stop them before measuring (top shows them)",
            ),
            (
                replace(QUIET, swap_used_bytes=GIB),
                "warning",
                "1.0 GiB of memory in swap",
                "sudo swapoff -a",
            ),
            (
                replace(QUIET, available_memory_bytes=GIB),
                "warning",
                "1.0 GiB of memory free",
                (
                    "stop other programs, or load fewer cases at once: "
                    "--set measure.memory_budget_bytes=1000000000"
                ),
            ),
            (
                replace(QUIET, turbo=True),
                "note",
                "turbo is on",
                (
                    "echo 1 | sudo tee /sys/devices/system/cpu/intel_pstate/no_turbo  "
                    "(AMD: echo 0 | sudo tee /sys/devices/system/cpu/cpufreq/boost)"
                ),
            ),
            (
                replace(QUIET, siblings_share_cores=True),
                "note",
                "cores are hyper-threads: two of them share one core's arithmetic",
                "set the suite's thread count to the number of whole cores (lscpu shows it)",
            ),
            (
                replace(QUIET, huge_pages="always"),
                "note",
                "transparent huge pages: always",
                "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled",
            ),
            (replace(QUIET, compiler=None), "note", "no C++ compiler", "sudo apt-get install g++"),
        ],
    )
    def test_what_hurts_is_said_with_what_to_type(
        self, readings: Readings, level: str, what: str, do: str
    ) -> None:
        (found,) = (finding for finding in doctor.diagnose(readings) if finding.what == what)
        assert (found.level, found.do) == (level, do)
        assert found.hurts

    def test_warnings_come_first_and_what_is_fine_last(self) -> None:
        levels = [f.level for f in doctor.diagnose(replace(QUIET, turbo=True, swap_used_bytes=GIB))]
        assert levels == ["warning", "note"] + ["ok"] * (len(levels) - 2)

    def test_the_busiest_programs_are_named_once_and_idle_ones_not(self) -> None:
        before = {(1, "init"): 5.0, (2, "make"): 1.0, (3, "cc1"): 0.0, (4, "cc1"): 0.0, (5, "idle"): 9.0}
        after = {
            (1, "init"): 5.2,
            (2, "make"): 1.3,
            (3, "cc1"): 0.5,
            (4, "cc1"): 0.4,
            (5, "idle"): 9.01,
            (6, "new"): 3.0,
        }
        assert doctor.busiest(before, after, 0.5) == ("cc1", "make", "init")

    def test_cores_go_by_their_numbers_and_not_by_their_places(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Core 1 is offline: what stands second in /proc/stat is core 2."""
        (tmp_path / "proc").mkdir()
        line = "10 0 0 900 0 0 0 0 0 0"
        (tmp_path / "proc/stat").write_text(f"cpu  {line}\ncpu0 {line}\ncpu2 {line}\nintr 1\n")
        monkeypatch.setattr(environment, "_affinity", lambda: frozenset({2}))
        readings = doctor.take_readings(environment.describe(), look_seconds=0.01, root=tmp_path)
        assert (readings.steal_share, readings.busy_cores) == (0.0, 0.0)
        monkeypatch.setattr(environment, "_affinity", lambda: frozenset({7}))
        readings = doctor.take_readings(environment.describe(), look_seconds=0.01, root=tmp_path)
        assert (readings.steal_share, readings.busy_cores) == (None, None)

    def test_this_machine_can_be_looked_at(self) -> None:
        readings = doctor.take_readings(environment.describe(), look_seconds=0.05)
        assert readings.available_memory_bytes > 0
        assert readings.busy_cores is not None
        assert 0.0 <= readings.busy_cores <= readings.machine.cpu_count
        assert len(doctor.diagnose(readings)) >= 6


class TestEnergyAndPressure:
    def test_packages_are_added_up_and_their_parts_are_not(self, tmp_path: Path) -> None:
        zones = "sys/class/powercap"
        write(
            tmp_path,
            {
                "proc/stat": STAT,
                f"{zones}/intel-rapl:0/energy_uj": "1500000\n",
                f"{zones}/intel-rapl:1/energy_uj": "500000\n",
                f"{zones}/intel-rapl:0:0/energy_uj": "999\n",
                "proc/pressure/cpu": "some avg10=0.00 avg60=0.08 avg300=0.13 total=5361296\nfull total=0\n",
            },
        )
        found = environment.counters(tmp_path)
        assert (found.energy_joules, found.pressure_seconds) == (2.0, 5.361296)

    def test_a_counter_that_began_anew_tells_nothing(self, tmp_path: Path) -> None:
        found = environment.counters(write(tmp_path, {"proc/stat": STAT}))
        before, after = replace(found, energy_joules=9.0), replace(found, energy_joules=1.0)
        assert environment.noise_between(before, after).energy_joules is None
        assert found.energy_joules is None
