"""`--fail-on`: what must not become worse from one run to the next, and whether that is proven.

    p50 > 5%               latency grew by more than 5 %; also peak_memory, peak_above_empty, size
    cosine < 0.99          the worst cosine in the later run; also every metric of the task
    cosine drop > 0.001    it fell by more than that; also every metric of the task
    max_abs_error > 1e-3   in the later run
    outcome                a case that was ok is mismatch, failed, skipped or missing

What varies between processes fails only where its interval proves it: the low end is beyond the limit. Where
the interval holds the limit, the gate is inconclusive. An anchor's latency is what others are measured
against, so no gate judges it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from benchbox import plugins
from benchbox.comparison.rows import Change, Comparison, Row, Versus
from benchbox.errors import UsageError
from benchbox.reporters.numbers import growth, judged
from benchbox.schema.seen import less_is_better

Kind = Literal["growth", "below", "drop", "above", "outcome"]
State = Literal["passed", "failed", "inconclusive", "not judged"]

_GROWTH: Mapping[str, Callable[[Row], Change]] = {
    "p50": lambda row: row.latency,
    "peak_memory": lambda row: row.peak_memory,
    "peak_above_empty": lambda row: row.peak_above_empty,
    "size": lambda row: row.size,
}
_CERTAIN = ("size",)
# What every parity that was judged has, unless it is not a number.
_ALWAYS = ("cosine", "max_abs_error")
# Of shares: 0.95 - 0.94 is 0.010000000000000009, and no more than a hundredth.
_ROUNDING = 1e-12

_FORM = re.compile(r"\s*(\w+)(?:\s+(drop))?\s*([<>])\s*(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)\s*(%?)\s*")


@dataclass(frozen=True)
class Gate:
    """One `--fail-on`: `limit` is relative for growth (0.05 for 5 %), else a value of the quantity."""

    text: str
    name: str
    kind: Kind
    limit: float = 0.0


@dataclass(frozen=True)
class Ruling:
    """What a gate says of a row; `reason` where it did not pass."""

    gate: Gate
    versus: Versus
    row: Row
    state: State
    reason: str = ""


@dataclass(frozen=True)
class Judgement:
    """What all gates say. `idle` are gates that could judge no row at all."""

    findings: tuple[Ruling, ...]
    idle: tuple[Gate, ...]

    @property
    def failed(self) -> tuple[Ruling, ...]:
        """Proven to be beyond the limit."""
        return tuple(finding for finding in self.findings if finding.state == "failed")

    @property
    def inconclusive(self) -> tuple[Ruling, ...]:
        """Neither proven to be beyond the limit nor proven not to be."""
        return tuple(finding for finding in self.findings if finding.state == "inconclusive")

    def passes(self, *, strict: bool) -> bool:
        """Whether nothing failed; with `strict`, whether everything is proven to have passed."""
        return not self.failed and not (strict and (self.inconclusive or self.idle))


def parse(text: str, metrics: Sequence[str]) -> Gate:
    """The gate that a text stands for; `metrics` are the task's. Raises UsageError with what is allowed."""
    if text.strip() == "outcome":
        return Gate("outcome", "outcome", "outcome")
    found = _FORM.fullmatch(text)
    if found is None:
        raise UsageError(_cannot_read(text, metrics))
    name, drop, sign, number, percent = found.groups()
    if name == "outcome":
        raise UsageError(f"--fail-on {text!r}: write 'outcome'")
    if name not in _names(metrics):
        raise UsageError(f"--fail-on {text!r}: {plugins.unknown(name, _names(metrics), what='quantity')}")
    limit = float(Decimal(number) / 100) if percent else float(number)
    shape = (drop or "", sign, percent)
    forms = _forms(name)
    share = forms is _FORMS["agreement"]
    if shape not in forms or (share and limit > 1):
        unit = "%" if share and float(number) > 1 else ""  # 90 of a share is 90 %
        alike = [form for form in forms if form[2] == unit] or [*forms]
        written = " or ".join(repr(_written(name, form, number)) for form in alike)
        raise UsageError(f"--fail-on {text!r}: write {written}")
    return Gate(text.strip(), name, forms[shape], limit)


def judge(comparison: Comparison, gates: Sequence[Gate]) -> Judgement:
    """What every gate says of every row of every later run."""
    findings = tuple(
        Ruling(gate, versus, row, *_judge(gate, row))
        for versus in comparison.versus
        for row in versus.rows
        for gate in gates
    )
    judged = {finding.gate for finding in findings if finding.state != "not judged"}
    return Judgement(findings, tuple(gate for gate in dict.fromkeys(gates) if gate not in judged))


