"""README.md, CONTRIBUTING.md and docs/ say what is so: their commands, suites and Python run as written.

How a block is held against the code:

* `yaml` is a suite and is read as one. One that begins with `# part of a suite` stands in for the same fields
  of a whole suite; one that begins with `# wrong` is refused with the words of the `text` block after it.
* `python` is executed. One whose first line is a docstring is a plug-in, and has what its contract asks for.
* `toml` has entry points of a package, of kinds that exist.
* A block that begins with a file's name (`# mine.yaml`) is that file for the commands of its page.
* `sh` is run line by line, in the order of the page, in the folder that tests/reading.py furnishes: the
  commands are those of the page, the suites are cut down. What would install, or take minutes, is held
  against what it names: `CHECKED` has a function a program. `SHORTER` and `ENDS` list what is not run as it
  is written, and what does not end with 0.
* `benchbox run` and `selftest` take half a minute even so: the slow tests do them all (`nox -s docs`). The
  others hold them against the command line, plan the cases, and go on with the results of an older run.
* `text` after `sh` is what its last command prints, numbers and the width of columns aside.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from ruamel.yaml import YAML

import pages
import places
import reading
from benchbox import plugins
from benchbox.cli import commands as benchbox_commands
from benchbox.errors import SuiteError
from benchbox.plugins import contract
from benchbox.suite.load import load_suite

PROJECT = tomllib.loads((places.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
How = Callable[[str], str]
"""What is run for a command of a page."""
BLOCKS = [block for page in pages.PAGES for block in pages.blocks(page)]
# A whole suite, of which a `# part of a suite` takes the place of some fields.
WHOLE = {
    "models": {"family": "vit", "source": "google/vit-base-patch16-224"},
    "paths": ["torch", "onnx"],
    "backends": ["pytorch", "onnxruntime"],
    "inputs": {"dataset": "sample_images"},
}
# What takes minutes takes seconds here.
SHORTER = {
    "benchbox selftest": "benchbox selftest --minutes 0.1",
    "benchbox selftest --minutes 5": "benchbox selftest --minutes 0.1",
    "python -m venv .venv": "python -m venv --without-pip .venv",
}
# Exit codes that are not 0, and what is then said: there is no hub here, and a shared machine may differ
# from itself.
ENDS: Mapping[str, tuple[tuple[int, ...], str]] = {
    "benchbox run suites/vit.yaml --set models.0.weights=pretrained --set inputs.batch=4": ((1,), "failed"),
    "benchbox selftest": ((0, 1), "A against A"),
    "benchbox selftest --minutes 5": ((0, 1), "A against A"),
}
OLD = places.TESTS / "golden" / "run-92cd9bd"
PLUGINS = {
    "load": contract.Family,
    "samples": contract.DatasetPlugin,
    "export": contract.Exporter,
    "apply": contract.Pass,
    "open": contract.BackendPlugin,
    "write": contract.Reporter,
}
# In Python, a run gives the results that are there.
PREPARED = """
import benchbox
from benchbox.runner.runner import Finished
benchbox.run = lambda suite: Finished(benchbox.load_results("results/before").results[0], (), False)
"""
LANGUAGES = ("sh", "yaml", "python", "toml", "text")
# What a nox session hands its arguments to.
SCRIPTS = {"zoo": "tests/zoo.py", "perf": "tests/perf/against_bare_loop.py"}


def of_language(*languages: str) -> list[pages.Block]:
    return [block for block in BLOCKS if block.language in languages]


def place(block: pages.Block) -> str:
    return block.place


def text_after(block: pages.Block) -> str:
    following = BLOCKS[BLOCKS.index(block) + 1 :][:1]
    is_output = following and following[0].page == block.page and following[0].language == "text"
    return following[0].text if is_output else ""


# --- Suites ---


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages name, and the files that they bring: nothing has been run yet."""
    pytest.importorskip("PIL")
    folder = reading.furnished(tmp_path_factory.mktemp("reading") / "here")
    for block in BLOCKS:
        bring(block, folder)
    return folder


