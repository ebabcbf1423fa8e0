"""What a config of transformers may say is read from its source, and is what its class takes."""

from __future__ import annotations

import dataclasses

import pytest

from benchbox import plugins
from benchbox.plugins import architecture

CONFIGS = sorted({plugins.family(word).CONFIG for word in plugins.names("models")} - {""})


@pytest.mark.parametrize("name", [*CONFIGS, "CLIPTextConfig", "LlamaConfig", "Qwen3Config"])
def test_what_is_read_from_the_source_is_what_the_class_takes(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, name)
    fields = architecture.config_fields(name)
    assert fields is not None
    own = {field.name for field in dataclasses.fields(config) if not field.name.startswith("_")}
    assert own | set(config.attribute_map) | set(config.sub_configs) <= fields.names
    assert set(fields.parts) == set(config.sub_configs)
    assert dict(fields.aliases) == config.attribute_map


def test_a_class_that_is_not_there_has_no_fields() -> None:
    assert architecture.config_fields("NoSuchConfig") is None


def test_every_key_that_nobody_reads_is_found_in_parts_too() -> None:
    fields = architecture.config_fields("CLIPConfig")
    if fields is None:
        pytest.skip("transformers is not installed")
    slips = {
        "projecton_dim": 1,
        "projection_dim": 512,
        "vision_config": {"hiden_size": 64, "hidden_size": 64},
    }
    found = architecture.unknown_keys(slips, fields, {})
    assert [place for place, _ in found] == [("projecton_dim",), ("vision_config", "hiden_size")]


def test_heads_that_cannot_share_a_width_are_a_conflict() -> None:
    conflicts = architecture.head_conflicts
    assert list(conflicts({"hidden_size": 64, "num_attention_heads": 5})) == [
        "num_attention_heads: 5 heads cannot share hidden_size: 64, which is no multiple of it"
    ]
    assert list(conflicts({"hidden_size": 64, "num_attention_heads": 5, "head_dim": 16})) == []
    assert list(conflicts({"hidden_sizes": [32, 64], "num_attention_heads": [1, 3]})) == [
        "num_attention_heads: 3 heads cannot share hidden_sizes: 64, which is no multiple of it"
    ]
    assert list(conflicts({"vision_config": {"hidden_size": 64, "num_attention_heads": 5}})) == [
        "vision_config: num_attention_heads: 5 heads cannot share hidden_size: 64, which is no multiple of it"
    ]
