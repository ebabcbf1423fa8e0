"""A plug-in's key hashes the files that it imports, and no other."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from benchbox import plugins
from benchbox.plugins import sources
from benchbox.plugins.sources import Root


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """benchbox in a folder that a test may change, and of which the digests are."""
    folder = tmp_path / "benchbox"
    shutil.copytree(sources.BENCHBOX, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sources, "BENCHBOX", folder)
    monkeypatch.setattr(sources, "OURS", Root(tmp_path, frozenset({"benchbox"})))
    return folder


def digests() -> dict[tuple[str, str], str]:
    """Of every plug-in, as they are now."""
    uncached = plugins.source_digest.__wrapped__
    return {(kind, word): uncached(kind, word) for kind in plugins.KINDS for word in plugins.own(kind)}


def rebuilt_by(change: Callable[[], object]) -> set[str]:
    before = digests()
    change()
    return {f"{kind}/{word}" for (kind, word), digest in digests().items() if digest != before[kind, word]}


@pytest.mark.parametrize("folder", ["models", "exporters", "passes"])
def test_a_new_shared_file_rebuilds_nothing(copied: Path, folder: str) -> None:
    assert rebuilt_by((copied / f"plugins/{folder}/_x.py").touch) == set()


def test_an_edited_shared_file_rebuilds_exactly_what_imports_it(copied: Path) -> None:
    def edit(name: str) -> Callable[[], object]:
        file = copied / "plugins" / name
        return lambda: file.write_bytes(file.read_bytes() + b"\n# edited\n")

    assert rebuilt_by(edit("models/_masks.py")) == {"models/segformer", "models/setr"}
    assert rebuilt_by(edit("models/_past.py")) == {f"models/{w}" for w in ("gpt2", "m2m100", "marian", "t5")}
    assert rebuilt_by(edit("models/vit.py")) == {"models/vit"}
    assert rebuilt_by(edit("passes/_quantize.py")) == {"passes/int8_dynamic", "passes/int8_static"}
    assert rebuilt_by(edit("graphs.py")) >= {"models/onnx_file", "exporters/onnx", "passes/fp16"}
    assert not rebuilt_by(edit("trusted.py")) - {"models/custom"}


@pytest.mark.parametrize("name", ["schema/seen.py", "errors.py", "plugins/contract.py", "machine/clock.py"])
def test_what_is_only_handed_over_rebuilds_nothing(copied: Path, name: str) -> None:
    file = copied / name
    assert rebuilt_by(lambda: file.write_bytes(file.read_bytes() + b"\n# edited\n")) == set()


def test_imports_are_followed_in_functions_and_through_packages_but_not_for_types(tmp_path: Path) -> None:
    files = {
        "acme/__init__.py": "from . import early",
        "acme/early.py": "",
        "acme/plug.py": """
from __future__ import annotations
import json, acme.sub.deep
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from acme import typed
def apply(job, folder):
    from .late import helper
    if job:
        from . import later as other
""",
        "acme/typed.py": "",
        "acme/late.py": "from acme.sub import deep",
        "acme/later.py": "import acme.plug",
        "acme/sub/__init__.py": "",
        "acme/sub/deep.py": "from ..other import name",
        "acme/other.py": "name = 1",
        "acme/unused.py": "",
        "foreign.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    found = sources.imported_files(tmp_path / "acme/plug.py", Root(tmp_path, frozenset({"acme"})))
    assert [name for name, _ in found] == [
        "acme/__init__.py",
        "acme/early.py",
        "acme/late.py",
        "acme/later.py",
        "acme/other.py",
        "acme/plug.py",
        "acme/sub/__init__.py",
        "acme/sub/deep.py",
    ]


def test_a_digest_is_the_same_wherever_the_files_lie(tmp_path: Path) -> None:
    seen = []
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "family.py").write_text("import beside", encoding="utf-8")
        (tmp_path / place / "beside.py").write_text("x = 1", encoding="utf-8")
        seen.append(sources.digest(tmp_path / place / "family.py", Root(tmp_path / place)))
    assert seen[0] == seen[1]
    (tmp_path / "two/beside.py").write_text("x = 2", encoding="utf-8")
    assert sources.digest(tmp_path / "two/family.py", Root(tmp_path / "two")) != seen[0]


def test_an_outline_has_literals_by_value_and_everything_else_by_name(tmp_path: Path) -> None:
    file = tmp_path / "plug.py"
    file.write_text(
        '"""What it is.\n\nMore."""\nimport os.path\nREQUIRES: tuple = ("a",)\nCOMPUTED = tuple("ab")\n'
        "TWICE = 1\nTWICE = len('x')\ndef apply(job, folder): ...\n",
        encoding="utf-8",
    )
    outline = sources.outline(file)
    assert outline.docstring.partition("\n")[0] == "What it is."
    assert outline.constants == {"REQUIRES": ("a",)}
    assert outline.others == {"os", "COMPUTED", "TWICE", "apply"}
