"""Plug-ins that another package brings, and a family that is a file of the suite's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import acme
import benchbox
import cases
import places
from benchbox import plugins
from benchbox.build.keys import artifact_keys
from benchbox.errors import StageError, SuiteError, UsageError
from benchbox.plugins import outside
from benchbox.runner import planning
from benchbox.schema.asked import Model
from benchbox.schema.seen import Host
from benchbox.suite.load import load_suite

SUITE = """
models: {family: linear, source: acme/linear}
paths: [torch, [onnx, copy]]
backends: [pytorch, onnxruntime]
inputs: {dataset: {random: {height: 8, width: 8}}}
threads: 1
parity: {samples: 4}
measure: {replicates: 2, most_replicates: 2, min_rounds: 1, budget_seconds: 0.1, warm_up_seconds: 0.05,
          block_seconds: 0.005}
"""


@pytest.fixture
def brings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Puts packages on the path, where the loader sees them; afterwards it has not seen them."""

    def forget() -> None:
        for cached in (outside.brought, plugins.names, plugins.load, plugins.source_digest):
            cached.cache_clear()
        for module in [name for name in sys.modules if name.startswith("acme_")]:
            del sys.modules[module]

    def bring(name: str = "acme-benchbox", points: str = acme.POINTS, **modules: str) -> Path:
        folder = acme.package(tmp_path / name, points, name, **modules)
        monkeypatch.syspath_prepend(str(folder))
        forget()
        return folder

    yield bring
    monkeypatch.undo()
    forget()


def written(folder: Path, text: str = SUITE) -> Path:
    (folder / "s.yaml").write_text(text, encoding="utf-8")
    return folder / "s.yaml"


def test_list_names_them_and_where_they_are_from(tmp_path: Path, cache_folder: Path) -> None:
    """In a process of its own, by PYTHONPATH; ours are benchbox's."""
    path = os.pathsep.join([str(acme.package(tmp_path / "acme")), str(places.ROOT)])
    env = {**os.environ, "PYTHONPATH": path, "BENCHBOX_CACHE": str(cache_folder), "COLUMNS": "80"}

    def told(*words: str) -> str:
        command = [sys.executable, "-m", "benchbox", "list", *words]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout

    by_word = {(each["kind"], each["word"]): each for each in json.loads(told("--json"))}
    assert by_word["models", "linear"] == {
        "kind": "models",
        "word": "linear",
        "summary": "A linear layer over the pixels: the smallest classifier.",
        "available": True,
        "providers": [],
        "reason": "",
        "hint": "",
        "origin": "acme-benchbox 1.2",
        "hides": [],
    }
    assert by_word["passes", "copy"]["origin"] == "acme-benchbox 1.2"
    assert by_word["passes", "fp16"]["origin"] == "benchbox"
    lines = [line.strip() for line in told().splitlines()]
    assert lines[lines.index("from acme-benchbox 1.2") - 1].startswith("linear        A linear layer")
    assert lines.count("from acme-benchbox 1.2") == 2


BESIDE = "{family: ./mine.py, source: acme/mine, trust_remote_code: true}"
BOTH = SUITE.replace(
    "{family: linear, source: acme/linear}", f"[{{family: linear, source: acme/linear}}, {BESIDE}]"
)
BOTH = BOTH.replace("copy]]", "copy], [onnx, bad]]")


