"""Narrowing the matrix: `--only path=*int8* --only batch=1 --skip provider=cuda`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from benchbox.errors import UsageError
from benchbox.schema.asked import Case


def select(cases: Sequence[Case], only: Sequence[str], skip: Sequence[str]) -> tuple[Case, ...]:
    """The cases that `only` names and `skip` does not.

    A term is `field=glob`, or a glob or a part of the title, or the beginning of the id. Terms of `only`
    for the same field are alternatives; different fields must all match. Raises UsageError for an unknown
    field, for a term that matches no case, and where no case is left.
    """
    wanted: dict[str, set[str]] = {}
    for term in only:
        wanted.setdefault(_field(term, cases), set()).update(_matching(term, cases, "--only"))
    unwanted = {id_ for term in skip for id_ in _matching(term, cases, "--skip")}
    left = tuple(
        case for case in cases if case.id not in unwanted and all(case.id in ids for ids in wanted.values())
    )
    if cases and not left:
        raise UsageError(
            "--only and --skip together leave no case. Cases:\n" + _listing(c.title for c in cases)
        )
    return left


def _field(term: str, cases: Sequence[Case]) -> str:
    """The field that a term names; empty for a term that is a part of the title."""
    name, equals, _ = term.partition("=")
    if not equals or not re.fullmatch(r"\w+", name.strip()):
        return ""
    fields = sorted({field for case in cases for field in _values(case)})
    if name.strip() not in fields:
        near = difflib.get_close_matches(name.strip(), fields, n=1, cutoff=0.5)
        guess = f" Did you mean '{near[0]}='?" if near else ""
        raise UsageError(f"{term!r}: unknown field {name.strip()!r}.{guess} Fields: {', '.join(fields)}.")
    return name.strip()


def _matching(term: str, cases: Sequence[Case], flag: str) -> set[str]:
    field = _field(term, cases)
    pattern = _folded(term.partition("=")[2] if field else term)
    found = {case.id for case in cases if _matches(case, field, pattern)}
    if found:
        return found
    if not field:
        raise UsageError(
            f"{flag} {term!r} matches no case. Cases:\n" + _listing(case.title for case in cases)
        )
    exist = sorted({_values(case)[field][0] for case in cases if field in _values(case)}, key=_natural)
    raise UsageError(f"{flag} {term!r} matches no case. There is: {', '.join(exist[:20])}.")


def _matches(case: Case, field: str, pattern: str) -> bool:
    if field == "id" or (not field and case.id.startswith(pattern)):
        return bool(pattern) and (case.id.startswith(pattern) or fnmatchcase(case.id, pattern))
    if not field:
        title = _folded(case.title)
        return bool(pattern) and (pattern in title or fnmatchcase(title, pattern))
    return any(fnmatchcase(_folded(value), pattern) for value in _values(case).get(field, ()))


def _values(case: Case) -> dict[str, tuple[str, ...]]:
    """What each field of a case may be called, in full and in short, the name for listings first."""
    return {
        "id": (case.id,),
        "model": (case.model.name,),
        "family": (case.model.family,),
        "path": (case.path_label, "+".join(step.word for step in case.path)),
        "backend": (case.backend.label, case.backend.word),
        "provider": tuple(
            name
            for provider in (case.backend.provider, *case.backend.providers[1:])
            for name in (provider, provider.removesuffix("ExecutionProvider"))
        ),
        "threads": (str(case.backend.threads.intra_op),),
        **{name: (str(size),) for name, size in case.shape.items()},
    }


def _folded(text: str) -> str:
    """Case and spaces do not count, so that `onnx+fp16` finds `onnx + fp16`."""
    return re.sub(r"\s+", "", text).lower()


def _natural(text: str) -> tuple[int, str]:
    return (int(text), text) if text.isascii() and text.isdigit() else (-1, text)


def _listing(titles: Iterable[str]) -> str:
    lines = list(titles)
    more = [f"... and {len(lines) - 20} more"] if len(lines) > 20 else []
    return "\n".join([*(f"  {line}" for line in lines[:20]), *more])
