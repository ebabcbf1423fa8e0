"""Which case of one run is which case of another, and in what the two differ.

The same case has the same id and is paired first. What is left is paired by what a case is (model, path,
backend, provider, shapes), where the rest of it (threads, opset ...) may differ: a run on eight cores has
other thread counts than one on two, and is compared all the same. Of several candidates the one that
differs in the least is taken; where two differ in equally little, none is.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchbox import plugins
from benchbox.errors import UsageError
from benchbox.reporters import labels
from benchbox.schema.asked import Case
from benchbox.schema.seen import Record

Field = Callable[[Case], Any]


def _threads(case: Case) -> str:
    return labels.thread_counts(case.backend.threads.intra_op, case.backend.threads.inter_op)


# What a case is.
_IDENTITY: Mapping[str, Field] = {
    "model": lambda c: [c.model.family, c.model.source, c.model.task],
    "weights": lambda c: [c.model.weights, c.model.trust_remote_code],
    "seed": lambda c: c.model.seed,
    "config": lambda c: c.model.config,
    "lora": lambda c: [[adapter.source, adapter.weight] for adapter in c.model.lora],
    "path": lambda c: c.path_label,
    "backend": lambda c: c.backend.word,
    "options": lambda c: c.backend.options,
    "provider": lambda c: c.backend.providers,
    "shape": lambda c: c.shape,
}

# What may differ between the two of a pair, and is shown where it does.
_SHOWN: Mapping[str, Field] = {
    "threads": _threads,
    "provider_options": lambda c: c.backend.provider_options,
    "opset": lambda c: c.opset,
    "dynamic_axes": lambda c: c.dynamic_axes,
    "attention": lambda c: c.model.attention,
    "dataset": lambda c: [c.dataset.word, c.dataset.options] if c.dataset.options else c.dataset.word,
}

# What does not change a measurement: how the user called the model, where an interpreter lies.
_NAMES: Mapping[str, Field] = {
    "name": lambda c: c.model.name,
    "python": lambda c: c.backend.python,
}

# 100 x 100 cases that differ only in what may differ take a second; no reader tells more of them apart.
_MOST_CANDIDATES = 10_000

IGNORABLE = tuple(_IDENTITY)
"""What `--ignore` takes: the parts of a case that pairs have in common unless told otherwise."""


@dataclass(frozen=True)
class Difference:
    """A fact that the two sides do not share, as text."""

    name: str
    before: str
    after: str


@dataclass(frozen=True)
class Pair:
    """Two records of one case, or a record that has no counterpart; at least one is there.

    `rivals` is how many cases of the other run might have been its counterpart, where it has none.
    """

    before: Record | None
    after: Record | None
    rivals: int = 0

    @property
    def differences(self) -> tuple[Difference, ...]:
        """In what the two cases differ."""
        if self.before is None or self.after is None:
            return ()
        return differences(self.before.case, self.after.case)


def pair(before: Sequence[Record], after: Sequence[Record], ignore: Collection[str] = ()) -> tuple[Pair, ...]:
    """Every record of both, in the order of `before`, and after them what only `after` has.

    Raises UsageError for a part of a case that cannot be ignored.
    """
    check_ignorable(ignore)
    partner = _same_id(before, after)
    ours, theirs = _left(before, partner), _left(after, partner.values())
    our_rivals: dict[int, int] = {}
    their_rivals: dict[int, int] = {}
    for mine, others in _same_kind(before, after, ours, theirs, ignore):
        found = _nearest([before[i].case for i in mine], [after[i].case for i in others])
        partner |= {mine[i]: others[j] for i, j in found.items()}
        our_rivals |= dict.fromkeys(mine, len(others))
        their_rivals |= dict.fromkeys(others, len(mine))
    pairs = [
        Pair(record, after[partner[i]]) if i in partner else Pair(record, None, our_rivals.get(i, 0))
        for i, record in enumerate(before)
    ]
    only = [Pair(None, after[i], their_rivals.get(i, 0)) for i in _left(after, partner.values())]
    return (*pairs, *only)


def check_ignorable(ignore: Iterable[str]) -> None:
    """Raises UsageError for a word that `--ignore` does not know. What may differ anyway is known too."""
    for word in ignore:
        if word not in (*_IDENTITY, *_SHOWN, *_NAMES):
            raise UsageError(plugins.unknown(word, IGNORABLE, what="part of a case for --ignore"))


def would_pair(pairs: Sequence[Pair], ignored: Collection[str]) -> Mapping[str, int]:
    """How many more pairs there would be if one more part of a case were ignored, by its name."""
    before = [p.before for p in pairs if p.before and not p.after]
    after = [p.after for p in pairs if p.after and not p.before]
    if not before or not after:
        return {}
    counts = {
        name: sum(p.before is not None and p.after is not None for p in pair(before, after, {*ignored, name}))
        for name in _IDENTITY
        if name not in ignored
    }
    return {name: count for name, count in counts.items() if count}


def model_key(case: Case) -> str:
    """The same for the same model, whatever it is called."""
    return _key([_IDENTITY[name](case) for name in ("model", "weights", "seed", "config", "lora")])


def differences(before: Case, after: Case) -> tuple[Difference, ...]:
    """In what two cases differ; a model's name and an interpreter's place are no differences."""
    return tuple(
        Difference(name, _text(of(before)), _text(of(after)))
        for name, of in {**_IDENTITY, **_SHOWN}.items()
        if _key(of(before)) != _key(of(after))
    )


def _same_id(before: Sequence[Record], after: Sequence[Record]) -> dict[int, int]:
    ids = {record.case.id: i for i, record in enumerate(after)}
    return {i: ids[record.case.id] for i, record in enumerate(before) if record.case.id in ids}


def _left(records: Sequence[Record], taken: Iterable[int]) -> list[int]:
    known = set(taken)
    return [i for i in range(len(records)) if i not in known]


def _same_kind(
    before: Sequence[Record],
    after: Sequence[Record],
    ours: Sequence[int],
    theirs: Sequence[int],
    ignore: Collection[str],
) -> Iterable[tuple[list[int], list[int]]]:
    """Positions on both sides of the cases that are the same but for what may differ."""
    groups: dict[str, tuple[list[int], list[int]]] = {}
    for side, (records, positions) in enumerate(((before, ours), (after, theirs))):
        for i in positions:
            kind = _key([of(records[i].case) for name, of in _IDENTITY.items() if name not in ignore])
            groups.setdefault(kind, ([], []))[side].append(i)
    return [(mine, others) for mine, others in groups.values() if mine and others]


def _nearest(before: Sequence[Case], after: Sequence[Case]) -> dict[int, int]:
    """Positions of cases that are each other's nearest and have no second as near."""
    if len(before) * len(after) > _MOST_CANDIDATES:
        return {}
    distances = {(i, j): _distance(a, b) for i, a in enumerate(before) for j, b in enumerate(after)}
    found: dict[int, int] = {}
    while True:
        for_before = _one_nearest(distances, 0)
        for_after = _one_nearest(distances, 1)
        mutual = {i: j for i, j in for_before.items() if for_after.get(j) == i}
        if not mutual:
            return found
        found |= mutual
        taken = set(mutual.values())
        distances = {(i, j): d for (i, j), d in distances.items() if i not in mutual and j not in taken}


def _one_nearest(distances: Mapping[tuple[int, int], tuple[int, int]], side: int) -> dict[int, int]:
    """For each position of a side the nearest of the other, where it is the only one as near."""
    candidates: dict[int, list[tuple[tuple[int, int], int]]] = {}
    for positions, distance in distances.items():
        candidates.setdefault(positions[side], []).append((distance, positions[1 - side]))
    nearest = {}
    for position, found in candidates.items():
        least, other = min(found)
        if Counter(distance for distance, _ in found)[least] == 1:
            nearest[position] = other
    return nearest


def _distance(one: Case, other: Case) -> tuple[int, int]:
    """In how many parts that count the two differ, and in how many that do not."""
    return len(differences(one, other)), sum(of(one) != of(other) for of in _NAMES.values())


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return json.dumps(value)
