"""Local paths: a case is the same on every machine, and nothing that is recorded names a home folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import places
from benchbox.build.keys import artifact_keys
from benchbox.errors import SuiteError
from benchbox.results import store
from benchbox.runner import planning, runner
from benchbox.runner.runner import Finished
from benchbox.schema import paths
from benchbox.schema.asked import Backend, Case, Threads
from benchbox.schema.seen import Host
from benchbox.suite.load import load_suite, parse_suite

DIGITS = places.SUITES / "digits"
MODEL = "{family: vit, source: ./base, weights: pretrained}"
SUITE = f"""
models: {MODEL}
paths: [onnx]
backends: [onnxruntime]
inputs: {{dataset: digits, image_size: 8}}
measure: {{budget_seconds: 0.1, replicates: 2, most_replicates: 2, block_seconds: 0.01, warm_up_seconds: 0.1}}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of somebody called zaphod, who works in it."""
    folder = tmp_path / "home" / "zaphod"
    folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(folder)
    return folder


def suite_in(folder: Path, text: str = SUITE) -> Path:
    """A suite beside a copy of the trained weights."""
    shutil.copytree(DIGITS / "base", folder / "base")
    (folder / "s.yaml").write_text(text)
    return folder / "s.yaml"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("base", "./base"),
        ("./base/", "./base"),
        (".//a/../base", "./base"),
        ("../base", "../base"),
        ("./", "."),
        ("~/base/", "~/base"),
        ("/data//base", "/data/base"),
        ("./net.py:build", "./net.py:build"),
    ],
)
def test_there_is_one_way_to_write_a_path(text: str, written: str) -> None:
    assert paths.written(text) == written


def test_a_path_in_the_home_folder_is_written_without_it(home: Path) -> None:
    assert paths.written(str(home / "models" / "base")) == "~/models/base"
    assert paths.located("~/models/base", Path("/elsewhere")) == str(home / "models" / "base")


@pytest.mark.parametrize("text", ["google/vit-base-patch16-224", "/data/base", "python3.12", ""])
def test_what_is_no_local_path_is_left_as_it_is(text: str) -> None:
    assert paths.located(text, Path("/suites")) == text


def test_a_local_path_is_taken_from_the_suite() -> None:
    assert paths.located("./base", Path("/data/suites")) == "/data/suites/base"
    assert paths.located("../base", Path("/data/suites")) == "/data/base"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot open {home}/a.onnx: denied", "cannot open ~/a.onnx: denied"),
        ('File "{home}/x.py", line 3, in {home}.', 'File "~/x.py", line 3, in ~.'),
        ("models.0.source={home}/a", "models.0.source=~/a"),
        ("{home}-old/a and {home}.bak", "{home}-old/a and {home}.bak"),
        ("c++ -I{home}/include -L{home}/lib file://{home}/x", "c++ -I~/include -L~/lib file://~/x"),
    ],
)
def test_the_home_folder_is_taken_out_of_a_text(home: Path, text: str, shown: str) -> None:
    assert paths.without_home(text.format(home=home)) == shown.format(home=home)


def test_a_home_at_the_root_is_a_part_of_many_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/root")
    assert paths.without_home("/root/a, /data/root/a, /usr/lib/root") == "~/a, /data/root/a, /usr/lib/root"
    assert paths.written("/data/root/a") == "/data/root/a"


def test_options_that_lie_at_home_are_written_without_it_however_deep(home: Path) -> None:
    """They need not be there: a runtime may make them."""
    cached = f"""
