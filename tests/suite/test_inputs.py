"""`inputs`: the dataset, and sizes for the families that know them."""

# ruff: noqa: E501 - the messages of the tables are literals, one a line, as the user reads them

from __future__ import annotations

from benchbox import plugins
from benchbox.suite.load import from_source
from suite_texts import changed, each_is_told_with_its_place, fake_plugins, parsed


def test_each_family_takes_the_sizes_it_knows(monkeypatch):
    """`sequence_length` is for the text model, `image_size` for the image model, `batch` for both."""
    text_family = plugins.seen_as("models", {"TASKS": {"fill-mask": {"sequence_length": 128}}})
    fake_plugins(monkeypatch, {"models": {"text": text_family}})
    models = "[{family: vit, source: a/vit}, {family: text, source: a/text}]"
    suite_text = changed("{family: vit, source: google/vit-base-patch16-224}", models).replace(
        "batch: 1", "sequence_length: [16, 32]"
    )
    both = parsed(suite_text)
    shapes = [(case.model.name, case.shape) for case in both.cases if case.backend.word == "pytorch"]
    assert shapes == [
        ("vit", {"batch": 1, "image_size": 224}),
        ("text", {"batch": 1, "sequence_length": 16}),
        ("text", {"batch": 1, "sequence_length": 32}),
    ]
    assert from_source(both.source, "s.yaml") == both


test_an_input_that_is_wrong_is_told_with_its_place = each_is_told_with_its_place({
    "no dataset": ("dataset: sample_images, ", "", "s.yaml:4:9: inputs.dataset: is missing; this field is required"),
    "unknown dataset": ("sample_images", "sample_image", "s.yaml:4:19: inputs.dataset: unknown dataset: 'sample_image'. Did you mean 'sample_images'? Allowed: "),
    "missing option": ("sample_images", "imagefolder", "s.yaml:4:19: inputs.dataset.imagefolder.root: is missing; this field is required"),
    "missing folder": ("sample_images", "{imagefolder: {root: ./nowhere}}", "s.yaml:4:40: inputs.dataset.imagefolder.root: './nowhere' does not exist (looked for "),
    "dataset that is a list": ("sample_images", "[a]", "s.yaml:4:19: inputs.dataset: should be the word of a dataset, or {word: {option: value}}, not a list"),
    "inputs that are a list": ("{dataset: sample_images, batch: 1}", "[1]", "s.yaml:4:9: inputs: should be a mapping such as {dataset: sample_images, batch: [1, 8]}, not a list"),
    "unknown size": ("batch: 1", "image_sise: 224", "s.yaml:4:34: inputs.image_sise: unknown size: 'image_sise'. Did you mean 'image_size'? Allowed: dataset, "),
    "batch 0": ("batch: 1", "batch: 0", "s.yaml:4:41: inputs.batch: 0 is out of range. Allowed: 1 to 1048576."),
    "batch -3": ("batch: 1", "batch: [1, -3]", "s.yaml:4:45: inputs.batch.1: -3 is out of range."),
    "batch true": ("batch: 1", "batch: true", "s.yaml:4:41: inputs.batch: should be a whole number, not true"),
    "batch 1.5": ("batch: 1", "batch: 1.5", "s.yaml:4:41: inputs.batch: should be a whole number, not 1.5"),
    "batch 1.0": ("batch: 1", "batch: 1.0", "s.yaml:4:41: inputs.batch: should be a whole number, not 1.0"),
    "batch text": ("batch: 1", "batch: '1'", "s.yaml:4:41: inputs.batch: should be a whole number, not '1'"),
    "no batch": ("batch: 1", "batch: []", "s.yaml:4:41: inputs.batch: needs at least one item"),
    "batch twice": ("batch: 1", "batch: [1, 2, 1]", "s.yaml:4:48: inputs.batch.2: 1 stands in the list twice"),
})  # fmt: skip
