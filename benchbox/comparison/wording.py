"""What a comparison says in words, for the terminal and for every report. Nothing is escaped here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from benchbox.comparison.gates import Judgement, Ruling
from benchbox.comparison.rows import Change, Comparison, Row, Run, Versus
from benchbox.numerics.stats import Interval
from benchbox.reporters import labels, numbers
from benchbox.reporters import wording as shared


def counts(versus: Versus) -> str:
    """`2 slower, 5 equivalent, 1 only in A`: how the rows came out."""
    words = Counter(_kind(row, versus) for row in versus.rows)
    return ", ".join(f"{count:,} {word}" for word, count in words.items()) or "no case in either"


def notes(row: Row) -> tuple[str, ...]:
    """What the columns of a row do not say: a changed outcome, differences of the case, other bytes."""
    return tuple(_notes(row))


def only_in(row: Row, versus: Versus) -> str:
    """`only in A`; empty for a pair."""
    if row.pair.before and row.pair.after:
        return ""
    return f"only in {versus.before.letter if row.pair.before else versus.after.letter}"


def drift(versus: Versus) -> tuple[str, ...]:
    """What the ratios know of the drift between the two runs; each sentence with how many rows it is for."""
    return tuple(_drift(versus))


def unpaired(versus: Versus) -> tuple[str, ...]:
    """What could have been paired, and what to type."""
    several = sum(1 for row in versus.rows if row.pair.rivals)
    found = [
        f"{numbers.count(count, 'more pair')} with --ignore {name}"
        for name, count in versus.would_pair.items()
    ]
    if several:
        have = "has" if several == 1 else "have"
        found.append(f"{numbers.count(several, 'case')} {have} several as near in the other run, and no pair")
    return tuple(found)


def unreadable(comparison: Comparison) -> tuple[str, ...]:
    """Records that are missing from the comparison."""
    return tuple(f"{run.letter}: {run.damage}" for run in comparison.runs if run.damage)


def findings(judgement: Judgement) -> tuple[tuple[str, str, str], ...]:
    """What did not pass: state, gate, and what of which row; failures first."""
    rows = [_finding(finding) for finding in (*judgement.failed, *judgement.inconclusive)]
    idle = [("inconclusive", gate.text, "no pair of cases has it in both runs") for gate in judgement.idle]
    return (*rows, *idle)


def verdict(row: Row) -> str:
    """The verdict; `anchor` for a baseline of which nothing is proven but that there was drift."""
    return "anchor" if row.anchored == "anchor" and row.verdict == "inconclusive" else row.verdict


def reading(first: Run) -> str:
    """How ratios, intervals and verdicts are to be read: as the first run was measured."""
    confidence, margin = numbers.percent(first.confidence), numbers.percent(first.margin)
    return f"Ratios above 1 are slower. {shared.intervals(confidence)} Verdicts are at a margin of {margin}."


def ratio(change: Change, *, narrow: bool = False) -> str:
    """`1.05 (1.02 to 1.08)`; empty where not known."""
    low, high = (change.ratio.low, change.ratio.high) if change.ratio else (None, None)
    return numbers.ratio(change.factor, low, high, narrow=narrow)


def bounds(change: Change) -> str:
    """`1.02 to 1.08`: the interval of a ratio."""
    if change.ratio is None:
        return ""
    return numbers.ratio_interval(change.ratio.low, change.ratio.high, change.ratio.point)


def both(change: Change, say: Callable[[float | None], str]) -> str:
    """`391 → 402`; one of them where the two read the same, or where only one is known."""
    return " → ".join(dict.fromkeys(filter(None, (say(change.before), say(change.after)))))


def standing(row: Row) -> str:
    """The verdict and how the ratio was taken: `slower (anchored)`."""
    how = {"plain": "not anchored"}.get(row.anchored, row.anchored)
    return " ".join(filter(None, (row.verdict, f"({how})" if how else "")))


def proven(interval: Interval | None, margin: float) -> str:
    """`grew` or `shrank` where the interval proves it and it is beyond the margin; else empty."""
    if interval is None:
        return ""
    if interval.low > 1 and interval.point >= 1 + margin:
        return "grew"
    return "shrank" if interval.high < 1 and interval.point <= 1 / (1 + margin) else ""


def _kind(row: Row, versus: Versus) -> str:
    return only_in(row, versus) or verdict(row) or "not ranked"


def _notes(row: Row) -> Iterator[str]:
    before, after = row.outcome
    if before != after and row.pair.before and row.pair.after:
        yield f"outcome {before} -> {after}"
    for difference in row.pair.differences:
        yield f"{difference.name} {difference.before} -> {difference.after}"
    if row.same_artifact is False:
        yield "another artifact: its bytes differ"
    if row.pair.before and row.pair.after and row.pair.before.measurement and row.pair.after.measurement:
        yield from _versions(row.pair.before.measurement.versions, row.pair.after.measurement.versions)


def _versions(before: object, after: object) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys([*before, *after]):
            if before.get(name) != after.get(name):
                yield f"{name} {before.get(name, 'absent')} -> {after.get(name, 'absent')}"


def _drift(versus: Versus) -> Iterator[str]:
    anchored = sum(row.anchored == "anchored" for row in versus.rows)
    moved = [
        numbers.number(row.latency.ratio.point, 3)
        for row in versus.rows
        if row.anchored == "anchor" and row.latency.ratio
    ]
    if anchored:
        yield (
            f"{_rows(anchored)} anchored: time over the baseline's in the same rounds, so that drift between "
            f"the runs cancels. The baselines, unchanged, took {_listed(moved)} times as long in "
            f"{versus.after.letter}; they are not ranked by that."
        )
    for reason, count in versus.reasons_plain.items():
        yield (
            f"{_rows(count)} not anchored ({reason}): drift between the runs is not in the intervals "
            f"(shared machines: 15 to 30 % over minutes)."
        )


def _rows(count: int) -> str:
    return f"{numbers.count(count, 'ratio')} {'is' if count == 1 else 'are'}"


def _listed(words: Sequence[str]) -> str:
    shown = ", ".join(dict.fromkeys(words[:6]))
    return f"{shown} ..." if len(words) > 6 else shown or "an unknown number of"


def _finding(finding: Ruling) -> tuple[str, str, str]:
    letters = f"{finding.versus.before.letter} -> {finding.versus.after.letter}"
    where = f"{labels.in_full(finding.row.heading, finding.row.label)} ({letters})"
    return finding.state, finding.gate.text, f"{where}: {finding.reason}"
