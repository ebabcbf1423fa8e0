"""What a plug-in has, with what it has where it says nothing. A plug-in is a module; its name is its word in
the suite.

The classes below are the contract. The loader hands out an instance of one of them for each module: what the
module defines replaces the default, and what the contract does not declare is the module's own affair. What
is declared without a value, and each function that is abstract, a plug-in must have.

Packages are imported inside the functions that need them, so that a plug-in is known, and listed, where they
are missing. The first line of the module's docstring is what `benchbox list` shows.

A plug-in lies in one of our folders, or is brought by another package through an entry point
(`benchbox.models`, `benchbox.passes` ...: the name is the word, the value the module). A family may also be a
file of the suite's (`family: ./my_family.py`), under `trust_remote_code: true`: see `Family`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Protocol

from benchbox.schema.asked import Backend, Model, Precision, Weights
from benchbox.schema.seen import Artifact, Host
from benchbox.schema.tensors import Array, Feeds, Forward, Outputs, Signature

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


Sizes = Mapping[str, tuple[int, int]]
"""Sizes that are dynamic axes, by name: the one that an exporter traces, and another that proves the axis."""

Trait = Literal["cpu_features", "gpu", "compute_capability", "driver", "shape"]
"""What an artifact may depend on beside what it is made from: a field of `Host`, or the sizes of the case."""

NONE: Mapping[str, Any] = MappingProxyType({})


class Plugin:
    """What all plug-ins have."""

    REQUIRES: tuple[str, ...]
    """Import names of the packages that it needs; a missing one makes its cases `skipped`."""

    Options: type | None = None
    """A frozen dataclass of the standard library whose fields are what the suite may write under the word;
    its `__post_init__` raises ValueError for what a type cannot say. None: there is nothing to write."""


class Family(Plugin):
    """models/: one model family.

    A family that is a file of the suite's is read before it is run: the check of a suite, `plan` and the keys
    take its constants from the text, so each is a literal, and run nothing. Its functions run in builders and
    workers, where the suite says `trust_remote_code: true`. It has no `sizes` and no `fingerprint`, which are
    asked before that; what it imports from beside it is part of its keys.
    """

    TASKS: Mapping[str, Mapping[str, int]]
    """Words for `task` in the suite, the default first, each with the sizes that its inputs have beside
    `batch` and their defaults: `{"image-classification": {"image_size": 224}}`."""

    DYNAMIC: Sizes = NONE
    """The sizes beside `batch` that are dynamic axes (a size and its axis have one name). Parity is judged at
    the case's own size, at three quarters and at half of it."""

    WEIGHTS: Weights = "random"
    """What `weights` in the suite is by default."""

    PRESETS: Mapping[str, Any] = NONE
    """Configs by the names that they have at the hub: with random weights, these sources ask no hub."""

    CONFIG: str = ""
    """The config class of transformers whose fields `config` in the suite overrides: every key is held
    against it, nested ones too. Empty: the family says itself what it knows."""

    SETTINGS: tuple[str, ...] = ()
    """Keys of `config` that are the family's own, beside those of the architecture."""

    ATTENTION: tuple[str, ...] = ()
    """The tasks that can keep their attention over the image: where `model.attention` is set, the signature
    has one more output, last, as `attention.OUTPUT` says."""

    derive: Callable[[Model, Module, Feeds, Mapping[str, int]], Feeds] | None = None
    """`derive(model, module, feeds, shape)`: the feeds with those that only the module itself can make (an
    encoder's states, past keys and values). Runs where torch is. None: the feeds are whole."""

    rollout: Callable[[Model, Forward, Feeds], Outputs] | None = None
    """`rollout(model, run, feeds)`: what comes of several runs, each fed by the one before: greedily decoded
    tokens. numpy only: reference and candidate go through the same code, and both results are in `Evidence`.
    Runs at lengths of its own, so only where axes are dynamic. None: one run says all."""

    label_ids: Callable[[Model, Sequence[str]], Mapping[str, int]] | None = None
    """`label_ids(model, names)`: the model's class index of each of a dataset's classes; empty where one of
    them is not known. None: the outputs are no classes, so names give no accuracy."""

    graph: Callable[[Model], Any] | None = None
    """`graph(model)`: the ModelProto, where the source is an ONNX graph already. None: it is exported."""

    def sizes(self, model: Model) -> Sizes:  # noqa: ARG002  # the contract's form
        """The sizes that the suite itself declares in the model's `config`, for a family whose axes are the
        user's own; the first of two is the default, and twice the same number is an axis of that size alone.

        Reads `model.config` only, because a suite is checked without opening or running anything; raises
        ValueError for what is wrong in it.
        """
        return NONE

    def fingerprint(self, model: Model) -> str:  # noqa: ARG002  # the contract's form
        """A hash of what lies outside the suite and is no folder of weights."""
        return ""

    @abstractmethod
    def load(self, model: Model) -> Module:
        """The module in eval mode: `forward` takes the tensors of the signature's inputs in order and
        returns a tuple of tensors in the order of its outputs. Raises Unavailable or OSError where
        pretrained weights cannot be had; never falls back to random ones."""

    @abstractmethod
    def save(self, module: Module, folder: Path) -> None:
        """Writes config and safetensors so that `load` of the same model, with `source=folder` and
        `weights="pretrained"`, gives the same module."""

    @abstractmethod
    def signature(self, model: Model, shape: Mapping[str, int]) -> Signature:
        """Names, types and axes of inputs and outputs. What an output holds behind an attention mask
        (`TensorSpec.mask`) that has two of its axes is not judged: axes are the same where names are."""

    @abstractmethod
    def feeds(self, model: Model, samples: Sequence[Sample], shape: Mapping[str, int]) -> Feeds:
        """The samples as one batch through the model's own processor: arrays by input name in the order of
        the signature, the batch axis as long as `samples`."""

    @abstractmethod
    def metrics(self, model: Model, evidence: Evidence) -> Mapping[str, float]:
        """What the task cares about, by name, as a mean over the batch: agreement in 0..1, 1 for full
        agreement; `accuracy` and `reference_accuracy` where there are labels. numpy only."""


