"""The wheel holds what benchbox needs, and works where nothing else of it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

import benchbox
import places

PACKAGE = Path(benchbox.__file__).parent
OF_A_CHECKOUT = ("pyproject.toml", "README.md", "LICENSE")
GOLDEN = "run-92cd9bd"  # results of an earlier version
BUILD = "from setuptools import build_meta; build_meta.build_wheel('dist')"
# Bytecode of all that is installed would take longer than installing it, and most of it is never imported.
PIP = ("--quiet", "--no-compile", "-c", places.ROOT / "constraints.txt")
OF_PACKAGING = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a wheel is made of, copied: building leaves folders behind, and finds those of another build."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(PACKAGE, folder / "benchbox", ignore=shutil.ignore_patterns("__pycache__"))
    for name in OF_A_CHECKOUT:
        shutil.copy(places.ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(checkout: Path) -> zipfile.ZipFile:
    """The wheel that this environment's setuptools makes."""
    (checkout / "dist").mkdir()
    subprocess.run([sys.executable, "-c", BUILD], cwd=checkout, capture_output=True, check=True)
    (file,) = (checkout / "dist").glob("*.whl")
    return zipfile.ZipFile(file)


def test_the_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile, checkout: Path) -> None:
    """Templates, CSS, JavaScript and py.typed among it."""
    info = f"benchbox-{benchbox.__version__}.dist-info"
    package = checkout / "benchbox"
    files = {path.relative_to(checkout).as_posix() for path in package.rglob("*") if path.is_file()}
    assert {"benchbox/py.typed", "benchbox/reporters/page/report.css"} <= files
    assert set(wheel.namelist()) == files | {f"{info}/{name}" for name in OF_PACKAGING}


def test_the_wheel_says_its_license_and_its_command(wheel: zipfile.ZipFile) -> None:
    info = f"benchbox-{benchbox.__version__}.dist-info"
    metadata = HeaderParser().parsestr(wheel.read(f"{info}/METADATA").decode())
    assert (metadata["License-Expression"], metadata["License-File"]) == ("Apache-2.0", "LICENSE")
    assert wheel.read(f"{info}/licenses/LICENSE") == (places.ROOT / "LICENSE").read_bytes()
    assert "benchbox = benchbox.cli.commands:main" in wheel.read(f"{info}/entry_points.txt").decode()


# --- In an empty environment: a minute, and a package index ---


@pytest.fixture(scope="module")
def environment(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel that `python -m build` makes, and what it depends on."""
    folder = tmp_path_factory.mktemp("environment")
    run(checkout, sys.executable, "-m", "build", "--outdir", folder / "dist")
    assert [file.suffix for file in sorted((folder / "dist").iterdir())] == [".whl", ".gz"]
    (file,) = (folder / "dist").glob("*.whl")
    run(folder, sys.executable, "-m", "venv", folder / "venv")
    run(folder, folder / "venv" / "bin" / "python", "-m", "pip", "install", *PIP, file)
    return folder / "venv"


def run(folder: Path, *command: str | Path) -> str:
    """What a command prints that ends with 0 and finds nothing of the checkout."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(
        [*map(str, command)], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.slow
def test_installed_alone_it_is_the_wheel_that_runs(environment: Path, tmp_path: Path) -> None:
    where = "import benchbox, importlib.util; print(benchbox.__file__, importlib.util.find_spec('torch'))"
    file, torch = run(tmp_path, environment / "bin" / "python", "-c", where).split()
    assert Path(file).is_relative_to(environment)
    assert torch == "None"


@pytest.mark.slow
def test_installed_alone_it_prints_the_schema(environment: Path, tmp_path: Path) -> None:
    schema = json.loads(run(tmp_path, environment / "bin" / "benchbox", "schema"))
    assert {"models", "paths", "backends", "inputs"} <= set(schema["properties"])


@pytest.mark.slow
def test_installed_alone_it_lists_every_plug_in_and_says_what_to_install(
    environment: Path, tmp_path: Path
) -> None:
    listed = json.loads(run(tmp_path, environment / "bin" / "benchbox", "list", "--json"))
    vit = next(entry for entry in listed if entry["word"] == "vit")
    assert (vit["available"], vit["hint"]) == (False, 'pip install "benchbox[cpu]"')
    assert {"html", "onnx", "pytorch", "sample_images"} <= {entry["word"] for entry in listed}
    assert "int8_static" in run(tmp_path, environment / "bin" / "benchbox", "list")


@pytest.mark.slow
def test_installed_alone_it_draws_reports(environment: Path, tmp_path: Path) -> None:
    results = shutil.copytree(places.TESTS / "golden" / GOLDEN, tmp_path / "results" / GOLDEN)
    run(tmp_path, environment / "bin" / "benchbox", "report", results)
    drawn = {file.name: file.stat().st_size for file in (tmp_path / "reports" / GOLDEN).iterdir()}
    assert {"report.html", "report.md", "summary.csv", "samples.csv"} <= set(drawn)
    assert all(size > 100 for size in drawn.values())
    assert "vit-tiny" in (tmp_path / "reports" / GOLDEN / "report.html").read_text(encoding="utf-8")
