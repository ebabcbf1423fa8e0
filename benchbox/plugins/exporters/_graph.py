"""What the ONNX exporters share: naming axes, writing the file, proving that it does what the module does.

An exporter is believed in nothing: the axes are read from the file, and a batch that was not traced is run
through ONNX Runtime and compared with the module.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchbox.errors import StageError, named_line
from benchbox.numerics import padding, parity
from benchbox.plugins import graphs
from benchbox.plugins.contract import ExportJob, Facts
from benchbox.schema.asked import Precision
from benchbox.schema.tensors import Feeds, TensorSpec

# Of the output's scale. Loose on purpose: it tells a wrong graph from a right one. Strict parity comes later,
# by precision.
_AGREEMENT = 1e-3

# Operators that make, read or compute in 8 bits (ONNX, and com.microsoft of ONNX Runtime).
_INT8_OPS = frozenset(
    {
        "ConvInteger",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "DynamicQuantizeMatMul",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "QAttention",
        "QGemm",
        "QLinearConv",
        "QLinearMatMul",
        "QuantizeLinear",
    }
)

# Where the exporters note source files and line numbers of the exporting machine.
_PRIVATE_METADATA = ("stack_trace", "pkg.torch.onnx.stack_trace")


def tensors(job: ExportJob, feeds: Feeds) -> tuple[Any, ...]:
    """The feeds as torch tensors, in the order of the module's `forward`."""
    import numpy as np
    import torch

    return tuple(torch.from_numpy(np.asarray(feeds[spec.name], order="C")) for spec in job.signature.inputs)


def finish(job: ExportJob, model: Any, folder: Path, *, external_data: bool) -> Facts:
    """Writes `model.onnx` and proves it. Gives the facts that hold for every ONNX exporter.

    Raises StageError where the checker refuses it, an axis is not what the signature says, or its outputs are
    not those of the module.
    """
    _strip_paths(model)
    _check_axes(job, model)
    description = {**_describe(model), "precision": precision(model)}
    external = graphs.write(model, folder, external_data=external_data)
    full_check = _check(folder / graphs.FILE)
    return {
        **description,
        "external_data": external,
        "full_check": full_check,
        "verified": _verify(job, folder / graphs.FILE),
    }


def fix_axes(job: ExportJob, model: Any) -> None:
    """Gives the named axes of a graph the sizes of the example, wherever their names stand."""
    sizes = _sizes(job, job.example)
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in sizes:
                dim.dim_value = sizes[dim.dim_param]


def precision(model: Any) -> Precision:
    """What a graph computes in: the least precise of what is in it."""
    from onnx import TensorProto

    if any(node.op_type in _INT8_OPS for node in model.graph.node):
        return "int8"
    types = {tensor.data_type for tensor in model.graph.initializer}
    if TensorProto.BFLOAT16 in types:
        return "bf16"
    return "fp16" if TensorProto.FLOAT16 in types else "fp32"


def _strip_paths(model: Any) -> None:
    """An artifact that is shipped says nothing of the machine that made it."""
    for node in _nodes(model):
        node.doc_string = ""
        kept = [entry for entry in node.metadata_props if entry.key not in _PRIVATE_METADATA]
        if len(kept) != len(node.metadata_props):
            del node.metadata_props[:]
            node.metadata_props.extend(kept)


def _nodes(model: Any) -> Iterator[Any]:
    yield from model.graph.node
    for function in model.functions:
        yield from function.node


def _check_axes(job: ExportJob, model: Any) -> None:
    """The graph's inputs and outputs are the signature's; anonymous axes of outputs get their names."""
    _check_names("input", job.signature.inputs, model.graph.input)
    _check_names("output", job.signature.outputs, model.graph.output)
    sizes = _sizes(job, job.example)
    for spec, value in zip(job.signature.inputs, model.graph.input, strict=True):
        wanted = _wanted(job, spec, sizes)
        _name_sums(wanted, value)
        _check_tensor(spec.name, wanted, value)
    for spec, value in zip(job.signature.outputs, model.graph.output, strict=True):
        wanted = _wanted(job, spec, sizes)
        _name_axes(wanted, value, known=set(sizes))
        _check_tensor(spec.name, wanted, value)


def _check_names(what: str, specs: Sequence[TensorSpec], values: Sequence[Any]) -> None:
    wanted, seen = [spec.name for spec in specs], [value.name for value in values]
    if wanted != seen:
        raise StageError(f"the graph's {what}s are {seen}, and the signature says {wanted}")


def _wanted(job: ExportJob, spec: TensorSpec, sizes: Mapping[str, int]) -> list[int | str]:
    """The axes that the signature says, with the traced sizes where they are to be fixed."""
    if job.dynamic_axes:
        return list(spec.axes)
    return [axis if isinstance(axis, int) else sizes.get(axis, axis) for axis in spec.axes]


def _name_axes(wanted: Sequence[int | str], value: Any, known: set[str]) -> None:
    """Exporters leave axes of outputs anonymous, or under a name of their own (`Addlogits_dim_1`).

    What is filled in here is believed because `_verify` sees the shapes.
    """
    for axis, dim in zip(wanted, value.type.tensor_type.shape.dim, strict=False):
        if dim.HasField("dim_value") or dim.dim_param in known:
            continue
        if isinstance(axis, str):
            dim.dim_param = axis
        else:
            dim.dim_value = axis


