"""PyTorch: eager, or through torch.compile (`compile: true`), on `cpu` or `cuda`.

`load_in_4bit: true` is the base model of QLoRA (Dettmers et al. 2023): the weights of linear layers in 4 bits
through bitsandbytes, everything else, LoRA adapters too, in `dtype`.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from benchbox.errors import StageError, Unavailable, first_line
from benchbox.plugins.contract import Module, Session, SessionJob
from benchbox.schema.asked import PRECISION_OF_DTYPE, Backend, Precision, Threads
from benchbox.schema.seen import Artifact
from benchbox.schema.tensors import Feeds, Outputs

REQUIRES = ("torch",)
ACCEPTS = ("torch",)
DEFAULT_PROVIDERS = ("cpu",)
KNOWN_PROVIDERS = ("cpu", "cuda")
PROGRAMS = ("c++", "g++", "clang++")
MAY_REQUIRE = ("bitsandbytes", "transformers", "triton")


@dataclass(frozen=True)
class Options:
    """`compile` goes through torch.compile with `mode`; `dtype` casts the module and its inputs.

    `load_in_4bit` and what begins with `bnb_4bit` are named as in transformers' BitsAndBytesConfig, and by
    default are what QLoRA does; products are computed in `dtype`.
    """

    compile: bool = False
    mode: Literal["default", "reduce-overhead", "max-autotune"] = "default"
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    load_in_4bit: bool = False
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = "nf4"
    bnb_4bit_use_double_quant: bool = True


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
    """torch's version with its build (`2.13.0+cpu`), and that of bitsandbytes where it has been loaded."""
    import torch

    loaded = sys.modules.get("bitsandbytes")
    return {
        "torch": str(torch.__version__),
        **({"bitsandbytes": str(loaded.__version__)} if loaded else {}),
    }


def check(backend: Backend, options: Options) -> None:
    """Raises Unavailable without the device, or without what torch.compile needs to compile for it."""
    device = backend.provider
    if device not in providers():
        raise Unavailable(f"torch {versions()['torch']} sees no {device} device here")
    if options.compile:
        _require_compiler(device)
    if options.load_in_4bit:
        _require_4_bits(device)


def precision(options: Options, artifact: Artifact) -> Precision:
    """That of `dtype`, or of weights in 4 bits; an artifact of lower precision stays what it is."""
    if artifact.precision != "fp32":
        return artifact.precision
    if options.load_in_4bit:
        return "int4"
    return PRECISION_OF_DTYPE[options.dtype]


def open(job: SessionJob) -> Session:
    """The module with its weights on the device."""
    device = job.backend.provider
    if job.options.compile:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(job.cache / "inductor")  # torch knows no other way
    import torch

    _set_threads(job.backend.threads)
    dtype = getattr(torch, job.options.dtype)
    stored = replace(job.model, source=str(job.folder), weights="pretrained", config={}, lora=())
    module = job.family.load(stored).to(dtype=dtype)
    if job.options.load_in_4bit:
        module = _in_4_bits(module, _4_bit_config(job.options, dtype))
    module = module.to(device)
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


def _require_4_bits(device: str) -> None:
    """Raises Unavailable without bitsandbytes, or where it has nothing for the device."""
    try:
        import bitsandbytes
        import transformers  # noqa: F401  # its BitsAndBytesConfig says what is done
    except ImportError as error:
        raise Unavailable(f"load_in_4bit: {first_line(error)}", 'pip install "benchbox[qlora]"') from error
    devices = sorted(getattr(bitsandbytes, "supported_torch_devices", {"cuda"}))
    if device not in devices:
        raise Unavailable(
            f"bitsandbytes {bitsandbytes.__version__} has 4 bits for {', '.join(devices)}, not for {device}"
        )


def _4_bit_config(options: Options, dtype: Any) -> Any:
    import transformers

    return transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=options.bnb_4bit_quant_type,
        bnb_4bit_use_double_quant=options.bnb_4bit_use_double_quant,
        bnb_4bit_compute_dtype=dtype,
    )


def _in_4_bits(module: Module, config: Any) -> Module:
    """The module with its linear layers replaced, as `from_pretrained` with this config does it; they are
    quantized when they are moved to their device. Raises StageError where there are none.

    The output head stays what it is, as in transformers, and so do the matrices of LoRA adapters.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    kept = _kept_whole(module)
    linear = {
        name: part
        for name, part in module.named_modules()
        if type(part) in (torch.nn.Linear, Conv1D) and name not in kept and ".lora_" not in name
    }
    if not linear:
        raise StageError("load_in_4bit: the module has no linear layers that could be quantized")
    for name, part in linear.items():
        transposed = isinstance(part, Conv1D)
        weight = part.weight.detach().T.contiguous() if transposed else part.weight.detach()
        module.set_submodule(name, _linear_4_bits(weight, part.bias, config))
    return module


def _kept_whole(module: Module) -> set[str]:
    """Names of what transformers keeps whole: the output head, tied weights, the last module."""
    import transformers
    from transformers.quantizers.base import get_keys_to_not_convert

    for name, part in module.named_modules():
        if isinstance(part, transformers.PreTrainedModel):
            keys = (key.removesuffix(".bias") for key in get_keys_to_not_convert(part))
            return {f"{name}.{key}".lstrip(".") for key in keys}
    return set()


def _linear_4_bits(weight: Any, bias: Any, config: Any) -> Any:
    """A Linear4bit with `weight` (out, in), which is quantized when it is moved to a device."""
    import bitsandbytes

    settings = {
        "compress_statistics": config.bnb_4bit_use_double_quant,
        "quant_type": config.bnb_4bit_quant_type,
        "quant_storage": config.bnb_4bit_quant_storage,
    }
    outputs, inputs = weight.shape
    layer = bitsandbytes.nn.Linear4bit(
        inputs, outputs, bias=bias is not None, compute_dtype=config.bnb_4bit_compute_dtype, **settings
    )
    layer.weight = bitsandbytes.nn.Params4bit(weight, requires_grad=False, module=layer, **settings)
    layer.bias = bias
    return layer
