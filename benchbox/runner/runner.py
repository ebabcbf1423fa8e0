"""A run: plan, build, measure in interleaved rounds, record, report.

Every case ends as a record, whatever happens to it, and a record is on the disk before the next group
begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchbox.build.cache import Cache, default_folder
from benchbox.errors import StoreError
from benchbox.machine import clock
from benchbox.machine.launcher import LOCAL, Launcher
from benchbox.reporters.write import write_reports
from benchbox.results import store
from benchbox.runner.interrupt import Interrupt
from benchbox.runner.observer import Observer, Silent
from benchbox.runner.progress import progress_of
from benchbox.runner.work import Records, Work
from benchbox.schema import paths, wire
from benchbox.schema.asked import Suite
from benchbox.schema.seen import Environment
from benchbox.suite.load import from_source, load_suite
from benchbox.suite.selection import select


@dataclass(frozen=True)
class Request:
    """What the command line said beside the suite; it is part of the command that reproduces a row."""

    overrides: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finished:
    """What a run left: its `results`, the files of its `reports`, and whether it was `interrupted`.

    `problem` says why there are no reports where they were asked for: the results are there all the same.
    `cases` is how many there are in the suite, each of which should have its record. `folder` is what
    `benchbox.load_results` and `benchbox.compare` take.
    """

    results: store.Results
    reports: tuple[Path, ...]
    interrupted: bool = False
    problem: str = ""
    cases: int = 0

    @property
    def folder(self) -> Path:
        """Where the results are."""
        return self.results.folder


def run(  # noqa: PLR0913  # the front door: one keyword for each option of the command
    suite: Suite | str | Path,
    *,
    overrides: Sequence[str] = (),
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    results: str | Path = "results",
    reports: str | Path | None = "reports",
    cache: str | Path | None = None,
    resume: str | Path | None = None,
    observer: Observer | None = None,
    launcher: Launcher = LOCAL,
) -> Finished:
    """Runs a suite (a path, or one already loaded) and writes its reports; gives what they are, `Finished`.

    `benchbox.load_results(finished.folder)` has the tables; `finished.results.records` are the records,
    `finished.reports` the files that were written.

    `overrides`, `only` and `skip` are those of the command line; `resume` is a results folder whose
    unfinished cases are done, and then `suite` may be that folder's own (see `resumed`). `reports=None`
    writes none; `launcher` says where workers and builders run. Raises SuiteError and StoreError; whatever
    happens to a case becomes its record.
    """
    watch = clock.Stopwatch.start()
    loaded, request = _resolve(suite, overrides, (only, skip))
    here = launcher.machine.describe()
    if resume is None:
        content = _suite_file(loaded, request, Path(results))
        book = store.create(Path(results), content, here, name=loaded.name, now=clock.now())
        before = None
    else:
        before = _reopen(Path(resume), here)
        book = store.RunFolder(before.folder)
    done = before.records if before else ()
    finished = {record.case.id for record in done}
    todo = [case for case in loaded.cases if case.id not in finished]
    say = observer or Silent()
    say.started(book.folder, todo, done)
    with Interrupt(say) as interrupt:
        work = Work(
            suite=loaded,
            name=book.name,
            cache=Cache(Path(cache) if cache else default_folder()),
            launcher=launcher,
            say=say,
            interrupt=interrupt,
            time=progress_of(loaded, len(todo)),
            overrides=request.overrides,
        )
        with closing(work.records(todo)) as made:
            for records in made:
                _keep(records, book, say)
    if todo:
        book.took(watch.seconds())
    kept = before if before and not todo else store.load(book.folder)
    try:
        drawn, problem = _write_reports(book.folder, reports), ""
    except StoreError as error:
        drawn, problem = (), str(error)
    unfinished = len(kept.records) < len(loaded.cases)
    return Finished(kept, drawn, interrupt.asked and unfinished, problem, len(loaded.cases))


def _keep(records: Records, book: store.RunFolder, say: Observer) -> None:
    """On the disk first, and then said."""
    if records:
        book.append(records)
    for record in records:
        say.recorded(record)


def resumed(folder: str | Path) -> tuple[Suite, Mapping[str, Any]]:
    """The suite of a stopped run as it was resolved then, and what else the command line had said."""

    kept = store.read_suite(Path(folder))
    try:
        beside = Path(folder).absolute().parent / paths.expanded(kept.get("folder", "."))
        file = paths.expanded(kept["file"])
        loaded = from_source(kept["source"], file, beside if beside.is_dir() else None)
        request = {name: list(kept["request"][name]) for name in ("overrides", "only", "skip")}
    except (KeyError, TypeError) as error:
        raise StoreError(f"{folder}/{store.SUITE} is not a suite that benchbox wrote: {error}") from error
    return loaded, request


def _resolve(
    suite: Suite | str | Path, overrides: Sequence[str], terms: tuple[Sequence[str], Sequence[str]]
) -> tuple[Suite, Request]:
    loaded = suite if isinstance(suite, Suite) else load_suite(suite, overrides)
    only, skip = terms
    cases = select(loaded.cases, only, skip)
    return replace(loaded, cases=cases), Request(
        tuple(map(paths.without_home, overrides)), tuple(only), tuple(skip)
    )


def _suite_file(suite: Suite, request: Request, results: Path) -> Mapping[str, Any]:
    return {
        "name": suite.name,
        "file": paths.without_home(suite.file),
        "folder": paths.path_between(suite.folder, results.absolute()),
        "source": suite.source,
        "request": wire.encode(request),
        "measure": wire.encode(suite.measure),
        "parity": wire.encode(suite.parity),
        "cases": [case.id for case in suite.cases],
    }


def _reopen(folder: Path, here: Environment) -> store.Results:
    kept = store.load(folder)
    if kept.environment.machine != here.machine:
        raise StoreError(
            f"{folder} was measured on {kept.environment.machine}, and this is {here.machine}: numbers of "
            "two machines do not belong in one run. Start a new one, and compare the two."
        )
    return kept


def _write_reports(folder: Path, reports: str | Path | None) -> tuple[Path, ...]:
    if reports is None:
        return ()
    from benchbox.results import runs

    return tuple(write_reports(runs.load_results(folder), Path(reports) / folder.name))
