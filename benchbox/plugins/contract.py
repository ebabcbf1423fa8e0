"""What a plug-in satisfies. A plug-in is a module; its file name is its word in the suite.

Every plug-in has `REQUIRES`, the import names of the packages it needs, imports them inside its
functions only, and may have `Options`, a frozen dataclass of the standard library whose fields are what
the suite may write under the word. `Options.__post_init__` raises ValueError for what a type cannot say.
The first line of the module's docstring is what `benchbox list` shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from benchbox.schema.asked import Backend, Model, Precision
from benchbox.schema.seen import Artifact, Host
from benchbox.schema.tensors import Array, Feeds, Outputs, Signature

Split = Literal["timing", "parity", "calibration"]
Facts = Mapping[str, Any]
Module = Any  # a torch.nn.Module; torch is not a dependency of the base install


@dataclass(frozen=True)
class Sample:
    """One item of a dataset: `image` is uint8 of shape (height, width, 3), `label` a class index, `text` what
    a text model reads; beside an image it says what is seen.

    `label_name` is what the dataset calls the class, where it has names and models have numbers of their own.
    """

    image: Array | None = None
    text: str | None = None
    label: int | None = None
    label_name: str | None = None


@dataclass(frozen=True)
class Evidence:
    """One batch as the reference and the candidate answered it; what `rollout` gave is among the outputs.

    `labels` are class indices of shape (batch,), where the dataset has them for every sample.
    """

    feeds: Feeds
    reference: Outputs
    candidate: Outputs
    labels: Array | None = None


class Plugin(Protocol):
    """What all plug-ins have."""

    REQUIRES: tuple[str, ...]


class Family(Plugin, Protocol):
    """models/: one model family.

    A family may also have:

    * `DYNAMIC: Mapping[str, tuple[int, int]]`, the sizes beside `batch` that are dynamic axes (a size and its
      axis have one name): the size that an exporter traces, and another one that proves the axis. Parity is
      judged at the case's own size, at three quarters and at half of it.
    * `sizes(model) -> Mapping[str, tuple[int, int]]`, the sizes that the suite itself declares in the model's
      `config`, for a family whose axes are the user's own; as in `DYNAMIC`, and the first one is the default.
      Twice the same number is an axis of that size alone. Reads `model.config` only, because a suite is
      checked without opening or running anything; raises ValueError for what is wrong in it.
    * `WEIGHTS: Weights`, what `weights` in the suite is by default (`random`).
    * `fingerprint(model) -> str`, a hash of what lies outside the suite and is no folder of weights.
    * `derive(model, module, feeds, shape) -> Feeds`, the feeds with those that only the module itself can
      make (an encoder's states, past keys and values). Runs where torch is.
    * `rollout(model, run, feeds) -> Outputs`, what comes of several runs, each fed by the one before:
      greedily decoded tokens. numpy only: reference and candidate go through the same code, and both results
      are in `Evidence`. Runs at lengths of its own, so only where axes are dynamic.
    * `label_ids(model, names) -> Mapping[str, int]`, the model's class index of each of a dataset's classes;
      empty where one of them is not known. Without it, names give no accuracy.
    * `ATTENTION: tuple[str, ...]`, the tasks that can keep their attention over the image: where
      `model.attention` is set, the signature has one more output, last, as `attention.OUTPUT` says.
    * `graph(model) -> ModelProto`, where the source is an ONNX graph already.
    """

    TASKS: Mapping[str, Mapping[str, int]]
    """Words for `task` in the suite, the default first, each with the sizes that its inputs have beside
    `batch` and their defaults: `{"image-classification": {"image_size": 224}}`."""

    def load(self, model: Model) -> Module:
        """The module in eval mode: `forward` takes the tensors of the signature's inputs in order and
        returns a tuple of tensors in the order of its outputs. Raises Unavailable or OSError where
        pretrained weights cannot be had; never falls back to random ones."""

    def save(self, module: Module, folder: Path) -> None:
        """Writes config and safetensors so that `load` of the same model, with `source=folder` and
        `weights="pretrained"`, gives the same module."""

    def signature(self, model: Model, shape: Mapping[str, int]) -> Signature:
        """Names, types and axes of inputs and outputs."""

    def feeds(self, model: Model, samples: Sequence[Sample], shape: Mapping[str, int]) -> Feeds:
        """The samples as one batch through the model's own processor: arrays by input name in the order of
        the signature, the batch axis as long as `samples`."""

    def metrics(self, model: Model, evidence: Evidence) -> Mapping[str, float]:
        """What the task cares about, by name, as a mean over the batch: agreement in 0..1, 1 for full
        agreement; `accuracy` and `reference_accuracy` where there are labels. numpy only."""


class DatasetPlugin(Plugin, Protocol):
    """datasets/: one source of inputs.

    One whose samples have a `label_name` also has `classes(options) -> tuple[str, ...]`, all its names.
    """

    def samples(self, options: Any, *, count: int, split: Split, seed: int) -> Iterator[Sample]:
        """Exactly `count` samples, lazily; the same for the same arguments; what `calibration` gives
        is never given by `parity`."""

    def fingerprint(self, options: Any) -> str:
        """Optional: a hash of what lies outside the suite (the user's files), for the cache's keys."""


@dataclass(frozen=True)
class ExportJob:
    """What an exporter works on. `example` has the batch that is traced, `unseen` another one."""

    model: Model
    family: Family
    module: Module
    signature: Signature
    example: Feeds
    unseen: Feeds
    opset: int
    dynamic_axes: bool
    options: Any


class Exporter(Plugin, Protocol):
    """exporters/: the first word of a path."""

    PRODUCES: str
    """Kind of artifact: `torch`, `onnx` ..."""

    def export(self, job: ExportJob, folder: Path) -> Facts:
        """Writes the artifact's files into the empty `folder`; an ONNX artifact's file is `model.onnx`.
        Says what really came out (opset, axes ...)."""


@dataclass(frozen=True)
class PassJob:
    """What a pass works on: `source` is the folder of the artifact before it.

    `calibration(batch)` streams feeds of that batch size, for as many samples as are asked for:
    `calibration(samples=64, batch=1)` yields 64 feeds, one at a time. It is there for a pass that says
    `CALIBRATES = True`; what it streams is then part of the artifact's key.
    """

    artifact: Artifact
    source: Path
    options: Any
    host: Host
    calibration: Callable[..., Iterable[Feeds]]


class Pass(Plugin, Protocol):
    """passes/: a later word of a path."""

    ACCEPTS: tuple[str, ...]
    PRODUCES: str
    PRECISION: Precision | None
    """The precision of the artifact that comes out; None: that of the one that went in."""

    def resolve(self, options: Any, host: Host) -> Any:
        """The options with every default that depends on the machine filled in; these are hashed."""

    def apply(self, job: PassJob, folder: Path) -> Facts:
        """Writes the new artifact into the empty `folder`. Says what was chosen and why."""


@dataclass(frozen=True)
class SessionJob:
    """What a backend opens: the folder of an artifact."""

    artifact: Artifact
    folder: Path
    model: Model
    family: Family
    backend: Backend
    options: Any
    shape: Mapping[str, int]
    cache: Path
    """A folder where the runtime may keep what it compiles."""


class Session(Protocol):
    """An artifact loaded into a runtime, ready to run."""

    def prepare(self, feeds: Feeds) -> Callable[[], object]:
        """A call without arguments that runs `feeds` once, to the end (devices synchronised); feeds are
        in place before it, so that nothing but the model is timed."""

    def run(self, feeds: Feeds) -> Outputs:
        """The outputs by name, as numpy arrays."""

    def placement(self) -> Mapping[str, int]:
        """How many graph nodes each provider really took; empty where the runtime has no such thing."""

    def device_bytes(self) -> int | None:
        """Memory of this process on the accelerator; None on a CPU."""


class BackendPlugin(Plugin, Protocol):
    """backends/: one runtime. Workers import it in interpreters that may have nothing but the runtime."""

    ACCEPTS: tuple[str, ...]
    DEFAULT_PROVIDERS: tuple[str, ...]
    KNOWN_PROVIDERS: tuple[str, ...]
    """What the suite may write under `providers`."""

    def providers(self) -> tuple[str, ...]:
        """The providers that this machine and this installation have."""

    def check(self, backend: Backend, options: Any) -> None:
        """Raises Unavailable where this machine lacks a provider, a compiler ... that it would need."""

    def precision(self, options: Any, artifact: Artifact) -> Precision:
        """The precision it runs in: the artifact's, unless an option says otherwise."""

    def open(self, job: SessionJob) -> Session:
        """Loads the artifact. Raises Unavailable where a provider turns out not to work."""

    def versions(self) -> Mapping[str, str]:
        """Versions of the runtime, by package."""


class Reporter(Plugin, Protocol):
    """reporters/: one form of report."""

    def write(self, runs: Any, folder: Path) -> Sequence[Path]:
        """Writes the report's files into `folder` and returns them."""
