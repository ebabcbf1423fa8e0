"""Where the time of a run went: seconds by what they were spent on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchbox.reporters import numbers

if TYPE_CHECKING:
    from benchbox.results.runs import Runs

# In the order in which a run does them; what is not named here comes after them.
_ORDER = (
    "ask what can run", "reference", "build", "load", "warm up", "measure", "canary", "wait for quiet",
    "verify", "the rest",
)  # fmt: skip
REST = "the rest"


@dataclass(frozen=True)
class Part:
    """What was done, for how long, and which share of the whole that is, out of 100."""

    what: str
    seconds: float
    width: float

    @property
    def said(self) -> str:
        """`1:22 (30 %)`."""
        return f"{minutes(self.seconds)} ({self.share})"

    @property
    def share(self) -> str:
        """`30 %`."""
        return numbers.percent(self.width / 100, 0)


@dataclass(frozen=True)
class Timeline:
    """All of it, and its parts."""

    seconds: float
    parts: tuple[Part, ...]

    @property
    def said(self) -> str:
        """`4:39 in all.`"""
        return f"{minutes(self.seconds)} in all."


def of_runs(runs: Runs) -> Timeline | None:
    """Of all runs together; None where none has kept its time."""
    spent: dict[str, float] = {}
    rest = 0.0
    for results in runs.results:
        of_cases = [item for record in results.records for item in record.seconds.items()]
        for what, seconds in of_cases:
            spent[what] = spent.get(what, 0.0) + seconds
        rest += max(0.0, sum(results.wall_seconds) - sum(seconds for _, seconds in of_cases))
    spent = {**spent, REST: rest}
    total = sum(spent.values())
    if not total:
        return None
    known = [what for what in _ORDER if spent.get(what, 0) > 0]
    others = [what for what in spent if what not in _ORDER and spent[what] > 0]
    return Timeline(
        total, tuple(Part(what, spent[what], 100 * spent[what] / total) for what in [*known, *others])
    )


def minutes(seconds: float) -> str:
    """`0:05`, `4:39`, `1:02:05`."""
    whole, left = divmod(round(seconds), 60)
    hours, rest = divmod(whole, 60)
    return f"{hours}:{rest:02d}:{left:02d}" if hours else f"{rest}:{left:02d}"
