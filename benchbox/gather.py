"""What tables and reports need of many records, taken in one pass: the records themselves are not kept.

A record of the usual size takes 15 kB as objects and 3 kB here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from benchbox import columns
from benchbox.calls import Calls
from benchbox.schema import Case, Measurement, Record

# Cases that are remembered, because other runs measured them too: as many as a suite may have.
_CASES_KEPT = 10_000


class Known(NamedTuple):
    """What is derived from a case alone."""

    case: Case
    id: str
    group: str
    cells: tuple[Any, ...]


class Gathered:
    """Cells by column and calls in flat arrays; position i belongs to the i-th record that was added."""

    def __init__(self) -> None:
        self.case_ids: list[str] = []
        self.groups: list[str] = []
        self.named: list[columns.Named] = []
        self.baselines: list[bool] = []
        self.outcomes: list[str] = []
        self.sessions: list[str | None] = []
        self.companion_sessions: list[str | None] = []
        self.calls = Calls()
        self.companion_calls = Calls()
        self._of_cases: list[tuple[Any, ...]] = []
        self._of_records: list[tuple[Any, ...]] = []
        self._known: dict[bytes, Known] = {}

    def add(self, record: Record, case_text: bytes = b"") -> str:
        """Takes what is needed of a record, and returns the id of its case.

        `case_text` is how its file spells the case, for it is quicker to see that a case is known already
        than to derive its id and labels again.
        """
        known = self._case(record.case, case_text)
        self.case_ids.append(known.id)
        self.groups.append(known.group)
        self._of_cases.append(known.cells)
        self._of_records.append(tuple([of(record) for of in _OF_RECORD]))
        self.named.append(columns.named(record))
        self.baselines.append(record.is_baseline)
        self.outcomes.append(record.outcome)
        self.sessions.append(_session(record.measurement))
        self.companion_sessions.append(_session(record.companion))
        self.calls.add(record.measurement)
        self.companion_calls.add(record.companion)
        return known.id

    def cells(self) -> dict[str, list[Any]]:
        """The columns that every table has, by name."""
        names = (*columns.OF_CASE, *columns.OF_RECORD)
        if not self.case_ids:
            return {name: [] for name in names}
        lists = (*zip(*self._of_cases, strict=True), *zip(*self._of_records, strict=True))
        return {name: list(cells) for name, cells in zip(names, lists, strict=True)}

    def _case(self, case: Case, text: bytes) -> Known:
        known = self._known.get(text)
        if known is not None and known.case == case:
            return known
        known = Known(case, case.id, case.group, tuple([of(case) for of in _OF_CASE]))
        if text and len(self._known) < _CASES_KEPT:
            self._known[text] = known
        return known


_OF_CASE = tuple(columns.OF_CASE.values())
_OF_RECORD = tuple(columns.OF_RECORD.values())


def _session(measurement: Measurement | None) -> str | None:
    return None if measurement is None else measurement.session
