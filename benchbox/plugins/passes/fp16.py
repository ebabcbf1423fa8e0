"""Half precision: weights and arithmetic in fp16, inputs and outputs kept fp32 (onnxconverter-common).

Half the file everywhere; faster where the provider has fp16 arithmetic. ONNX Runtime's CPU provider emulates
it with Casts and is no faster for it.

The converter leaves three things to its caller, which `_prepared` does: it neither retargets Casts that the
exporter wrote (`Cast(to=float)` into an fp16 multiplication), nor copies weights that a blocked and an
unblocked node share, and it gives a graph output the wrong type where a blocked node makes it or another
node reads it. Stale `value_info` is dropped afterwards: a runtime infers it anew.
"""

from __future__ import annotations

import tempfile
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchbox.errors import StageError, named_line
from benchbox.plugins import graphs
from benchbox.plugins.contract import Facts, PassJob
from benchbox.plugins.passes import _files
from benchbox.schema.asked import Precision
from benchbox.schema.seen import Host

REQUIRES = ("onnx", "onnxconverter_common", "onnxruntime")
ACCEPTS = ("onnx",)
PRODUCES = "onnx"
PRECISION: Precision = "fp16"


@dataclass(frozen=True)
class Options:
    """What stays fp32, and how values that fp16 cannot hold are clipped.

    `keep_io_types`: inputs and outputs of the graph stay fp32. `op_block_list`: op types kept fp32, beside
    the converter's own list (Range, Resize, TopK ...). `node_block_list`: names of nodes kept fp32.
    Magnitudes below `min_positive_val` are raised to it, those above `max_finite_val` lowered to it; the
    converter's own limits, of which the upper one keeps attention masks of -3e38 from making infinities.
    """

    keep_io_types: bool = True
    op_block_list: tuple[str, ...] = ()
    node_block_list: tuple[str, ...] = ()
    min_positive_val: float = 1e-7
    max_finite_val: float = 1e4

    def __post_init__(self) -> None:
        if not 0 < self.min_positive_val < self.max_finite_val <= 65504:
            raise ValueError("0 < min_positive_val < max_finite_val <= 65504 (the largest fp16) must hold")


@dataclass(frozen=True)
class _Blocked:
    """Which nodes stay fp32."""

    op_types: frozenset[str]
    names: frozenset[str]

    def __contains__(self, node: Any) -> bool:
        return node.op_type in self.op_types or node.name in self.names


def resolve(options: Options, host: Host) -> Options:  # noqa: ARG001  # the contract; nothing depends on the CPU
    """The options as they are."""
    return options


def apply(job: PassJob, folder: Path) -> Facts:
    """Writes the fp16 model. Facts: nodes by op type in fp16 and fp32, Casts, clipped weights, size.

    Raises StageError where a blocked node does not exist, or ONNX Runtime does not load the result.
    """
    import onnx

    _files.require_fp32(job, "fp16")
    model = onnx.load(str(job.source / graphs.FILE))
    if any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer):
        raise StageError("fp16 starts from fp32, and this model has fp16 weights already")
    blocked = _blocked(job.options, model)
    kept = Counter(node.op_type for node in model.graph.node if node in blocked)
    computed = Counter(node.op_type for node in model.graph.node if node not in blocked)
    clipped = _clipped(job.options, model)
    model = _convert(job.options, _prepared(model, blocked), blocked)
    del model.graph.value_info[:]
    graphs.write(model, folder)
    _check(folder / graphs.FILE)
    return {
        "nodes_fp16": dict(sorted(computed.items())),
        "nodes_fp32": dict(sorted(kept.items())),
        "casts": sum(node.op_type == "Cast" for node in model.graph.node),
        "keep_io_types": job.options.keep_io_types,
        "op_block_list": sorted(blocked.op_types),
        "clipped_weights": clipped,
        "size_bytes": _files.size_bytes(folder),
        "size_bytes_before": _files.size_bytes(job.source),
    }


def _blocked(options: Options, model: Any) -> _Blocked:
    from onnxconverter_common.float16 import DEFAULT_OP_BLOCK_LIST

    _files.name_nodes(model.graph)
    absent = set(options.node_block_list) - {node.name for node in model.graph.node}
    if absent:
        raise StageError(f"node_block_list names nodes that the graph has not: {', '.join(sorted(absent))}")
    return _Blocked(
        op_types=frozenset(DEFAULT_OP_BLOCK_LIST) | frozenset(options.op_block_list),
        names=frozenset(options.node_block_list),
    )


