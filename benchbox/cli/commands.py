"""argv -> call -> print -> exit code. The only file, with live.py, that prints; the only one that exits.

`benchbox --help` must stay under 0.4 s of CPU time: nothing but typer and this package's light modules is
imported at the top, everything else inside the command that needs it.
"""

from __future__ import annotations

import io
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from benchbox.errors import BenchboxError, UsageError

if TYPE_CHECKING:
    from benchbox.build.cache import Sizes
    from benchbox.cli.live import Display
    from benchbox.runner.observer import Observer
    from benchbox.runner.runner import Finished
from benchbox.cli.console import (
    INTERRUPTED,
    NOT_OK,
    OK,
    REPORTS,
    echo_json,
    open_console,
    show,
    show_lines,
    stop,
)
from benchbox.cli.results import each_once, joined_name, show_results


class _Front(TyperGroup):
    """Turns benchbox's errors into a sentence and an exit code, whichever command raised them."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The list of commands."""
        with _unused_parts_of_rich():
            super().format_help(ctx, formatter)

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except UsageError as error:
            stop(str(error), error.exit_code)
        except BenchboxError as error:
            stop(str(error), NOT_OK)


@contextmanager
def _unused_parts_of_rich() -> Iterator[None]:
    """Spares the help a quarter of its time: typer imports, wherever it draws, what only its markdown and its
    tracebacks use, which are both off here. They are there again afterwards."""
    absent = {"rich.markdown": "Markdown", "rich.traceback": "Traceback"}
    placed = {name: ModuleType(name) for name in absent if name not in sys.modules}
    for name, module in placed.items():
        setattr(module, absent[name], None)
    sys.modules.update(placed)
    try:
        yield
    finally:
        for name in placed:
            del sys.modules[name]


def _examples(*lines: str) -> str:
    """The end of a --help; a blank line between two keeps typer from joining them."""
    return "\n\n".join(["[bold]Examples[/]", *(line.replace("[", "\\[") for line in lines)])


app = typer.Typer(
    name="benchbox",
    cls=_Front,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_examples(
        "benchbox run suites/vit.yaml",
        "benchbox plan suites/vit.yaml --only batch=1",
        "benchbox doctor",
    ),
)
cache_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    epilog=_examples("benchbox cache size", "benchbox cache clear"),
)
app.add_typer(
    cache_app, name="cache", help="Built artifacts: where they are kept, how large they are, remove them."
)

