"""The fields of a suite: what is required, what is allowed, what the short forms mean.

A form holds values of `schema` wherever there is one. Plug-ins say the rest: which words exist (their files),
which options a word has (their `Options`), which providers a backend knows.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from benchbox.plugins import hub
from benchbox.schema import paths as local
from benchbox import plugins
from benchbox.schema import (
    DEFAULT_TOLERANCES,
    Dataset,
    Lora,
    MeasurePlan,
    Model,
    ParityPlan,
    Precision,
    Step,
    Threads,
    Tolerance,
    Weights,
)
from benchbox.suite.check import (
    UNKNOWN_KEY,
    Between,
    Form,
    again,
    custom,
    cut,
    refuse,
    said,
    unknown_keys,
    wrong,
)
from benchbox.suite.source import kind
from benchbox.suite.words import (
    folder_of,
    homeless,
    local_path,
    options,
    paths_in,
    plugin,
    with_options,
    word_and_fields,
)

# 13 is the first opset with per-axis QuantizeLinear, which int8 needs; 23 the last that torch 2.13 writes.
OPSETS = (13, 23)
DAY_SECONDS = 86_400.0
GENERIC = ("providers", "provider_options", "threads", "python")
"""What every backend takes; the plug-in's own options stand beside them."""

_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_SIZES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def listed(data: Any) -> Any:
    """A list; what is none is short for a list of one."""
    return data if isinstance(data, list) else [data]


def _no_twins(values: list[int]) -> list[int]:
    twins = [wrong(f"{v} stands in the list twice", i) for i, v in enumerate(values) if v in values[:i]]
    if twins:
        refuse(*twins)
    return values


_OneOrMore = (BeforeValidator(listed), Field(min_length=1, max_length=1000), AfterValidator(_no_twins))
_Sizes = Annotated[list[Annotated[int, Between(1, 1 << 20)]], *_OneOrMore]
_ThreadCounts = Annotated[list[Annotated[int, Between(1, 4096)]], *_OneOrMore]
_SIZES_OF_INPUTS: TypeAdapter[list[int]] = TypeAdapter(_Sizes, config=ConfigDict(strict=True))


def _quantity(units: Mapping[str, float], example: str) -> BeforeValidator:
    def read(data: Any) -> Any:
        if not isinstance(data, str):
            return data
        match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*([A-Za-z]+)\s*", data, re.ASCII)
        if not match or match.group(2).lower() not in units:
            raise custom(
                f"{kind(data)} is not understood. Allowed: a number, or one with a unit "
                f"({', '.join(units)}), such as {example!r}."
            )
        return float(match.group(1)) * units[match.group(2).lower()]

    return BeforeValidator(read)


def _whole(data: Any) -> Any:
    return int(data) if isinstance(data, float) and data.is_integer() else data


_DURATION = _quantity(_UNITS, "2m")
_SIZE = _quantity(_SIZES, "4 GiB")
_Seconds = Annotated[float, Between(0.001, 7 * DAY_SECONDS), _DURATION]
_Rest = Annotated[float, Between(0.0, DAY_SECONDS), _DURATION]
_Bytes = Annotated[int, Between(1, 2**53), BeforeValidator(_whole), _SIZE]


# --- models ---


def _name(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise custom(f"{kind(text)} is no name: printable characters only, no space at either end")
    return text


def clean_name(text: str) -> str:
    """A name made of a file's: what a suite may write under `name`."""
    return "".join(c for c in text if c.isprintable()).strip()[:80].strip() or "unnamed"


def _source(text: str, info: ValidationInfo) -> str:
    if local.is_local(text) or text.startswith("/"):
        file, python, function = text.partition(".py:")
        return local_path(file + python.rstrip(":"), folder_of(info)) + (function and f":{function}")
    if not hub.is_id(text):
        raise custom(
            f"{kind(text)} is neither a hub id (owner/name, owner/name@revision) nor a local path (./folder)"
        )
    return text


class LoraForm(Form):
    """A LoRA adapter, as PEFT saves it."""

    source: Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_source)] = Field(
        description="Hub id (owner/name, owner/name@revision), or a folder (./folder, from the suite's)."
    )
    weight: Annotated[float, Between(-100.0, 100.0)] = Field(
        default=1.0, description="By how much the adapter's update counts."
    )


