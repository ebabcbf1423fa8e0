"""Checks, each in an environment of its own: `nox -s tests`, or `nox -s lint types architecture`.

CONTRIBUTING.md says what each of them holds; `nox --list` lists them.
"""

from __future__ import annotations

import nox

nox.options.sessions = ["tests"]
nox.options.reuse_existing_virtualenvs = False

PINNED = ("-c", "constraints.txt")


@nox.session
def tests(session: nox.Session) -> None:
    """The whole test suite, slow tests aside: at most 10 minutes on two cores."""
    session.install(*PINNED, "-e", ".[cpu,test]")
    session.run("pytest", "-m", "not slow", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """5,000 damaged suites, 1,000 damaged records files, 400 comparisons of them: never a traceback."""
    session.install(*PINNED, "-e", ".[cpu,test]")
    session.run("pytest", "-m", "slow", "tests/test_fuzz.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and form."""
    session.install(*PINNED, "ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """mypy, strict on benchbox/. The base install is enough: what torch gives is `Any` to it."""
    session.install(*PINNED, "-e", ".", "mypy", "pandas-stubs")
    session.run("mypy")


@nox.session
def architecture(session: nox.Session) -> None:
    """Imports go one way: the contracts in pyproject.toml, from the design."""
    session.install(*PINNED, "-e", ".", "import-linter")
    session.run("lint-imports")


@nox.session
def docs(session: nox.Session) -> None:
    """Every command of the pages, those too that take minutes: ten minutes, at a reduced scale."""
    session.install(*PINNED, "-e", ".[cpu,test]")
    session.run("pytest", "-m", "slow", "tests/docs/test_commands.py", *session.posargs)


@nox.session
def wheel(session: nox.Session) -> None:
    """The wheel in an empty environment: its schema, plug-ins, reports. A minute, and the package index."""
    session.install(*PINNED, "--no-compile", "-e", ".", "build", "pytest", "pytest-benchmark")
    session.run("pytest", "-m", "slow", "tests/docs/test_wheel.py", *session.posargs)


@nox.session
def perf(session: nox.Session) -> None:
    """What benchbox itself takes, and the measured median against a bare loop beside it.

    Minutes, on a machine that is otherwise quiet.
    """
    session.install(*PINNED, "-e", ".[cpu,test]")
    session.run("pytest", "tests/perf", "--benchmark-enable")
    session.run("python", "tests/perf/against_bare_loop.py", *session.posargs)
    session.run("python", "tests/perf/against_itself.py")


@nox.session
def shaking(session: nox.Session) -> None:
    """Numbers beside a neighbour that takes a core in bursts: about nine minutes. `-- --neighbour nice` is
    another."""
    session.install(*PINNED, "-e", ".[cpu,test]")
    session.run("python", "tests/perf/shaking.py", *session.posargs)


@nox.session
def zoo(session: nox.Session) -> None:
    """The small suite of every model family, path by path: at most 20 minutes on two cores.

    nox -s zoo -- --page docs/models.md    # renews the table
    """
    session.install(*PINNED, "-e", ".[cpu,test]")
    session.run("python", "tests/zoo.py", *session.posargs)
