"""ONNX Runtime: any list of execution providers, session options, threads, I/O binding on devices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from benchbox.errors import Unavailable
from benchbox.plugins.contract import Session, SessionJob
from benchbox.schema.asked import Backend, Precision
from benchbox.schema.seen import Artifact
from benchbox.schema.tensors import Feeds, Outputs

REQUIRES = ("onnxruntime",)
ACCEPTS = ("onnx",)
DEFAULT_PROVIDERS = ("CPUExecutionProvider",)
KNOWN_PROVIDERS = (
    "CPUExecutionProvider",
    "CUDAExecutionProvider",
    "TensorrtExecutionProvider",
    "NvTensorRTRTXExecutionProvider",
    "OpenVINOExecutionProvider",
    "ROCMExecutionProvider",
    "MIGraphXExecutionProvider",
    "DnnlExecutionProvider",
    "XnnpackExecutionProvider",
    "CoreMLExecutionProvider",
    "DmlExecutionProvider",
    "QNNExecutionProvider",
    "WebGpuExecutionProvider",
)

_CPU = "CPUExecutionProvider"
# What brings a provider; each of these packages takes the place of onnxruntime.
_BRINGS = {
    "CUDAExecutionProvider": 'pip uninstall -y onnxruntime; pip install "benchbox[cuda]"',
    "TensorrtExecutionProvider": 'pip uninstall -y onnxruntime; pip install "benchbox[cuda,tensorrt]"',
    "OpenVINOExecutionProvider": "make an environment with onnxruntime-openvino and name it in `python:`",
}
_LEVELS = {
    "disable": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "layout": "ORT_ENABLE_LAYOUT",
    "all": "ORT_ENABLE_ALL",
}
_DEVICE_TYPES = {"CUDAExecutionProvider": "cuda", "TensorrtExecutionProvider": "cuda"}


@dataclass(frozen=True)
class Options:
    """Session options. `io_binding` None: on where the provider has a device of its own.

    `spinning`, `prepacking` and `memory_arena` are onnxruntime's defaults; `config` takes further session
    configuration entries by their names.
    """

    graph_optimization: Literal["disable", "basic", "extended", "layout", "all"] = "all"
    execution_mode: Literal["sequential", "parallel"] = "sequential"
    io_binding: bool | None = None
    spinning: bool = True
    prepacking: bool = True
    memory_arena: bool = True
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class OrtSession:
    """An InferenceSession and where its first provider keeps tensors (`cpu` or a device).

    `recorded` gives a session that recorded where its nodes went. Recording costs memory while a session
    loads (ViT-base: 605 MiB at the peak in place of 560), so on the CPU it is not the one that is measured.
    """

    inference: Any  # onnxruntime.InferenceSession, which has no types
    device: str
    binding: bool
    recorded: Callable[[], Any]

    def prepare(self, feeds: Feeds) -> Callable[[], object]:
        """`session.run` itself on a CPU; on a device a run with bound inputs and outputs, synchronised."""
        if not self.binding:
            return partial(self.inference.run, None, dict(feeds))
        binding = self._bind(feeds)
        run, synchronize = self.inference.run_with_iobinding, binding.synchronize_outputs

        def call() -> object:
            run(binding)
            return synchronize()

        return call

    def run(self, feeds: Feeds) -> Outputs:
        """The outputs by name."""
        names = [output.name for output in self.inference.get_outputs()]
        return dict(zip(names, self.inference.run(names, dict(feeds)), strict=True))

    def placement(self) -> Mapping[str, int]:
        """Graph nodes by provider after optimisation, as the session itself reports them."""
        counts: Counter[str] = Counter()
        for part in self.recorded().get_provider_graph_assignment_info():
            counts[part.ep_name] += len(part.get_nodes())
        return dict(counts)

    def device_bytes(self) -> int | None:
        """What the driver says this process holds on the GPU; None on a CPU or where it does not tell."""
        return _gpu_bytes_of_this_process() if self.device == "cuda" else None

    def _bind(self, feeds: Feeds) -> Any:
        import onnxruntime

        binding = self.inference.io_binding()
        for name, array in feeds.items():
            value = onnxruntime.OrtValue.ortvalue_from_numpy(array, self.device, 0)
            binding.bind_ortvalue_input(name, value)
        for output in self.inference.get_outputs():
            binding.bind_output(output.name, self.device)
        binding.synchronize_inputs()
        return binding


def providers() -> tuple[str, ...]:
    """The providers compiled into this onnxruntime; that a device is there shows when a session opens."""
    import onnxruntime

    return tuple(onnxruntime.get_available_providers())


def versions() -> Mapping[str, str]:
    """onnxruntime's version."""
    import onnxruntime

    return {"onnxruntime": str(onnxruntime.__version__)}