def _loras(data: Any, info: ValidationInfo) -> tuple[Lora, ...]:
    """A source, a mapping, or a list of either, in the order in which they are merged."""
    found: list[Lora] = []
    details: list[InitErrorDetails] = []
    for index, item in enumerate(listed(data)):
        place = (index,) if isinstance(data, list) else ()
        if not isinstance(item, str | dict):
            details.append(wrong(f"should be a path, a hub id, or {{source: ...}}, not {kind(item)}", *place))
            continue
        try:
            form = LoraForm.model_validate(
                {"source": item} if isinstance(item, str) else item, context=info.context
            )
        except ValidationError as error:
            details += again(error, *place)
            continue
        found.append(Lora(form.source, form.weight))
    if details:
        refuse(*details)
    return tuple(found)


class ModelForm(Form):
    """A model: the family knows how to load it and how to feed it."""

    family: str = Field(description="File name of a plug-in in models/.")
    source: Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_source)] = Field(
        description="Hub id (owner/name, owner/name@revision), or a folder or file (./folder, from the "
        "suite's)."
    )
    name: Annotated[str, Field(min_length=1, max_length=80), AfterValidator(_name)] | None = Field(
        default=None, description="How reports call it; by default the last part of source."
    )
    task: str | None = Field(
        default=None, description="What the model is for; by default the family's first task."
    )
    weights: Weights | None = Field(
        default=None,
        description="random: built from the architecture's config and the seed. pretrained: from the source. "
        "By default random, for a family whose source holds the weights pretrained.",
    )
    seed: Annotated[int, Between(0, 2**32 - 1)] = Field(
        default=0, description="Seed of random weights and inputs."
    )
    config: dict[str, Any] = Field(default={}, description="Overrides of the architecture's config.")
    trust_remote_code: bool = Field(
        default=False, description="Let the source's own Python code run on this machine."
    )
    lora: Annotated[tuple[Lora, ...], PlainValidator(_loras)] = Field(
        default=(), description="LoRA adapters to attach: a source, {source, weight}, or a list of them."
    )
    attention: bool = Field(
        default=False, description="Keep the attention over the image, and draw it in the report."
    )


def _model(data: Any, info: ValidationInfo) -> Model:
    form = ModelForm.model_validate(data, context=info.context)
    try:
        family = plugin("models", form.family, what="model family")
    except PydanticCustomError as error:
        refuse(wrong(str(error), "family"))
    task = next(iter(family.TASKS)) if form.task is None else form.task
    if task not in family.TASKS:
        refuse(wrong(plugins.unknown(cut(task), list(family.TASKS), what="task"), "task"))
    if form.attention and task not in getattr(family, "ATTENTION", ()):
        refuse(wrong(_no_attention(form.family, task), "attention"))
    folder = folder_of(info)
    name = form.name or clean_name(local.located(form.source, folder).rpartition("/")[2])
    weights = form.weights or getattr(family, "WEIGHTS", "random")
    given = {field: getattr(form, field) for field in ModelForm.model_fields}
    given["config"] = paths_in(form.config, folder, "config")
    model = Model(**{**given, "name": name, "task": task, "weights": weights})
    try:
        sizes_of(model, folder)
    except ValueError as error:
        refuse(wrong(str(error), "config" if form.config else "source"))
    return model


