"""The JSON Schema of a suite: words, options and fields, for editors."""

# ruff: noqa: E501 - the messages of the tables are literals, one a line, as the user reads them

from __future__ import annotations

import json
from dataclasses import fields

from benchbox.schema.asked import MeasurePlan
from benchbox.suite import editor_schema


def test_json_schema_knows_words_options_and_fields():
    """An editor completes plug-in words and their options."""
    schema = editor_schema.json_schema()
    definitions = schema["$defs"]
    assert schema["required"] == ["models", "paths", "backends", "inputs"]
    assert set(schema["properties"]) == {
        "models", "paths", "backends", "inputs", "opset", "dynamic_axes", "threads", "parity", "measure", "name",
    }  # fmt: skip
    assert [choice["const"] for choice in definitions["Exporter"]["anyOf"][0]["oneOf"]] == [
        "dynamo",
        "onnx",
        "torch",
    ]
    [static] = [c for c in definitions["Pass"]["anyOf"][1:] if c["required"] == ["int8_static"]]
    assert {"samples", "calibration", "per_channel"} <= set(static["properties"]["int8_static"]["properties"])
    [pytorch] = [c for c in definitions["Backend"]["anyOf"][1:] if c["required"] == ["pytorch"]]
    options = pytorch["properties"]["pytorch"]["properties"]
    assert options["compile"] == {"default": False, "type": "boolean"}
    assert options["providers"]["anyOf"][0] == {"enum": ["cpu", "cuda"]}
    assert {"threads", "python", "provider_options"} <= set(options)
    assert set(definitions["Measure"]["properties"]) == {field.name for field in fields(MeasurePlan)}


def test_json_schema_is_json_and_its_references_resolve():
    """Every $ref has its definition, and every plug-in its description."""
    schema = editor_schema.json_schema()
    text = json.dumps(schema, allow_nan=False)
    references = {part.split('"')[0] for part in text.split('"#/$defs/')[1:]}
    assert references <= set(schema["$defs"])
    for name in ("Exporter", "Pass", "Backend", "Dataset"):
        assert all(choice["description"] for choice in schema["$defs"][name]["anyOf"])
