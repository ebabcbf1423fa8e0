"""What was seen: artifacts, agreement, blocks of calls, memory, and the record that a case ends as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchbox.schema.asked import SCHEMA_VERSION, Case, Outcome, Precision, Stage, Step, StoppedBy, Tolerance


def less_is_better(metric: str) -> bool:
    """Whether a task's metric is an error or a loss, by its name; the others are shares that agree."""
    return metric.endswith(("_error", "cross_entropy", "perplexity", "loss"))


@dataclass(frozen=True)
class Artifact:
    """A thing that can be shipped: files under one hash, and how they came to be.

    `key` is the hash of what went in (content address); `sha256` that of the bytes that came out.
    `facts` is what the steps have to say: the opset that came out, the axes, what int8 chose and why.
    """

    key: str
    kind: str
    precision: Precision
    steps: tuple[Step, ...]
    files: Mapping[str, str]
    size_bytes: int
    sha256: str
    build_seconds: float
    facts: Mapping[str, Any] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Padding:
    """How an output differs behind an attention mask, where nobody reads it: shown, never judged.

    `share` is that of such positions; the others are as in `OutputParity`.
    """

    share: float
    max_abs_error: float | None
    cosine: float | None
    sqnr_db: float | None
    nan_count: int = 0
    inf_count: int = 0


@dataclass(frozen=True)
class OutputParity:
    """How one output at one shape differs from the reference, where it is read. None: not a number, so not
    known.

    `cosine` is that of the worst sample, and so is `rel_l2_error`, the length of the difference over that of
    the reference: of two logits the cosine says little. `sqnr_db` is None where there is no error at all and
    where values are not finite. `nan_count` and `inf_count` count what the candidate has and the reference
    has not. `scale` is how large the reference's values are, at least 1: an absolute bound is relative to it.
    `padding` is what lies behind an attention mask, None where nothing does; records of old have it among the
    rest.
    """

    output: str
    shape: Mapping[str, int]
    max_abs_error: float | None
    mean_abs_error: float | None
    max_rel_error: float | None
    cosine: float | None
    sqnr_db: float | None
    nan_count: int = 0
    inf_count: int = 0
    scale: float = 1.0
    rel_l2_error: float | None = None
    padding: Padding | None = None