def sizes_of(model: Model, folder: Path) -> dict[str, int]:
    """The sizes that the model's inputs have beside `batch`, and their defaults: those of its task, and those
    that its source or its `config` declares. Raises ValueError where what it declares is wrong."""
    family = plugins.load("models", model.family)
    declared: Mapping[str, tuple[int, int]] = (
        family.sizes(model.at(folder)) if hasattr(family, "sizes") else {}
    )
    return {**family.TASKS[model.task], **{name: default for name, (default, _) in declared.items()}}


def _no_attention(word: str, task: str) -> str:
    able = {w: getattr(plugins.load("models", w), "ATTENTION", ()) for w in plugins.names("models")}
    listed_tasks = "; ".join(f"{w}: {', '.join(tasks)}" for w, tasks in able.items() if tasks)
    return f"{word} keeps no attention over an image for {task}. Those that do: {listed_tasks}."


# --- paths ---


def _path(data: Any, info: ValidationInfo) -> tuple[Step, ...]:
    """Steps of which each accepts what the one before it produces."""
    items = listed(data)
    if not items:
        raise custom(f"is empty; a path begins with an exporter: {', '.join(plugins.names('exporters'))}")
    steps: list[Step] = []
    details: list[InitErrorDetails] = []
    produced: str | None = None
    for index, item in enumerate(items):
        try:
            module, step = _step(item, info, first=index == 0)
            if produced is not None and index > 0:
                _accepts(module, step, steps[-1], produced)
        except ValidationError as error:
            details += again(error, index)
            produced = None
            continue
        except PydanticCustomError as error:
            details.append(wrong(str(error), index))
            produced = None
            continue
        steps.append(step)
        produced = module.PRODUCES
    if details:
        refuse(*details)
    return tuple(steps)


def _step(data: Any, info: ValidationInfo, *, first: bool) -> tuple[Any, Step]:
    word = word_and_fields(data, what="step")[0]
    family: plugins.Kind = "exporters" if first else "passes"
    if first and word in plugins.names("passes"):
        exporters = ", ".join(plugins.names("exporters"))
        raise custom(
            f"{word!r} is a pass; a path begins with an exporter. Allowed: {exporters}. "
            f"A path of several steps is a list: - [onnx, {word}]"
        )
    if not first and word in plugins.names("exporters"):
        raise custom(
            f"{word!r} is an exporter, which can only come first. "
            f"Allowed here: {', '.join(plugins.names('passes'))}."
        )
    module, word, given = with_options(family, data, info, "exporter" if first else "pass")
    return module, Step(word, given)


def _accepts(module: Any, step: Step, before: Step, produced: str) -> None:
    if produced not in module.ACCEPTS:
        raise custom(
            f"{step.word!r} cannot follow {before.word!r}, which produces {produced}. "
            f"It accepts: {', '.join(module.ACCEPTS)}."
        )


def produces(path: Sequence[Step]) -> str:
    """The kind of artifact at the end of a path."""
    last = plugins.load("exporters" if len(path) == 1 else "passes", path[-1].word)
    word: str = last.PRODUCES
    return word


# --- threads, backends ---


class ThreadsForm(Form):
    """Thread counts, the same for every backend; several make several cases."""

    intra_op: _ThreadCounts | None = Field(
        default=None, description="Threads within an operator; by default all cores."
    )
    inter_op: _ThreadCounts = Field(default=[1], description="Operators that run side by side.")


def _threads(data: Any, info: ValidationInfo) -> tuple[Threads, ...]:
    try:
        form = ThreadsForm.model_validate(data if isinstance(data, dict) else {"intra_op": data})
    except ValidationError as error:
        if isinstance(data, dict):
            raise
        # `threads: x` has no field intra_op: what is wrong is the value itself.
        refuse(*(wrong(said(e), *e["loc"][1:]) for e in error.errors(include_url=False)))
    cores = [info.context["cores"]] if info.context else [1]
    intra_op = form.intra_op or cores
    return tuple(Threads(intra, inter) for intra in intra_op for inter in form.inter_op)


