"""A text as plain values that know their place; and overrides, which know that they are none."""

# ruff: noqa: E501 - the messages of the tables are literals, one a line, as the user reads them

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchbox.errors import UsageError
from benchbox.schema.asked import Step, Threads
from benchbox.suite.load import from_source
from mutations import SNIPPETS
from suite_texts import GOOD, changed, message, parsed

WRONG_TEXTS = {
    "empty": ("", "s.yaml:1:1: the suite is empty: it needs models, paths, backends and inputs"),
    "only a comment": ("# soon\n", "s.yaml:1:1: the suite is empty"),
    "a list": ("\n- a\n", "s.yaml:2:1: a suite is a mapping, and this is a list"),
    "a scalar": ("abc", "s.yaml:1:1: a suite is a mapping, and this is 'abc'"),
    "an empty mapping": (
        "{}",
        "\n".join(
            f"s.yaml:1:1: {field}: is missing; this field is required"
            for field in ("models", "paths", "backends", "inputs")
        ),
    ),
    "NUL": ("a: 1\nb: \0", "s.yaml:2:4: a NUL byte is not allowed in a suite"),
    "control character": ("a: \x07", "s.yaml:1:4: the control character U+0007 is not allowed in a suite"),
    "tab": ("models:\n\t- a\n", "s.yaml:2:1: a tab cannot indent YAML: use spaces"),
    "tab after spaces": ("a: 1\n  \tb: 2\n", "s.yaml:2:3: a tab cannot indent YAML: use spaces"),
    "syntax": ("a: [b", "s.yaml:1:6: not YAML: expected ',' or ']', but got '<stream end>'"),
    "duplicate key": (GOOD + "paths: [torch]\n", "s.yaml:6:1: paths: duplicate key; it was first written in line 2"),
    "python tag": ("a: !!python/object/apply:os.system [ls]", "s.yaml:1:4: the tag '!!python/object/apply:os.system' is not allowed: a suite holds plain values only"),
    "unknown tag": ("a: !thing b", "s.yaml:1:4: the tag '!thing' is not allowed"),
    "binary": ("a: !!binary eA==", "s.yaml:1:4: the tag '!!binary' is not allowed"),
    "wrong tag": ("a: !!int x", "s.yaml:1:4: 'x' is not a whole number"),
    "several documents": ("a: 1\n---\nb: 2\n", "s.yaml:2:1: a second document begins here"),
    "other YAML": ("%YAML 9.9\n---\na: 1", "s.yaml:1:1: not YAML: found incompatible YAML document"),
    "undefined alias": ("a: *b", "s.yaml:1:4: found undefined alias 'b'"),
    "recursive alias": ("a: &a [*a]", "s.yaml:1:4: an alias (*name) stands inside its own anchor (&name)"),
    "deep nesting": ("a: " + "[" * 5000, "s.yaml:1:27: nested too deeply; at most 24 levels"),
    "integer key": ("1: a", "s.yaml:1:1: a key is a text, and this is a whole number: quote it"),
    "list as key": ("? [a]\n: b", "s.yaml:1:3: a key is a text, and this is a list: quote it"),
    "merge key": ("a: &a {b: 1}\n<<: *a", "s.yaml:2:1: merge keys (<<) are not part of YAML 1.2"),
    "NaN": ("a: .nan", "s.yaml:1:4: .nan is not a finite number"),
    "infinity": ("a: -.inf", "s.yaml:1:4: -.inf is not a finite number"),
    "overflow": ("a: 1e999", "s.yaml:1:4: 1e999 is not a finite number"),
    "huge integer": ("a: " + "9" * 5000, "s.yaml:1:4: this number is too large"),
    "half a character": ('a: "\\uD800"', "s.yaml:1:4: this text holds half a surrogate pair"),
    "impossible escape": ('a: "\\UFFFFFFFF"', "s.yaml:1:1: not YAML: "),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_TEXTS)
def test_text_that_is_no_suite(name):
    """What is no YAML mapping of plain values says where and why."""
    text, expected = WRONG_TEXTS[name]
    assert message(text).startswith(expected)


def test_alias_bomb_is_defused():
    """Nine levels of nine aliases, 400 million values, end before they are expanded."""
    lines = ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]")
    assert message("\n".join(lines)) == "s.yaml:1:11: its aliases expand to more than 100000 values"


def test_anchor_and_alias_repeat_a_value():
    """YAML's own way of not writing things twice works."""
    text = changed(
        "backends: [pytorch, onnxruntime]",
        "backends: [pytorch: {threads: &t {intra_op: 3}}, onnxruntime: {threads: *t}]",
    )
    assert {case.backend.threads for case in parsed(text).cases} == {Threads(3)}


