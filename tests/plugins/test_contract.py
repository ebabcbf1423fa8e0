"""Every plug-in that is found satisfies its contract: contract.py says what, plugins.py says which."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

import benchbox
from benchbox import plugins
from benchbox.plugins import Kind, contract
from benchbox.schema.asked import Precision
from benchbox.schema.seen import Host

ROOT = Path(benchbox.__file__).parent
PLUGINS = [
    pytest.param(kind, word, id=f"{kind}/{word}") for kind in plugins.KINDS for word in plugins.names(kind)
]
PROTOCOLS: dict[Kind, type] = {
    "models": contract.Family,
    "datasets": contract.DatasetPlugin,
    "exporters": contract.Exporter,
    "passes": contract.Pass,
    "backends": contract.BackendPlugin,
    "reporters": contract.Reporter,
}
# `resolve` is the only function that a plug-in may leave out: a pass without it has no default that depends
# on the machine (build.py takes the options as they are).
OPTIONAL = {"resolve", "fingerprint"}
HEAVY = [
    "torch",
    "onnx",
    "onnxruntime",
    "transformers",
    "sklearn",
    "PIL",
    "pandas",
    "scipy",
    "plotly",
    "numpy",
]

each_plugin = pytest.mark.parametrize(("kind", "word"), PLUGINS)


def of_kind(kind: Kind) -> Any:
    return pytest.mark.parametrize("word", plugins.names(kind))


def functions_of(protocol: type) -> dict[str, list[str]]:
    """Parameter names of each function of a protocol, without `self`."""
    return {
        name: list(inspect.signature(member).parameters)[1:]
        for name, member in vars(protocol).items()
        if inspect.isfunction(member) and not name.startswith("_")
    }


def attributes_of(protocol: type) -> set[str]:
    return {name for base in protocol.__mro__ for name in getattr(base, "__annotations__", {})}


@each_plugin
def test_the_first_line_says_what_it_is(kind: Kind, word: str) -> None:
    """`benchbox list` shows it: a phrase that ends, and fits a line."""
    line = plugins.summary(kind, word)
    assert line.endswith((".", ":"))
    assert 10 < len(line) <= 110


@each_plugin
def test_it_has_the_attributes_of_its_contract(kind: Kind, word: str) -> None:
    plugin = plugins.load(kind, word)
    missing = attributes_of(PROTOCOLS[kind]) - set(vars(plugin))
    assert missing == set()
    assert isinstance(plugin.REQUIRES, tuple)
    assert all(isinstance(name, str) for name in plugin.REQUIRES)


@each_plugin
def test_its_functions_take_what_the_contract_says(kind: Kind, word: str) -> None:
    plugin = plugins.load(kind, word)
    expected = functions_of(PROTOCOLS[kind])
    seen = {
        name: list(inspect.signature(getattr(plugin, name)).parameters)
        for name in expected
        if not (name in OPTIONAL and not hasattr(plugin, name))
    }
    assert seen == {name: expected[name] for name in seen}


@each_plugin
def test_what_the_contract_makes_a_keyword_is_a_keyword(kind: Kind, word: str) -> None:
    plugin = plugins.load(kind, word)
    for name, member in vars(PROTOCOLS[kind]).items():
        if not inspect.isfunction(member) or name.startswith("_") or not hasattr(plugin, name):
            continue
        kinds = {p.name: p.kind for p in inspect.signature(getattr(plugin, name)).parameters.values()}
        for parameter in list(inspect.signature(member).parameters.values())[1:]:
            assert kinds[parameter.name] is parameter.kind, f"{name}({parameter.name})"


@each_plugin
def test_its_options_are_a_frozen_dataclass_that_says_what_they_are(kind: Kind, word: str) -> None:
    options = getattr(plugins.load(kind, word), "Options", None)
    if options is None:
        return
    assert dataclasses.is_dataclass(options)
    assert options.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert options.__doc__
    assert not options.__doc__.startswith("Options("), "the docstring is the one that dataclass makes"


@each_plugin
def test_its_options_are_of_types_that_a_suite_can_write(kind: Kind, word: str) -> None:
    """pydantic builds a validator for them, and the defaults pass it."""
    from pydantic import TypeAdapter

    options = getattr(plugins.load(kind, word), "Options", None)
    if options is None:
        return
    required = {
        f.name: "some-text"
        for f in dataclasses.fields(options)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    made = TypeAdapter(options).validate_python(required)
    assert plugins.options(plugins.load(kind, word), required) == made


@each_plugin
def test_what_it_requires_is_what_it_imports(kind: Kind, word: str) -> None:
    """A package that is imported and not required would be a crash where it should be `skipped`: unless the
    file itself says somewhere what to do where it is missing."""
    plugin, file = plugins.load(kind, word), ROOT / kind / f"{word}.py"
    imported = ({name for name, _ in imports(file)} & set(HEAVY)) - provided_for(file)
    required = {*plugin.REQUIRES, *brought_along(plugin.REQUIRES)}
    # A reporter is part of the base install, whose packages are always there.
    base = {"pandas", "scipy", "plotly", "numpy"}
    assert imported - required - base == set()


@each_plugin
def test_it_imports_no_other_plugin(kind: Kind, word: str) -> None:
    """What two of a kind share is a file with an underscore in their folder."""
    others = {f"benchbox.{k}.{w}" for k in plugins.KINDS for w in plugins.names(k)}
    foreign = [
        name
        for _, name in imports(ROOT / kind / f"{word}.py")
        if name in others or (name.startswith(tuple(f"benchbox.{k}." for k in plugins.KINDS if k != kind)))
    ]
    assert foreign == []


@pytest.mark.parametrize("kind", plugins.KINDS)
def test_what_a_folder_shares_imports_no_plugin(kind: Kind) -> None:
    others = {f"benchbox.{k}.{w}" for k in plugins.KINDS for w in plugins.names(k)}
    for file in (ROOT / kind).glob("_*.py"):
        assert not others & {name for _, name in imports(file)}


def test_importing_every_plugin_loads_no_heavy_package() -> None:
    """numpy neither, so that `benchbox list` is quick and a worker holds what it needs."""
    light = [f"benchbox.{k}.{w}" for k in plugins.KINDS for w in plugins.names(k) if k != "reporters"]
    assert loaded_by(light) == []


def test_importing_every_reporter_loads_no_framework() -> None:
    reporters = [f"benchbox.reporters.{word}" for word in plugins.names("reporters")]
    assert [name for name in loaded_by(reporters) if name not in ("pandas", "numpy", "plotly", "scipy")] == []


@of_kind("models")
def test_a_family_has_tasks_and_sizes(word: str) -> None:
    family = plugins.load("models", word)
    assert family.TASKS
    assert len(set(family.TASKS)) == len(family.TASKS)
    sizes = {name: size for of_task in family.TASKS.values() for name, size in of_task.items()}
    assert "batch" not in sizes
    assert all(isinstance(size, int) and size > 0 for size in sizes.values())
    dynamic = getattr(family, "DYNAMIC", {})
    assert set(dynamic) <= set(sizes)
    assert all(traced != unseen for traced, unseen in dynamic.values())


@of_kind("exporters")
def test_an_exporter_produces_a_kind_that_some_backend_runs(word: str) -> None:
    accepted = {kind for name in plugins.names("backends") for kind in plugins.load("backends", name).ACCEPTS}
    assert plugins.load("exporters", word).PRODUCES in accepted


@of_kind("passes")
def test_a_pass_accepts_what_some_step_produces_and_names_a_precision(word: str) -> None:
    steps = [plugins.load("exporters", n) for n in plugins.names("exporters")]
    steps += [plugins.load("passes", n) for n in plugins.names("passes")]
    plugin = plugins.load("passes", word)
    assert set(plugin.ACCEPTS) <= {step.PRODUCES for step in steps}
    assert plugin.PRECISION in (None, *get_args(Precision))


@of_kind("passes")
@pytest.mark.parametrize("features", [frozenset(), frozenset({"avx2", "avx512_vnni"})])
def test_resolving_options_twice_changes_nothing(word: str, features: frozenset[str]) -> None:
    """Resolved options are hashed: they must be complete, and the same on the same machine."""
    plugin = plugins.load("passes", word)
    resolve = getattr(plugin, "resolve", None)
    if resolve is None:
        return
    host = Host(features)
    once = resolve(plugins.options(plugin, {}), host)
    assert resolve(once, host) == once


@of_kind("backends")
def test_a_backend_knows_its_default_providers(word: str) -> None:
    backend = plugins.load("backends", word)
    assert backend.DEFAULT_PROVIDERS
    assert set(backend.DEFAULT_PROVIDERS) <= set(backend.KNOWN_PROVIDERS)


def provided_for(file: Path) -> set[str]:
    """Packages that are imported under `except ImportError`."""
    tries = (n for n in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(n, ast.Try))
    return {
        package
        for node in tries
        if any(h.type is not None and ast.unparse(h.type) == "ImportError" for h in node.handlers)
        for statement in node.body
        for package, _ in imports_in(statement)
    }


def imports(file: Path) -> Iterator[tuple[str, str]]:
    """Top package and full name of everything that a file imports, inside functions too."""
    yield from imports_in(ast.parse(file.read_text(encoding="utf-8")))


def imports_in(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Top package and full name of everything that is imported below a node of the syntax tree."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from ((name.partition(".")[0], name) for name in names)


def brought_along(packages: tuple[str, ...]) -> set[str]:
    """What a package cannot be installed without."""
    needs = {
        "torch": set(),
        "transformers": {"numpy"},
        "onnx": {"numpy"},
        "onnxruntime": {"numpy"},
        "sklearn": {"numpy", "scipy"},
        "onnxconverter_common": {"onnx", "numpy"},
    }
    return {name for package in packages for name in needs.get(package, set())}


def loaded_by(modules: list[str]) -> list[str]:
    """The heavy packages that are loaded after importing `modules` in a fresh interpreter."""
    code = (
        f"import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()