@dataclass(frozen=True)
class Runtime:
    """A backend entry: `chains` are the providers of each of its cases; `threads` None takes the suite's."""

    word: str
    chains: tuple[tuple[str, ...], ...]
    threads: tuple[Threads, ...] | None
    options: Mapping[str, Any]
    provider_options: Mapping[str, Mapping[str, Any]]
    python: str | None
    accepts: tuple[str, ...]


class GenericForm(Form):
    """What every backend takes, beside its own options."""

    providers: Annotated[list[Any], BeforeValidator(listed), Field(min_length=1)] | None = Field(
        default=None,
        description="Each entry makes a case; an entry that is a list is the priority list of one session.",
    )
    provider_options: dict[str, dict[str, Any]] = Field(default={}, description="Options by provider.")
    threads: Annotated[tuple[Threads, ...] | None, PlainValidator(_threads)] = Field(
        default=None, description="Other thread counts than the suite's."
    )
    python: Annotated[str, Field(min_length=1, max_length=1000)] | None = Field(
        default=None,
        description="Interpreter of the worker, for a runtime that lives in another environment.",
    )


def _runtime(data: Any, info: ValidationInfo) -> Runtime:
    word, fields = word_and_fields(data, what="backend")
    module = plugin("backends", word, what="backend")
    try:
        return _runtime_of(module, word, fields, info)
    except ValidationError as error:
        refuse(*again(error, word))


def _runtime_of(module: Any, word: str, fields: Mapping[str, Any], info: ValidationInfo) -> Runtime:
    generic = {key: value for key, value in fields.items() if key in GENERIC}
    own = {key: value for key, value in fields.items() if key not in GENERIC}
    _known_fields(module, own)
    form = GenericForm.model_validate(generic, context=info.context)
    chains = _chains(module, form.providers)
    _known_provider_options(form.provider_options, chains)
    return Runtime(
        word=word,
        chains=chains,
        threads=form.threads,
        options=options(module, own, folder_of(info)),
        provider_options=homeless(form.provider_options),
        python=_python(form.python, folder_of(info)),
        accepts=tuple(module.ACCEPTS),
    )


def _known_fields(module: Any, own: Mapping[str, Any]) -> None:
    """Unknown options are told from generic fields too, so that `provider` finds `providers`."""
    names = [f.name for f in dataclasses.fields(module.Options)] if hasattr(module, "Options") else []
    details = unknown_keys(own, [*names, *GENERIC], what="option")
    if details:
        refuse(*details)


def _chains(module: Any, given: Sequence[Any] | None) -> tuple[tuple[str, ...], ...]:
    if given is None:
        return tuple((provider,) for provider in module.DEFAULT_PROVIDERS)
    details = []
    for index, entry in enumerate(given):
        for place, provider in enumerate(listed(entry)):
            if not isinstance(provider, str) or provider not in module.KNOWN_PROVIDERS:
                message = plugins.unknown(cut(provider), module.KNOWN_PROVIDERS, what="provider")
                details.append(wrong(message, "providers", index, place))
        if entry == [] or listed(entry) in [listed(other) for other in given[:index]]:
            message = "is empty" if entry == [] else "stands in the list twice"
            details.append(wrong(message, "providers", index))
    if details:
        refuse(*details)
    return tuple(tuple(listed(entry)) for entry in given)


def _known_provider_options(given: Mapping[str, Any], chains: Sequence[Sequence[str]]) -> None:
    used = sorted({provider for chain in chains for provider in chain})
    message = f"is not among this backend's providers: {', '.join(used)}"
    details = [wrong(message, "provider_options", name, of=UNKNOWN_KEY) for name in given if name not in used]
    if details:
        refuse(*details)


def _python(text: str | None, folder: Path) -> str | None:
    if text is None or "/" not in text:
        return text
    try:
        return local_path(text, folder)
    except PydanticCustomError as error:
        refuse(wrong(str(error), "python"))


# --- inputs ---