SuiteFile = Annotated[Path, typer.Argument(metavar="SUITE", help="A YAML file.", show_default=False)]
Overrides = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Change a field of the suite.",
        default_factory=list,
        show_default=False,
    ),
]
Only = Annotated[
    list[str],
    typer.Option(
        metavar="TERM",
        help="Only these cases: field=glob, part of a title, or an id.",
        default_factory=list,
        show_default=False,
    ),
]
Skip = Annotated[
    list[str],
    typer.Option(
        metavar="TERM", help="Not these cases; terms as in --only.", default_factory=list, show_default=False
    ),
]
CacheFolder = Annotated[
    Path | None,
    typer.Option("--cache", metavar="DIR", help="Where built artifacts are kept.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _show_version(asked: bool) -> None:
    if asked:
        from benchbox.version import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[  # its callback does the work
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Which way to ship a transformer: latency, memory and parity of one artifact, in one row."""


@app.command(
    epilog=_examples(
        "benchbox run suites/vit.yaml",
        "benchbox run suites/vit.yaml --set models.0.weights=pretrained",
        "benchbox run suites/vit.yaml --only 'path=onnx*' --only batch=1 --skip CUDA",
        "benchbox run --resume results/vit-20260101T120000-1a2b3c",
    )
)
def run(  # noqa: PLR0913  # typer makes an option of each parameter
    *,
    suite: Annotated[
        Path | None, typer.Argument(metavar="SUITE", help="A YAML file.", show_default=False)
    ] = None,
    overrides: Overrides,
    only: Only,
    skip: Skip,
    results: Annotated[Path, typer.Option(metavar="DIR", help="Where records go.")] = Path("results"),
    reports: Annotated[Path, typer.Option(metavar="DIR", help="Where reports go.")] = REPORTS,
    cache: CacheFolder = None,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Go on with a stopped run, in place of SUITE.", show_default=False),
    ] = None,
    no_report: Annotated[bool, typer.Option("--no-report", help="Write records only.")] = False,
) -> None:
    """Build, measure and compare every case of a suite; write records and reports.

    Exit codes: 0 ok or skipped, 1 mismatched or failed, 2 suite or command line wrong, 130 interrupted.
    """
    from benchbox.cli import live
    from benchbox.runner import runner

    request = {"overrides": overrides, "only": only, "skip": skip}
    asked = _fresh(suite, request) if resume is None else _continued(suite, resume, request)
    kept = _kept_options(reports, no_report, cache)
    with _interruptible(live.display(open_console(stderr=True), os.environ), kept) as observer:
        finished = runner.run(
            **asked,
            results=results,
            reports=None if no_report else reports,
            cache=cache,
            resume=resume,
            observer=observer,
        )
    _show_finished(finished, kept)
    raise typer.Exit(exit_code(finished))


@app.command(
    epilog=_examples("benchbox plan suites/vit.yaml", "benchbox plan suites/vit.yaml --only batch=8")
)
def plan(
    *, suite: SuiteFile, overrides: Overrides, only: Only, skip: Skip, cache: CacheFolder = None
) -> None:
    """Show the matrix: what would run, what is built already, what cannot run here. Runs nothing."""
    from dataclasses import replace

    from benchbox.cli import tables
    from benchbox.runner import planning
    from benchbox.suite.load import load_suite
    from benchbox.suite.selection import select

    loaded = load_suite(suite, overrides)
    chosen = replace(loaded, cases=select(loaded.cases, only, skip))
    planned = planning.plan(chosen, cache)
    show(tables.plan_table(planned))
    show_lines(tables.next_steps([_run_command(suite, {"set": overrides, "only": only, "skip": skip})]))


@app.command(
    epilog=_examples(
        "benchbox report results/vit-20260101T120000-1a2b3c",
        "benchbox report results/before results/after --out reports/compared",
    )
)
def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Results folders.", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where reports go.", show_default="reports/RUN")
    ] = None,
) -> None:
    """Draw the reports again, from results alone: nothing is measured, and torch is not needed."""
    from benchbox.reporters.write import write_reports
    from benchbox.results import runs as frame

    loaded = frame.load_results(*each_once(runs))
    folder = out or REPORTS / joined_name([results.name for results in loaded.results])
    show_results(loaded, write_reports(loaded, folder))


@app.command(
    epilog=_examples(
        "benchbox compare results/before results/after",
        "benchbox compare main.jsonl branch.jsonl --fail-on 'p50 > 5%' --fail-on outcome --strict",
        "benchbox compare results/cpu results/gpu --ignore provider --out reports/cpu-gpu",
    )
)
def compare(  # noqa: PLR0913  # typer makes an option of each parameter
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Results folders, or records.jsonl files; the first is the baseline.",
            show_default=False,
        ),
    ],
    *,
    fail_on: Annotated[
        list[str],
        typer.Option(
            metavar="LIMIT",
            help="Exit with 1 where this is proven: 'p50 > 5%', 'peak_memory > 10%', 'size > 1%', "
            "'cosine < 0.99', 'cosine drop > 0.001', 'max_abs_error > 1e-3', outcome.",
            default_factory=list,
            show_default=False,
        ),
    ],
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 also where a limit is neither kept nor broken.")
    ] = False,
    ignore: Annotated[
        list[str],
        typer.Option(
            metavar="PART",
            help="Pair cases that differ in this: provider, options, path, shape, seed ...",
            default_factory=list,
            show_default=False,
        ),
    ],
    no_anchor: Annotated[
        bool, typer.Option("--no-anchor", help="Do not divide drift out by the baseline.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write compare.csv, compare.md and compare.html there.", show_default=False
        ),
    ] = None,
) -> None:
    """Compare runs with the first of them: time, memory, size, parity, and what else changed.

    Exit codes: 0 no limit of --fail-on is proven to be broken, 1 one is, 2 the command line is wrong.
    """
    from benchbox.cli import compared, tables
    from benchbox.comparison import gates, reports
    from benchbox.comparison.runs import compare as compare_runs

    comparison = compare_runs(runs, ignore=ignore, anchor=not no_anchor)
    wanted = [gates.parse(text, comparison.metrics) for text in fail_on]
    if strict and not wanted:
        raise UsageError("--strict is about --fail-on: say what must not become worse, --fail-on 'p50 > 5%'")
    judgement = gates.judge(comparison, wanted)
    show(compared.comparison_table(comparison))
    if out is not None:
        written = reports.write(comparison, judgement, out)
        show_lines(tables.places([], written))
    if wanted:
        show(compared.judgement_table(judgement, strict=strict))
    raise typer.Exit(OK if judgement.passes(strict=strict) else NOT_OK)


@app.command("list", epilog=_examples("benchbox list", "benchbox list --json"))
def list_(as_json: AsJson = False) -> None:
    """List the plug-ins by kind: what they are, which can run here, what to install for the rest."""
    from benchbox.cli import tables
    from benchbox.runner import planning

    capabilities = planning.capabilities()
    if as_json:
        echo_json([asdict(capability) for capability in capabilities])
    else:
        show(tables.capabilities_table(capabilities))


@app.command(epilog=_examples("benchbox doctor", "benchbox doctor --json > doctor.json"))
def doctor(as_json: AsJson = False) -> None:
    """Look at the machine: what it is, which providers it has, what makes measurements worse."""
    from benchbox.cli import tables
    from benchbox.machine import doctor as doctors
    from benchbox.machine import environment
    from benchbox.runner import planning

    machine = environment.describe()
    findings = (*planning.name_clashes(), *doctors.diagnose(doctors.take_readings(machine)))
    backends = planning.capabilities("backends")
    if as_json:
        echo_json(
            {
                "environment": asdict(machine),
                "backends": [asdict(backend) for backend in backends],
                "findings": [asdict(finding) for finding in findings],
            }
        )
    else:
        show(tables.machine_table(machine))
        show(tables.capabilities_table(backends))
        show(tables.findings_table(findings))


@app.command(epilog=_examples("benchbox selftest", "benchbox selftest --minutes 5 --json > selftest.json"))
def selftest(
    minutes: Annotated[float, typer.Option(help="About how long it takes.", min=0.1)] = 1.5,
    as_json: AsJson = False,
) -> None:
    """Measure a case against itself, and against itself made slower: how small a difference shows here?

    Exit codes: 0 a case never differed from itself, 1 it did, 130 interrupted.
    """
    from benchbox.cli.selftest import progress, selftest_table
    from benchbox.runner import selftest as selftests

    try:
        with progress(open_console(stderr=True)) as say:
            found = selftests.run(minutes, say)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        echo_json(selftests.as_json(found))
    else:
        show(selftest_table(found))
    raise typer.Exit(OK if found.passed else NOT_OK)


@app.command(epilog=_examples("benchbox schema > benchbox.schema.json"))
def schema() -> None:
    """Print the JSON Schema of suites, for editors."""
    from benchbox.suite.editor_schema import json_schema

    echo_json(json_schema())


@cache_app.command("path", epilog=_examples("ls $(benchbox cache path)"))
def cache_path(cache: CacheFolder = None) -> None:
    """Print the folder."""
    typer.echo(_cache_folder(cache))


@cache_app.command("size", epilog=_examples("benchbox cache size"))
def cache_size(cache: CacheFolder = None) -> None:
    """Print how many artifacts are kept, and how large they are."""
    from benchbox.build import cache as caches

    folder = _cache_folder(cache)
    kept = caches.size(folder)
    typer.echo(f"{_said(kept)} in {folder}")


@cache_app.command("clear", epilog=_examples("benchbox cache clear", "benchbox cache clear --cache here"))
def cache_clear(cache: CacheFolder = None) -> None:
    """Remove everything that is kept; the next run builds it again."""
    from benchbox.build import cache as caches

    folder = _cache_folder(cache)
    removed = caches.clear(folder)
    typer.echo(f"removed {_said(removed)} from {folder}")


def exit_code(finished: Finished) -> int:
    """0 all ok or skipped, 1 some case mismatched or failed or is lost, or no reports, 130 interrupted."""
    if finished.interrupted:
        return INTERRUPTED
    records = finished.results.records
    whole = len(records) >= finished.cases and not finished.problem
    return OK if whole and all(record.outcome in ("ok", "skipped") for record in records) else NOT_OK


def main() -> None:
    """The command `benchbox`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that knows ASCII only
    try:
        app(prog_name="benchbox")
    except OSError as error:  # a full disk behind `>`: whatever else fails has a message of its own
        sys.stderr.write(f"error: {error.strerror or error}\n")
        sys.exit(NOT_OK)


def _fresh(suite: Path | None, request: Mapping[str, list[str]]) -> dict[str, Any]:
    if suite is None:
        raise UsageError("which suite? For example: benchbox run suites/vit.yaml")
    return {"suite": suite, **request}


def _run_command(suite: Path, request: Mapping[str, list[str]]) -> str:
    words = [word for name, values in request.items() for value in values for word in (f"--{name}", value)]
    return shlex.join(["benchbox", "run", str(suite), *words])


def _continued(suite: Path | None, run: Path, request: Mapping[str, list[str]]) -> dict[str, Any]:
    """A stopped run goes on as it was started, whatever has become of the suite's file."""
    from benchbox.cli import live
    from benchbox.runner import runner

    if suite is not None or any(request.values()):
        raise UsageError(
            "--resume goes on with the suite, --set, --only and --skip that the run was started with: "
            f"leave them out. Type: {live.continue_command(run)}"
        )
    loaded, started_with = runner.resumed(run)
    return {"suite": loaded, **started_with}


@contextmanager
def _interruptible(display: Display, options: Sequence[str]) -> Iterator[Observer]:
    """Shows the run; a second Ctrl-C ends it at once, and says what to type to go on."""
    try:
        with display as observer:
            yield observer
    except KeyboardInterrupt:
        _say_how_to_continue(display.folder, options)
        raise typer.Exit(INTERRUPTED) from None


def _kept_options(reports: Path, no_report: bool, cache: Path | None) -> list[str]:
    """What a run that goes on has to be told again."""
    return [
        *(["--no-report"] if no_report else []),
        *(["--reports", str(reports)] if reports != REPORTS else []),
        *(["--cache", str(cache)] if cache else []),
    ]


def _say_how_to_continue(folder: Path | None, options: Sequence[str]) -> None:
    from benchbox.cli import live

    if folder is None:
        stop("interrupted before the first case", INTERRUPTED)
    typer.echo(f"interrupted; continue with: {live.continue_command(folder, options)}", err=True)


def _show_finished(finished: Finished, options: Sequence[str]) -> None:
    from benchbox.results import runs as frame

    folder = finished.results.folder
    show_results(frame.load_results(folder), finished.reports)
    if finished.problem:
        typer.echo(f"error: {finished.problem}. Then: benchbox report {folder}", err=True)
    if finished.interrupted:
        _say_how_to_continue(folder, options)


def _said(kept: Sizes) -> str:
    from benchbox.reporters import numbers

    return f"{numbers.count(kept.artifacts, 'artifact')}, {numbers.file_mib(kept.bytes / numbers.MIB)} MiB"


def _cache_folder(given: Path | None) -> Path:
    from benchbox.build import cache as caches

    return given or caches.default_folder()