def _name_sums(wanted: Sequence[int | str], value: Any) -> None:
    """torch.export finds out for itself what a sum such as `past_length + sequence_length` is, and gives it a
    name of its own."""
    for axis, dim in zip(wanted, value.type.tensor_type.shape.dim, strict=False):
        if isinstance(axis, str) and not axis.isidentifier() and dim.dim_param:
            dim.dim_param = axis


def _sizes(job: ExportJob, feeds: Feeds) -> dict[str, int]:
    """The size of each named axis in these feeds."""
    return {
        axis: feeds[spec.name].shape[index]
        for spec in job.signature.inputs
        for index, axis in spec.dynamic.items()
    }


def _check_tensor(name: str, wanted: Sequence[int | str], value: Any) -> None:
    seen = _axes(value)
    if wanted != seen:
        raise StageError(
            f"{name} has the axes {seen} in the exported graph, and the signature says {list(wanted)}"
        )


def _axes(value: Any) -> list[int | str | None]:
    """A size, a name, or None for an anonymous axis, for each axis of a graph input or output."""
    return [
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None
        for dim in value.type.tensor_type.shape.dim
    ]


def _check(path: Path) -> bool:
    """Whether the checker's full check, with shape inference, passed; the plain one must pass.

    The full check refuses operators whose schema it does not know, which ONNX Runtime runs all the same.
    """
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        _check_plain(path)
        return False
    return True


def _check_plain(path: Path) -> None:
    import onnx

    try:
        onnx.checker.check_model(str(path))
    except onnx.checker.ValidationError as error:
        raise StageError(f"onnx.checker refuses the exported file: {named_line(error)}") from error


def _verify(job: ExportJob, path: Path) -> Facts:
    """Runs what was not traced through ONNX Runtime and through the module: same shapes, and the same values
    where they are read."""
    feeds = job.unseen if job.dynamic_axes else job.example
    sizes = _sizes(job, feeds)
    expected = _run_module(job, feeds)
    seen = _run_file(job, path, feeds)
    read = padding.read_positions(job.signature, feeds, sizes)
    errors = []
    for spec, wanted, got in zip(job.signature.outputs, expected, seen, strict=True):
        _check_shape(spec, wanted, sizes)
        errors.append(_error(spec, wanted, got, read.get(spec.name)))
    return {"sizes": sizes, "traced": not job.dynamic_axes, "max_abs_error": max(errors, default=0.0)}


def _run_module(job: ExportJob, feeds: Feeds) -> list[Any]:
    import torch

    with torch.inference_mode():
        return [output.numpy() for output in job.module(*tensors(job, feeds))]


def _run_file(job: ExportJob, path: Path, feeds: Feeds) -> list[Any]:
    names = [spec.name for spec in job.signature.outputs]
    with graphs.refused(f"ONNX Runtime does not run the exported graph at {_sizes(job, feeds)}"):
        return list(
            graphs.session(path).run(names, {spec.name: feeds[spec.name] for spec in job.signature.inputs})
        )


def _check_shape(spec: TensorSpec, output: Any, sizes: Mapping[str, int]) -> None:
    """The module's output has the shape that the signature says; axes that no input has may be any size."""
    wanted = [sizes.get(axis) if isinstance(axis, str) else axis for axis in spec.axes]
    fits = len(wanted) == output.ndim and all(
        want in (None, got) for want, got in zip(wanted, output.shape, strict=False)
    )
    if not fits:
        raise StageError(f"{spec.name} has the shape {output.shape}, and the signature says {spec.axes}")


def _error(spec: TensorSpec, expected: Any, seen: Any, read: Any) -> float:
    """The largest absolute difference where somebody reads it; `read` None: everywhere. Raises StageError
    where shapes or values disagree."""
    import numpy as np

    if expected.shape != seen.shape:
        raise StageError(
            f"{spec.name} has the shape {seen.shape} in the exported graph, "
            f"and {expected.shape} in the module"
        )
    if read is not None:
        where = np.broadcast_to(read, expected.shape)
        expected, seen = expected[where], seen[where]
    expected, seen = expected.astype(np.float64), seen.astype(np.float64)  # booleans have no difference
    error = float(np.max(np.abs(expected - seen), initial=0.0))
    if not np.allclose(seen, expected, rtol=_AGREEMENT, atol=_AGREEMENT * parity.scale(expected)):
        raise StageError(f"{spec.name} of the exported graph differs from the module's by up to {error:.3g}")
    return error


def _describe(model: Any) -> dict[str, Any]:
    """What came out: opsets by domain, axes, and how many nodes of which type."""
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    op_types = Counter(node.op_type for node in model.graph.node)
    return {
        "opset": opsets["ai.onnx"],
        "opsets": opsets,
        "ir_version": model.ir_version,
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "inputs": [_tensor(value) for value in model.graph.input],
        "outputs": [_tensor(value) for value in model.graph.output],
        "nodes": sum(op_types.values()),
        "op_types": dict(sorted(op_types.items())),
        "weight_bytes": graphs.weight_bytes(model),
    }


def _tensor(value: Any) -> dict[str, Any]:
    import onnx

    dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    return {"name": value.name, "dtype": str(dtype), "axes": _axes(value)}
