"""`models`: sizes that a model of one's own declares; what is wrong with one is told with its place."""

# ruff: noqa: E501 - the messages of the tables are literals, one a line, as the user reads them

from __future__ import annotations

import pytest

from benchbox.errors import SuiteError
from benchbox.suite.load import from_source, load_suite, parse_suite
from suite_texts import each_is_told_with_its_place, message

test_a_model_that_is_wrong_is_told_with_its_place = each_is_told_with_its_place({
    "unknown family": ("family: vit", "family: vti", "s.yaml:1:18: models.family: unknown model family: 'vti'. Did you mean 'vit'? Allowed: "),
    "no family": ("family: vit, ", "", "s.yaml:1:9: models.family: is missing; this field is required"),
    "unknown field": ("{family", "{sed: 1, family", "s.yaml:1:10: models.sed: unknown field: 'sed'. Did you mean 'seed'? Allowed: family, source, name, "),
    "unknown weights": ("{family", "{weights: randm, family", "s.yaml:1:19: models.weights: unknown word: 'randm'. Did you mean 'random'? Allowed: random, pretrained."),
    "unknown task": ("{family", "{task: image-clasification, family", "s.yaml:1:16: models.task: unknown task: 'image-clasification'. Did you mean 'image-classification'?"),
    "negative seed": ("{family", "{seed: -1, family", "s.yaml:1:16: models.seed: -1 is out of range. Allowed: 0 to 4294967295."),
    "text for a truth": ("{family", "{trust_remote_code: 'true', family", "s.yaml:1:29: models.trust_remote_code: should be true or false, not 'true'"),
    "long name": ("{family", "{name: " + "x" * 81 + ", family", "s.yaml:1:16: models.name: is longer than 80 characters"),
    "unprintable name": ("{family", '{name: "a\\nb", family', "s.yaml:1:16: models.name: 'a\\nb' is no name: printable characters only"),
    "missing local source": ("google/vit-base-patch16-224", "./nowhere", "s.yaml:1:31: models.source: './nowhere' does not exist (looked for "),
    "source that is nothing": ("google/vit-base-patch16-224", "a/b/c", "s.yaml:1:31: models.source: 'a/b/c' is neither a hub id (owner/name, owner/name@revision) nor a local path (./folder)"),
    "source with a NUL": ("google/vit-base-patch16-224", '"./a\\0b"', "s.yaml:1:31: models.source: './a\\x00b' does not exist"),
    "duplicate names": ("{family: vit, source: google/vit-base-patch16-224}", "[{family: vit, source: a/vit}, {family: vit, source: b/vit}]", "s.yaml:1:40: models.1: 'vit' is the name of models.0 already; give each model its own name"),
})  # fmt: skip


@pytest.mark.parametrize(
    ("family", "source", "weights"),
    [("custom", "./net.py:net", "random"), ("onnx_file", "./net.onnx", "pretrained")],
)
def test_sizes_that_the_config_declares_are_sizes_of_the_suite(tmp_path, family, source, weights):
    """With the declared one as their default, and no others."""
    for name in ("net.py", "net.onnx"):
        (tmp_path / name).touch()
    text = f"""\
models: {{family: {family}, source: {source}, config: {{sizes: {{tokens: [16, 11]}}}}}}
paths: onnx
backends: onnxruntime
inputs: {{dataset: random, tokens: [16, 8]}}
"""
    read, default = (
        parse_suite(given, str(tmp_path / "s.yaml"))
        for given in (text, text.replace(", tokens: [16, 8]", ""))
    )
    assert [case.shape for case in read.cases] == [{"batch": 1, "tokens": 16}, {"batch": 1, "tokens": 8}]
    assert [case.shape["tokens"] for case in default.cases] == [16]
    assert (read.cases[0].model.source, read.cases[0].model.weights) == (source, weights)
    assert read.cases[0].model.located_from(tmp_path).source == f"{tmp_path}/{source.removeprefix('./')}"
    assert from_source(read.source, str(tmp_path / "s.yaml")) == read
    with pytest.raises(SuiteError, match=r"inputs\.token: unknown size: 'token'\. Did you mean 'tokens'\?"):
        parse_suite(text.replace("random, tokens", "random, token"), str(tmp_path / "s.yaml"))


def test_a_family_that_keeps_no_attention_says_which_do() -> None:
    text = """
models: {family: swin, source: microsoft/swin-tiny-patch4-window7-224, attention: true}
paths: [torch]
backends: [pytorch]
inputs: {dataset: sample_images}
"""
    said = message(text)
    assert "models.attention: swin keeps no attention over an image" in said
    assert "vit: image-classification" in said


@pytest.mark.parametrize(
    ("files", "said", "weights"),
    [
        (("config.json", "model.safetensors"), "", "pretrained"),
        (("config.json", "model.safetensors.index.json"), "", "pretrained"),
        (("config.json", "model.safetensors"), "weights: random, ", "random"),
        (("config.json",), "", "random"),
    ],
)
def test_a_folder_that_holds_weights_is_measured_with_them_unless_the_suite_says_random(
    tmp_path, files, said, weights
):
    (tmp_path / "tuned").mkdir()
    for name in files:
        (tmp_path / "tuned" / name).touch()
    text = f"models: {{{said}family: vit, source: ./tuned}}\npaths: onnx\nbackends: onnxruntime\n"
    (tmp_path / "s.yaml").write_text(text + "inputs: {dataset: random}\n")
    (case,) = load_suite(tmp_path / "s.yaml").cases
    assert case.model.weights == weights