_FORMS: Mapping[str, Mapping[tuple[str, str, str], Kind]] = {
    "growth": {("", ">", "%"): "growth"},
    "error": {("", ">", ""): "above"},
    "agreement": {
        ("", "<", ""): "below",
        ("drop", ">", ""): "drop",
        ("", "<", "%"): "below",
        ("drop", ">", "%"): "drop",
    },
}


def _forms(name: str) -> Mapping[tuple[str, str, str], Kind]:
    """How a limit on a quantity is written: (drop, sign, percent)."""
    if name in _GROWTH:
        return _FORMS["growth"]
    return _FORMS["error"] if less_is_better(name) else _FORMS["agreement"]


def _written(name: str, form: tuple[str, str, str], number: str) -> str:
    drop, sign, percent = form
    return " ".join(filter(None, (name, drop, sign, number + percent)))


def _names(metrics: Sequence[str]) -> tuple[str, ...]:
    return (*_GROWTH, "cosine", "max_abs_error", *metrics, "outcome")


def _cannot_read(text: str, metrics: Sequence[str]) -> str:
    word = (re.match(r"\s*(\w+)", text) or [""])[0].strip()
    if word and word not in _names(metrics):
        return f"--fail-on {text!r}: {plugins.unknown(word, _names(metrics), what='quantity')}"
    return (
        f"--fail-on {text!r} cannot be read. Write a quantity, '>' or '<' and a limit: 'p50 > 5%', "
        f"'cosine < 0.99', 'cosine drop > 0.001', 'max_abs_error > 1e-3', or 'outcome'. "
        f"Quantities: {', '.join(_names(metrics))}."
    )


def _judge(gate: Gate, row: Row) -> tuple[State, str]:
    if gate.kind == "outcome":
        return _judge_outcome(row)
    if gate.name == "p50" and row.anchored == "anchor":
        return "not judged", ""
    change = _GROWTH[gate.name](row) if gate.kind == "growth" else row.parity.get(gate.name, Change())
    if gate.kind in ("growth", "drop") and change.before is None:
        return "not judged", ""  # nothing to become worse than
    if gate.kind != "growth" and _is_no_number(gate.name, row, change):
        return "failed", f"{gate.name} is not a number"
    if change.after is None:
        return _judge_absent(row, change)
    by_growth = gate.kind == "growth"
    return _judge_growth(gate, change) if by_growth else _judge_value(gate, change.before, change.after)


def _judge_outcome(row: Row) -> tuple[State, str]:
    before, after = row.outcome
    if before != "ok":
        return "not judged", ""
    if not row.worsened:
        return "passed", ""
    reason = row.pair.after.reason if row.pair.after else ""
    return "failed", f"{before} -> {after}" + (f": {reason}" if reason else "")


def _judge_absent(row: Row, change: Change) -> tuple[State, str]:
    """Of a quantity that the later run lacks."""
    if change.before is None:
        return "not judged", ""
    return "inconclusive", f"it was not measured: the case is {row.outcome[1]}"


def _is_no_number(name: str, row: Row, change: Change) -> bool:
    """NaN never passes. Errors and metrics of outputs that hold NaN or Inf are those of the rest alone."""
    parity = row.pair.after.parity if row.pair.after else None
    if parity is None or (name not in _ALWAYS and change.before is None and change.after is None):
        return False
    if any(output.nan_count or output.inf_count for output in parity.outputs):
        return True
    if any(reason.startswith(f"{name} is not finite") for reason in parity.reasons):
        return True
    same = row.parity["max_abs_error"].after == 0  # all zero in both: there is no angle, and no error
    return change.after is None and name in _ALWAYS and not same


def _judge_growth(gate: Gate, change: Change) -> tuple[State, str]:
    if gate.name in _CERTAIN:
        factor = change.factor
        if factor is None:
            return "inconclusive", "there is nothing to compare with"
        return ("failed", growth(factor)) if factor > 1 + gate.limit else ("passed", "")
    interval = change.ratio
    if interval is None:
        return "inconclusive", "no interval: it takes two processes in each run"
    if interval.low > 1 + gate.limit:
        return "failed", f"{growth(interval.point)}, at least {growth(interval.low)}"
    if interval.high <= 1 + gate.limit:
        return "passed", ""
    return "inconclusive", f"between {growth(interval.low)} and {growth(interval.high)}"


def _judge_value(gate: Gate, before: float | None, after: float) -> tuple[State, str]:
    if gate.kind == "above":
        return ("failed", judged(after)) if not after <= gate.limit else ("passed", "")
    if gate.kind == "below":
        return ("failed", judged(after)) if not after >= gate.limit - _ROUNDING else ("passed", "")
    fell = (before or 0.0) - after
    kept = fell <= gate.limit + _ROUNDING
    return ("passed", "") if kept else ("failed", f"fell by {judged(fell)} to {judged(after)}")
