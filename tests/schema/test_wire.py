"""Dataclass <-> plain values: what is written is read again, as msgspec reads it; errors name the field."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import types
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cases
from benchbox.results import lines
from benchbox.schema import wire
from benchbox.schema.asked import Backend, Case, Step, Suite, Threads, Tolerance
from benchbox.schema.seen import Artifact, Block, Host, Measurement, Noise, Parity, Record
from full_record import BLOCK, FULL, HERE

WORDS = st.text(max_size=8)
INTEGERS = st.integers(1, 2**63 - 1)
FLOATS = st.floats(-1e100, 1e100)
JSON = st.recursive(
    st.none() | st.booleans() | INTEGERS | FLOATS | WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2),
    max_leaves=4,
)
# A record is held against what is possible: no error, no size and no duration is below zero.
QUANTITIES = st.floats(0, 1e100)
PLAIN = {int: INTEGERS, float: QUANTITIES, str: WORDS, bool: st.booleans(), type(None): st.none(), Any: JSON}


def sensible(value: Any) -> Any:
    """A record that is ok has a parity that passed."""
    if isinstance(value, Record) and value.outcome == "ok" and value.parity is not None:
        return dataclasses.replace(value, parity=dataclasses.replace(value.parity, passed=True))
    return value


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Every value that a type hint of the schema allows, within the bounds that records keep to."""
    origin, parts = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint):
        hints = get_type_hints(hint)
        fields = {f.name: values(hints[f.name]) for f in dataclasses.fields(hint)}
        fields |= {"schema_version": st.just(1)} if "schema_version" in fields else {}
        fields |= {"cosine": st.none() | st.floats(-1, 1)} if "cosine" in fields else {}
        fields |= {"share": st.floats(0, 1)} if "share" in fields else {}
        return st.builds(hint, **fields).map(sensible)
    if origin is Literal:
        return st.sampled_from(parts)
    if origin in (Union, types.UnionType):
        return st.one_of(*map(values, parts))
    if origin is tuple:
        return st.lists(values(parts[0]), max_size=2).map(tuple)
    if origin is frozenset:
        return st.frozensets(values(parts[0]), max_size=3)
    if origin is not None and issubclass(origin, Mapping):
        return st.dictionaries(values(parts[0]), values(parts[1]), max_size=2)
    return PLAIN[hint]


@pytest.mark.parametrize("of", [Case, Artifact, Measurement, Record, Host], ids=lambda of: of.__name__)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_is_written_is_read_again(of: type, data: st.DataObject) -> None:
    """Through the very text that goes over a pipe."""
    value = data.draw(values(of))
    assert wire.decode(json.loads(json.dumps(wire.encode(value))), of) == value


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(record=values(Record))
def test_a_record_is_read_as_msgspec_reads_it(record: Record) -> None:
    text = json.dumps(wire.encode(record))
    assert lines.parse(text.encode()) == wire.decode(json.loads(text), Record)


@pytest.mark.parametrize(
    "value", [FULL, FULL.case, FULL.artifact, HERE, BLOCK], ids=lambda v: type(v).__name__
)
def test_what_is_written_is_what_a_dataclass_has(value: Any) -> None:
    """Field by field, in their order: a line of records.jsonl is what it was before there was a codec."""
    assert json.dumps(wire.encode(value)) == json.dumps(asdict(value))


def test_a_folder_and_a_set_are_written_as_json_has_them() -> None:
    suite = Suite("s", "s.yaml", (cases.case("onnx"),), folder=Path("/a/b"))
    assert wire.encode(suite)["folder"] == "/a/b"
    assert wire.decode(wire.encode(suite), Suite).folder == Path("/a/b")
    assert wire.encode(Host(frozenset({"b", "a"}))) == {
        "cpu_features": ["a", "b"],
        "gpu": None,
        "compute_capability": None,
        "driver": None,
    }
    assert wire.encode({"case": [Step("onnx")], "at": Path("x")}) == {
        "case": [{"word": "onnx", "options": {}}],
        "at": "x",
    }


def test_a_field_of_a_newer_writer_is_passed_over() -> None:
    text = {**wire.encode(FULL.case), "colour": "red"}
    text["model"] = {**text["model"], "colour": {"deep": 1}}
    assert wire.decode(text, Case) == FULL.case


