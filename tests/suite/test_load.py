"""A file becomes a suite, and back; whatever is wrong with it is said at once, each error at its place."""

# ruff: noqa: E501 - the messages of the tables are literals, one a line, as the user reads them

from __future__ import annotations

import json
import os
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchbox.errors import SuiteError, UsageError
from benchbox.schema.asked import Dataset
from benchbox.suite.load import from_source, load_suite, parse_suite
from mutations import SHIPPED, mutated
from suite_texts import GOOD, SUITES, changed, message, parsed


def test_name_is_that_of_the_file(tmp_path):
    """`suites/mine.yaml` is the suite `mine`, unless it says otherwise; a byte order mark is no trouble."""
    file = tmp_path / "mine.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert load_suite(str(file)).name == "mine"
    assert load_suite(file).file == str(file)
    assert load_suite(file, ["name=other"]).name == "other"


def test_relative_paths_start_at_the_suite(tmp_path, monkeypatch):
    """`./model` lies beside the suite, wherever benchbox is called from; a python that is a link stays one."""
    for name in ("model", "images", "env", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "env" / "python").symlink_to(sys.executable)
    text = GOOD.replace("google/vit-base-patch16-224", "./model").replace(
        "dataset: sample_images", "dataset: {imagefolder: {root: images}}"
    )
    text = text.replace(", onnxruntime]", ", onnxruntime: {python: ./env/python}]")
    (tmp_path / "s.yaml").write_text(text)
    monkeypatch.chdir(tmp_path / "elsewhere")
    loaded = load_suite("../s.yaml")
    case = loaded.cases[1]
    assert (case.model.source, case.model.name) == ("./model", "model")
    assert case.dataset == Dataset("imagefolder", {"root": "./images"})
    assert case.backend.python == "./env/python"
    here = case.located_from(loaded.folder)
    assert here.model.source == str(tmp_path / "model")
    assert here.dataset == Dataset("imagefolder", {"root": str(tmp_path / "images")})
    assert here.backend.python == str(tmp_path / "env" / "python")
    assert from_source(loaded.source, "../s.yaml") == loaded
    monkeypatch.chdir(tmp_path)
    assert from_source(loaded.source, "../s.yaml", tmp_path) == loaded


@pytest.mark.parametrize("file", ["vit.yaml", "smoke.yaml"])
def test_suite_is_rebuilt_from_its_source(file, monkeypatch):
    """A resumed run has the same cases, even where the machine has another number of cores by then."""
    loaded = load_suite(SUITES / file)
    stored = json.loads(json.dumps(loaded.source, allow_nan=False))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    assert from_source(stored, loaded.file) == loaded


def test_damaged_source_is_a_usage_error():
    """A stored suite that was edited by hand is checked like any other."""
    with pytest.raises(SuiteError, match=r"^s.yaml:1:1: opset: 99 is out of range"):
        from_source({**parsed().source, "opset": 99}, "s.yaml")


def test_suite_error_knows_its_place():
    """Line and column are fields too, so that an editor can jump there."""
    with pytest.raises(SuiteError) as caught:
        parsed(changed("fp16", "fp61"))
    assert (caught.value.file, caught.value.line, caught.value.column) == ("s.yaml", 2, 23)


def test_block_style_is_located_too():
    """Lines count in the style that people write."""
    text = "models:\n  - family: vit\n    source: a/b\n    sed: 1\npaths:\n  - torch\nbackends:\n  - pytorch\ninputs:\n  dataset: random\n"
    assert message(text).startswith("s.yaml:4:5: models.0.sed: unknown field: 'sed'. Did you mean 'seed'?")


def test_all_errors_come_at_once_in_order_of_lines():
    """One error a line, each with its place."""
    text = GOOD.replace("fp16", "fp61").replace("pytorch", "pytroch").replace("batch: 1", "batch: 0")
    starts = [line[:25] for line in message(text).splitlines()]
    assert starts == [
        "s.yaml:2:23: paths.1.1: u",
        "s.yaml:3:12: backends.0: ",
        "s.yaml:4:41: inputs.batch:"[:25],
    ]


def test_many_errors_are_cut_off_after_ten():
    """A suite that is wrong everywhere does not fill the screen."""
    lines = message(GOOD + "".join(f"field{n}: 1\n" for n in range(14))).splitlines()
    assert len(lines) == 11
    assert lines[-1] == "... and 4 more"


def test_long_values_are_cut_in_messages():
    """A megabyte of text is not repeated."""
    assert len(message(changed("[pytorch,", f"[{'x' * 100_000},"))) < 300


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, ":1:1: cannot read the suite: No such file or directory"),
        (b"models:\n  - caf\xe9\n", ":2:8: not a UTF-8 text (byte 0xe9); save it as UTF-8"),
        (b"#" * (2 << 20), ":1:1: a suite has at most 1048576 bytes"),
    ],
)
def test_file_that_cannot_be_read(tmp_path, content, expected):
    """A missing file, another encoding, and what cannot be a suite by its size."""
    file = tmp_path / "s.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SuiteError) as caught:
        load_suite(file)
    assert str(caught.value).startswith(f"{file}{expected}")


def test_directory_is_no_suite(tmp_path):
    """A folder is told apart from a file that cannot be read."""
    with pytest.raises(SuiteError, match=r":1:1: this is a directory; name a suite file in it$"):
        load_suite(tmp_path)


def test_impossible_file_name_is_a_usage_error():
    """A NUL in the name is no crash."""
    with pytest.raises(SuiteError, match=r"cannot read the suite: not a file name$"):
        load_suite("a\0b")


@settings(max_examples=300, deadline=None)
@given(mutated())
def test_mutated_suite_loads_or_is_a_usage_error(text):
    """Never a traceback; and what loads has unique cases and can be rebuilt from its source."""
    try:
        loaded = parse_suite(text, str(SUITES / "mutated.yaml"))
    except UsageError as error:
        assert str(error)
        return
    assert len({case.id for case in loaded.cases}) == len(loaded.cases) > 0
    assert from_source(json.loads(json.dumps(loaded.source, allow_nan=False)), loaded.file) == loaded


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 2000))
def test_damaged_bytes_load_or_are_a_usage_error(tmp_path_factory, noise, at):
    """Bytes written over a file are found out by reading it."""
    raw = SHIPPED[0].encode()
    file = tmp_path_factory.mktemp("damaged") / "vit.yaml"
    file.write_bytes(raw[:at] + noise + raw[at + len(noise) :])
    try:
        assert load_suite(file).cases
    except UsageError as error:
        assert str(error).startswith(f"{file}:")
