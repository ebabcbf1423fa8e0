"""The JSON Schema of a suite, for editors: its fields, and the words and options of every plug-in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchbox import plugins
from benchbox.plugins.contract import BackendPlugin, Plugin
from benchbox.suite.form import SuiteForm
from benchbox.suite.inputs import DatasetForm
from benchbox.suite.models import ModelForm
from benchbox.suite.plans import MeasureForm, ParityForm, ToleranceForm
from benchbox.suite.runtimes import GenericForm, ThreadsForm
from benchbox.suite.words import adapter

Schema = dict[str, Any]

_COUNT: Schema = {"type": "integer", "minimum": 1}
_COUNTS: Schema = {"anyOf": [_COUNT, {"type": "array", "items": _COUNT, "minItems": 1, "uniqueItems": True}]}
_THREADS: Schema = {"anyOf": [*_COUNTS["anyOf"], {"$ref": "#/$defs/Threads"}]}
_DURATION = "^\\s*[0-9]+(\\.[0-9]+)?\\s*(ms|s|m|min|h)\\s*$"
_FILE = "^(\\.|\\.\\.|~)/.*\\.py$"
_SIZE = "^\\s*[0-9]+(\\.[0-9]+)?\\s*([kKmMgG]([iI])?)?[bB]\\s*$"


def json_schema() -> Schema:
    """A JSON Schema that knows every plug-in of this installation; draft 7, which is what editors read."""
    definitions = {
        "Model": _model(),
        "Path": {"anyOf": [{"$ref": "#/$defs/Exporter"}, _steps()]},
        "Exporter": _words("exporters"),
        "Pass": _words("passes"),
        "Backend": _words("backends", {**_form(GenericForm)["properties"], **_generic()}),
        "Dataset": _words("datasets"),
        "Threads": _threads(),
        "Tolerance": _form(ToleranceForm),
        "Parity": _parity(),
        "Measure": _measure(),
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "benchbox suite",
        "description": str(SuiteForm.__doc__),
        "type": "object",
        "additionalProperties": False,
        "required": ["models", "paths", "backends", "inputs"],
        "properties": {
            **_form(SuiteForm)["properties"],
            "models": _one_or_more("Model", "What is measured."),
            "paths": _one_or_more("Path", "How each model is exported: an exporter, and passes after it."),
            "backends": _one_or_more("Backend", "What runs the artifacts."),
            "inputs": _inputs(),
            "threads": {**_THREADS, "description": "Thread counts; a number is short for intra_op."},
            "parity": {"$ref": "#/$defs/Parity"},
            "measure": {"$ref": "#/$defs/Measure"},
        },
        "$defs": {**definitions, **_hoisted(definitions)},
    }


def _form(form: Any) -> Schema:
    """A form's schema without pydantic's titles, which an editor would show in place of the description."""
    schema: Schema = form.model_json_schema(ref_template="#/$defs/{model}")
    schema["properties"] = {name: _untitled(field) for name, field in schema["properties"].items()}
    return {key: value for key, value in schema.items() if key not in {"title", "$defs"}}


def _untitled(schema: Schema) -> Schema:
    return {key: value for key, value in schema.items() if key != "title"}


def _model() -> Schema:
    schema = _form(ModelForm)
    schema["properties"]["family"] = _named("models", schema["properties"]["family"]["description"])
    tasks = sorted({t for word in plugins.usable("models") for t in plugins.family(word).TASKS})
    schema["properties"]["task"] = {
        "enum": [*tasks, None],
        "description": ModelForm.model_fields["task"].description,
    }
    return schema


def _named(family: plugins.Kind, description: str) -> Schema:
    choices: list[Schema] = [
        {"const": w, "description": plugins.summary(family, w)} for w in plugins.usable(family)
    ]
    if family == "models":
        choices.append({"pattern": _FILE, "description": "A file of your own, which defines a family."})
    return {"description": description, "oneOf": choices}


def _words(family: plugins.Kind, generic: Mapping[str, Schema] | None = None) -> Schema:
    """A word alone, or a mapping of one word to its options."""
    generic = generic or {}
    mappings = [
        {
            "type": "object",
            "description": plugins.summary(family, word),
            "required": [word],
            "additionalProperties": False,
            "properties": {word: _options(plugins.load(family, word), generic)},
        }
        for word in plugins.usable(family)
    ]
    return {"anyOf": [_named(family, f"A file name in {family}/."), *mappings]}


def _options(module: Plugin, generic: Mapping[str, Schema]) -> Schema:
    own: Schema = {}
    if module.Options is not None:
        own = adapter(module.Options).json_schema(ref_template="#/$defs/{model}")
    properties = {name: _untitled(field) for name, field in own.get("properties", {}).items()}
    schema: Schema = {
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": {**properties, **_known(generic, module)},
    }
    return {**schema, **{key: own[key] for key in ("$defs", "required", "description") if key in own}}


def _known(generic: Mapping[str, Schema], module: Plugin) -> dict[str, Schema]:
    if not isinstance(module, BackendPlugin):
        return {}
    provider = {"enum": list(module.KNOWN_PROVIDERS)}
    chain = {"type": "array", "items": provider, "minItems": 1}
    description = GenericForm.model_fields["providers"].description
    entries = {"type": "array", "items": {"anyOf": [provider, chain]}, "minItems": 1}
    return {**generic, "providers": {"anyOf": [provider, entries], "description": description}}


def _generic() -> dict[str, Schema]:
    return {"threads": {**_THREADS, "description": GenericForm.model_fields["threads"].description}}


def _steps() -> Schema:
    return {
        "type": "array",
        "minItems": 1,
        "items": [{"$ref": "#/$defs/Exporter"}],
        "additionalItems": {"$ref": "#/$defs/Pass"},
    }


def _one_or_more(name: str, description: str) -> Schema:
    one = {"$ref": f"#/$defs/{name}"}
    return {"description": description, "anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}


def _inputs() -> Schema:
    sizes = {"batch": 1}
    for word in plugins.usable("models"):
        for of_task in plugins.family(word).TASKS.values():
            sizes.update(of_task)
    described = DatasetForm.model_fields["dataset"].description
    return {
        "description": "What the models are fed. A size is a number, or a list, which makes several cases.",
        "type": "object",
        "required": ["dataset"],
        "additionalProperties": {**_COUNTS, "description": "A size that a model declares in its config."},
        "properties": {
            "dataset": {"$ref": "#/$defs/Dataset", "description": described},
            **{name: {**_COUNTS, "default": default} for name, default in sizes.items()},
        },
    }


def _threads() -> Schema:
    schema = _form(ThreadsForm)
    for name, field in schema["properties"].items():
        schema["properties"][name] = {**_COUNTS, "description": field["description"]}
    return schema


def _parity() -> Schema:
    schema = _form(ParityForm)
    precisions = schema["properties"]["tolerances"]["propertyNames"]["enum"]
    schema["properties"]["tolerances"] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {precision: {"$ref": "#/$defs/Tolerance"} for precision in precisions},
        "description": ParityForm.model_fields["tolerances"].description,
    }
    return schema


def _measure() -> Schema:
    """Durations and sizes also as texts with a unit."""
    schema = _form(MeasureForm)
    for name, field in schema["properties"].items():
        pattern = {"_seconds": _DURATION, "_bytes": _SIZE}.get(name[name.rfind("_") :])
        if pattern:
            described = {key: field[key] for key in ("description", "default") if key in field}
            number = {key: value for key, value in field.items() if key not in described}
            schema["properties"][name] = {
                **described,
                "anyOf": [number, {"type": "string", "pattern": pattern}],
            }
    return schema


def _hoisted(schema: Any) -> Schema:
    """Definitions that a plug-in's options brought, moved to the top where their references look."""
    found: Schema = {}
    if isinstance(schema, dict):
        found.update(schema.pop("$defs", {}))
        for value in list(schema.values()):
            found.update(_hoisted(value))
    elif isinstance(schema, list):
        for value in schema:
            found.update(_hoisted(value))
    return found
