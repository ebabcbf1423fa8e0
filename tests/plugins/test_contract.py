"""Every plug-in that is found satisfies its contract: contract.py says what, the loader says which."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest

import benchbox
from benchbox import plugins
from benchbox.plugins import Kind, contract
from benchbox.schema.asked import Precision
from benchbox.schema.seen import Host

ROOT = Path(benchbox.__file__).parent
CONTRACTS = plugins._CONTRACTS
ALL = {
    f"benchbox.{'reporters.formats' if kind == 'reporters' else f'plugins.{kind}'}.{word}"
    for kind in plugins.KINDS
    for word in plugins.own(kind)
}
PLUGINS = [
    pytest.param(kind, word, id=f"{kind}/{word}") for kind in plugins.KINDS for word in plugins.names(kind)
]
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


def module_of(kind: Kind, word: str) -> ModuleType:
    """What the plug-in's file defines, before it is seen through the contract."""
    room = "reporters.formats" if kind == "reporters" else f"plugins.{kind}"
    return importlib.import_module(f"benchbox.{room}.{word}")


def functions_of(kind: Kind) -> dict[str, inspect.Signature]:
    """The functions that a kind has, abstract or with a default, without `self`."""
    signatures = {
        name: inspect.signature(member)
        for name, member in vars(CONTRACTS[kind]).items()
        if inspect.isfunction(member)
    }
    return {n: s.replace(parameters=list(s.parameters.values())[1:]) for n, s in signatures.items()}


@each_plugin
def test_the_first_line_says_what_it_is(kind: Kind, word: str) -> None:
    """`benchbox list` shows it: a phrase that ends, and fits a line."""
    line = plugins.summary(kind, word)
    assert line.endswith((".", ":"))
    assert 10 < len(line) <= 110


@each_plugin
def test_it_has_what_its_contract_demands(kind: Kind, word: str) -> None:
    plugin, module = plugins.load(kind, word), module_of(kind, word)
    assert isinstance(plugin, CONTRACTS[kind])
    assert plugins._missing_names(CONTRACTS[kind], vars(module)) == []
    assert isinstance(plugin.REQUIRES, tuple)
    assert all(isinstance(name, str) for name in plugin.REQUIRES)


@each_plugin
def test_its_functions_take_what_the_contract_says(kind: Kind, word: str) -> None:
    """By the same names, and by keyword only where the contract says so."""
    defined = vars(module_of(kind, word))
    for name, declared in functions_of(kind).items():
        if name in defined:
            seen = inspect.signature(defined[name]).parameters.values()
            assert [(p.name, p.kind) for p in seen] == [
                (p.name, p.kind) for p in declared.parameters.values()
            ], name


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("derive", ["model", "module", "feeds", "shape"]),
        ("rollout", ["model", "run", "feeds"]),
        ("label_ids", ["model", "names"]),
        ("graph", ["model"]),
    ],
)
def test_what_a_family_may_have_takes_what_the_contract_says(name: str, parameters: list[str]) -> None:
    having = [word for word in plugins.own("models") if name in vars(module_of("models", word))]
    assert having
    for word in having:
        assert list(inspect.signature(vars(module_of("models", word))[name]).parameters) == parameters, word


def test_only_the_loader_asks_what_a_plugin_has() -> None:
    """Everyone else reads what the contract declares: a default is said once."""
    asked = re.compile(
        r"(getattr|hasattr)\((plugin|module|family|dataset|exporter|backend|chosen|job\.family)\b"
    )
    found = {
        f"{file.relative_to(ROOT)}:{number}"
        for file in ROOT.rglob("*.py")
        if file.parent.name != "models"  # where a module is torch's
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if asked.search(line)
    }
    assert found == set()


@pytest.mark.parametrize("kind", plugins.KINDS)
def test_every_default_of_a_contract_says_what_it_means(kind: Kind) -> None:
    """An attribute is followed by a docstring, a function begins with one."""
    tree = ast.parse(Path(contract.__file__).read_text(encoding="utf-8"))
    (node,) = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == CONTRACTS[kind].__name__)
    for index, statement in enumerate(node.body):
        if isinstance(statement, ast.FunctionDef):
            assert ast.get_docstring(statement), statement.name
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            after = node.body[index + 1]
            assert isinstance(after, ast.Expr), ast.unparse(statement)
            assert isinstance(after.value, ast.Constant), ast.unparse(statement)


