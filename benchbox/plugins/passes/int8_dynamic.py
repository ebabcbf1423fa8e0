"""8-bit weights, activations quantized as they come (onnxruntime.quantization): no calibration needed.

The defaults were measured: ViT-base, batch 1, two threads, random weights, onnxruntime 1.31.1, calls
interleaved with those of the fp32 model; x is the speed-up (medians of the ratios of 10 and of 12 rounds,
in two runs beside other work, which moved it by up to 12 %), cos the worst cosine over 8 photographs.

    AMD Zen 4 (AVX-512 with VNNI)                     x            cos
    S8 per channel, MatMul and Gemm (the default)     2.71, 2.71   0.99941
    S8 per channel, weight_range 104                  2.48, 2.79   0.99937
    S8 per tensor                                     2.66, 2.80   0.99913
    S8 per tensor, Conv too                           2.69, 2.65   0.99884
    U8 per channel                                    1.49, 1.50   0.99944
    U8 per tensor                                     1.47, 1.52   0.99911

    AMD Zen 3 (AVX2, no VNNI)
    S8 per channel, within 104, one node kept fp32    1.85  0.99905   (the default keeps none)
    S8 per tensor                                     1.84  0.9987
    S8 per tensor, Conv too (the library's default)   1.47  0.9985
    S8 per tensor, reduce_range                       1.75  0.9956
    U8 per channel                                    1.3   0.9991

Without VNNI the kernel adds products in 16 bits, which saturate: on weights with outliers, full-range S8 per
channel lost 0.11 of the cosine there, and a range of 104 restored it at no cost in time.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchbox.plugins.contract import Facts, PassJob
from benchbox.plugins.passes import _files, _quantize
from benchbox.schema.asked import Precision
from benchbox.schema.seen import Host

REQUIRES = ("onnx", "onnxruntime")
ACCEPTS = ("onnx",)
PRODUCES = "onnx"
PRECISION: Precision = "int8"

# Convolutions have one scale for the whole weight: ConvInteger takes no other.
_PER_CHANNEL_OPS = ("MatMul",)


@dataclass(frozen=True)
class Options(_quantize.WeightOptions):
    """`WeightOptions`; Gemm nodes are quantized as MatMul and Add, and named `<name>_MatMul`."""


def resolve(options: Options, host: Host) -> Options:
    """The options with what the CPU decides filled in."""
    return replace(options, **_quantize.resolved(options, host))


def apply(job: PassJob, folder: Path) -> Facts:
    """Writes the quantized model. Facts: what was chosen and why, nodes by op type, size.

    Raises StageError where the artifact is not fp32, a pattern matches no node, or nothing can be quantized.
    """
    _files.require_fp32(job, "int8_dynamic")
    options = resolve(job.options, job.host)
    with tempfile.TemporaryDirectory(prefix="int8-") as scratch:
        prepared = _quantize.prepare(job.source, Path(scratch), gemm_as_matmul=True)
        model = _quantized(options, prepared, Path(scratch) / "quantized.onnx")
        return _quantize.finish(job, options, prepared, model, folder)


def _quantized(options: Options, prepared: _quantize.Prepared, target: Path) -> Any:
    import onnx
    from onnxruntime.quantization import quantize_dynamic

    exclude = _quantize.excluded(prepared.model, options, keep_activation_matmuls=True)
    with _quantize.library_errors():
        quantize_dynamic(
            prepared.path,
            target,
            op_types_to_quantize=sorted({"MatMul" if word == "Gemm" else word for word in options.op_types}),
            per_channel=options.per_channel,
            reduce_range=options.reduce_range,
            weight_type=_quantize.quant_type(options.weight_type),
            nodes_to_exclude=exclude,
            use_external_data_format=prepared.large,
            extra_options={
                "WeightSymmetric": options.weight_symmetric,
                "MatMulConstBOnly": True,
                # The type of tensors whose type shape inference does not find, as behind fused operators.
                "DefaultTensorType": onnx.TensorProto.FLOAT,
                "TensorQuantOverrides": _quantize.weight_overrides(
                    prepared.model, options, exclude, _PER_CHANNEL_OPS
                ),
            },
        )
    return onnx.load(str(target))
