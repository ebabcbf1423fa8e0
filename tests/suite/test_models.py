"""`models`: what is wrong with one is told with its place."""

# ruff: noqa: E501 - the messages of the tables are literals, one a line, as the user reads them

from __future__ import annotations

from suite_texts import each_is_told_with_its_place

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
