"""8-bit weights and activations, with activation ranges from calibration (onnxruntime.quantization).

The defaults were measured: ViT-base, batch 1, two threads, random weights, onnxruntime 1.31.1, calls
interleaved with those of the fp32 model; x is the speed-up (medians of the ratios of 10 and of 12 rounds,
in two runs beside other work, which moved it by up to 13 %), cos the worst cosine over 8 photographs that
were not calibrated on. Where not said: QDQ, minmax over 8 photographs, activations U8, weights S8 per
tensor, MatMul and Gemm.

    AMD Zen 4 (AVX-512 with VNNI)                              x            cos
    weights per channel                                        2.39, 2.40   0.9993
    weights per tensor                                         2.46, 2.56   0.99895
    MatMul only                                                2.50, 2.37   0.99903
    products of two activations too                            2.44, 2.60   0.99896
    Conv too                                                   2.43, 2.77   0.99880
    outputs of nodes quantized too                             2.30, 2.12   0.99863
    QOperator                                                  2.32, 2.21   0.99863
    activations S8                                             1.55, 1.61   0.99893
    weights U8                                                 1.53, 1.48   0.99904
    all op types, outputs too                                  2.22, 2.14   0.974
    all op types, outputs too, activations S8 (library's)      1.14, 1.17   0.973

    calibration (weights per channel)          cos       seconds for 8 samples
    minmax                                     0.99937   6
    percentile 99.9                            0.99887   6
    percentile 99.99                           0.99942   6
    percentile 99.999                          0.99939   6
      (these with 2048 bins; 99.99 with 1024, the default, over 16 samples: 0.99930)
    entropy, 128 / 512 / 1024 bins             0.99930 / 0.99927 / 0.99937   3 / 8 / 14

    outliers planted in 8 of 768 channels      in activations, x16   in weights, x16
    minmax, weights per channel                0.983                 0.994
    percentile 99.99, weights per channel      0.992                 0.994
    int8_dynamic, weights per channel          0.987                 0.994
    int8_dynamic, weights per tensor           0.986                 0.973

    AMD Zen 3 (AVX2, no VNNI): 1.41 to 1.55 and 0.997, MatMul only; all op types 1.1 to 1.5 and 0.90 to 0.94.

What holds on random weights need not hold on trained ones, whose few large activations carry the meaning.
On a CPU with AVX2 and no VNNI, weights as it suggests them; worst cosine, and what the task says, of
samples that were not calibrated on: the sentence encoder all-MiniLM-L6-v2 (trained; 200 passages,
embeddings pooled over valid tokens; same nearest neighbour), digits (trained ViT; 200 pictures; top-1),
ViT-base (random; 24 photographs):

    calibration, samples, bins        MiniLM  neighbour   digits   top-1    ViT-base
    percentile 99.99, 8, 1024         0.882   90.5 %      0.9989   99.5 %   0.99905
    percentile 99.999, 8, 1024        0.984   94.0 %      0.9986   99.5 %   0.99898
    percentile 99.999, 32, 8192       0.986   92.0 %      0.9993   100 %    0.99893
    percentile 99.9999, 16, 8192      0.989   91.5 %      0.9997   100 %    0.99904
    entropy, 8, 1024                  0.928   93.5 %      0.9991   99.5 %   0.99881
    minmax, 8                         0.987   87.5 %      0.9991   99.5 %   0.99881
    minmax, 16 (the default)          0.987   94.5 %      0.9997   100 %    0.99888
    minmax, 32                        0.987   92.5 %      0.9993   100 %    0.99876
    minmax, 64                        0.988   94.0 %      0.9995   100 %    0.99878
    minmax, 32, symmetric             0.970   94.5 %      0.9990   99.5 %   0.99842
    int8_dynamic, for comparison      0.989   96.0 %      0.9993   99.5 %   0.99887

The standard error of a share of 94 % of 200 is 1.7 %. So minmax is the default: to cut one value of
10,000 ruins the trained encoder. Percentiles are the option to try where single outliers are noise, as
those that were planted above. What else makes static quantization fail parity is quantizing what is not a
product with a weight. Without VNNI the kernel saturates, and weights stay within 104 (see int8_dynamic.py).
"""