def _clipped(options: Options, model: Any) -> Mapping[str, int]:
    """How many weights are too small, and how many too large, for the limits."""
    import numpy as np
    import onnx

    small = large = 0
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            magnitude = np.abs(onnx.numpy_helper.to_array(tensor))
            small += int(np.count_nonzero((magnitude > 0) & (magnitude < options.min_positive_val)))
            large += int(np.count_nonzero((magnitude > options.max_finite_val) & np.isfinite(magnitude)))
    return {"raised": small, "lowered": large}


def _prepared(model: Any, blocked: _Blocked) -> Any:
    """The model made into one that the converter converts rightly, with the types of all tensors."""
    _copy_shared_weights(model.graph, blocked)
    _detach_outputs(model.graph, blocked)
    model = _infer(model)
    _retarget_casts(model.graph, blocked)  # last: types are inferred while everything is fp32
    return model


def _retarget_casts(graph: Any, blocked: _Blocked) -> None:
    """What the exporter cast to fp32 is fp16 now."""
    import onnx

    for node in graph.node:
        if node.op_type == "Cast" and node not in blocked:
            for attribute in node.attribute:
                if attribute.name == "to" and attribute.i == onnx.TensorProto.FLOAT:
                    attribute.i = onnx.TensorProto.FLOAT16


def _copy_shared_weights(graph: Any, blocked: _Blocked) -> None:
    """Blocked nodes get copies of the weights that others read too, as those become fp16."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    shared = {name for node in graph.node if node not in blocked for name in node.input if name in weights}
    copies: dict[str, str] = {}
    for node in graph.node:
        for index, name in enumerate(node.input):
            if node in blocked and name in shared:
                if name not in copies:
                    copies[name] = f"{name}_fp32"
                    graph.initializer.add().CopyFrom(weights[name])
                    graph.initializer[-1].name = copies[name]
                node.input[index] = copies[name]


def _detach_outputs(graph: Any, blocked: _Blocked) -> None:
    """An Identity before each output that a blocked node makes or that another node reads."""
    import onnx

    read = {name for node in graph.node for name in node.input}
    made_by = {name: node for node in graph.node for name in node.output}
    for output in graph.output:
        maker = made_by.get(output.name)
        if maker is not None and (maker in blocked or output.name in read):
            inner = f"{output.name}_inner"
            _rename(graph, output.name, inner)
            graph.node.append(
                onnx.helper.make_node("Identity", [inner], [output.name], name=f"{output.name}_identity")
            )


def _rename(graph: Any, name: str, new: str) -> None:
    for node in graph.node:
        node.input[:] = [new if other == name else other for other in node.input]
        node.output[:] = [new if other == name else other for other in node.output]


def _infer(model: Any) -> Any:
    """The model with the types of all tensors, by which the converter places its Casts; works above 2 GB."""
    import onnx

    with tempfile.TemporaryDirectory(prefix="fp16-") as scratch:
        del model.graph.value_info[:]
        graphs.write(model, Path(scratch))
        path, inferred = str(Path(scratch) / graphs.FILE), str(Path(scratch) / "inferred.onnx")
        onnx.shape_inference.infer_shapes_path(path, inferred)
        return onnx.load(inferred)


def _convert(options: Options, model: Any, blocked: _Blocked) -> Any:
    from onnxconverter_common import float16

    with warnings.catch_warnings():
        # One warning a tensor with clipped values: they are counted in the facts.
        warnings.simplefilter("ignore")
        try:
            return float16.convert_float_to_float16(
                model,
                min_positive_val=options.min_positive_val,
                max_finite_val=options.max_finite_val,
                keep_io_types=options.keep_io_types,
                disable_shape_infer=True,
                op_block_list=sorted(blocked.op_types),
                node_block_list=sorted(blocked.names),
                check_fp16_ready=False,  # it takes retargeted Casts for an fp16 model; apply checks
            )
        except ValueError as error:
            raise StageError(f"onnxconverter-common: {named_line(error)}") from error


def _check(path: Path) -> None:
    """The nodes are sorted and typed, and ONNX Runtime agrees."""
    import onnx

    try:
        onnx.checker.check_model(str(path))
    except onnx.checker.ValidationError as error:
        raise StageError(f"onnx.checker refuses the fp16 model: {named_line(error)}") from error
    _files.check_loads(path)
