"""What both int8 passes share: which weights get which scale, what the CPU suggests, and the facts.

The measurements behind `suggest` stand at the top of int8_dynamic.py and int8_static.py.
"""

from __future__ import annotations

import contextlib
import fnmatch
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchbox.errors import StageError, named_line
from benchbox.plugins import graphs
from benchbox.plugins.contract import Facts, PassJob
from benchbox.plugins.passes import _files
from benchbox.schema.seen import Host

IntType = Literal["S8", "U8"]

# The magnitude that weights of a full 8 bits have; symmetric S8 does not use -128.
FULL_RANGE = 127

# Without VNNI, pairs of products are added in 16 bits and saturate. 104 kept the accuracy on weights with
# outliers at no cost in time (measured on AVX2: ranges 127, 110, 104, 96, 80 and 64 were tried).
_RANGE_WITHOUT_VNNI = 104

# The library's reduce_range: 7 bits.
_REDUCED_RANGE = 64

# What an op type is called once it is quantized, where the name is not that with "QLinear" before it.
_QUANTIZED_NAMES = {
    "MatMulInteger": "MatMul",
    "ConvInteger": "Conv",
    "QGemm": "Gemm",
    "QAttention": "Attention",
    "DynamicQuantizeLSTM": "LSTM",
}

# Since this opset DequantizeLinear has an axis, and QDQ scales per channel (onnx's Changelog.md).
PER_CHANNEL_OPSET = 13

# The axis of output channels in a weight, for op types whose weight has one.
_CHANNEL_AXIS = {"MatMul": 1, "Gemm": 1, "Conv": 0, "ConvTranspose": 1}

# Where a transformer's and a convolutional network's time goes: what "int8" is understood to mean.
_PRODUCTS = ("MatMul", "Gemm", "Conv")


@dataclass(frozen=True)
class WeightOptions:
    """How weights are quantized, and which nodes. None is chosen by what the CPU is.

    `op_types`: only nodes of these types. `nodes_to_exclude`: names kept fp32, with wildcards
    (`*/layer.0/*/fc2/MatMul`). `per_channel`: a scale for each output channel instead of one for the tensor.
    `weight_range`: quantized weights lie within +-weight_range of their zero point, at most 127; below 127
    the scale is absmax / weight_range. `reduce_range`: the library's 7 bits, in place of `weight_range`.
    `weight_symmetric`: zero point in the middle; None is the library's choice (S8 yes, U8 no).
    """

    op_types: tuple[str, ...] = ("MatMul", "Gemm")
    nodes_to_exclude: tuple[str, ...] = ()
    weight_type: IntType | None = None
    per_channel: bool | None = None
    weight_range: int | None = None
    reduce_range: bool = False
    weight_symmetric: bool | None = None

    def __post_init__(self) -> None:
        if not self.op_types:
            raise ValueError("op_types must name at least one op type, for instance MatMul")
        if self.weight_type not in ("S8", "U8", None):
            raise ValueError(f"weight_type must be S8 or U8, not {self.weight_type!r}")
        if self.weight_range is not None and not 1 <= self.weight_range <= FULL_RANGE:
            raise ValueError(f"weight_range must be between 1 and {FULL_RANGE}, not {self.weight_range}")
        if self.reduce_range and self.weight_range not in (None, _REDUCED_RANGE):
            raise ValueError("reduce_range and weight_range exclude each other: choose one")


@dataclass(frozen=True)
class Suggestion:
    """What suits a CPU, and why, in a sentence."""

    weight_type: IntType
    per_channel: bool
    weight_range: int
    reason: str


@dataclass(frozen=True)
class Prepared:
    """A model ready for the quantizer: `path` in a scratch folder, its graph, how shapes were inferred.

    `opset` is that of the source: preparing raises the oldest ones.
    """

    path: Path
    model: Any
    shape_inference: str
    large: bool
    opset: int


def suggest(host: Host) -> Suggestion:
    """What measured best on transformers for a CPU with, or without, VNNI."""
    features = host.cpu_features & {"avx512_vnni", "avx_vnni", "asimddp"}
    if host.has_vnni:
        reason = (
            f"cpu has {', '.join(sorted(features))}: int8 dot products do not saturate, so signed weights "
            f"take the full range of {FULL_RANGE}, per channel"
        )
        return Suggestion("S8", True, FULL_RANGE, reason)
    reason = (
        "cpu has neither VNNI nor dot-product instructions: its int8 kernel saturates, so signed weights "
        f"keep within {_RANGE_WITHOUT_VNNI}, per channel"
    )
    return Suggestion("S8", True, _RANGE_WITHOUT_VNNI, reason)


def resolved(options: WeightOptions, host: Host) -> dict[str, Any]:
    """The fields of WeightOptions that were None, filled in."""
    suggestion = suggest(host)
    weight_type = options.weight_type or suggestion.weight_type
    per_channel = suggestion.per_channel if options.per_channel is None else options.per_channel
    symmetric = weight_type == "S8" if options.weight_symmetric is None else options.weight_symmetric
    return {
        "weight_type": weight_type,
        "per_channel": per_channel,
        "weight_range": options.weight_range or _default_range(options, weight_type, suggestion),
        "weight_symmetric": symmetric,
    }


