"""What tables and reports need of many records, taken in one pass: the records themselves are not kept.

A record of the usual size takes 15 kB as objects and 3 kB here.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchbox.numerics.stats import Ints
from benchbox.results import columns
from benchbox.results.calls import Calls
from benchbox.schema.asked import Case
from benchbox.schema.seen import Measurement, Record

# Cases that are remembered, because other runs measured them too: as many as a suite may have.
_CASES_KEPT = 10_000

# Records that are taken apart together: one at a time takes half as long again.
_BATCH = 32


class Known(NamedTuple):
    """What is derived from a case alone."""

    id: str
    group: str
    cells: columns.Cells


class Gathered:
    """Cells by column and calls in flat arrays; position i belongs to the i-th record that was added."""

    def __init__(self) -> None:
        self._named: list[columns.Named] = []
        self._sessions: list[str | None] = []
        self._companion_sessions: list[str | None] = []
        self._calls, self._companion_calls = Calls(), Calls()
        self._cases: list[Known] = []
        self._case_numbers = array("q")
        self._of_records: dict[str, list[Any]] = columns.of_records([])
        self._waiting: list[Record] = []
        self._known: dict[bytes, int] = {}

    def add(self, record: Record, case_text: bytes = b"") -> str:
        """Takes what is needed of a record, and returns the id of its case.

        `case_text` is how its line spells the case (nothing: not known), for it is quicker to see that a case
        is known already than to derive its id and labels again.
        """
        number = self._known.get(case_text) if case_text else None
        if number is None:
            number = self._learn(record.case, case_text)
        self._case_numbers.append(number)
        self._waiting.append(record)
        if len(self._waiting) == _BATCH:
            self._take_apart()
        return self._cases[number].id

    @property
    def case_ids(self) -> list[str]:
        """The id of each record's case."""
        ids = [known.id for known in self._cases]
        return [ids[number] for number in self._case_numbers]

    @property
    def groups(self) -> list[str]:
        """The group of each record's case."""
        groups = [known.group for known in self._cases]
        return [groups[number] for number in self._case_numbers]

    @property
    def outcomes(self) -> list[str]:
        """How each record's case ended."""
        return self._taken["outcome"]

    @property
    def baselines(self) -> list[bool]:
        """Whether each record is a baseline's."""
        return self._taken["is_baseline"]

    @property
    def named(self) -> list[columns.Named]:
        """What of each record goes into columns whose names are not known before."""
        self._take_apart()
        return self._named

    @property
    def sessions(self) -> list[str | None]:
        """The session in which each record was measured; None where it was not."""
        self._take_apart()
        return self._sessions

    @property
    def companion_sessions(self) -> list[str | None]:
        """The session in which the baseline beside each record was measured; None where none was."""
        self._take_apart()
        return self._companion_sessions

    @property
    def calls(self) -> Calls:
        """Every call of the measurements."""
        self._take_apart()
        return self._calls

    @property
    def companion_calls(self) -> Calls:
        """Every call of the baselines that were measured beside them."""
        self._take_apart()
        return self._companion_calls

    def cells(self, repeated: Callable[[list[Any], Ints], Any]) -> dict[str, Any]:
        """The columns that every table has, by name. What is the case's is given to `repeated`: the cells of
        every case once, and of each row the number of its case."""
        numbers = np.frombuffer(self._case_numbers, dtype=np.int64)
        once = columns.in_columns([known.cells for known in self._cases], columns.CASE_NAMES)
        both = {name: repeated(cells, numbers) for name, cells in once.items()} | self._taken
        return {name: both[name] for name in columns.NAMES}

    @property
    def _taken(self) -> dict[str, list[Any]]:
        self._take_apart()
        return self._of_records

    def _take_apart(self) -> None:
        records, self._waiting = self._waiting, []
        if not records:
            return
        for name, cells in columns.of_records(records).items():
            self._of_records[name] += cells
        self._named += [columns.named(record) for record in records]
        self._sessions += [_session(record.measurement) for record in records]
        self._companion_sessions += [_session(record.companion) for record in records]
        self._calls.add([record.measurement for record in records])
        self._companion_calls.add([record.companion for record in records])

    def _learn(self, case: Case, text: bytes) -> int:
        number = len(self._cases)
        self._cases.append(Known(case.id, case.group, columns.of_case(case)))
        if text and len(self._known) < _CASES_KEPT:
            self._known[text] = number
        return number


def _session(measurement: Measurement | None) -> str | None:
    return None if measurement is None else measurement.session
