"""The word in the YAML is the file name: what exists, what is missing, and what to type."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import dataclass

import pytest

import cases
from benchbox import plugins
from benchbox.errors import Unavailable, UsageError
from benchbox.plugins import sources


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
    plugin = plugins.seen_as("passes", {"REQUIRES": ("numpy", "no_such_package", "json")})
    assert plugins.missing(plugin) == ("no_such_package",)
    with pytest.raises(Unavailable) as caught:
        plugins.require(plugin)
    assert (caught.value.reason, caught.value.hint) == (
        "needs no_such_package",
        "pip install no-such-package",
    )


def test_a_plugin_whose_packages_are_there_is_not_in_the_way() -> None:
    plugins.require(plugins.seen_as("passes", {"REQUIRES": ("numpy",)}))
    plugins.require(plugins.seen_as("passes", {"REQUIRES": ()}))


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


def test_options_are_made_from_what_the_suite_gave() -> None:
    with_options = plugins.seen_as("passes", {"Options": Options})
    assert plugins.options(with_options, {"needed": "x"}) == Options("x", 64)
    assert plugins.options(plugins.seen_as("passes", {}), {}) is None


def test_what_a_plugin_does_not_say_is_what_the_contract_says() -> None:
    """vit says nothing of these; what is its own affair is not handed out."""
    vit = plugins.family("vit")
    assert (vit.DYNAMIC, vit.WEIGHTS, vit.Options) == ({}, "random", None)
    assert (vit.derive, vit.rollout, vit.graph) == (None, None, None)
    assert (vit.sizes(cases.MODEL), vit.fingerprint(cases.MODEL)) == ({}, "")
    assert not {"_ARCHITECTURES", "annotations", "Any"} & set(vars(vit))


def test_what_a_plugin_says_takes_the_place_of_the_default() -> None:
    assert plugins.family("onnx_file").WEIGHTS == "pretrained"
    assert plugins.family("vit").label_ids is not None
    assert plugins.family("gpt2").DYNAMIC == {"past_length": (13, 21), "sequence_length": (5, 3)}
    assert [plugins.pass_(word).CALIBRATES for word in ("int8_dynamic", "int8_static")] == [False, True]
    assert plugins.dataset("random").classes(None) == ()


def test_requires_and_summary_are_read_without_importing_a_plugin() -> None:
    code = (
        "import sys\nfrom benchbox import plugins\n"
        "for kind in plugins.KINDS:\n"
        "    for word in plugins.own(kind): plugins.summary(kind, word); plugins.requires(kind, word)\n"
        "print(*[name for name in sys.modules if name.startswith('benchbox.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    modules = {f"benchbox.plugins.{kind}.{word}" for kind in plugins.KINDS for word in plugins.own(kind)}
    assert "benchbox.plugins.sources" in loaded
    assert loaded & modules == set()
    read = {word: plugins.requires("backends", word) for word in plugins.own("backends")}
    assert read == {word: plugins.backend(word).REQUIRES for word in read}


def test_the_source_of_the_loader_names_no_plugin() -> None:
    """Nothing is registered: a new file in a folder is all that a new plug-in is."""
    known = {name for kind in plugins.KINDS for name in plugins.own(kind)}
    for file in (sources.BENCHBOX / f"plugins/{name}.py" for name in ("__init__", "outside", "packages")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        constants = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
        packages = {"onnxruntime"} if file.name == "packages.py" else set()  # a module, not our backend
        assert not {value for value in constants if isinstance(value, str)} & known - packages, file.name