@each_plugin
def test_its_options_are_a_frozen_dataclass_that_says_what_they_are(kind: Kind, word: str) -> None:
    options = plugins.load(kind, word).Options
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

    options = plugins.load(kind, word).Options
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
    plugin, file = plugins.load(kind, word), plugins.folder(kind) / f"{word}.py"
    imported = ({name for name, _ in imports(file)} & set(HEAVY)) - provided_for(file)
    required = {*plugin.REQUIRES, *brought_along(plugin.REQUIRES)}
    # A reporter is part of the base install, whose packages are always there.
    base = {"pandas", "scipy", "plotly", "numpy"}
    assert imported - required - base == set()


@each_plugin
def test_it_imports_no_other_plugin(kind: Kind, word: str) -> None:
    """What two of a kind share is a file with an underscore in their folder."""
    foreign = [
        name
        for _, name in imports(plugins.folder(kind) / f"{word}.py")
        if name in ALL
        or (name.startswith(tuple(f"benchbox.plugins.{k}." for k in plugins.KINDS if k != kind)))
    ]
    assert foreign == []


@pytest.mark.parametrize("kind", plugins.KINDS)
def test_what_a_folder_shares_imports_no_plugin(kind: Kind) -> None:
    shared = [file for file in plugins.folder(kind).glob("_*.py") if file.name != "__init__.py"]
    assert shared or kind not in ("models", "exporters", "passes")
    for file in shared:
        assert not ALL & {name for _, name in imports(file)}


def test_importing_every_plugin_loads_no_heavy_package() -> None:
    """numpy neither, so that `benchbox list` is quick and a worker holds what it needs."""
    assert loaded_by([name for name in sorted(ALL) if not name.startswith("benchbox.reporters.")]) == []


def test_importing_every_reporter_loads_no_framework() -> None:
    reporters = [f"benchbox.reporters.formats.{word}" for word in plugins.own("reporters")]
    assert [name for name in loaded_by(reporters) if name not in ("pandas", "numpy", "plotly", "scipy")] == []


@of_kind("models")
def test_a_family_has_tasks_and_sizes(word: str) -> None:
    family = plugins.family(word)
    assert family.TASKS
    assert len(set(family.TASKS)) == len(family.TASKS)
    sizes = {name: size for of_task in family.TASKS.values() for name, size in of_task.items()}
    assert "batch" not in sizes
    assert all(isinstance(size, int) and size > 0 for size in sizes.values())
    assert set(family.DYNAMIC) <= set(sizes)
    assert all(traced != unseen for traced, unseen in family.DYNAMIC.values())


@of_kind("exporters")
def test_an_exporter_produces_a_kind_that_some_backend_runs(word: str) -> None:
    accepted = {kind for name in plugins.names("backends") for kind in plugins.backend(name).ACCEPTS}
    assert plugins.exporter(word).PRODUCES in accepted


@of_kind("passes")
def test_a_pass_accepts_what_some_step_produces_and_names_a_precision(word: str) -> None:
    produced = {plugins.exporter(n).PRODUCES for n in plugins.names("exporters")}
    produced |= {plugins.pass_(n).PRODUCES for n in plugins.names("passes")}
    plugin = plugins.pass_(word)
    assert set(plugin.ACCEPTS) <= produced
    assert plugin.PRECISION in (None, *get_args(Precision))


@of_kind("passes")
@pytest.mark.parametrize("features", [frozenset(), frozenset({"avx2", "avx512_vnni"})])
def test_resolving_options_twice_changes_nothing(word: str, features: frozenset[str]) -> None:
    """Resolved options are hashed: they must be complete, and the same on the same machine."""
    plugin, host = plugins.pass_(word), Host(features)
    once = plugin.resolve(plugins.options(plugin, {}), host)
    assert plugin.resolve(once, host) == once


@of_kind("backends")
def test_a_backend_knows_its_default_providers(word: str) -> None:
    backend = plugins.backend(word)
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
