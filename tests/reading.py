"""A folder in which the pages are followed word for word: the suites, cut down, and what pages name.

Commands of the pages run there as they are written; what they run is smaller. A suite keeps its words, and

* keeps the paths `torch` and `onnx`, the runtimes that need no compiler, and the first of its batches,
* gets a two-layer ViT where it has ViT-base, and two processes of one short round a case.

Files that pages call the reader's own (`my-finetuned-vit`, `photographs` ...) are stand-ins, made of what
suites/ holds.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from typer.testing import CliRunner

import benchbox
import cases
import places
from benchbox.build.cache import Cache
from benchbox.cli import commands

PACKAGE = Path(benchbox.__file__).parent.parent
QUICK = {
    "budget_seconds": 0.05,
    "replicates": 2,
    "most_replicates": 2,
    "min_rounds": 1,
    "block_seconds": 0.001,
    "warm_up_seconds": 0.0,
}
PATHS = ("torch", ["torch"], "onnx", ["onnx"])
SLOW_RUNTIMES = ("compile", "load_in_4bit")
# The size of the images that the stand-ins were trained on.
SIZES = {"./base": 8, "./my-finetuned-vit": 8}
STAND_INS = {"base": "base", "my-finetuned-vit": "base", "lora-r16": "lora-r16", "lora-r8": "lora-r8"}
FIRST = "benchbox run suites/vit.yaml"
RESUMED = "vit-20261121T0300"


def furnished(folder: Path) -> Path:
    """The folder with suites, stand-ins, and a `bin` whose `benchbox` and `python` are those under test."""
    shutil.copytree(places.SUITES, folder / "suites")
    for suite in (folder / "suites").rglob("*.yaml"):
        suite.write_text(reduced(suite.read_text(encoding="utf-8")), encoding="utf-8")
    for name, of in STAND_INS.items():
        shutil.copytree(places.SUITES / "digits" / of, folder / name)
    shutil.copy(places.SUITES / "onnx_file" / "tagger.onnx", folder)
    _photographs(folder / "photographs")
    _programs(folder)
    return folder


def after_a_run(folder: Path) -> Path:
    """The folder after `FIRST`."""
    ended = run(folder, FIRST)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (made,) = (folder / "results").iterdir()
    with_results(folder, made)
    shutil.rmtree(made)
    return folder


def with_results(folder: Path, made: Path) -> Path:
    """The folder with a run's results: `results/before`, `results/after`, and one that lost its last case."""
    for name in ("before", "after", RESUMED):
        shutil.copytree(made, folder / "results" / name)
    records = folder / "results" / RESUMED / "records.jsonl"
    records.write_text("".join(records.read_text().splitlines(keepends=True)[:-1]))
    return folder


def with_artifacts(folder: Path) -> Path:
    """The folder with as many artifacts in the cache of its home as suites/smoke.yaml makes."""
    cache = Cache(folder / "home" / ".cache" / "benchbox")
    for number in range(7):
        cache.make(f"{number:064}", lambda made: {"kind": str((made / "a").write_bytes(bytes(250_000)))})
    return folder


def environment(folder: Path) -> Mapping[str, str]:
    """Without a hub, and with a home of its own."""
    return {
        "HOME": str(folder / "home"),
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(PACKAGE),
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "100",
        "LANG": "C.UTF-8",
    }


def run_here(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    """As `run`; what needs no shell is done by this process, which has loaded it all already."""
    if not re.fullmatch(r"benchbox [^<>&|*]+", command):
        return run(folder, command)
    words = shlex.split(command)
    with contextlib.chdir(folder):
        ended = CliRunner().invoke(commands.app, words[1:], env=environment(folder), prog_name=words[0])
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    return subprocess.CompletedProcess(words, ended.exit_code, ended.stdout, ended.stderr)


def run(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    """The command in bash, in the folder."""
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def reduced(text: str) -> str:
    """A suite, asking for less."""
    yaml = YAML(typ="safe", pure=True)
    suite = yaml.load(text)
    suite["paths"] = [path for path in listed(suite["paths"]) if path in PATHS] or suite["paths"]
    suite["backends"] = [entry for entry in listed(suite["backends"]) if not is_slow(entry)]
    suite["inputs"]["batch"] = listed(suite["inputs"].get("batch", 1))[0]
    suite["measure"] = {**QUICK}
    suite["parity"] = {**suite.get("parity", {}), "samples": 4}
    for model in listed(suite["models"]):
        if model["family"] == "vit" and model.get("weights", "random") == "random":
            model["config"] = {**cases.CONFIG}
            suite["inputs"]["image_size"] = cases.CONFIG["image_size"]
        if model["source"] in SIZES:
            suite["inputs"]["image_size"] = SIZES[model["source"]]
    return dumped(suite)


def dumped(suite: Mapping[str, Any]) -> str:
    """A mapping as YAML."""
    from io import StringIO

    text = StringIO()
    YAML(typ="safe", pure=True).dump(suite, text)
    return text.getvalue()


def listed(value: Any) -> list[Any]:
    """One thing stands for a list of one, as in a suite."""
    return value if isinstance(value, list) else [value]


def is_slow(backend: Any) -> bool:
    """Whether a runtime compiles, or needs a package that few have."""
    return isinstance(backend, dict) and any(
        option in fields for fields in backend.values() for option in SLOW_RUNTIMES
    )


def _photographs(folder: Path) -> None:
    """Ten pictures in two folders, of the size that the stand-ins take: theirs are not scaled."""
    from PIL import Image

    for number in range(10):
        file = folder / ("cat" if number % 2 else "dog") / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (20 * number, 128, 255 - 20 * number)).save(file)


def _programs(folder: Path) -> None:
    starts = {"python": "", "benchbox": " -m benchbox"}
    for place in ("bin", "openvino/bin"):
        (folder / place).mkdir(parents=True)
        for name, module in starts.items():
            program = folder / place / name
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}"{module} "$@"\n', encoding="utf-8")
            program.chmod(0o755)