@pytest.mark.parametrize("block", of_language("yaml"), ids=place)
def test_a_suite_in_the_pages_is_read_as_it_is_written(
    block: pages.Block, furnished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(furnished)
    Path("suite.yaml").write_text(whole(block), encoding="utf-8")
    if block.mark == "wrong":
        with pytest.raises(SuiteError) as refused:
            load_suite("suite.yaml")
        assert str(refused.value) == text_after(block).strip()
    else:
        assert load_suite("suite.yaml").cases


def whole(block: pages.Block) -> str:
    if block.mark != "part of a suite":
        return block.text
    part = YAML(typ="safe", pure=True).load(block.text)
    return reading.dumped({**WHOLE, **part})


# --- Python ---


def is_plug_in(block: pages.Block) -> bool:
    return ast.get_docstring(ast.parse(block.text)) is not None


@pytest.mark.parametrize("block", filter(is_plug_in, of_language("python")), ids=place)
def test_a_plug_in_in_the_pages_has_what_its_contract_asks_for(block: pages.Block) -> None:
    """All that has no default, and nothing else: functions with the parameters that the contract declares."""
    tree = ast.parse(block.text)
    shown = {n.name: [a.arg for a in n.args.args] for n in tree.body if isinstance(n, ast.FunctionDef)}
    (kind,) = (PLUGINS[name] for name in PLUGINS if name in shown)
    declared = {name: function for name, function in vars(kind).items() if inspect.isfunction(function)}
    assert shown == {name: parameters(declared[name]) for name in shown if name in declared}
    owed = {name for name, function in declared.items() if getattr(function, "__isabstractmethod__", False)}
    assert owed <= set(shown)
    assigned = {ast.unparse(t) for n in tree.body if isinstance(n, ast.Assign) for t in n.targets}
    without_default = {name for name in inspect.get_annotations(kind) if not hasattr(kind, name)}
    assert without_default | {"REQUIRES"} <= assigned


def parameters(function: Callable[..., object]) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


@pytest.mark.parametrize("block", of_language("toml"), ids=place)
def test_entry_points_in_the_pages_are_of_kinds_that_exist(block: pages.Block) -> None:
    groups = tomllib.loads(block.text)["project"]["entry-points"]
    assert groups
    assert set(groups) <= {f"benchbox.{kind}" for kind in plugins.KINDS}


# --- Commands ---


PAGES_WITH_BLOCKS = [page for page in pages.PAGES if pages.blocks(page)]


@pytest.fixture(scope="module")
def with_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A furnished folder, with results and artifacts in it that no run has to be waited for.

    What runtimes say of themselves has been asked once, for all the pages.
    """
    pytest.importorskip("PIL")
    folder = reading.furnished(tmp_path_factory.mktemp("reading") / "here")
    asked = reading.run(folder, "benchbox list && benchbox plan suites/vit.yaml")
    assert asked.returncode == 0, asked.stderr
    return reading.with_artifacts(reading.with_results(folder, OLD))


@pytest.mark.parametrize("page", PAGES_WITH_BLOCKS, ids=pages.name)
def test_the_commands_of_a_page_do_what_it_says(page: Path, with_results: Path, tmp_path: Path) -> None:
    follow_page(page, with_results, tmp_path / "here", brief)


@pytest.fixture(scope="module")
def after_a_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A furnished folder in which a suite was run: what each page begins with."""
    pytest.importorskip("torch")
    return reading.after_a_run(reading.furnished(tmp_path_factory.mktemp("reading") / "here"))


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES_WITH_BLOCKS, ids=pages.name)
def test_the_runs_of_a_page_do_what_it_says(page: Path, after_a_run: Path, tmp_path: Path) -> None:
    follow_page(page, after_a_run, tmp_path / "here", shorter)


def follow_page(page: Path, furnished: Path, folder: Path, how: How) -> None:
    shutil.copytree(furnished, folder, symlinks=True)
    for block in pages.blocks(page):
        bring(block, folder)
    for block in pages.blocks(page):
        if block.language == "python" and not bring(block, folder):
            follow(f"python <<'END'\n{block.text}END", block.place, folder, how)
        elif block.language == "sh":
            printed = [follow(line, block.place, folder, how) for line in lines_of(block)]
            expected = text_after(block)
            assert not expected or shape(expected) == shape(
                printed[-1].replace(f"{folder}/home", "/home/you")
            )