@dataclass(frozen=True)
class Inputs:
    """Where inputs come from, and the values of each size that the suite gives."""

    dataset: Dataset
    sizes: Mapping[str, tuple[int, ...]]


def _dataset(data: Any, info: ValidationInfo) -> Dataset:
    _, word, given = with_options("datasets", data, info, "dataset")
    return Dataset(word, given)


class DatasetForm(Form):
    """The part of `inputs` that is no size."""

    dataset: Annotated[Dataset, PlainValidator(_dataset)] = Field(
        description="File name of a plug-in in datasets/."
    )


def _inputs(data: Any, info: ValidationInfo) -> Inputs:
    if not isinstance(data, dict):
        raise custom(
            f"should be a mapping such as {{dataset: sample_images, batch: [1, 8]}}, not {kind(data)}"
        )
    details: list[InitErrorDetails] = []
    sizes: dict[str, tuple[int, ...]] = {"batch": (1,)}
    for name, value in data.items():
        if name != "dataset":
            try:
                sizes[name] = tuple(_SIZES_OF_INPUTS.validate_python(value))
            except ValidationError as error:
                details += again(error, name)
    try:
        form = DatasetForm.model_validate(
            {k: v for k, v in data.items() if k == "dataset"}, context=info.context
        )
    except ValidationError as error:
        details += again(error)
    if details:
        refuse(*details)
    return Inputs(form.dataset, sizes)


# --- parity, measurement ---


class ToleranceForm(Form):
    """What agreement demands at one precision; null demands nothing, what is left out keeps its default."""

    atol: Annotated[float, Between(0, 1e9)] | None = Field(
        default=None, description="Largest absolute error."
    )
    cosine: Annotated[float, Between(-1, 1)] | None = Field(
        default=None, description="Lowest cosine of any sample."
    )
    sqnr_db: Annotated[float, Between(-1000, 1000)] | None = Field(
        default=None, description="Lowest signal-to-quantization-noise ratio, in decibels."
    )
    metrics: dict[str, Annotated[float, Between(0, 1)]] = Field(
        default={}, description="Lower bounds of task metrics, by name: {top1_agreement: 0.99}."
    )
    gradient: Annotated[float, Between(0, 1e6)] | None = Field(
        default=None, description="Largest error of directional derivatives, relative to the reference's."
    )


def _tolerance(data: Any) -> dict[str, Any]:
    return ToleranceForm.model_validate(data).model_dump(exclude_unset=True)


class ParityForm(Form):
    """How agreement with the reference is judged."""

    samples: Annotated[int, Between(1, 100_000)] = Field(
        default=ParityPlan().samples, description="How many inputs are compared."
    )
    gradient_directions: Annotated[int, Between(0, 1000)] = Field(
        default=0,
        description="Along how many random directions of continuous inputs derivatives are compared.",
    )
    tolerances: dict[Precision, Annotated[dict[str, Any], PlainValidator(_tolerance)]] = Field(
        default={}, description="By precision: fp32, fp16, bf16, int8, int4."
    )

    def plan(self) -> ParityPlan:
        """The plan, with the default of every tolerance that the suite does not name."""
        defaults = {**DEFAULT_TOLERANCES}
        for precision, given in self.tolerances.items():
            defaults[precision] = dataclasses.replace(defaults.get(precision, Tolerance()), **given)
        return ParityPlan(self.samples, self.gradient_directions, defaults)


_PLAN = MeasurePlan()


def _most_replicates(data: Any, info: ValidationInfo) -> Any:
    """The plan's default, or as many as the fewest where these are more."""
    return max(_PLAN.most_replicates, info.data.get("replicates", 0)) if data is None else data


def _no_fewer_than_replicates(most: int, info: ValidationInfo) -> int:
    fewest = info.data.get("replicates", most)
    if most < fewest:
        raise custom(
            f"{most} is less than replicates, which is {fewest}. Give at least {fewest} here, "
            f"or a smaller number there (it is {_PLAN.replicates} where the suite does not say)."
        )
    return most


