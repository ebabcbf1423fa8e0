"""What is asked for: a suite, its cases, and how they are judged and measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from benchbox.schema.paths import located

SCHEMA_VERSION = 1

Outcome = Literal["ok", "mismatch", "skipped", "failed"]
Stage = Literal["plan", "reference", "build", "load", "verify", "measure"]
Weights = Literal["random", "pretrained"]
Precision = Literal["fp32", "fp16", "bf16", "int8", "int4"]
StoppedBy = Literal["precision", "budget", "interrupt"]

PRECISION_OF_DTYPE: Mapping[str, Precision] = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
"""What torch calls the precisions of floats."""


def digest(value: Any) -> str:
    """The SHA-256, in hex, of a JSON-able value in canonical form (sorted keys, no spaces).

    A dataclass counts as the mapping of its fields.
    """
    return hashlib.sha256(_CANONICAL.encode(value).encode()).hexdigest()


# Made once: json.dumps makes an encoder for each call, a third of what the id of a case takes.
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, default=vars)


@dataclass(frozen=True)
class Step:
    """One word of a path with the options that the suite gave it."""

    word: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def located_from(self, folder: Path) -> Step:
        """The step with its local paths made absolute."""
        return replace(self, options=_located(self.options, folder))

    @property
    def label(self) -> str:
        """`int8_static` or `int8_static(samples=32)`: the word and what differs from its defaults."""
        return _label(self.word, self.options)


@dataclass(frozen=True)
class Lora:
    """A LoRA adapter as PEFT saves it: a folder or a hub id, and by how much its update counts."""

    source: str
    weight: float = 1.0


@dataclass(frozen=True)
class Model:
    """Which module is measured: the family that knows it, where its weights are from, what was overridden.

    `family` is a plug-in's word, or the path of a file of the suite's.

    `lora` are the adapters that are attached to it, in the order in which they are merged. `attention` makes
    it give its attention over the image beside its outputs.
    """

    name: str
    family: str
    source: str
    task: str
    weights: Weights = "random"
    seed: int = 0
    config: Mapping[str, Any] = field(default_factory=dict)
    trust_remote_code: bool = False
    lora: tuple[Lora, ...] = ()
    attention: bool = False

    def located_from(self, folder: Path) -> Model:
        """The model for who opens its files: local paths that a suite in this folder wrote, absolute."""
        lora = tuple(replace(adapter, source=located(adapter.source, folder)) for adapter in self.lora)
        config = _located(self.config, folder)
        family, source = located(self.family, folder), located(self.source, folder)
        return replace(self, family=family, source=source, lora=lora, config=config)


@dataclass(frozen=True)
class Dataset:
    """Where inputs come from: the file name of a dataset plug-in and its options."""

    word: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def located_from(self, folder: Path) -> Dataset:
        """The dataset with its local paths made absolute."""
        return replace(self, options=_located(self.options, folder))


@dataclass(frozen=True)
class Threads:
    """Thread counts that every backend is given alike. Both are at least 1."""

    intra_op: int
    inter_op: int = 1


@dataclass(frozen=True)
class Backend:
    """Which runtime runs the artifact, and how.

    `providers` is the runtime's own priority list (execution providers for ONNX Runtime, `cpu` or `cuda`
    for PyTorch); `python` is the interpreter of the worker, None for the one that runs benchbox.
    `options` holds what differs from the plug-in's defaults.
    """

    word: str
    providers: tuple[str, ...]
    threads: Threads
    options: Mapping[str, Any] = field(default_factory=dict)
    provider_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    python: str | None = None

    def located_from(self, folder: Path) -> Backend:
        """The backend with its local paths, and that of its interpreter, made absolute."""
        return replace(
            self,
            options=_located(self.options, folder),
            provider_options=_located(self.provider_options, folder),
            python=self.python and located(self.python, folder),
        )

    @property
    def label(self) -> str:
        """`onnxruntime` or `pytorch(compile=True)`."""
        return _label(self.word, self.options)

    @property
    def provider(self) -> str:
        """The provider that was asked for first."""
        return self.providers[0] if self.providers else ""


@dataclass(frozen=True)
class Case:
    """One cell of the matrix: everything that makes a measurement this one and no other.

    `shape` maps the names of sizes to values: `{"batch": 8, "image_size": 224}`.
    """

    model: Model
    path: tuple[Step, ...]
    backend: Backend
    shape: Mapping[str, int]
    dataset: Dataset
    opset: int = 17
    dynamic_axes: bool = True

    def located_from(self, folder: Path) -> Case:
        """The case for who opens its files: local paths that a suite in this folder wrote, absolute.

        It has another id: what is recorded, and what a key is made of, is the case as it was written.
        """
        return replace(
            self,
            model=self.model.located_from(folder),
            path=tuple(step.located_from(folder) for step in self.path),
            backend=self.backend.located_from(folder),
            dataset=self.dataset.located_from(folder),
        )

    @property
    def id(self) -> str:
        """Twelve hex digits that are the same for the same case on every machine."""
        return digest(self)[:12]

    @property
    def path_label(self) -> str:
        """`onnx + int8_static`."""
        return " + ".join(step.label for step in self.path)

    @property
    def shape_label(self) -> str:
        """`batch=8 image_size=224`."""
        return " ".join(f"{name}={size}" for name, size in self.shape.items())

    @property
    def title(self) -> str:
        """One line that names the case for a reader."""
        return (
            f"{self.model.name} | {self.path_label} | {self.backend.label} | "
            f"{self.backend.provider} | {self.shape_label}"
        )

    @property
    def group(self) -> str:
        """Cases of one group are compared with each other: same model, data and shapes."""
        return digest([self.model, self.dataset, self.shape])[:12]


@dataclass(frozen=True)
class Tolerance:
    """What parity demands; None demands nothing. `atol` bounds max |candidate - reference|
    of an output whose values are about 1; of one with larger values it is more (`OutputParity.scale`).

    `cosine` and `sqnr_db` are lower bounds on the worst sample; `metrics` are lower bounds on task
    metrics by name (`{"top1_agreement": 0.99}`), and upper bounds on errors and losses. `gradient` bounds
    the relative error of directional derivatives, where the suite asks for them.
    """

    atol: float | None = None
    cosine: float | None = None
    sqnr_db: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    gradient: float | None = None


# fp32: the exported graph agrees with torch to 1e-4 absolute (measured 1e-6 to 1e-5 on ViT and BERT).
# fp16 and int8: the worst cosine over samples; quantized transformers that are fit for use measured
# 0.995 to 0.9999, those with a broken activation range 0.90 to 0.94; weights in 4 bits 0.967. Gradients: an
# exported fp32 ViT measured 1e-4 to 2e-3; a quantized graph is a staircase, whose derivative is no question
# of right or wrong.
DEFAULT_TOLERANCES: Mapping[Precision, Tolerance] = {
    "fp32": Tolerance(atol=1e-4, cosine=0.99999, gradient=1e-2),
    "fp16": Tolerance(cosine=0.9995),
    "bf16": Tolerance(cosine=0.995),
    "int8": Tolerance(cosine=0.99),
    "int4": Tolerance(cosine=0.95),
}


@dataclass(frozen=True)
class ParityPlan:
    """How agreement is judged: on how many samples, along how many random directions of the input (0:
    gradients are not looked at), and with which tolerance by precision."""

    samples: int = 12
    gradient_directions: int = 0
    tolerances: Mapping[Precision, Tolerance] = field(default_factory=lambda: dict(DEFAULT_TOLERANCES))


@dataclass(frozen=True)
class MeasurePlan:
    """How long and how precisely is measured.

    `budget_seconds` is for one case, over all its replicates, loading not counted; `precision` is the
    half-width, relative, of the interval of the ratio to the baseline (of the median, where there is no
    baseline) at which a case is done. `replicates` is the least number of fresh processes, and more follow,
    up to `most_replicates`, while a case is not done and the budget lasts. `min_rounds` yields to the budget
    where a round takes seconds (see stopping.py). `timeout_seconds` bounds each answer of a worker or a
    builder; `memory_limit_bytes` is an RLIMIT_AS for workers and builders; `memory_budget_bytes` says how
    much may be loaded side by side (None: what the machine has free).
    """

    budget_seconds: float = 30.0
    precision: float = 0.02
    confidence: float = 0.95
    margin: float = 0.02
    replicates: int = 5
    most_replicates: int = 12
    min_rounds: int = 5
    block_seconds: float = 0.1
    warm_up_seconds: float = 5.0
    timeout_seconds: float = 900.0
    memory_limit_bytes: int | None = None
    memory_budget_bytes: int | None = None


def plan_number(suite: Mapping[str, Any], name: str) -> float:
    """`confidence` or `margin` of a suite's `measure`, as a run wrote it; the default where it lacks it."""
    measure = suite.get("measure")
    value = measure.get(name) if isinstance(measure, Mapping) else None
    if isinstance(value, int | float) and 0 <= value < _BELOW[name]:  # a damaged file may say anything
        return float(value)
    return float(getattr(MeasurePlan(), name))


# What the numbers that are asked for must be below: an interval that is certain is infinite.
_BELOW = {"confidence": 1.0, "margin": 1e6}


@dataclass(frozen=True)
class Suite:
    """What the user wrote, validated and multiplied out. Local paths in it are taken from `folder`."""

    name: str
    file: str
    cases: tuple[Case, ...]
    parity: ParityPlan = field(default_factory=ParityPlan)
    measure: MeasurePlan = field(default_factory=MeasurePlan)
    source: Mapping[str, Any] = field(default_factory=dict)
    folder: Path = field(default=Path(), compare=False)


def _located(value: Any, folder: Path) -> Any:
    """The value with its local paths made absolute, however deep they stand."""
    if isinstance(value, str):
        return located(value, folder)
    if isinstance(value, Mapping):
        return {name: _located(inner, folder) for name, inner in value.items()}
    return [_located(inner, folder) for inner in value] if isinstance(value, list) else value


def _label(word: str, options: Mapping[str, Any]) -> str:
    if not options:
        return word
    inner = ", ".join(f"{name}={_short(value)}" for name, value in options.items())
    return f"{word}({inner})"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