def bring(block: pages.Block, folder: Path) -> bool:
    """Writes a block that names a file into the folder; a suite is cut down like all others."""
    if not re.fullmatch(r"[\w.-]+\.(yaml|py)", block.mark):
        return False
    text = reading.reduced(block.text) if block.language == "yaml" else block.text
    (folder / block.mark).write_text(text, encoding="utf-8")
    return True


def lines_of(block: pages.Block) -> list[str]:
    return [line for line in block.text.splitlines() if line.strip() and not line.startswith("#")]


def shape(text: str) -> list[str]:
    """The words of each line: a number is a number, and how wide a column is says nothing."""
    lines = (re.sub(r"\d[\d.,]*", "0", line) for line in text.splitlines())
    return [" ".join(line.split()) for line in lines if line.strip()]


def follow(line: str, place: str, folder: Path, how: How) -> str:
    """What is printed by the commands of a line, each of which ends as it should."""
    return "".join(_follow(command, place, folder, how) for command in split(line))


def split(line: str) -> list[str]:
    """`a && b` is two commands; a shell that was prepared has to be the one that goes on."""
    return [line] if "<<" in line or "activate" in line else line.split(" && ")


def _follow(command: str, place: str, folder: Path, how: How) -> str:
    for form, check in CHECKED.items():
        if re.fullmatch(form, command):
            problem = check(shlex.split(command))
            assert not problem, f"{place}: {command}: {problem}"
            return ""
    run = how(command)
    ended = (reading.run_here if how is brief else reading.run)(folder, run)
    codes, said = ENDS.get(command, ((0,), "")) if run == shorter(command) else ((0,), "")
    output = ended.stdout + ended.stderr
    assert ended.returncode in codes, f"{place}: {command} ended with {ended.returncode}:\n{output}"
    assert said in output, f"{place}: {command} does not say {said!r}:\n{output}"
    return ended.stdout.replace(f"{folder}/home", "/home/you")


def shorter(command: str) -> str:
    first, and_, rest = command.partition(" && ")
    return SHORTER.get(first, first) + and_ + rest


def brief(command: str) -> str:
    """The command, or what it is held against in its place where it would measure.

    Results that it is told to put elsewhere are there: those of the run that was done.
    """
    if command.startswith("python <<"):
        return command.replace("\n", f"\n{PREPARED}", 1)
    words = shlex.split(command) if command.startswith("benchbox ") else [command, ""]
    if words[1] not in ("run", "selftest"):
        return shorter(command)
    given = command_line(words[1], words[2:])
    if words[1] == "selftest" or given["resume"]:
        return "true"
    terms = {"overrides": "--set", "only": "--only", "skip": "--skip"}
    asked = [word for name, option in terms.items() for value in given[name] for word in (option, value)]
    plan = shlex.join(["benchbox", "plan", str(given["suite"]), *asked])
    into = given["results"]
    return plan if into == Path("results") else f"{plan} && mkdir {into} && cp -r results/before {into}"


def command_line(command: str, words: Sequence[str]) -> Mapping[str, Any]:
    """What the command line makes of the words. Raises click's UsageError for an option that it has not."""
    commands = typer.main.get_command(benchbox_commands.app)
    context = typer.Context(commands)
    return commands.get_command(context, command).make_context(command, [*words], parent=context).params


# --- Commands that are held against what they name ---


def problem_of_pip(words: Sequence[str]) -> str:
    """Extras exist, packages are among those that were tested together."""
    asked = words[words.index("install") + 1 :]
    for option, file in itertools.pairwise(asked):
        if option == "-c" and not (places.ROOT / file).is_file():
            return f"there is no {file}"
    pairs = itertools.pairwise(["", *asked])
    packages = [word for before, word in pairs if before != "-c" and not word.startswith("-")]
    unknown = ", ".join(word for word in packages if not is_known(word))
    return unknown and f"{unknown}: neither an extra of pyproject.toml nor in constraints.txt"