class MeasureForm(Form):
    """How long and how precisely is measured. Durations may be written 20s or 2m, sizes 4 GiB."""

    budget_seconds: _Seconds = Field(
        default=_PLAN.budget_seconds, description="For one case over all replicates, loading not counted."
    )
    precision: Annotated[float, Between(0.0001, 1)] = Field(
        default=_PLAN.precision,
        description="Half-width, relative, of the interval of the ratio to the baseline at which a case is "
        "done; of the median's, where there is no baseline.",
    )
    confidence: Annotated[float, Between(0.5, 0.9999)] = Field(
        default=_PLAN.confidence, description="Of every interval."
    )
    margin: Annotated[float, Between(0, 1)] = Field(
        default=_PLAN.margin, description="Relative difference below which two cases are equivalent."
    )
    replicates: Annotated[int, Between(2, 100)] = Field(
        default=_PLAN.replicates,
        description="Fresh processes per case at least; below two, nothing is known of their spread.",
    )
    most_replicates: Annotated[
        int | None,
        Between(2, 100),
        BeforeValidator(_most_replicates),
        AfterValidator(_no_fewer_than_replicates),
    ] = Field(
        default=None,
        validate_default=True,
        description=f"Fresh processes at most, while a case is not done and the budget lasts; null for "
        f"{_PLAN.most_replicates}, or for replicates where that is more.",
    )
    min_rounds: Annotated[int, Between(1, 10_000)] = Field(
        default=_PLAN.min_rounds,
        description="Rounds of a process at least, if they take no more than twice its share of the budget.",
    )
    block_seconds: _Seconds = Field(
        default=_PLAN.block_seconds, description="How long one block of calls lasts at least."
    )
    warm_up_seconds: _Rest = Field(
        default=_PLAN.warm_up_seconds, description="Warm-up at most; it ends when blocks settle."
    )
    timeout_seconds: _Seconds = Field(
        default=_PLAN.timeout_seconds, description="For each answer of a worker or a builder."
    )
    memory_limit_bytes: _Bytes | None = Field(
        default=None, description="Address space of workers and builders; null for no limit."
    )
    memory_budget_bytes: _Bytes | None = Field(
        default=None, description="What may be loaded side by side; null for what the machine has free."
    )

    def plan(self) -> MeasurePlan:
        """The same as the value that flows through benchbox."""
        return MeasurePlan(**self.model_dump())


# --- the whole ---


class SuiteForm(Form):
    """What is measured: every model, path, backend, provider, size and thread count that fit together."""

    models: Annotated[
        list[Annotated[Model, PlainValidator(_model)]], BeforeValidator(listed), Field(min_length=1)
    ]
    paths: Annotated[
        list[Annotated[tuple[Step, ...], PlainValidator(_path)]], BeforeValidator(listed), Field(min_length=1)
    ]
    backends: Annotated[
        list[Annotated[Runtime, PlainValidator(_runtime)]], BeforeValidator(listed), Field(min_length=1)
    ]
    inputs: Annotated[Inputs, PlainValidator(_inputs)]
    opset: Annotated[int, Between(*OPSETS)] = Field(
        default=17, description="ONNX operator set that is asked for."
    )
    dynamic_axes: bool = Field(
        default=True, description="Leave batch (and length) open in the exported graph."
    )
    threads: Annotated[tuple[Threads, ...] | None, PlainValidator(_threads)] = None
    parity: ParityForm = ParityForm()
    measure: MeasureForm = MeasureForm()
    name: Annotated[str, Field(min_length=1, max_length=80), AfterValidator(_name)] | None = Field(
        default=None, description="How results are called; by default the file's name."
    )


def validated(data: Any, *, folder: Path, cores: int) -> SuiteForm:
    """The form of plain data. Raises pydantic's ValidationError."""
    return SuiteForm.model_validate(data, context={"folder": folder, "cores": cores})
