"""Reading an ONNX file that nobody vouches for: is it one, is it whole, which axes does it have?

Whatever is wrong with it becomes a sentence before a runtime sees it. External data is opened only where it
lies in the file's own folder: a location is text from the file, and may name anything on this machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from benchbox.errors import StageError, named_line
from benchbox.schema.tensors import TensorSpec


def parsed(file: Path) -> Any:
    """The ModelProto without its external data. Raises StageError for what is no ONNX file, or half of
    one."""
    import onnx
    from google.protobuf.message import DecodeError

    if not file.is_file():
        raise StageError(f"{file.name} is no file" if file.exists() else f"{file.name} does not exist")
    try:
        model = onnx.load(str(file), load_external_data=False)
    except DecodeError as error:
        raise StageError(
            f"{file.name} is not an ONNX file, or was cut off ({file.stat().st_size:,} bytes): "
            f"{named_line(error)}"
        ) from error
    if not model.graph.node or not model.opset_import:
        raise StageError(
            f"{file.name} is not an ONNX file, or was cut off ({file.stat().st_size:,} bytes): "
            "it has no graph with nodes and an opset"
        )
    return model


def prepared(file: Path, batch: str | None, sizes: Collection[str] = ()) -> Any:
    """The ModelProto without its external data, its inputs and outputs as a signature says them.

    Weights are no inputs, every axis has a size or a name, and the batch axis is called `batch`: the axis
    that `batch` names, else the first axis of an input where it is dynamic and none of `sizes`. Raises
    StageError as `parsed` and `check_external_data` do, and for what is not a tensor or has no rank.
    """
    model = parsed(file)
    check_external_data(model, file)
    _keep_weights_apart(model)
    if any(not _has_rank(value) for value in model.graph.output):
        _infer_outputs(model)
    for value in (*model.graph.input, *model.graph.output):
        if not _has_rank(value):
            raise StageError(f"{value.name} of {file.name} is not a tensor of known rank")
    _call_batch(model.graph, batch, sizes, file.name)
    for value in (*model.graph.input, *model.graph.output):
        _name_the_nameless(value)
    return model


def with_weights(model: Any, file: Path) -> Any:
    """The model with its external data read into it."""
    import onnx

    try:
        onnx.load_external_data_for_model(model, str(file.parent))
    except (onnx.checker.ValidationError, OSError, ValueError) as error:
        raise StageError(f"external data of {file.name} cannot be read: {named_line(error)}") from error
    return model


def tensor(value: Any) -> TensorSpec:
    """Name, type and axes of a graph input or output. Raises StageError for a type that numpy lacks."""
    import onnx

    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    except KeyError:
        raise StageError(f"{value.name} has a type that ONNX does not know") from None
    axes = tuple(dim.dim_param or int(dim.dim_value) for dim in value.type.tensor_type.shape.dim)
    return TensorSpec(value.name, "string" if dtype.kind == "O" else str(dtype), axes)


def check_external_data(model: Any, file: Path) -> None:
    """Raises StageError where external data is missing, too short, or not in the file's own folder."""
    for weight in filter(_is_external, _tensors(model)):
        entries = {entry.key: entry.value for entry in weight.external_data}
        location = entries.get("location", "")
        where = f"{file.name} keeps the weight {weight.name!r} in {location!r}"
        data = _inside(file.parent, location)
        if data is None:
            raise StageError(f"{where}, which is outside of its own folder: it is not read")
        if not data.is_file():
            raise StageError(f"{where}, which is not there; put it beside the file")
        _check_length(entries, data.stat().st_size, where)


def fingerprint(file: Path) -> str:
    """A hash of the file and of its external data; of what can be read of them, as a key must not fail."""
    from google.protobuf.message import DecodeError

    if not file.is_file():
        return ""
    files = [file]
    try:
        files += _external_files(parsed(file), file)
        return " ".join(_file_digest(f, f.stat().st_mtime_ns, f.stat().st_size) for f in files)
    except (StageError, DecodeError, OSError):
        return _file_digest(file, file.stat().st_mtime_ns, file.stat().st_size)


def _external_files(model: Any, file: Path) -> list[Path]:
    locations = {
        entry.value
        for weight in filter(_is_external, _tensors(model))
        for entry in weight.external_data
        if entry.key == "location"
    }
    found = (_inside(file.parent, location) for location in sorted(locations))
    return [path for path in found if path is not None and path.is_file()]