models: {{family: vit, source: google/vit-base-patch16-224, config: {{name_or_path: {home}/labels.json}}}}
paths: [onnx]
backends: [{{onnxruntime: {{provider_options: {{CPUExecutionProvider: {{cache: {home}/cache}}}}}}}}]
inputs: {{dataset: sample_images}}
"""
    case = parse_suite(cached, "s.yaml").cases[0]
    assert case.model.config == {"name_or_path": "~/labels.json"}
    assert case.backend.provider_options == {"CPUExecutionProvider": {"cache": "~/cache"}}
    here = case.located_from(Path("/suites"))
    assert here.model.config == {"name_or_path": f"{home}/labels.json"}
    assert here.backend.provider_options == {"CPUExecutionProvider": {"cache": f"{home}/cache"}}


def test_who_has_the_root_as_home_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/")
    assert paths.without_home("/data/base") == "/data/base"


def test_an_interpreter_by_name_is_looked_for_on_the_path() -> None:
    backend = Backend("pytorch", ("cpu",), Threads(1), python="python3.12")
    assert backend.located_from(Path("/suites")).python == "python3.12"


def cases_in(folder: Path) -> tuple[Case, ...]:
    folder.mkdir()
    return load_suite(suite_in(folder)).cases


def test_the_same_case_has_the_same_id_wherever_it_lies(tmp_path: Path) -> None:
    """And the same keys, so that an artifact is found again after its project was moved."""
    (one,), (other,) = cases_in(tmp_path / "one"), cases_in(tmp_path / "other")
    assert one.id == other.id
    host = Host(frozenset())
    keys = artifact_keys(one, host, tmp_path / "one")
    assert keys == artifact_keys(other, host, tmp_path / "other")
    (tmp_path / "other" / "base" / "config.json").write_text("{}")
    assert keys != artifact_keys(other, host, tmp_path / "other")


@dataclass(frozen=True)
class Ran:
    """A run that zaphod started at home, with a model of the project and one of the home folder."""

    home: Path
    cache: Path
    finished: Finished


@pytest.fixture(scope="module")
def ran(cache_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    top = tmp_path_factory.mktemp("machine")
    home = top / "home" / "zaphod"
    (home / "broken").mkdir(parents=True)
    (home / "broken" / "config.json").write_text("{")
    models = f"models: [{MODEL}, {{family: vit, source: {home}/broken}}]"
    suite_in(home, SUITE.replace(f"models: {MODEL}", models))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.chdir(home)
        finished = runner.run(home / "s.yaml", results="results", reports=top / "reports", cache=cache_folder)
        yield Ran(home, cache_folder, replace(finished, results=store.load(home / finished.results.folder)))


def test_a_run_at_home_is_recorded_without_naming_it(ran: Ran) -> None:
    """Not in a record that is ok, not in one that failed, not in the suite, and in no report."""
    by_outcome = {r.outcome: r for r in ran.finished.results.records}
    assert sorted(by_outcome) == ["failed", "ok"]
    assert by_outcome["ok"].command.startswith("benchbox run '~/s.yaml' --only id=")
    assert by_outcome["ok"].case.model.source == "./base"
    assert "'~/broken'" in by_outcome["failed"].reason
    written = [path for path in ran.finished.results.folder.rglob("*") if path.is_file()]
    assert len(written) >= 3
    for path in (*written, *ran.finished.reports):
        assert "zaphod" not in path.read_text(errors="replace"), path


def test_a_plan_finds_what_a_run_has_built(ran: Ran) -> None:
    planned = planning.plan(load_suite(ran.home / "s.yaml"), ran.cache)
    assert {item.case.model.name: item.built for item in planned} == {"base": (True,), "broken": (False,)}


def test_a_run_goes_on_from_another_folder(ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Local weights are found all the same; what had failed is there, what is lost is measured again."""
    folder = ran.home / "results" / "stopped"
    shutil.copytree(ran.finished.results.folder, folder)
    lines = (folder / store.RECORDS).read_text().splitlines(keepends=True)
    (folder / store.RECORDS).write_text("".join(line for line in lines if '"failed"' in line))
    monkeypatch.chdir(tmp_path)
    resumed, request = runner.resumed(folder)
    assert resumed.cases == load_suite(ran.home / "s.yaml").cases
    assert request == {"overrides": [], "only": [], "skip": []}
    finished = runner.run(resumed, resume=folder, reports=None, cache=ran.cache)
    assert sorted(r.outcome for r in finished.results.records) == ["failed", "ok"]


def test_moved_results_say_what_is_missing(ran: Ran, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "run"
    shutil.copytree(ran.finished.results.folder, moved)
    content = json.loads((moved / store.SUITE).read_text())
    (moved / store.SUITE).write_text(json.dumps({**content, "file": "s.yaml"}))
    with pytest.raises(SuiteError, match=r"^s\.yaml:1:1: models\.0\.source: './base' does not exist"):
        runner.resumed(moved)