def test_a_suite_runs_them_and_a_family_beside_it_and_tells_of_what_goes_wrong_with_the_packages_name(
    brings: Callable[..., Path], tmp_path: Path, cache_folder: Path
) -> None:
    """Builder and workers find what this process found, whatever way it was found."""
    working = 'return {"note": NOTE'
    assert working in acme.PASS
    brings(points=f"{acme.POINTS}bad = acme_bad", acme_bad=acme.PASS.replace(working, f"{working}[99]"))
    suite = written(placed(tmp_path), BOTH)
    results = benchbox.run(suite, results=tmp_path / "results", reports=None, cache=cache_folder).results
    wrong = "acme-benchbox 1.2: apply raised IndexError: string index out of range"
    records = {(r.case.model.family, r.case.path_label): r for r in results.records}
    assert {key: (r.outcome, r.reason) for key, r in records.items()} == {
        (family, path): ended
        for family in ("linear", "./mine.py")
        for path, ended in (
            ("torch", ("ok", "")),
            ("onnx + copy", ("ok", "")),
            ("onnx + bad", ("failed", wrong)),
        )
    }
    assert "acme_bad.py" in records["linear", "onnx + bad"].detail
    exported = records["linear", "onnx + copy"]
    assert exported.parity is not None
    assert exported.artifact is not None
    assert exported.parity.metrics == {"top1_agreement": 1.0}
    told = {name: exported.artifact.facts[name] for name in ("note", "output", "sizes")}
    assert told == {"note": "copied", "output": "logits", "sizes": {"image_size": 8}}


def test_a_family_that_raises_is_told_with_the_packages_name(brings: Callable[..., Path]) -> None:
    seeded = "    torch.manual_seed(model.seed)"
    assert seeded in acme.FAMILY
    brings(acme_linear=acme.FAMILY.replace(seeded, "    raise RuntimeError('no such layer')"))
    with pytest.raises(StageError, match=r"^acme-benchbox 1\.2: load raised RuntimeError: no such layer$"):
        plugins.family_of(LINEAR).load(LINEAR)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def apply(:", "SyntaxError: "),
        ("ACCEPTS = ('onnx',)", "acme_copy defines no REQUIRES, PRODUCES, apply"),
        (
            acme.PASS.replace("def apply(job, folder)", "def apply(job)"),
            "apply takes (job), and (job, folder) is what it is called with",
        ),
    ],
)
def test_one_that_cannot_be_used_says_so_in_a_suite_and_in_the_list(
    brings: Callable[..., Path], tmp_path: Path, source: str, reason: str
) -> None:
    brings(acme_copy=source)
    expected = f"'copy' of the package acme-benchbox 1.2 cannot be used: {reason}"
    with pytest.raises(SuiteError) as caught:
        load_suite(written(tmp_path))
    assert str(caught.value).startswith(f"{tmp_path}/s.yaml:3:23: paths.1.1: {expected}")
    (listed,) = [each for each in planning.capabilities("passes") if each.word == "copy"]
    assert (listed.available, listed.origin) == (False, "acme-benchbox 1.2")
    assert listed.reason.startswith(expected)
    assert "copy" not in plugins.usable("passes")
    assert "fp16" in plugins.usable("passes")


def test_a_name_of_ours_stays_ours_and_both_are_named(brings: Callable[..., Path]) -> None:
    brings(points="[benchbox.passes]\nfp16 = acme_copy\n")
    assert plugins.pass_("fp16").PRECISION == "fp16"
    (listed,) = [each for each in planning.capabilities("passes") if each.word == "fp16"]
    assert (listed.available, listed.origin, listed.hides) == (True, "benchbox", ("acme-benchbox 1.2",))
    (warning,) = planning.name_clashes()
    assert (warning.level, warning.what) == (
        "warning",
        "acme-benchbox 1.2 brings 'fp16' of passes, which benchbox has itself",
    )


def test_a_name_that_two_packages_bring_is_nobodys(brings: Callable[..., Path]) -> None:
    brings()
    brings("zeta")
    with pytest.raises(UsageError) as caught:
        plugins.pass_("copy")
    assert str(caught.value) == (
        "'copy' of passes is brought by acme-benchbox 1.2 and zeta 1.2: uninstall one of them"
    )


def test_its_key_holds_what_it_imports_of_its_package(brings: Callable[..., Path]) -> None:
    case = cases.case("onnx", "copy", shape={"batch": 1, "image_size": 8}, model=LINEAR)

    def keys(**modules: str) -> tuple[str, ...]:
        brings(f"acme-{len(modules)}", **modules)
        return artifact_keys(case, Host(frozenset()))

    before = keys()
    plugins.load.cache_clear()
    for other in [p for p in sys.path if p.endswith("acme-0")]:
        sys.path.remove(other)
    after = keys(acme_shared='NOTE = "another"\n')
    assert (after[0] == before[0], after[1] == before[1]) == (True, False)