def test_a_missing_field_has_its_default() -> None:
    assert wire.decode({"atol": 0.5}, Tolerance) == Tolerance(atol=0.5)
    block = {"round": 0, "started_ns": 1, "first_ns": 2, "latencies_ns": []}
    assert wire.decode(block, Block) == Block(0, 1, 2, (), Noise(), "")


def test_a_whole_number_is_a_float_where_one_is_asked_for() -> None:
    """JSON does not tell 1 from 1.0, and a worker's clock may."""
    read = wire.decode({"cosine": 1}, Tolerance).cosine
    assert (read, type(read)) == (1.0, float)


@dataclass(frozen=True)
class Either:
    """Two types that a field may have."""

    value: int | str | None


@pytest.mark.parametrize("value", [1, "x", None])
def test_a_union_takes_each_of_its_types(value: Any) -> None:
    assert wire.decode({"value": value}, Either) == Either(value)


BACKEND = wire.encode(Backend("onnxruntime", ("cpu",), Threads(1)))
CASE = wire.encode(FULL.case)


@pytest.mark.parametrize(
    ("text", "of", "message"),
    [
        ({}, Threads, "threads: intra_op is missing"),
        ({"artifact": 1}, Block, "block: first_ns, latencies_ns, round, started_ns is missing"),
        (7, Threads, "threads is 7, and not a mapping"),
        ({"intra_op": True}, Threads, "threads.intra_op is True, and not int"),
        ({"intra_op": 1.0}, Threads, "threads.intra_op is 1.0, and not int"),
        ({"atol": "x" * 80}, Tolerance, f"tolerance.atol is '{'x' * 56}..., and not float"),
        ({"atol": 2**1024}, Tolerance, f"tolerance.atol is {str(2**1024)[:57]}..., and not float"),
        ({**BACKEND, "providers": "cpu"}, Backend, "backend.providers is 'cpu', and not a list"),
        ({**BACKEND, "providers": ["a", 1]}, Backend, "backend.providers[1] is 1, and not str"),
        ({**BACKEND, "provider_options": []}, Backend, "backend.provider_options is [], and not a mapping"),
        ({**CASE, "shape": {"batch": "8"}}, Case, "case.shape.batch is '8', and not int"),
        ({**CASE, "backend": {**BACKEND, "threads": {}}}, Case, "case.backend.threads: intra_op is missing"),
        (
            {**CASE, "model": {**CASE["model"], "weights": "none"}},
            Case,
            "case.model.weights is 'none', and not one of random, pretrained",
        ),
        ({"value": []}, Either, "either.value is [], and not int or str or null"),
    ],
)
def test_an_error_names_the_field(text: Any, of: type, message: str) -> None:
    with pytest.raises(wire.WireError) as caught:
        wire.decode(text, of)
    assert str(caught.value) == message


def test_an_error_begins_with_what_the_caller_calls_the_value() -> None:
    with pytest.raises(wire.WireError, match=r"^the answer to `block`\.noise is 3, and not a mapping$"):
        wire.decode({**wire.encode(BLOCK), "noise": 3}, Block, "the answer to `block`")


def test_a_type_that_has_no_form_in_json_is_refused_before_anything_is_read() -> None:
    @dataclass(frozen=True)
    class Strange:
        value: complex

    with pytest.raises(TypeError, match="complex"):
        wire.decode({"value": 1}, Strange)


def test_latencies_are_not_copied_one_by_one() -> None:
    """A block of 10,000 calls is written between two blocks that are timed."""
    block = replace(BLOCK, latencies_ns=tuple(range(1, 10_001)))
    written = wire.encode(block)
    assert written["latencies_ns"] is block.latencies_ns
    assert wire.decode(written, Block) == block


def test_parity_reads_rows_of_attention() -> None:
    """Tuples in tuples: what a worker in another interpreter sends as lists."""
    assert FULL.parity is not None
    assert wire.decode(json.loads(json.dumps(wire.encode(FULL.parity))), Parity) == FULL.parity


def test_a_worker_needs_the_standard_library_only() -> None:
    others = ["numpy", "msgspec", "pydantic"]
    code = f"import sys, benchbox.schema.wire; print([name for name in {others} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
