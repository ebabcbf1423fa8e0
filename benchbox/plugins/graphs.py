"""ONNX files, for the three kinds of plug-in that make or read them: written whole, and opened on the CPU."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchbox.errors import StageError, named_line

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = "model.onnx"
DATA = "model.onnx.data"

MAX_PROTO_BYTES = 2**31 - 2**27
"""A protobuf message is at most 2 GiB (protobuf's own limit); weights come with graph and names, for which a
sixteenth is left."""

# Weights smaller than this stay in the file: the default of onnx.save_model.
_EXTERNAL_TENSOR_BYTES = 1024


def weight_bytes(model: Any) -> int:
    """Bytes that the initializers take."""
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer)


def write(model: Any, folder: Path, *, external_data: bool = False) -> bool:
    """Writes `model.onnx`, with its weights in one file beside it above 2 GB, or where asked to.

    Returns whether the weights are beside it; then the model in memory has lost them.
    """
    import onnx

    external = external_data or weight_bytes(model) > MAX_PROTO_BYTES
    if external:
        onnx.save_model(
            model,
            str(folder / FILE),
            save_as_external_data=True,
            all_tensors_to_one_file=True,
            location=DATA,
            size_threshold=_EXTERNAL_TENSOR_BYTES,
        )
    else:
        onnx.save_model(model, str(folder / FILE))
    return external


def session(path: Path, *, threads: int = 0, optimized: bool = True) -> Any:
    """A session of the file on the CPU, that says nothing on stderr; 0 threads are the runtime's own choice.

    Raises what `refused` turns into a StageError.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails comes as an exception
    options.intra_op_num_threads = threads
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@contextmanager
def refused(what: str) -> Iterator[None]:
    """What ONNX Runtime raises of its own, as a StageError that begins with `what`."""
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime

    try:
        yield
    except (
        runtime.Fail,
        runtime.InvalidArgument,
        runtime.InvalidGraph,
        runtime.InvalidProtobuf,
        runtime.NotImplemented,
        runtime.RuntimeException,
    ) as error:
        raise StageError(f"{what}: {named_line(error)}") from error