LINEAR = Model(name="linear", family="linear", source="acme/linear", task="image-classification")


# --- A family in a file ---

IN_A_FILE = SUITE.replace("family: linear", "family: ./mine.py, trust_remote_code: true").replace(
    "copy", "fp16"
)


def placed(folder: Path, source: str = acme.FAMILY) -> Path:
    (folder / "mine.py").write_text(source, encoding="utf-8")
    return folder


def test_checking_and_planning_run_no_file(tmp_path: Path, cache_folder: Path) -> None:
    placed(tmp_path, acme.FAMILY + "\nopen('it-ran', 'w')\nraise SystemExit\n")
    suite = load_suite(written(tmp_path, IN_A_FILE))
    assert {case.shape["image_size"] for case in suite.cases} == {8}
    assert [planned.unavailable for planned in planning.plan(suite, cache_folder)] == ["", ""]
    assert not list(Path().glob("it-ran"))


def test_a_file_is_not_run_without_the_suites_word(tmp_path: Path) -> None:
    placed(tmp_path)
    with pytest.raises(SuiteError) as caught:
        load_suite(written(tmp_path, IN_A_FILE.replace("true", "false")))
    assert str(caught.value) == (
        f"{tmp_path}/s.yaml:2:18: models.family: ./mine.py is Python code: "
        "if you trust it, write trust_remote_code: true beside it"
    )
    model = Model("mine", str(tmp_path / "mine.py"), "a/b", "image-classification")
    with pytest.raises(StageError, match=r"^mine\.py: mine is Python code, which was not run"):
        plugins.family_of(model).load(model)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("def metrics", "def metrix"), "mine.py is no model family: it defines no metrics"),
        (('TASKS = {"image', 'TASKS = dict() or {"image'), "mine.py computes TASKS: that is read before"),
        (
            ("def feeds", "def sizes(model): ...\n\n\ndef feeds"),
            "mine.py defines sizes, which is asked",
        ),
        (("def feeds(", "def feeds(("), "mine.py:"),
    ],
)
def test_a_file_that_is_no_family_is_told_at_its_line(
    tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    placed(tmp_path, acme.FAMILY.replace(*change))
    with pytest.raises(SuiteError) as caught:
        load_suite(written(tmp_path, IN_A_FILE))
    assert str(caught.value).startswith(f"{tmp_path}/s.yaml:2:18: models.family: {said}")


def test_a_file_that_is_not_there_is_told_at_its_line(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"s\.yaml:2:18: models\.family: .*mine\.py' does not exist"):
        load_suite(written(tmp_path, IN_A_FILE))


def test_its_key_holds_its_bytes_and_what_it_imports_from_beside_it(tmp_path: Path) -> None:
    placed(tmp_path, acme.FAMILY + "\nimport beside\n")
    (tmp_path / "beside.py").write_text("x = 1", encoding="utf-8")
    (tmp_path / "other.py").write_text("x = 1", encoding="utf-8")
    (case, _) = load_suite(written(tmp_path, IN_A_FILE)).cases

    def key() -> str:
        return artifact_keys(case, Host(frozenset()), tmp_path)[0]

    seen = [key()]
    for name in ("other.py", "beside.py", "mine.py"):
        with (tmp_path / name).open("a", encoding="utf-8") as file:
            file.write("\n# edited\n")
        seen.append(key())
    assert [after == before for before, after in pairwise(seen)] == [True, False, False]


def test_errors_in_it_are_told_with_its_name(tmp_path: Path) -> None:
    def raising(*_: Any) -> None:
        raise KeyError("layer")

    with pytest.raises(StageError, match=r"^mine\.py: metrics raised KeyError: 'layer'$"):
        outside.told(raising, "metrics", "mine.py")()
