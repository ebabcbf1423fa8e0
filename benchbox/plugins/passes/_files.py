"""What the passes on ONNX share: what they start from, and seeing that ONNX Runtime takes what they made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchbox.errors import StageError
from benchbox.plugins import graphs
from benchbox.plugins.contract import PassJob


def require_fp32(job: PassJob, word: str) -> None:
    """Raises StageError where the artifact is not fp32 any more."""
    if job.artifact.precision != "fp32":
        raise StageError(f"{word} starts from fp32, and this artifact is {job.artifact.precision} already")


def size_bytes(folder: Path) -> int:
    """Bytes of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def is_large(folder: Path) -> bool:
    """Whether the model in this folder, weights included, may be too large for one protobuf."""
    return size_bytes(folder) > graphs.MAX_PROTO_BYTES


def check_loads(path: Path) -> None:
    """Raises StageError where ONNX Runtime's CPU provider makes no session of the file."""
    with graphs.refused("ONNX Runtime does not load the new model"):
        graphs.session(path)


def name_nodes(graph: Any) -> None:
    """Gives every node a name of its own: rewriters make names of tensors from those of nodes."""
    seen: set[str] = set()
    for index, node in enumerate(graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.name or node.op_type}_{index}"
        seen.add(node.name)