from __future__ import annotations

import contextlib
import io
import math
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from benchbox.errors import StageError
from benchbox.plugins.contract import Facts, PassJob
from benchbox.plugins.passes import _files, _quantize
from benchbox.schema.asked import Precision
from benchbox.schema.seen import Host
from benchbox.schema.tensors import Feeds

REQUIRES = ("onnx", "onnxruntime")
ACCEPTS = ("onnx",)
PRODUCES = "onnx"
PRECISION: Precision = "int8"

_PER_CHANNEL_OPS = ("MatMul", "Gemm", "Conv", "ConvTranspose")

CALIBRATES = True

# The library's names of calibration methods.
_METHODS = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}


@dataclass(frozen=True)
class Options(_quantize.WeightOptions):
    """`WeightOptions`, and how activations are quantized.

    `format`: QDQ, which every runtime reads, or QOperator, which always quantizes outputs as well.
    `calibration`: `minmax`, `entropy` or `percentile` over `samples` samples, `batch` at a time (memory grows
    with `batch`, not with `samples`). `percentile` is the share that is kept; `histogram_bins` serves entropy
    and percentile. `activation_symmetric`: zero point in the middle. `quantize_outputs`: outputs of quantized
    nodes too (QDQ). `activation_matmuls`: products of two activations, as in attention, too.
    """

    format: Literal["QDQ", "QOperator"] = "QDQ"
    calibration: Literal["minmax", "entropy", "percentile"] = "minmax"
    samples: int = 16
    batch: int = 1
    percentile: float = 99.999
    histogram_bins: int = 1024
    activation_type: _quantize.IntType | None = None
    activation_symmetric: bool = False
    quantize_outputs: bool = False
    activation_matmuls: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.format not in ("QDQ", "QOperator"):
            raise ValueError(f"format must be QDQ or QOperator, not {self.format!r}")
        if self.calibration not in _METHODS:
            raise ValueError(f"calibration must be one of {', '.join(_METHODS)}, not {self.calibration!r}")
        if self.samples < 1 or self.batch < 1:
            raise ValueError("samples and batch must be at least 1")
        if not 50 < self.percentile <= 100:
            raise ValueError(f"percentile must be above 50 and at most 100, not {self.percentile}")
        if self.histogram_bins < 128:
            raise ValueError(f"histogram_bins must be at least 128, not {self.histogram_bins}")
        if self.activation_type == "S8" and self.weight_type == "U8":
            raise ValueError("onnxruntime has no kernels for activation_type S8 with weight_type U8")


def resolve(options: Options, host: Host) -> Options:
    """The options with what the CPU decides filled in. Activations are U8 everywhere: S8 is slow on x86.

    `per_channel` stays as it was written: its default depends on the graph, whose bytes are in the key too.
    """
    filled = {**_quantize.resolved(options, host), "per_channel": options.per_channel}
    return replace(options, activation_type=options.activation_type or "U8", **filled)


def apply(job: PassJob, folder: Path) -> Facts:
    """Writes the quantized model. Facts: what was chosen and why, calibration, nodes by op type, size.

    Raises StageError where the artifact is not fp32, a pattern matches no node, calibration meets values
    that are not finite, the graph's opset has no scales per channel, or nothing can be quantized.
    """
    _files.require_fp32(job, "int8_static")
    with tempfile.TemporaryDirectory(prefix="int8-") as name:
        scratch = Path(name)
        prepared = _quantize.prepare(job.source, scratch, gemm_as_matmul=False)
        options = _for_graph(resolve(job.options, job.host), job.host, prepared.opset)
        exclude = _quantize.excluded(
            prepared.model, options, keep_activation_matmuls=not options.activation_matmuls
        )
        ranges = _calibrate(job, options, prepared, _tensors(prepared.model, options, exclude))
        model = _quantized(options, prepared, exclude, _saved(ranges, options, scratch))
        _keep_other_readers_fp32(model, _taken(prepared.model, options, exclude))
        facts = _quantize.finish(job, options, prepared, model, folder)
    return {**facts, "calibration": _calibration_facts(options, ranges)}