@cache
def _file_digest(file: Path, _modified_ns: int, _size_bytes: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _is_external(weight: Any) -> bool:
    import onnx

    return bool(weight.data_location == onnx.TensorProto.EXTERNAL)


def _inside(folder: Path, location: str) -> Path | None:
    """The file of that name in the folder or below it, links followed; None where it leads out of it."""
    try:
        path = (folder / location).resolve()
    except (OSError, ValueError, RuntimeError):
        return None
    return path if location and path.is_relative_to(folder.resolve()) else None


def _check_length(entries: dict[str, str], size_bytes: int, where: str) -> None:
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", 0))
    except ValueError:
        raise StageError(f"{where} at an offset or with a length that is no number") from None
    if offset < 0 or length < 0 or offset + length > size_bytes:
        raise StageError(
            f"{where}, bytes {offset:,} to {offset + length:,}, and that file has {size_bytes:,}: cut off?"
        )


def _tensors(model: Any) -> Iterator[Any]:
    """Every tensor of a model: weights, and constants in nodes, of its graph, subgraphs and functions."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        yield from _node_tensors(function.node)


def _graph_tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Iterable[Any]) -> Iterator[Any]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                yield from _graph_tensors(attribute.g)
            for graph in attribute.graphs:
                yield from _graph_tensors(graph)


# Since IR 4 a weight need not stand among the graph's inputs.
_WEIGHTS_APART = 4


def _keep_weights_apart(model: Any) -> None:
    """Old files list their weights among the inputs, which nobody feeds."""
    weights = {weight.name for weight in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in weights]
    if len(kept) != len(model.graph.input):
        del model.graph.input[:]
        model.graph.input.extend(kept)
        model.ir_version = max(model.ir_version, _WEIGHTS_APART)


def _has_rank(value: Any) -> bool:
    return bool(value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape"))


def _infer_outputs(model: Any) -> None:
    """Fills in the shapes of outputs where the file says none."""
    import onnx

    try:
        inferred = onnx.shape_inference.infer_shapes(model)
    except (onnx.shape_inference.InferenceError, ValueError) as error:
        raise StageError(f"outputs without a shape, and none can be inferred: {named_line(error)}") from error
    for value, known in zip(model.graph.output, inferred.graph.output, strict=True):
        value.CopyFrom(known)


def _call_batch(graph: Any, wanted: str | None, sizes: Collection[str], file: str) -> None:
    """Calls the batch axis `batch` wherever its name stands."""
    names = [dim.dim_param for dim in _dims(graph.input) if dim.dim_param]
    if wanted is not None and wanted not in names:
        known = ", ".join(sorted(set(names))) or "none"
        raise StageError(f"{file} has no axis called {wanted!r}; dynamic axes that have a name: {known}")
    if wanted is not None and wanted != "batch" and "batch" in names:
        raise StageError(f"{file} has an axis called 'batch' beside {wanted!r}, which is to be the batch")
    name = wanted or ("batch" if "batch" in names else _first_dynamic(graph, sizes))
    for dim in _dims((*graph.input, *graph.output, *graph.value_info)):
        if name and dim.dim_param == name:
            dim.dim_param = "batch"


def _first_dynamic(graph: Any, sizes: Collection[str]) -> str:
    """The name of the first axis of an input where that is dynamic; where it is nameless, it and those of the
    other inputs are named here. A later axis is a length, and never the batch by itself."""
    first = [dims[0] for value in graph.input if (dims := value.type.tensor_type.shape.dim)]
    for dim in first:
        if dim.dim_param and dim.dim_param not in sizes:
            return str(dim.dim_param)
        if not dim.dim_param and dim.dim_value <= 0:
            for nameless in first:
                if not nameless.dim_param and nameless.dim_value <= 0:
                    nameless.dim_param = "batch"
            return "batch"
    return ""


def _name_the_nameless(value: Any) -> None:
    """Axes without name and size; 0 and -1 are how some exporters write a dynamic axis."""
    for index, dim in enumerate(value.type.tensor_type.shape.dim):
        if not dim.dim_param and dim.dim_value <= 0:
            dim.dim_param = f"{value.name}_dim_{index}"


def _dims(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        yield from value.type.tensor_type.shape.dim
