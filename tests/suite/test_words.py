"""Words of a suite and the options below them, which their plug-in checks."""

# ruff: noqa: E501 - the messages of the tables are literals, one a line, as the user reads them

from __future__ import annotations

from benchbox import plugins
from benchbox.schema.asked import Step
from benchbox.suite.load import load_suite
from suite_texts import changed, each_is_told_with_its_place, fake_pass, fake_plugins, message, parsed


def test_option_that_is_the_default_leaves_no_trace():
    """Spelling out a default makes the same case, with the same id."""
    spelled = parsed(changed("[pytorch,", "[pytorch: {compile: false},"))
    assert spelled.cases == parsed().cases
    compiled = parsed(changed("[pytorch,", "[pytorch: {compile: true},"))
    assert compiled.cases[0].backend.options == {"compile": True}


def test_a_word_without_options_says_that_there_are_none(monkeypatch):
    plain = plugins.seen_as("passes", {"ACCEPTS": ("onnx",), "PRODUCES": "onnx"})
    fake_plugins(monkeypatch, {"passes": {"plain": plain}})
    said = message(changed("[onnx, fp16]", "[onnx, {plain: {a: 1}}]"))
    assert said.startswith("s.yaml:2:32: paths.1.1.plain.a: unknown option: 'a'. There are none.")


def test_options_are_checked_by_the_plugin(monkeypatch):
    """What a type cannot say, `__post_init__` does; tuples are plain lists in a case."""
    fake_plugins(monkeypatch, {"passes": {"fake": fake_pass(("onnx",), "onnx")}})
    text = changed("fp16", "fake: {names: [x, y], high: 2}")
    assert parsed(text).cases[1].path[1] == Step("fake", {"names": ["x", "y"]})
    assert message(changed("fp16", "fake: {low: 3}")) == "s.yaml:2:29: paths.1.1.fake: low <= high is needed"
    assert message(changed("fp16", "fake: {names: x}")).startswith(
        "s.yaml:2:37: paths.1.1.fake.names: should be a list, not 'x'"
    )


def test_option_that_begins_with_a_dot_is_a_path(monkeypatch, tmp_path):
    """A LoRA adapter, say, beside the suite."""
    fake_plugins(monkeypatch, {"passes": {"fake": fake_pass(("onnx",), "onnx")}})
    (tmp_path / "adapter").mkdir()
    file = tmp_path / "s.yaml"
    file.write_text(changed("fp16", "fake: {folder: ./adapter}"))
    step = load_suite(file).cases[1].path[1]
    assert step.options == {"folder": "./adapter"}
    assert step.located_from(tmp_path).options == {"folder": str(tmp_path / "adapter")}


test_a_word_that_is_wrong_is_told_with_its_place = each_is_told_with_its_place({
    "unknown option of a pass": ("fp16]", "int8_static: {sampels: 3}]", "s.yaml:2:37: paths.1.1.int8_static.sampels: unknown option: 'sampels'. Did you mean 'samples'? Allowed: "),
    "wrong type of an option": ("fp16]", "int8_static: {samples: many}]", "s.yaml:2:46: paths.1.1.int8_static.samples: should be a whole number, not 'many'"),
    "options of what has none": ("[torch,", "[torch: {a: 1},", "s.yaml:2:17: paths.0.torch.a: unknown option: 'a'. Allowed: lora."),
    "two words in one step": ("fp16]", "{fp16: , samples: 3}]", "s.yaml:2:23: paths.1.1: names fp16, samples; a step is one word, with its options indented below it"),
    "unknown option of a backend": ("pytorch,", "pytorch: {compil: true},", "s.yaml:3:22: backends.0.pytorch.compil: unknown option: 'compil'. Did you mean 'compile'? Allowed: "),
    "near miss of a generic field": ("pytorch,", "pytorch: {provider: cpu},", "s.yaml:3:22: backends.0.pytorch.provider: unknown option: 'provider'. Did you mean 'providers'?"),
    "options beside their word": ("[pytorch,", "[{pytorch: , compile: true},", "s.yaml:3:12: backends.0: names pytorch, compile; a backend is one word, with its options indented"),
})  # fmt: skip
