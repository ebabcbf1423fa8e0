"""What the passes on ONNX share: reading a model, writing it, and seeing that ONNX Runtime takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchbox.contract import PassJob
from benchbox.errors import StageError, named_line

FILE = "model.onnx"
DATA = "model.onnx.data"

# A protobuf message is at most 2 GiB (protobuf's own limit); a sixteenth is left for graph and names.
MAX_PROTO_BYTES = 2**31 - 2**27

# Weights smaller than this stay in the file: the default of onnx.save_model.
_EXTERNAL_TENSOR_BYTES = 1024


def require_fp32(job: PassJob, word: str) -> None:
    """Raises StageError where the artifact is not fp32 any more."""
    if job.artifact.precision != "fp32":
        raise StageError(f"{word} starts from fp32, and this artifact is {job.artifact.precision} already")


def size_bytes(folder: Path) -> int:
    """Bytes of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def is_large(folder: Path) -> bool:
    """Whether the model in this folder, weights included, may be too large for one protobuf."""
    return size_bytes(folder) > MAX_PROTO_BYTES


def write(model: Any, folder: Path) -> None:
    """Writes `model.onnx`; above 2 GB its weights go into one file beside it."""
    import onnx

    weights = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if weights <= MAX_PROTO_BYTES:
        onnx.save_model(model, str(folder / FILE))
        return
    onnx.save_model(
        model,
        str(folder / FILE),
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=DATA,
        size_threshold=_EXTERNAL_TENSOR_BYTES,
    )


def check_loads(path: Path) -> None:
    """Raises StageError where ONNX Runtime's CPU provider makes no session of the file."""
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails comes as an exception
    try:
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except (
        runtime.Fail,
        runtime.InvalidArgument,
        runtime.InvalidGraph,
        runtime.InvalidProtobuf,
        runtime.NotImplemented,
        runtime.RuntimeException,
    ) as error:
        raise StageError(f"ONNX Runtime does not load the new model: {named_line(error)}") from error


def name_nodes(graph: Any) -> None:
    """Gives every node a name of its own: rewriters make names of tensors from those of nodes."""
    seen: set[str] = set()
    for index, node in enumerate(graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.name or node.op_type}_{index}"
        seen.add(node.name)