@dataclass(frozen=True)
class Attention:
    """Where the attention of one sample went over its image, in the reference and in the candidate.

    `pixels` are the bytes of the image in base64, RGB, row by row, `height` x `width`; the maps are rows of
    weights over a grid that covers it.
    """

    label: str
    height: int
    width: int
    pixels: str
    reference: tuple[tuple[float, ...], ...]
    candidate: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Parity:
    """Reference against candidate over all shapes, the task's own metrics, and the judgement.

    `gradient_error` is that of directional derivatives, relative to the reference's (gradient.py). `notes`
    say why something was not looked at.
    """

    passed: bool
    precision: Precision
    tolerance: Tolerance
    noise_floor: float
    samples: int
    outputs: tuple[OutputParity, ...]
    metrics: Mapping[str, float] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    gradient_error: float | None = None
    attention: tuple[Attention, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def measures(self) -> Mapping[str, float]:
        """The task's metrics, and `gradient_error` where derivatives were compared."""
        gradient = {} if self.gradient_error is None else {"gradient_error": self.gradient_error}
        return {**self.metrics, **gradient}


@dataclass(frozen=True)
class Noise:
    """What else happened on the machine during a block; None where the kernel or the driver does not tell.

    `gpu_mhz` is the clock of the GPU right after the block; `gpu_throttle` what held it back at either end of
    the block (`hw thermal slowdown, sw power cap`), empty where nothing did. `pressure_seconds` is how long
    some process of the machine had to wait for a core (/proc/pressure/cpu), `stopped_count` how often
    somebody stopped this one and let it go on. `energy_joules` is what the GPU in use, or else the CPU
    packages, took from before the first call to after the last.
    """

    steal_seconds: float | None = None
    involuntary_switches: int | None = None
    others_cpu_seconds: float | None = None
    cpu_mhz: float | None = None
    throttle_count: int | None = None
    gpu_mhz: float | None = None
    gpu_throttle: str | None = None
    pressure_seconds: float | None = None
    energy_joules: float | None = None
    stopped_count: int = 0


@dataclass(frozen=True)
class Neighbours:
    """How many cores others used, and by the names of their commands which of them how many.

    The names may add up to less: processes that came and went between two looks are counted, and not named.
    """

    cores: float = 0.0
    by_name: Mapping[str, float] = field(default_factory=dict)

    @property
    def busiest(self) -> tuple[str, float] | None:
        """Who used most, and how much of a core."""
        return max(self.by_name.items(), key=lambda item: item[1], default=None)


@dataclass(frozen=True)
class Block:
    """Calls timed in a row. `first_ns` found cold caches and is kept apart from `latencies_ns`; None where
    calls are so long that cold caches are nothing to them, and no call was made for them.

    `disturbed` says why no call of the block counts (see numerics/calm.py); the block and its repetitions are
    all kept. The calls lie in slices of about 10 ms, a longer call being one of its own: `slices` says how
    many calls each has, `waited_ns` how long in it the thread that waited longest was kept from a core,
    `cpu_ns` the CPU time of all threads; empty where nobody looked. `pace` is how long the canary took right
    before the block, over the least that it takes on this machine: 1.3 where the machine itself was slower by
    a third.
    """

    round: int
    started_ns: int
    first_ns: int | None
    latencies_ns: tuple[int, ...]
    noise: Noise = field(default_factory=Noise)
    disturbed: str = ""
    slices: tuple[int, ...] = ()
    waited_ns: tuple[int, ...] = ()
    cpu_ns: tuple[int, ...] = ()
    pace: float | None = None


@dataclass(frozen=True)
class Memory:
    """High-water marks of one worker, as the kernel counts them.

    `idle_bytes`: a worker that has loaded nothing; `loaded_bytes`: after load; `peak_bytes`: after the
    timed blocks; `device_bytes`: of this process on the accelerator, None where the driver does not tell.
    """

    idle_bytes: int
    loaded_bytes: int
    peak_bytes: int
    device_bytes: int | None = None


@dataclass(frozen=True)
class Replicate:
    """One fresh process: what it took to load and to settle, the timed blocks, the memory."""

    index: int
    load_seconds: float
    settled: bool
    warm_up: tuple[Block, ...]
    blocks: tuple[Block, ...]
    memory: Memory


@dataclass(frozen=True)
class Measurement:
    """All replicates of a case, and with whom they were interleaved.

    Two measurements with the same `session` were taken in interleaved rounds. `placement` is how many graph
    nodes each execution provider really took; `versions` those of the runtime in the worker. `neighbours`
    says who else used the machine while its blocks were disturbed: commands by name, in cores. `statistics`
    says by which intervals measuring stopped: `t`, of each case alone, or `moderated` over the group.
    """

    session: str
    replicates: tuple[Replicate, ...]
    stopped_by: StoppedBy
    placement: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    neighbours: Mapping[str, float] = field(default_factory=dict)
    statistics: str = "t"


@dataclass(frozen=True)
class Record:
    """How one case ended: a line of records.jsonl.

    `stage`, `reason`, `hint` and `detail` (the end of stderr) say why a case is not `ok`;
    `peak_memory_bytes` is what a failed child had used at most. `command` reproduces the row.
    `companion` is the baseline as it was measured in this case's rounds, where the baseline's own record
    was taken in others (its group did not fit into memory at once, or a stopped run went on). `seconds` says
    where the time went that was spent on the case, by stage; in what cases did together each has its part.
    """

    case: Case
    outcome: Outcome
    recorded_at: str
    command: str
    is_baseline: bool = False
    stage: Stage | None = None
    reason: str = ""
    hint: str = ""
    detail: str = ""
    artifact: Artifact | None = None
    parity: Parity | None = None
    measurement: Measurement | None = None
    companion: Measurement | None = None
    peak_memory_bytes: int | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class Host:
    """What an artifact may depend on: the CPU's features as /proc/cpuinfo names them; of the GPU that CUDA
    uses first its name, its compute capability (`9.0`) and the driver's version, None where there is none."""

    cpu_features: frozenset[str]
    gpu: str | None = None
    compute_capability: str | None = None
    driver: str | None = None

    @property
    def has_vnni(self) -> bool:
        """Whether int8 dot products neither saturate nor need two instructions."""
        return not self.cpu_features.isdisjoint({"avx512_vnni", "avx_vnni", "asimddp"})


@dataclass(frozen=True)
class Environment:
    """The machine and what is installed on it, without names of hosts or users."""

    cpu_model: str
    cpu_count: int
    cpu_features: tuple[str, ...]
    memory_bytes: int
    kernel: str
    python: str
    packages: Mapping[str, str]
    cpu_limit: float | None = None
    memory_limit_bytes: int | None = None
    governor: str | None = None
    virtualized: str | None = None
    gpus: tuple[Mapping[str, Any], ...] = ()
    driver: str | None = None
    git_commit: str | None = None
    benchbox: str = ""

    @property
    def machine(self) -> str:
        """What this machine is, in a line: `AMD EPYC, 64 cores, CPU limit 2, 23 GiB, NVIDIA L4, driver
        580.1`.

        Of the limits those that are less than what the machine has.
        """
        parts = [self.cpu_model, f"{self.cpu_count} cores"]
        if self.cpu_limit is not None and self.cpu_limit < self.cpu_count:
            parts.append(f"CPU limit {self.cpu_limit:g}")
        parts.append(f"{self.memory_bytes / 2**30:.0f} GiB")
        if self.memory_limit_bytes is not None and self.memory_limit_bytes < self.memory_bytes:
            parts.append(f"memory limit {self.memory_limit_bytes / 2**30:.3g} GiB")
        names = [str(gpu.get("name", "GPU")) for gpu in self.gpus]
        counts = {name: names.count(name) for name in names}
        parts += [name if count == 1 else f"{count} x {name}" for name, count in counts.items()]
        if self.gpus and self.driver:
            parts.append(f"driver {self.driver}")
        return ", ".join(parts)
