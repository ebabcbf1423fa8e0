"""Cases -> records, in memory: no suite file, no folder of results, no report.

It lies in the runner's room, because only this room looks at a case, builds it and measures it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchbox.build.cache import Cache, default_folder
from benchbox.machine.launcher import LOCAL, Launcher
from benchbox.runner.interrupt import Interrupt
from benchbox.runner.observer import Observer, Silent
from benchbox.runner.progress import progress_of
from benchbox.runner.work import Work
from benchbox.schema.asked import Case, MeasurePlan, ParityPlan, Suite
from benchbox.schema.seen import Record


def measure_cases(  # noqa: PLR0913  # the seam: what is measured and how, each with a default of its own
    cases: Sequence[Case],
    plan: MeasurePlan | None = None,
    parity: ParityPlan | None = None,
    *,
    cache: str | Path | None = None,
    folder: str | Path = ".",
    launcher: Launcher = LOCAL,
    observer: Observer | None = None,
) -> tuple[Record, ...]:
    """The record of every case, built and measured as `run` would; nothing is written but into `cache`.

    Cases of one group (model, data, shapes) are measured side by side, in interleaved rounds. Local paths in
    the cases are taken from `folder`. Whatever happens to a case becomes its record; after Ctrl-C the cases
    that were not done have none.
    """
    plan, parity = plan or MeasurePlan(), parity or ParityPlan()
    suite = Suite("cases", "", tuple(cases), parity, plan, folder=Path(folder))
    say = observer or Silent()
    with Interrupt(say) as interrupt:
        work = Work(
            suite=suite,
            name=suite.name,
            cache=Cache(Path(cache) if cache else default_folder()),
            launcher=launcher,
            say=say,
            interrupt=interrupt,
            time=progress_of(suite, len(cases)),
        )
        made: list[Record] = []
        for records in work.records(suite.cases):
            made += records
            for record in records:
                say.recorded(record)
    return tuple(made)
