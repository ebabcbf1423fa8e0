"""PyTorch: eager, or through torch.compile (`compile: true`), on `cpu` or `cuda`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from benchbox.contract import Feeds, Module, Outputs, Session, SessionJob
from benchbox.errors import Unavailable
from benchbox.schema import Artifact, Backend, Precision, Threads

REQUIRES = ("torch",)
ACCEPTS = ("torch",)
DEFAULT_PROVIDERS = ("cpu",)
KNOWN_PROVIDERS = ("cpu", "cuda")

_PRECISIONS: Mapping[str, Precision] = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


@dataclass(frozen=True)
class Options:
    """`compile` goes through torch.compile with `mode`; `dtype` casts the module and its inputs."""

    compile: bool = False
    mode: Literal["default", "reduce-overhead", "max-autotune"] = "default"
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"


@dataclass(frozen=True)
class TorchSession:
    """A module on its device. The first call of a compiled one for a shape compiles."""

    module: Module
    device: str
    dtype: Any
    output_names: tuple[str, ...]
    compiled: bool

    def prepare(self, feeds: Feeds) -> Callable[[], object]:
        """A call that runs the module in inference mode and waits for its device."""
        import torch

        tensors = self._tensors(feeds)
        module, on_cuda = self.module, self.device == "cuda"

        @torch.inference_mode()  # type: ignore[untyped-decorator,unused-ignore]  # torch is untyped here
        def call() -> object:
            result = module(*tensors)
            if on_cuda:
                torch.cuda.synchronize()
            return result

        if self.compiled:
            call()
        return call  # type: ignore[no-any-return,unused-ignore]  # torch is untyped here

    def run(self, feeds: Feeds) -> Outputs:
        """The outputs by name, float32 arrays where the module computes in less."""
        import torch

        with torch.inference_mode():
            results = self.module(*self._tensors(feeds))
        return {
            name: (t.float() if t.is_floating_point() else t).cpu().numpy()
            for name, t in zip(self.output_names, results, strict=True)
        }

    def placement(self) -> Mapping[str, int]:
        """Empty: a module has no graph nodes to place."""
        return {}

    def device_bytes(self) -> int | None:
        """The peak of what torch's allocator reserved on the device."""
        import torch

        return int(torch.cuda.max_memory_reserved()) if self.device == "cuda" else None

    def _tensors(self, feeds: Feeds) -> tuple[Any, ...]:
        import torch

        tensors = (torch.from_numpy(array).to(self.device) for array in feeds.values())
        return tuple(t.to(self.dtype) if t.is_floating_point() else t for t in tensors)


def providers() -> tuple[str, ...]:
    """`cpu`, and `cuda` where torch sees a GPU."""
    import torch

    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


def versions() -> Mapping[str, str]:
    """torch's version with its build (`2.13.0+cpu`)."""
    import torch

    return {"torch": str(torch.__version__)}


def check(backend: Backend, options: Options) -> None:
    """Raises Unavailable without the device, or without what torch.compile needs to compile for it."""
    device = backend.provider
    if device not in providers():
        raise Unavailable(f"torch {versions()['torch']} sees no {device} device here")
    if options.compile:
        _require_compiler(device)


def precision(options: Options, artifact: Artifact) -> Precision:
    """That of `dtype`; an artifact of lower precision stays what it is."""
    if artifact.precision != "fp32":
        return artifact.precision
    return _PRECISIONS[options.dtype]


def open(job: SessionJob) -> Session:
    """The module with its weights on the device."""
    device = job.backend.provider
    if job.options.compile:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(job.cache / "inductor")  # torch knows no other way
    import torch

    _set_threads(job.backend.threads)
    dtype = getattr(torch, job.options.dtype)
    stored = replace(job.model, source=str(job.folder), weights="pretrained", config={}, lora=())
    module = job.family.load(stored).to(device=device, dtype=dtype)
    if job.options.compile:
        module = torch.compile(module, mode=job.options.mode)
    names = tuple(spec.name for spec in job.family.signature(stored, job.shape).outputs)
    return TorchSession(module, device, dtype, names, job.options.compile)


def _set_threads(threads: Threads) -> None:
    import torch

    torch.set_num_threads(threads.intra_op)
    torch.set_num_interop_threads(threads.inter_op)


def _require_compiler(device: str) -> None:
    import importlib.util

    if device == "cpu" and not any(map(shutil.which, (os.environ.get("CXX") or "g++", "c++", "clang++"))):
        raise Unavailable("torch.compile needs a C++ compiler", "apt-get install g++")
    if device == "cuda" and importlib.util.find_spec("triton") is None:
        raise Unavailable("torch.compile on cuda needs triton", "pip install triton")