def _for_graph(options: Options, host: Host, opset: int) -> Options:
    """The options with `per_channel` as the CPU suggests it, where a graph of this opset can have it.

    QOperator can at any opset: its operators hold the scales. Raises StageError where the suite asks in vain.
    """
    possible = options.format == "QOperator" or opset >= _quantize.PER_CHANNEL_OPSET
    if options.per_channel and not possible:
        raise StageError(
            f"per_channel needs opset {_quantize.PER_CHANNEL_OPSET} or newer, "
            f"and this graph is of opset {opset}: write per_channel: false"
        )
    wanted = _quantize.resolved(options, host)["per_channel"]
    return replace(options, per_channel=wanted and possible)


def _taken(model: Any, options: Options, exclude: Collection[str]) -> set[str]:
    """Names of the nodes that are to be quantized."""
    return {
        node.name
        for node in model.graph.node
        if node.op_type in options.op_types and node.name not in exclude
    }


def _tensors(model: Any, options: Options, exclude: Collection[str]) -> set[str]:
    """The tensors whose range is needed: what quantized nodes read, and write where that is quantized."""
    taken = _taken(model, options, exclude)
    outputs_too = options.quantize_outputs or options.format == "QOperator"
    tensors: set[str] = set()
    for node in model.graph.node:
        if node.name in taken:
            tensors.update(node.input)
            tensors.update(node.output if outputs_too else ())
    return tensors


def _calibrate(
    job: PassJob, options: Options, prepared: _quantize.Prepared, tensors: Collection[str]
) -> Mapping[str, tuple[float, float]]:
    """Lowest and highest value by tensor. One batch of intermediate values is held at a time.

    The library's histograms keep what they are given until they are asked: they are given one batch.
    """
    if not tensors:
        raise _quantize.nothing_taken(options)
    with contextlib.redirect_stdout(io.StringIO()), _quantize.library_errors():  # it prints for each batch
        calibrator = _calibrator(options, prepared, tensors)
        batches = 0
        for feeds in job.calibration(samples=options.samples, batch=options.batch):
            calibrator.collect_data(_OneBatch(feeds))
            batches += 1
        if not batches:
            raise StageError("the dataset has no samples to calibrate on")
        computed = calibrator.compute_data()
    return {name: _finite(name, data.range_value) for name, data in sorted(computed.items())}


class _OneBatch:
    """What the library calls a data reader: one batch, then None."""

    def __init__(self, feeds: Feeds) -> None:
        self._feeds: Iterator[Feeds] = iter((feeds,))

    def get_next(self) -> Feeds | None:
        return next(self._feeds, None)


def _calibrator(options: Options, prepared: _quantize.Prepared, tensors: Collection[str]) -> Any:
    """The library's calibrator, made to watch only the tensors that are needed."""
    from onnxruntime.quantization import calibrate

    calibrators: dict[str, tuple[Any, dict[str, Any]]] = {
        "minmax": (calibrate.MinMaxCalibrater, {}),
        "entropy": (calibrate.EntropyCalibrater, {"num_bins": options.histogram_bins}),
        "percentile": (
            calibrate.PercentileCalibrater,
            {"num_bins": options.histogram_bins, "percentile": options.percentile},
        ),
    }
    parent, settings = calibrators[options.calibration]

    class Calibrator(parent):  # type: ignore[misc,valid-type,unused-ignore]  # onnxruntime is untyped
        def select_tensors_to_calibrate(self, model: Any) -> tuple[set[str], Any]:
            selected, value_infos = super().select_tensors_to_calibrate(model)
            return selected & set(tensors), value_infos

    calibrator = Calibrator(
        prepared.path,
        list(options.op_types),
        str(prepared.path.parent / "augmented.onnx"),
        use_external_data_format=prepared.large,
        symmetric=False,  # the quantizer makes ranges symmetric where `activation_symmetric` asks for it
        **settings,
    )
    calibrator.augment_graph()
    calibrator.create_inference_session()
    return calibrator