@pytest.mark.parametrize(
    ("override", "field", "value"),
    [
        ("models.0.weights=pretrained", lambda c: c.model.weights, "pretrained"),
        ("models.weights=pretrained", lambda c: c.model.weights, "pretrained"),
        ("models.0.config={hidden_size: 96}", lambda c: c.model.config, {"hidden_size": 96}),
        ("models.0.config.hidden_size=96", lambda c: c.model.config, {"hidden_size": 96}),
        ("inputs.batch=3", lambda c: c.shape["batch"], 3),
        ("inputs.batch=[3]", lambda c: c.shape["batch"], 3),
        ("inputs.batch.0=3", lambda c: c.shape["batch"], 3),
        ("opset=18", lambda c: c.opset, 18),
        ("backends.0.pytorch.compile=true", lambda c: c.backend.options, {"compile": True}),
        ("inputs.dataset=random", lambda c: c.dataset.word, "random"),
    ],
)
def test_override_replaces_a_value(override, field, value):
    """Dotted paths reach fields that the suite has, leaves out, or wrote short."""
    assert field(parsed(GOOD, override).cases[0]) == value


def test_override_gives_options_to_a_bare_word():
    """`paths.1.1.fp16.keep_io_types` makes a mapping of the word `fp16`."""
    overridden = parsed(GOOD, "paths.1.1=int8_static", "paths.1.1.int8_static.samples=65")
    assert overridden.cases[1].path == (Step("onnx"), Step("int8_static", {"samples": 65}))


def test_later_override_wins_and_the_source_remembers():
    """A resumed run has the overrides in it."""
    overridden = parsed(GOOD, "opset=18", "opset=19")
    assert overridden.cases[0].opset == 19
    assert from_source(overridden.source, "s.yaml") == overridden


def test_a_path_that_was_written_short_is_replaced_by_a_path_of_several_steps() -> None:
    cases = parsed(
        changed("paths: [torch, [onnx, fp16]]", "paths: onnx"), "paths.0=[onnx, fp16]", "backends=onnxruntime"
    ).cases
    assert {case.path_label for case in cases} == {"onnx + fp16"}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("models.0.wieghts=pretrained", "--set models.0.wieghts=pretrained: models.wieghts: unknown field: 'wieghts'. Did you mean 'weights'? Allowed: "),
        ("mesure.budget_seconds=1", "--set mesure.budget_seconds=1: mesure: unknown field: 'mesure'. Did you mean 'measure'? Allowed: "),
        ("measure.precision=0", "--set measure.precision=0: measure.precision: 0.0 is out of range. Allowed: "),
        ("opset=99", "--set opset=99: opset: 99 is out of range. Allowed: 13 to 23."),
        ("opset", "--set opset: write field=value, for example --set models.0.weights=pretrained"),
        ("=1", "--set =1: write field=value"),
        ("a..b=1", "--set a..b=1: write field=value"),
        ("paths.7=x", "--set paths.7=x: paths is a list: write a number from 0 to 1 in place of '7'"),
        ("paths.x=x", "--set paths.x=x: paths is a list: write a number from 0 to 1 in place of 'x'"),
        ("inputs.batch.x=1", "--set inputs.batch.x=1: inputs.batch is 1, which has no field 'x'"),
        ("inputs.batch=[1", "--set inputs.batch=[1: not YAML: expected ',' or ']'"),
        ("opset=!!python/name:os.system", "--set opset=!!python/name:os.system: the tag '!!python/name:os.system'"),
        ("a" + ".a" * 5000 + "=1", "--set a.a.a."),
    ],
)  # fmt: skip
def test_wrong_override_names_itself(override, expected):
    """An error in an override is not blamed on a line of the file."""
    assert message(GOOD, override).startswith(expected)


def test_errors_of_file_and_override_stand_side_by_side():
    """Each keeps its own place."""
    lines = message(changed("fp16", "fp61"), "opset=99").splitlines()
    assert [line[:20] for line in lines] == ["s.yaml:2:23: paths.1", "--set opset=99: opse"]


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="modelspathinuyrc.01=[]{}:,- ", max_size=30), st.sampled_from(SNIPPETS))
def test_any_override_applies_or_is_a_usage_error(key, value):
    """Never a traceback, whatever stands after --set."""
    try:
        parsed(GOOD, f"{key}={value}")
    except UsageError as error:
        assert str(error)
