"""The word in the YAML is the file name: what exists, what is missing, and what to type."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchbox import plugins
from benchbox.errors import Unavailable, UsageError


def test_words_are_the_files_of_the_folder_and_no_underscored_ones() -> None:
    assert {"onnxruntime", "pytorch"} <= set(plugins.names("backends"))
    assert list(plugins.names("backends")) == sorted(plugins.names("backends"))
    assert {"torch", "onnx", "dynamo"} <= set(plugins.names("exporters"))
    assert not [name for kind in plugins.KINDS for name in plugins.names(kind) if name.startswith("_")]


def test_a_word_that_does_not_exist_gets_the_nearest_and_all_that_do() -> None:
    with pytest.raises(UsageError) as caught:
        plugins.load("backends", "onxruntime")
    assert str(caught.value) == (
        "unknown backends: 'onxruntime'. Did you mean 'onnxruntime'? "
        f"Allowed: {', '.join(plugins.names('backends'))}."
    )


def test_a_word_far_from_all_gets_no_guess() -> None:
    assert plugins.unknown("zebra", ["onnx", "torch"], what="step") == (
        "unknown step: 'zebra'. Allowed: onnx, torch."
    )


@pytest.mark.parametrize("word", ["../conductor", "_graph", "onnx.py", "", "__init__"])
def test_a_word_is_no_path(word: str) -> None:
    with pytest.raises(UsageError, match=r"^unknown exporters: "):
        plugins.load("exporters", word)


def test_a_summary_is_the_first_line_of_the_docstring() -> None:
    assert plugins.summary("datasets", "random") == (
        "Uniform noise, for when nothing else fits: says nothing about agreement on real inputs."
    )


def test_missing_packages_are_found_and_none_is_imported() -> None:
    plugin = SimpleNamespace(REQUIRES=("numpy", "no_such_package", "json"))
    assert plugins.missing(plugin) == ("no_such_package",)
    with pytest.raises(Unavailable) as caught:
        plugins.require(plugin)
    assert (caught.value.reason, caught.value.hint) == (
        "needs no_such_package",
        "pip install no-such-package",
    )


def test_a_plugin_whose_packages_are_there_is_not_in_the_way() -> None:
    plugins.require(SimpleNamespace(REQUIRES=("numpy",)))
    plugins.require(SimpleNamespace(REQUIRES=()))


@pytest.mark.parametrize(
    ("packages", "hint"),
    [
        (("torch",), 'pip install "benchbox[cpu]"'),
        (("onnxruntime", "onnx"), 'pip install "benchbox[cpu]"'),
        (("PIL", "sklearn"), 'pip install "benchbox[cpu]"'),
        (("tensorrt",), 'pip install "benchbox[tensorrt]"'),
        (("openvino",), "pip install openvino"),
        (("PIL", "openvino"), "pip install openvino pillow"),
    ],
)
def test_the_hint_names_the_extra_that_brings_all_else_the_packages(
    packages: tuple[str, ...], hint: str
) -> None:
    assert plugins.install_hint(packages) == hint


def test_versions_are_by_import_name_and_leave_out_what_is_not_there() -> None:
    found = plugins.versions(["PIL", "numpy", "no_such_package"])
    assert sorted(found) == ["PIL", "numpy"]
    assert all(version[0].isdigit() for version in found.values())


@dataclass(frozen=True)
class Options:
    needed: str
    samples: int = 64


WITH_OPTIONS = SimpleNamespace(Options=Options)


def test_options_are_made_from_what_the_suite_gave() -> None:
    assert plugins.options(WITH_OPTIONS, {"needed": "x"}) == Options("x", 64)
    assert plugins.options(SimpleNamespace(), {}) is None


def test_a_source_digest_changes_with_the_plugin_and_with_what_its_folder_shares() -> None:
    onnx, dynamo = plugins.source_digest("exporters", "onnx"), plugins.source_digest("exporters", "dynamo")
    assert onnx != dynamo
    assert onnx == plugins.source_digest("exporters", "onnx")
    assert len(onnx) == 64


def test_the_source_of_this_module_imports_no_plugin() -> None:
    """Nothing is registered: a new file in a folder is all that a new plug-in is."""
    assert plugins.__file__ is not None
    tree = ast.parse(Path(plugins.__file__).read_text(encoding="utf-8"))
    words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    known = {name for kind in plugins.KINDS for name in plugins.names(kind)}
    assert not words & known