def _finite(name: str, limits: tuple[Any, Any]) -> tuple[float, float]:
    import numpy as np

    lowest, highest = (float(np.asarray(limit).reshape(-1)[0]) for limit in limits)
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        raise StageError(f"calibration met values in {name} that are not finite: {lowest} to {highest}")
    return lowest, highest


def _saved(ranges: Mapping[str, tuple[float, float]], options: Options, scratch: Path) -> Path:
    """The ranges in a file that `quantize_static` reads in place of calibrating on its own."""
    import numpy as np
    from onnxruntime.quantization import CalibrationMethod, calibrate

    data = {
        name: calibrate.TensorData(lowest=np.float32(lowest), highest=np.float32(highest))
        for name, (lowest, highest) in ranges.items()
    }
    method = CalibrationMethod[_METHODS[options.calibration]]
    path = scratch / "ranges.json"
    calibrate.save_tensors_data(calibrate.TensorsData(method, data), path)
    return path


def _quantized(options: Options, prepared: _quantize.Prepared, exclude: Collection[str], ranges: Path) -> Any:
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, quantize_static

    target = ranges.with_name("quantized.onnx")
    with _quantize.library_errors():
        quantize_static(
            prepared.path,
            target,
            quant_format=QuantFormat[options.format],
            op_types_to_quantize=list(options.op_types),
            per_channel=options.per_channel,
            reduce_range=options.reduce_range,
            activation_type=_quantize.quant_type(options.activation_type),
            weight_type=_quantize.quant_type(options.weight_type),
            nodes_to_exclude=list(exclude),
            use_external_data_format=prepared.large,
            calibrate_method=CalibrationMethod[_METHODS[options.calibration]],
            calibration_cache_path=ranges,
            extra_options={
                "ActivationSymmetric": options.activation_symmetric,
                "WeightSymmetric": options.weight_symmetric,
                "OpTypesToExcludeOutputQuantization": []
                if options.quantize_outputs
                else list(options.op_types),
                "TensorQuantOverrides": _quantize.weight_overrides(
                    prepared.model, options, exclude, _PER_CHANNEL_OPS
                ),
            },
        )
    return onnx.load(str(target))


def _keep_other_readers_fp32(model: Any, taken: Collection[str]) -> None:
    """Nodes that are not quantized read fp32 values, not those that were quantized for a neighbour.

    Where a LayerNorm feeds a projection and the residual (BERT), the quantizer lets both read 8 bits.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.name in taken or node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            continue
        for index, name in enumerate(node.input):
            node.input[index] = _before_quantization(name, makers)


def _before_quantization(name: str, makers: Mapping[str, Any]) -> str:
    """The fp32 tensor that a pair of QuantizeLinear and DequantizeLinear stands for, else the name itself."""
    dequantize = makers.get(name)
    if dequantize is None or dequantize.op_type != "DequantizeLinear":
        return name
    quantize = makers.get(dequantize.input[0])
    if quantize is None or quantize.op_type != "QuantizeLinear":
        return name
    return str(quantize.input[0])


def _calibration_facts(options: Options, ranges: Mapping[str, tuple[float, float]]) -> Facts:
    return {
        "method": options.calibration,
        "samples": options.samples,
        "batch": options.batch,
        "tensors": len(ranges),
        "activation_type": options.activation_type,
        "activation_symmetric": options.activation_symmetric,
        "format": options.format,
    }
