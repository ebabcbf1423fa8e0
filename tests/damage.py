"""What can happen to a results folder: damaged bytes, lines, values, and what only an enemy would write."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from hypothesis import strategies as st

import golden_records as golden

Draw = Callable[..., Any]
Tree = dict[str, Any] | list[Any]

LINES = tuple(json.dumps(asdict(record)) for record in golden.RECORDS)
ENVIRONMENT = json.dumps(asdict(golden.ENVIRONMENT))
SUITE = json.dumps(golden.SUITE)

# As JSON, so that there can be values in it that Python's json would not write.
ODD = (
    "0", "-1", "1", "0.5", "-0.0", "1e308", "-1e308", "1e-320", "1e999", "NaN", "Infinity", "-Infinity",
    "9223372036854775807", "9223372036854775808", "-9223372036854775809", "1152921504606846976",
    "1" + "0" * 400, "2", "17", "true", "null", '""', '"x"', '"ok"', '"failed"', '"skipped"', '["ok"]',
    '"\\u0000\\u0007\\u001b[31m"', '"\\ud800"', '"\\u2028\\ufeff\\u202e"', '"%s%d{0}{{x}}"',
    '"</script><script>alert(1)</script>"', '"=1+1"', '"a,b\\"c\\nd\\re"', '"| x | `y` |"',
    '"' + "y" * 70_000 + '"', "[]", "{}", "[[]]", '{"a": {"b": [1, null]}}',
    "[" * 50 + "]" * 50, "[" * 3000 + "]" * 3000, '{"batch": 0}',
    '{"batch": 9223372036854775807, "p50_ms": -1, "": 1, "nodes_x": 2, "x_ms": 3, "samples": 4}',
    '{"nodes_CPUExecutionProvider": 0.5, "x_ms": 1e100, "samples": 0.1, "batch": 0.2, "": 0.3}',
    '[{"word": "onnx", "options": {"a": [1, {"b": "\\u0000"}]}}]',
)  # fmt: skip
# Of the same type as what they replace, so that the line is a record still.
ALIKE: dict[type, tuple[Any, ...]] = {
    bool: (True, False),
    int: (0, 1, 2, 7, 10**6, 2**53, 2**62, 2**63 - 1, -1, -(2**63) + 1),
    float: (0.0, -0.0, 1.0, -1.0, 1e-320, 1e-9, 1e15, 1e99, -1e99, 1e101, 0.99999999, 3),
    str: (
        "", " ", "x", "ok", "failed", "skipped", "mismatch", "a\x00\x07\x1b[31mb",
        "\u2028\ufeff\u202e", "%s%d%%",
        "</script><script>alert(1)</script>", "=1+1", 'a,b"c\nd\re', "| x | `y` |", "y" * 70_000, "{{ x }}",
        "{% raw %}", "CPUExecutionProvider", "../../x", "2026-11-21", "[link](javascript:x)", "é" * 300,
    ),
    dict: (
        {}, {"": 0}, {"batch": 0}, {"batch": 2**62, "p50_ms": 1, "nodes_x": 2, "x_ms": 3, "samples": 4},
        {"nodes_CPUExecutionProvider": 0.5, "x_ms": 1e99, "samples": 0.1, "batch": 0.2, "run": -0.3},
        {f"name {number}": number for number in range(300)}, {"opset": 10**30}, {"opset": True},
        {"a": {"b": [1, None]}},
    ),
    list: ([],),
}  # fmt: skip
NOISE = (
    b"\x00", b"\xff", b"\xed\xa0\x80", b"\r", b"\n", b"{", b"}", b"[", b'"', b",", b":", b"\\", b"\\u", b"-",
    b"9" * 40,
)  # fmt: skip


@st.composite
def folders(draw: Draw) -> dict[str, bytes]:
    """The files of a results folder after a few mishaps; most leave a part of the records readable."""
    texts = [draw(_line) for _ in range(draw(st.integers(1, 4)))]
    kept = draw(st.lists(st.sampled_from(LINES), max_size=4))
    lines = draw(st.permutations([*(line.encode() for line in kept), *texts]))
    end = draw(st.sampled_from([b"\n", b"", b"\r\n", b"\n\n\n"]))
    files = {
        "records.jsonl": b"\n".join(lines) + end,
        "environment.json": ENVIRONMENT.encode(),
        "suite.json": SUITE.encode(),
    }
    rare = draw(st.integers(0, 9))
    if rare == 0:
        files["environment.json"] = draw(_damaged(ENVIRONMENT))
    if rare == 1:
        files["suite.json"] = draw(_damaged(SUITE))
    return files


def _damaged(text: str) -> st.SearchStrategy[bytes]:
    return st.one_of(
        _values_changed(text), _values_changed(text), _values_changed(text), _bytes_changed(text)
    )


@st.composite
def _values_changed(draw: Draw, text: str) -> bytes:
    """Still JSON, mostly: up to three values replaced, dropped, doubled, emptied, or moved elsewhere."""
    tree = json.loads(text)
    for _ in range(draw(st.integers(1, 3))):
        if tree:
            holder, key = draw(st.sampled_from(list(_places(tree))))
            change = draw(st.sampled_from([*[_alike] * 12, _replace, _drop, _double, _double, _empty, _move]))
            change(draw, tree, holder, key)
    said = json.dumps(tree)
    for index, odd in enumerate(ODD):
        said = said.replace(f'"@{index}@"', odd)
    return said.encode()


def _replace(draw: Draw, tree: Tree, holder: Any, key: Any) -> None:
    holder[key] = f"@{draw(st.integers(0, len(ODD) - 1))}@"


def _alike(draw: Draw, tree: Tree, holder: Any, key: Any) -> None:
    if type(holder[key]) in ALIKE:
        holder[key] = json.loads(json.dumps(draw(st.sampled_from(ALIKE[type(holder[key])]))))


def _drop(draw: Draw, tree: Tree, holder: Any, key: Any) -> None:
    del holder[key]


def _double(draw: Draw, tree: Tree, holder: Any, key: Any) -> None:
    if isinstance(holder, list):
        holder.append(holder[key])


def _empty(draw: Draw, tree: Tree, holder: Any, key: Any) -> None:
    holder[key] = type(holder[key])() if isinstance(holder[key], dict | list) else ""


def _move(draw: Draw, tree: Tree, holder: Any, key: Any) -> None:
    other, place = draw(st.sampled_from(list(_places(tree))))
    holder[key] = json.loads(json.dumps(other[place]))


@st.composite
def _bytes_changed(draw: Draw, text: str) -> bytes:
    raw = text.encode()
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(raw)))
        width = draw(st.sampled_from([0, 1, 3, 50, 100_000]))
        raw = raw[:at] + draw(st.one_of(st.sampled_from(NOISE), st.binary(max_size=8))) + raw[at + width :]
    return raw


def _places(tree: Tree) -> Iterator[tuple[Any, Any]]:
    """Every value in the tree, as what holds it and under which key."""
    for key, value in list(tree.items() if isinstance(tree, dict) else enumerate(tree)):
        yield tree, key
        if isinstance(value, dict | list):
            yield from _places(value)


_line = st.sampled_from(LINES).flatmap(_damaged)