def prepare(source: Path, scratch: Path, *, gemm_as_matmul: bool) -> Prepared:
    """Shapes inferred, constants folded, every node named; Gemm as MatMul and Add where asked for."""
    import onnx
    from onnxruntime.quantization.onnx_model import ONNXModel

    large = _files.is_large(source)
    raw = scratch / "preprocessed.onnx"
    shape_inference = _preprocess(source / graphs.FILE, raw, large=large)
    model = onnx.load(str(raw))
    if gemm_as_matmul:
        rewritten = ONNXModel(model)
        rewritten.replace_gemm_with_matmul()
        rewritten.topological_sort()
        model = rewritten.model
    _drop_types_of_weights(model.graph)
    _files.name_nodes(model.graph)
    folder = scratch / "prepared"
    folder.mkdir()
    graphs.write(model, folder)
    return Prepared(
        path=folder / graphs.FILE,
        model=onnx.load(str(folder / graphs.FILE)),
        shape_inference=shape_inference,
        large=large,
        opset=_opset(source / graphs.FILE),
    )


def excluded(model: Any, options: WeightOptions, *, keep_activation_matmuls: bool) -> list[str]:
    """Names of nodes that stay fp32: those that match, and products of two activations where asked for.

    Raises StageError for a pattern that matches no node.
    """
    names = [node.name for node in model.graph.node]
    chosen: set[str] = set()
    for pattern in options.nodes_to_exclude:
        matches = fnmatch.filter(names, pattern)
        if not matches:
            raise StageError(f"nodes_to_exclude: no node of the graph matches {pattern!r}")
        chosen.update(matches)
    if keep_activation_matmuls:
        chosen.update(_activation_matmuls(model))
    return sorted(chosen)


