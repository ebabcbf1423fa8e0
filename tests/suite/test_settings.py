"""`config` of a model: a slip of the hand there would measure another model, and is told with its place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from benchbox.errors import SuiteError
from benchbox.suite.load import load_suite, parse_suite
from places import SUITES

pytest.importorskip("transformers")

SMALL = sorted((SUITES / "small").glob("*.yaml"))


def keys(config: Any, *before: str) -> Iterator[tuple[str, ...]]:
    for name, value in config.items():
        yield (*before, name)
        if isinstance(value, dict):
            yield from keys(value, *before, name)


def misspelt(config: dict[str, Any], place: tuple[str, ...]) -> dict[str, Any]:
    """The config with one key without its second letter."""
    name, *rest = place
    slip = name[0] + name[2:] if not rest else name
    return {
        (slip if key == name else key): misspelt(value, tuple(rest)) if key == name and rest else value
        for key, value in config.items()
    }


@pytest.mark.parametrize("file", SMALL, ids=lambda file: file.stem)
def test_every_key_of_every_family_misspelt_once_is_refused(file: Path) -> None:
    """Those of custom code aside: what its function takes, the function says."""
    whole = YAML(typ="safe").load(file)
    slips = [
        (index, place)
        for index, model in enumerate(whole["models"])
        for place in keys(model.get("config", {}))
        if model["family"] not in ("custom", "onnx_file")
    ]
    for index, place in slips:
        models = [dict(model) for model in whole["models"]]
        models[index]["config"] = misspelt(models[index]["config"], place)
        with pytest.raises(SuiteError, match=r"unknown setting of|takes|unknown") as raised:
            parse_suite(written({**whole, "models": models}), str(file))
        assert place[-1][0] + place[-1][2:] in str(raised.value)


def written(suite: dict[str, Any]) -> str:
    from io import StringIO

    text = StringIO()
    YAML(typ="safe").dump(suite, text)
    return text.getvalue()


def test_a_slip_in_a_part_has_its_line_its_column_and_the_nearest_word(tmp_path: Path) -> None:
    file = tmp_path / "clip.yaml"
    file.write_text(
        "models:\n"
        "  - family: clip\n"
        "    source: openai/clip-vit-base-patch32\n"
        "    config: {vision_config: {hiden_size: 64}}\n"
        "paths: [torch]\nbackends: [pytorch]\ninputs: {dataset: sample_images}\n"
    )
    with pytest.raises(SuiteError) as raised:
        load_suite(file)
    assert str(raised.value).startswith(
        f"{file}:4:30: models.0.config.vision_config.hiden_size: unknown setting of CLIPConfig: 'hiden_size'."
        " Did you mean 'hidden_size'? Allowed: "
    )


def test_heads_that_cannot_share_a_width_are_refused_before_anything_is_built(tmp_path: Path) -> None:
    """transformers builds 64 wide layers with 5 heads of 12, and says nothing."""
    file = tmp_path / "vit.yaml"
    file.write_text(
        "models:\n"
        "  - family: vit\n"
        "    source: google/vit-base-patch16-224\n"
        "    config: {hidden_size: 64, num_attention_heads: 5}\n"
        "paths: [torch]\nbackends: [pytorch]\ninputs: {dataset: sample_images}\n"
    )
    with pytest.raises(SuiteError) as raised:
        load_suite(file)
    assert str(raised.value) == (
        f"{file}:4:13: models.0.config: num_attention_heads: 5 heads cannot share hidden_size: 64, "
        "which is no multiple of it"
    )
