"""`models`: which module is measured, where its weights are from, its LoRA adapters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from benchbox import plugins
from benchbox.errors import StageError
from benchbox.plugins import architecture, hub
from benchbox.plugins.contract import Family
from benchbox.schema import paths as local
from benchbox.schema.asked import (
    Lora,
    Model,
    Weights,
)
from benchbox.suite.check import (
    UNKNOWN_KEY,
    Between,
    Form,
    custom,
    cut_text,
    errors_below,
    refuse,
    unknown_keys,
    wrong,
)
from benchbox.suite.quantities import checked_name, clean_name, listed
from benchbox.suite.source import kind
from benchbox.suite.words import (
    folder_of,
    local_path,
    paths_in,
    plugin,
)


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
            details += errors_below(error, *place)
            continue
        found.append(Lora(form.source, form.weight))
    if details:
        refuse(*details)
    return tuple(found)


class ModelForm(Form):
    """A model: the family knows how to load it and how to feed it."""

    family: str = Field(
        description="Word of a plug-in in models/, or a file of your own that is one (./family.py, from the "
        "suite's folder), with trust_remote_code."
    )
    source: Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_source)] = Field(
        description="Hub id (owner/name, owner/name@revision), or a folder or file (./folder, from the "
        "suite's)."
    )
    name: Annotated[str, Field(min_length=1, max_length=80), AfterValidator(checked_name)] | None = Field(
        default=None, description="How reports call it; by default the last part of source."
    )
    task: str | None = Field(
        default=None, description="What the model is for; by default the family's first task."
    )
    weights: Weights | None = Field(
        default=None,
        description="random: built from the architecture's config and the seed. pretrained: from the source. "
        "By default random; pretrained where the source is a folder that holds weights.",
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


def read_model(data: Any, info: ValidationInfo) -> Model:
    """An entry of `models`."""
    form = ModelForm.model_validate(data, context=info.context)
    folder = folder_of(info)
    word, family = _family(form, folder)
    task = next(iter(family.TASKS)) if form.task is None else form.task
    if task not in family.TASKS:
        refuse(wrong(plugins.unknown(cut_text(task), list(family.TASKS), what="task"), "task"))
    if form.attention and task not in family.ATTENTION:
        refuse(wrong(_no_attention(form.family, task), "attention"))
    name = form.name or clean_name(local.located(form.source, folder).rpartition("/")[2])
    weights = form.weights or ("pretrained" if _holds_weights(form.source, folder) else family.WEIGHTS)
    given = {field: getattr(form, field) for field in ModelForm.model_fields}
    given["config"] = paths_in(form.config, folder, "config")
    given["family"] = word
    model = Model(**{**given, "name": name, "task": task, "weights": weights})
    try:
        sizes_of(model, folder)
    except ValueError as error:
        refuse(wrong(str(error), "config" if form.config else "source"))
    details = [*_unknown_settings(model, family), *_contradictions(model, family)]
    if details:
        refuse(*details)
    return model


# What transformers calls the weights of a folder; `*.bin` is refused later, with its reason.
_WEIGHT_FILES = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin")


def _holds_weights(source: str, folder: Path) -> bool:
    """Whether the source is a folder on this disk with a model in it: who names one means that model."""
    if not local.is_local(source):
        return False
    place = Path(local.located(source, folder))
    return place.is_dir() and any(next(place.glob(pattern), None) for pattern in _WEIGHT_FILES)


def _unknown_settings(model: Model, family: Family) -> Iterator[InitErrorDetails]:
    """An error for each key of `config` that nobody would read: a slip there measures another model."""
    config = {name: value for name, value in model.config.items() if name not in family.SETTINGS}
    if not config:  # nothing to hold against a source that takes a tenth of a second to read
        return
    if not family.CONFIG:
        if family.SETTINGS:
            for error in unknown_keys(config, family.SETTINGS, what=f"setting of {model.family}"):
                yield InitErrorDetails(**{**error, "loc": ("config", *error["loc"])})
        return
    fields = architecture.config_fields(family.CONFIG)
    preset = family.PRESETS.get(model.source, {})
    for place, known in architecture.unknown_keys(config, fields, preset) if fields else ():
        names = [*known, *family.SETTINGS] if len(place) == 1 else known
        message = plugins.unknown(cut_text(place[-1]), names, what=f"setting of {family.CONFIG}")
        yield wrong(message, "config", *place, of=UNKNOWN_KEY)


def _contradictions(model: Model, family: Family) -> Iterator[InitErrorDetails]:
    """What the preset, its defaults and the overrides say together and cannot be, where all is known."""
    fields = architecture.config_fields(family.CONFIG) if family.CONFIG and model.config else None
    if fields is not None and model.source in family.PRESETS and model.weights == "random":
        whole = fields.filled(architecture.overridden(family.PRESETS[model.source], model.config))
        for said in architecture.head_conflicts(whole):
            yield wrong(said, "config")


def sizes_of(model: Model, folder: Path) -> dict[str, int]:
    """The sizes that the model's inputs have beside `batch`, and their defaults: those of its task, and those
    that its source or its `config` declares. Raises ValueError where what it declares is wrong."""
    here = model.located_from(folder)
    family = plugins.family_of(here)
    declared = {name: default for name, (default, _) in family.sizes(here).items()}
    return {**family.TASKS[model.task], **declared}


def _family(form: ModelForm, folder: Path) -> tuple[str, Family]:
    """How the family is written, and what it has; one that is a file is read here and not run."""
    try:
        if not plugins.is_file(form.family):
            return form.family, plugin("models", form.family, what="model family")
        word = local_path(form.family, folder)
        if not form.trust_remote_code:
            raise custom(f"{word} is Python code: if you trust it, write trust_remote_code: true beside it")
        return word, plugins.family_in(Path(local.located(word, folder)))
    except (PydanticCustomError, StageError) as error:
        refuse(wrong(str(error), "family"))


def _no_attention(word: str, task: str) -> str:
    able = {w: plugins.family(w).ATTENTION for w in plugins.usable("models")}
    listed_tasks = "; ".join(f"{w}: {', '.join(tasks)}" for w, tasks in able.items() if tasks)
    return f"{word} keeps no attention over an image for {task}. Those that do: {listed_tasks}."