def check(backend: Backend, options: Options) -> None:  # noqa: ARG001  # the contract's form
    """Raises Unavailable, with what to install, for a provider that this onnxruntime does not have."""
    here = providers()
    for provider in backend.providers:
        if provider not in here:
            raise Unavailable(
                f"{provider} is not in onnxruntime {versions()['onnxruntime']}, which has {', '.join(here)}",
                _BRINGS.get(provider, ""),
            )


def precision(options: Options, artifact: Artifact) -> Precision:  # noqa: ARG001  # the contract's form
    """The artifact's own: a session changes no precision."""
    return artifact.precision


def open(job: SessionJob) -> Session:
    """The session. Raises Unavailable where the provider that was asked for first takes no node."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    if "CUDAExecutionProvider" in job.backend.providers:
        onnxruntime.preload_dlls()
    on_cpu = job.backend.providers == (_CPU,)
    session = _session(job, record=not on_cpu)
    device = _DEVICE_TYPES.get(job.backend.provider, "cpu")
    binding = device != "cpu" if job.options.io_binding is None else job.options.io_binding
    unpacked = replace(job, options=replace(job.options, prepacking=False))  # loads in half the time
    recorded = partial(_session, unpacked, record=True) if on_cpu else partial(_itself, session)
    opened = OrtSession(session, device, binding, recorded)
    _require_placement(opened, job.backend.provider)
    return opened


def _session(job: SessionJob, *, record: bool) -> Any:
    import onnxruntime

    options = _session_options(job.backend, job.options)
    if record:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return onnxruntime.InferenceSession(
        str(job.folder / "model.onnx"),
        sess_options=options,
        providers=[(p, dict(job.backend.provider_options.get(p, {}))) for p in job.backend.providers],
    )


def _itself(inference: Any) -> Any:
    return inference


def _session_options(backend: Backend, options: Options) -> Any:
    import onnxruntime as ort

    made = ort.SessionOptions()
    made.log_severity_level = 3
    made.graph_optimization_level = getattr(ort.GraphOptimizationLevel, _LEVELS[options.graph_optimization])
    parallel = options.execution_mode == "parallel"
    made.execution_mode = ort.ExecutionMode.ORT_PARALLEL if parallel else ort.ExecutionMode.ORT_SEQUENTIAL
    made.intra_op_num_threads = backend.threads.intra_op
    made.inter_op_num_threads = backend.threads.inter_op
    made.enable_cpu_mem_arena = options.memory_arena
    entries = {
        "session.intra_op.allow_spinning": "1" if options.spinning else "0",
        "session.inter_op.allow_spinning": "1" if options.spinning else "0",
        "session.disable_prepacking": "0" if options.prepacking else "1",
        **options.config,
    }
    for name, value in entries.items():
        made.add_session_config_entry(name, value)
    return made


def _require_placement(opened: OrtSession, provider: str) -> None:
    """A provider that silently gave way to the CPU is not there, whatever the session was asked for."""
    if provider == _CPU:
        return
    if provider not in opened.inference.get_providers():
        raise Unavailable(f"{provider} could not be loaded, and onnxruntime fell back to the CPU")
    placement = opened.placement()
    if not placement.get(provider):
        raise Unavailable(f"{provider} took none of the {sum(placement.values())} graph nodes")


def _gpu_bytes_of_this_process() -> int | None:
    import os

    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        running = [p for h in handles for p in pynvml.nvmlDeviceGetComputeRunningProcesses(h)]
    except pynvml.NVMLError:
        return None
    mine = [p.usedGpuMemory for p in running if p.pid == os.getpid() and p.usedGpuMemory is not None]
    return sum(mine) if mine else None