class DatasetPlugin(Plugin):
    """datasets/: one source of inputs."""

    @abstractmethod
    def samples(self, options: Any, *, count: int, split: Split, seed: int) -> Iterator[Sample]:
        """Exactly `count` samples, lazily; the same for the same arguments; what `calibration` gives
        is never given by `parity`."""

    def fingerprint(self, options: Any) -> str:  # noqa: ARG002  # the contract's form
        """A hash of what lies outside the suite (the user's files), for the cache's keys."""
        return ""

    def classes(self, options: Any) -> tuple[str, ...]:  # noqa: ARG002  # the contract's form
        """Every `label_name` that a sample may have; empty where samples have none."""
        return ()


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


class Exporter(Plugin):
    """exporters/: the first word of a path."""

    PRODUCES: str
    """Kind of artifact: `torch`, `onnx` ..."""

    @abstractmethod
    def export(self, job: ExportJob, folder: Path) -> Facts:
        """Writes the artifact's files into the empty `folder`; an ONNX artifact's file is `model.onnx`.
        Says what really came out (opset, axes ...); `precision` among it where that is not fp32."""


@dataclass(frozen=True)
class PassJob:
    """What a pass works on: `source` is the folder of the artifact before it.

    `signature` has the names, types and axes of the graph. `host` and `shape` hold what the pass says it
    DEPENDS_ON, and what is in its key all the same: the features of the CPU, by which defaults were chosen,
    and the sizes that are fixed in the graph.

    `calibration(batch)` streams feeds of that batch size, for as many samples as are asked for:
    `calibration(samples=64, batch=1)` yields 64 feeds, one at a time. It is there for a pass that says
    `CALIBRATES = True`; what it streams is then part of the artifact's key.
    """

    artifact: Artifact
    source: Path
    signature: Signature
    shape: Mapping[str, int]
    options: Any
    host: Host
    calibration: Callable[..., Iterable[Feeds]]


class Pass(Plugin):
    """passes/: a later word of a path."""

    ACCEPTS: tuple[str, ...]
    PRODUCES: str

    PRECISION: Precision | None = None
    """The precision of the artifact that comes out; None: that of the one that went in. What `apply` says
    under `precision` counts before it."""

    CALIBRATES: bool = False
    """Whether it takes feeds to calibrate with; the dataset is then part of the artifact's key."""

    DEPENDS_ON: tuple[Trait, ...] = ()
    """What an artifact of it holds good for alone: `("gpu", "driver")` for an engine that is built for one
    GPU and its driver, `("shape",)` for one that is built for the sizes of the case. It is part of the key
    then, and in the job; what is not named here is neither."""

    def resolve(self, options: Any, host: Host) -> Any:  # noqa: ARG002  # the contract's form
        """The options with every default that depends on the machine filled in; these are hashed."""
        return options

    @abstractmethod
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


class BackendPlugin(Plugin):
    """backends/: one runtime. Workers import it in interpreters that may have nothing but the runtime."""

    ACCEPTS: tuple[str, ...]
    DEFAULT_PROVIDERS: tuple[str, ...]
    KNOWN_PROVIDERS: tuple[str, ...]
    """What the suite may write under `providers`."""

    PROGRAMS: tuple[str, ...] = ()
    """Programs that `check` looks for (a compiler). What it said is remembered until they, its packages or
    the driver change."""

    MAY_REQUIRE: tuple[str, ...] = ()
    """Import names of packages that `check` looks for where an option asks for them."""

    @abstractmethod
    def providers(self) -> tuple[str, ...]:
        """The providers that this machine and this installation have."""

    @abstractmethod
    def check(self, backend: Backend, options: Any) -> None:
        """Raises Unavailable where this machine lacks a provider, a compiler ... that it would need."""

    @abstractmethod
    def precision(self, options: Any, artifact: Artifact) -> Precision:
        """The precision it runs in: the artifact's, unless an option says otherwise."""

    @abstractmethod
    def open(self, job: SessionJob) -> Session:
        """Loads the artifact. Raises Unavailable where a provider turns out not to work."""

    @abstractmethod
    def versions(self) -> Mapping[str, str]:
        """Versions of the runtime, by package."""


class Reporter(Plugin):
    """reporters/formats/: one form of report."""

    @abstractmethod
    def write(self, runs: object, folder: Path) -> Sequence[Path]:
        """Writes the report's files into `folder` and returns them. `runs` are the `Runs` of results/, a room
        above this one."""
