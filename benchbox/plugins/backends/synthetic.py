"""A stack of matrix products, slower than itself by a known share: what `benchbox selftest` measures.

Runs on ONNX Runtime or on numpy, and needs no artifact: the network is made when it is opened, the same for
the same width. A call that is slower by 3 % is the call and then a wait, with a busy core, for 3 % of what
this very call took: so the true ratio is known, whatever the machine does meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from benchbox.errors import Unavailable
from benchbox.machine import clock as measure
from benchbox.plugins.contract import Session, SessionJob
from benchbox.schema.asked import Backend, Precision
from benchbox.schema.seen import Artifact
from benchbox.schema.tensors import Feeds, Outputs

REQUIRES = ("numpy",)
ACCEPTS = ("synthetic",)
DEFAULT_PROVIDERS = ("CPUExecutionProvider",)
KNOWN_PROVIDERS = ("CPUExecutionProvider",)
MAY_REQUIRE = ("onnx", "onnxruntime")

# Rows, width, layers: 400 million floating-point operations a call, a few milliseconds on two cores. That is
# a small transformer's work for one image, and leaves 20 to 50 calls in a block.
ROWS, WIDTH, LAYERS = 64, 512, 12
INPUT, OUTPUT = "x", "y"
# What onnxruntime of the last years reads.
_OPSET, _IR_VERSION = 17, 8


@dataclass(frozen=True)
class Options:
    """`slower_by` 0.03 makes every call 3 % slower; `copy` tells apart cases that are the same."""

    runtime: Literal["onnxruntime", "numpy"] = "numpy"
    slower_by: float = 0.0
    copy: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.slower_by) and self.slower_by >= 0):
            raise ValueError(f"slower_by is a share of at least 0, not {self.slower_by}")


@dataclass(frozen=True)
class SyntheticSession:
    """The network, and by how much its timed calls are slower."""

    network: Callable[[Feeds], Outputs]
    slower_by: float

    def prepare(self, feeds: Feeds) -> Callable[[], object]:
        """The call that is timed."""
        return slowed(partial(self.network, feeds), self.slower_by)

    def run(self, feeds: Feeds) -> Outputs:
        """The outputs by name, without the wait."""
        return self.network(feeds)

    def placement(self) -> Mapping[str, int]:
        """Nothing: no graph of the user's is placed."""
        return {}

    def device_bytes(self) -> int | None:
        """None: it runs on a CPU."""
        return None


def slowed(
    call: Callable[[], object], share: float, clock: measure.Clock = measure.clock_ns
) -> Callable[[], object]:
    """The call, and then a busy wait for that share of what the call took; the call itself for 0."""
    if share == 0:
        return call

    def slower() -> object:
        begun = clock()
        result = call()
        ended = clock()
        until = ended + int((ended - begun) * share)
        while clock() < until:
            pass
        return result

    return slower


def providers() -> tuple[str, ...]:
    """The CPU."""
    return DEFAULT_PROVIDERS


def versions() -> Mapping[str, str]:
    """numpy's version."""
    import numpy

    return {"numpy": numpy.__version__}


def check(backend: Backend, options: Options) -> None:  # noqa: ARG001  # the contract's form
    """Raises Unavailable where the runtime, or what makes its network, is not installed."""
    if options.runtime == "onnxruntime":
        try:
            import onnx  # noqa: F401  # whether it is there
            import onnxruntime  # noqa: F401  # whether it is there
        except ImportError as error:
            raise Unavailable(f"needs {error.name}", 'pip install "benchbox[cpu]"') from error


def precision(options: Options, artifact: Artifact) -> Precision:  # noqa: ARG001  # the contract's form
    """Single precision."""
    return "fp32"


def open(job: SessionJob) -> Session:
    """The network in the runtime that the options name."""
    make = {"onnxruntime": _in_onnxruntime, "numpy": _in_numpy}[job.options.runtime]
    return SyntheticSession(make(job.backend), job.options.slower_by)


def feeds() -> Feeds:
    """What goes in: the same every time."""
    import numpy as np

    return {INPUT: np.random.default_rng(1).standard_normal((ROWS, WIDTH), np.float32)}


def _weights() -> list[Any]:
    """Scaled so that activations neither grow nor vanish behind a ReLU (He et al. 2015)."""
    import numpy as np

    rng = np.random.default_rng(0)
    scale = np.float32(math.sqrt(2 / WIDTH))
    return [rng.standard_normal((WIDTH, WIDTH), np.float32) * scale for _ in range(LAYERS)]


def _in_numpy(backend: Backend) -> Callable[[Feeds], Outputs]:  # noqa: ARG001  # numpy has no thread count
    import numpy as np

    weights = _weights()

    def network(feeds: Feeds) -> Outputs:
        x = feeds[INPUT]
        for weight in weights:
            x = np.maximum(x @ weight, 0)
        return {OUTPUT: x}

    return network


def _in_onnxruntime(backend: Backend) -> Callable[[Feeds], Outputs]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = backend.threads.intra_op
    options.inter_op_num_threads = backend.threads.inter_op
    session = ort.InferenceSession(_onnx_bytes(), sess_options=options, providers=list(backend.providers))

    def network(feeds: Feeds) -> Outputs:
        return {OUTPUT: session.run([OUTPUT], dict(feeds))[0]}

    return network


def _onnx_bytes() -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    nodes, weights, x = [], [], INPUT
    for index, weight in enumerate(_weights()):
        last = index == LAYERS - 1
        product, activated = f"product{index}", OUTPUT if last else f"x{index}"
        weights.append(numpy_helper.from_array(weight, f"weight{index}"))
        nodes.append(helper.make_node("MatMul", [x, f"weight{index}"], [product]))
        nodes.append(helper.make_node("Relu", [product], [activated]))
        x = activated
    shape = [ROWS, WIDTH]
    graph = helper.make_graph(
        nodes,
        "synthetic",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, shape)],
        weights,
    )
    opsets = [helper.make_opsetid("", _OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
    content: bytes = model.SerializeToString()
    return content