def is_known(package: str) -> bool:
    name, _, extras = package.rstrip("]").partition("[")
    if name in (".", PROJECT["name"]):
        return set(filter(None, extras.split(","))) <= {*PROJECT["optional-dependencies"]}
    pinned = (places.ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return name.lower() in {line.partition("==")[0].lower() for line in pinned}


def problem_of_nox(words: Sequence[str]) -> str:
    """Sessions exist, and what stands behind `--` is known to the script that a session runs."""
    named, _, handed = " ".join(words[1:]).partition(" -- ")
    wanted = named.removeprefix("-s ").split()
    unknown = set(wanted) - sessions()
    if unknown:
        return f"no sessions of noxfile.py: {', '.join(sorted(unknown))}"
    return problem_of_script(["python", SCRIPTS[wanted[0]], *handed.split()]) if handed else ""


def sessions() -> set[str]:
    tree = ast.parse((places.ROOT / "noxfile.py").read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {f.name for f in functions if "nox.session" in {ast.unparse(d) for d in f.decorator_list}}


def problem_of_script(words: Sequence[str]) -> str:
    """The script exists, begins, and its help has every option."""
    helped = in_checkout([*words[:2], "--help"])
    known = re.findall(r"--[\w-]+", helped.stdout)
    unknown = [word for word in words[2:] if word.startswith("--") and word not in known]
    return helped.stderr if helped.returncode else ", ".join(f"no option {option}" for option in unknown)


def problem_of_pytest(words: Sequence[str]) -> str:
    """It finds tests."""
    found = in_checkout([*words, "--collect-only", "-q"])
    return f"{found.stdout}{found.stderr}" if found.returncode else ""


def in_checkout(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words[1:]],
        cwd=places.ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


CHECKED: Mapping[str, Callable[[Sequence[str]], str]] = {
    r"(python -m )?pip install .*": problem_of_pip,
    r"nox .*": problem_of_nox,
    r"python -m pytest .*": problem_of_pytest,
    r"python [\w/]+\.py.*": problem_of_script,
}


# --- These tests can fail ---


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("pip install -c constraints.txt -e '.[gpu]'", "neither an extra"),
        ("pip install -c constraint.txt -e .", "there is no constraint.txt"),
        ("python -m pip install noxx", "neither an extra"),
        ("nox -s test", "no sessions of noxfile.py: test"),
        ("nox -s zoo -- --readme README.md", "no option --readme"),
        ("python tests/zoo.py --pages x", "no option --pages"),
        ("python -m pytest tests/docs/test_nothing.py", "not found"),
    ],
)
def test_a_command_that_names_what_is_not_there_is_found(command: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=problem):
        follow(command, "page:1", tmp_path, brief)


def test_an_option_that_does_not_exist_is_found(tmp_path: Path) -> None:
    folder = reading.furnished(tmp_path / "here")
    with pytest.raises(AssertionError, match=r"(?s)page:1: benchbox list --jsn ended with 2.*No such option"):
        follow("benchbox list --jsn", "page:1", folder, brief)


@pytest.mark.parametrize("command", ["benchbox run suites/vit.yaml --onli x", "benchbox selftest --minute 5"])
def test_an_option_of_what_is_not_run_is_found_too(command: str, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="No such option"):
        follow(command, "page:1", tmp_path, brief)


def test_contributing_says_what_each_session_is() -> None:
    page = (places.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)) == sorted(sessions())


def test_every_block_of_the_pages_is_of_a_language_that_is_held_against_the_code() -> None:
    assert [block.place for block in BLOCKS if block.language not in LANGUAGES] == []


def test_what_is_not_run_as_it_is_written_is_still_in_the_pages() -> None:
    """A list of exceptions that nobody needs any more hides what it once excused."""
    written = {
        command for block in of_language("sh") for line in lines_of(block) for command in line.split(" && ")
    }
    assert {*SHORTER, *ENDS} <= written