def weight_overrides(
    model: Any, options: WeightOptions, exclude: Collection[str], per_channel_ops: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """`TensorQuantOverrides`: scale and zero point by weight, so that |q - zero point| <= weight_range.

    Empty where the library's own scales do, which is at the full range. `per_channel_ops` are the op types
    for which the quantizer knows scales per channel.
    """
    if options.reduce_range or options.weight_range in (None, FULL_RANGE):
        return {}
    import onnx

    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    chosen = {}
    for node in model.graph.node:
        wanted = node.op_type in options.op_types and node.name not in exclude
        if wanted and node.op_type in _CHANNEL_AXIS and node.input[1] in weights:
            array = onnx.numpy_helper.to_array(weights[node.input[1]])
            by_channel = bool(options.per_channel) and node.op_type in per_channel_ops
            axis = _channel_axis(node, array) if by_channel else None
            chosen[node.input[1]] = _scales(array, axis, options)
    return chosen


def finish(job: PassJob, options: WeightOptions, prepared: Prepared, model: Any, folder: Path) -> Facts:
    """Writes the quantized model, sees that it loads, and gives the facts of both passes."""
    _drop_unused_domains(model)
    graphs.write(model, folder)
    _files.check_loads(folder / graphs.FILE)
    counted = {*options.op_types, *_CHANNEL_AXIS}
    quantized, kept = count_nodes(model, counted)
    if not quantized:
        raise nothing_taken(options)
    return {
        "chosen": _reason(job, options, prepared.opset),
        "weight_type": options.weight_type,
        "per_channel": options.per_channel,
        "weight_range": options.weight_range,
        "weight_symmetric": options.weight_symmetric,
        "reduce_range": options.reduce_range,
        "op_types": list(options.op_types),
        "shape_inference": prepared.shape_inference,
        "nodes_quantized": quantized,
        "nodes_fp32": kept,
        "products": sum(found.get(word, 0) for word in _PRODUCTS for found in (quantized, kept)),
        "products_quantized": sum(quantized.get(word, 0) for word in _PRODUCTS),
        "size_bytes": _files.size_bytes(folder),
        "size_bytes_before": _files.size_bytes(job.source),
    }


def count_nodes(model: Any, op_types: Collection[str]) -> tuple[dict[str, int], dict[str, int]]:
    """How many nodes of these op types are quantized, and how many are not, under their fp32 names."""
    dequantized = {
        name for node in model.graph.node if node.op_type == "DequantizeLinear" for name in node.output
    }
    quantized: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    for node in model.graph.node:
        original = _QUANTIZED_NAMES.get(node.op_type, node.op_type.removeprefix("QLinear"))
        if original not in op_types:
            continue
        is_quantized = original != node.op_type or not dequantized.isdisjoint(node.input)
        (quantized if is_quantized else kept)[original] += 1
    return dict(sorted(quantized.items())), dict(sorted(kept.items()))


def nothing_taken(options: WeightOptions) -> StageError:
    """The error for options that leave the whole graph in fp32."""
    return StageError(f"nothing was quantized: no node of {', '.join(options.op_types)} can be taken")


@contextlib.contextmanager
def library_errors() -> Iterator[None]:
    """What onnxruntime.quantization raises over a model, as StageError with its reason."""
    import onnx

    try:
        yield
    except (
        ValueError,
        KeyError,
        AssertionError,
        RuntimeError,
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
    ) as error:
        raise StageError(f"onnxruntime.quantization: {named_line(error)}") from error


def quant_type(word: IntType | None) -> Any:
    """onnxruntime's name of a type."""
    from onnxruntime.quantization import QuantType

    return QuantType.QUInt8 if word == "U8" else QuantType.QInt8


def _default_range(options: WeightOptions, weight_type: IntType, suggestion: Suggestion) -> int:
    """U8 weights do not saturate: their kernel adds in 32 bits."""
    if options.reduce_range:
        return _REDUCED_RANGE
    return suggestion.weight_range if weight_type == "S8" else FULL_RANGE


def _opset(file: Path) -> int:
    """The version of ONNX's own operators that a graph is written in."""
    import onnx

    imports = onnx.load(str(file), load_external_data=False).opset_import
    return next(int(entry.version) for entry in imports if entry.domain in ("", "ai.onnx"))


def _preprocess(source: Path, target: Path, *, large: bool) -> str:
    """Says how shapes were inferred: symbolically, or, where that fails (BERT), by onnx alone."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    settings: Mapping[str, Any] = {
        "save_as_external_data": large,
        "all_tensors_to_one_file": True,
        "external_data_location": f"{target.name}.data",
    }
    source, target = source.absolute(), target.absolute()
    try:
        # Symbolic inference that stays incomplete leaves the whole model in the working directory.
        with tempfile.TemporaryDirectory(prefix="int8-") as scratch, contextlib.chdir(scratch):
            quant_pre_process(str(source), str(target), **settings)
    except Exception as error:  # symbolic shape inference raises bare Exception, and whatever sympy raises
        with library_errors():
            quant_pre_process(str(source), str(target), skip_symbolic_shape=True, **settings)
        return f"without symbolic shapes, which failed: {named_line(error)}"
    return "symbolic"


def _drop_types_of_weights(graph: Any) -> None:
    """`value_info` of weights, which the torch.export exporter writes, is wrong for a transposed weight."""
    weights = {tensor.name for tensor in graph.initializer}
    kept = [value for value in graph.value_info if value.name not in weights]
    del graph.value_info[:]
    graph.value_info.extend(kept)


def _activation_matmuls(model: Any) -> list[str]:
    weights = {tensor.name for tensor in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in ("MatMul", "Gemm") and node.input[1] not in weights
    ]


def _channel_axis(node: Any, array: Any) -> int | None:
    """None for a weight with more axes than its op type's channels are defined for."""
    if node.op_type in ("MatMul", "Gemm") and array.ndim != 2:
        return None
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return 0 if node.op_type == "Gemm" and transposed else _CHANNEL_AXIS[node.op_type]


def _scales(array: Any, axis: int | None, options: WeightOptions) -> list[dict[str, Any]]:
    import numpy as np

    zero_point = 128 if options.weight_type == "U8" else 0
    others = None if axis is None else tuple(i for i in range(array.ndim) if i != axis)
    largest = np.atleast_1d(np.abs(array).max(axis=others)).astype(np.float64)
    scales = np.where(largest > 0, largest / float(options.weight_range or FULL_RANGE), 1.0)
    where = {} if axis is None else {"axis": axis}
    return [{**where, "scale": np.float32(scale), "zero_point": zero_point} for scale in scales]


def _drop_unused_domains(model: Any) -> None:
    """ONNX Runtime's optimizer notes every domain it knows; other runtimes refuse some of them."""
    used = {node.domain for node in model.graph.node} | {""}
    used |= {node.domain for function in model.functions for node in function.node}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _reason(job: PassJob, options: WeightOptions, opset: int) -> str:
    """The suggestion's sentence, what the suite set otherwise, and what the graph does not allow."""
    suggestion = suggest(job.host)
    forced = options.per_channel != suggestion.per_channel and job.options.per_channel is None
    seen: dict[str, Any] = {"weight_type": options.weight_type}
    if not forced:
        seen["per_channel"] = options.per_channel
    if not options.reduce_range and options.weight_type == "S8":
        seen["weight_range"] = options.weight_range
    set_by_suite = [f"{name}={value}" for name, value in seen.items() if value != getattr(suggestion, name)]
    if options.reduce_range:
        set_by_suite.append("reduce_range=True")
    said = "; the suite sets ".join(filter(None, [suggestion.reason, ", ".join(set_by_suite)]))
    if forced:
        said += f"; but per tensor, as that needs opset {PER_CHANNEL_OPSET} and the graph is of {opset}"
    return said
