"""Suites after a few slips of the hand, for hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from places import SUITES

SHIPPED = [(SUITES / name).read_text(encoding="utf-8") for name in ("vit.yaml", "smoke.yaml")]
SNIPPETS = [
    "", "\0", "\t", "  ", "- ", ": ", "[", "]", "{", "}", "&a ", "*a", "!!python/name:os.system ",
    "!!int ", "|", ">",
    "%", "---\n", "...\n", "'", '"', "#", "\\", "\u2028", "\ufeff", "é", "\U0001f600",
    "0", "-1", "1e999", ".nan", "1_0", "0x", "0b2", "9" * 400, "true", "null", "~", "<<", "? ",
    "yes", "2020-01-01",
    "12:30:45", "./x", "../", "/", "~/x", "int8_static: {samples: 0}", "{pytorch: {mode: x}}",
    "[[[]]]", "{a: {b: {}}}",
]  # fmt: skip


@st.composite
def mutated(draw) -> str:
    """A shipped suite after a few slips: characters, lines, words and values replaced, doubled, dropped."""
    text = draw(st.sampled_from(SHIPPED))
    for _ in range(draw(st.integers(1, 4))):
        text = draw(st.sampled_from([_characters, _lines, _words]))(draw, text)
    return text


def _characters(draw, text: str) -> str:
    at = draw(st.integers(0, len(text)))
    width = draw(st.integers(0, 4))
    insert = draw(st.one_of(st.sampled_from(SNIPPETS), st.text(max_size=3)))
    return text[:at] + insert + text[at + width :]


def _lines(draw, text: str) -> str:
    lines = text.splitlines(keepends=True) or [""]
    at = draw(st.integers(0, len(lines) - 1))
    other = draw(st.integers(0, len(lines) - 1))
    kind = draw(st.sampled_from(["drop", "double", "swap", "indent", "dedent"]))
    if kind == "drop":
        return "".join(lines[:at] + lines[at + 1 :])
    if kind == "double":
        return "".join([*lines[:at], lines[at], *lines[at:]])
    if kind == "swap":
        lines[at], lines[other] = lines[other], lines[at]
    else:
        lines[at] = "  " + lines[at] if kind == "indent" else lines[at].lstrip()
    return "".join(lines)


def _words(draw, text: str) -> str:
    words = text.split(" ")
    at = draw(st.integers(0, len(words) - 1))
    words[at] = draw(st.one_of(st.sampled_from(SNIPPETS), st.sampled_from(words)))
    return " ".join(words)
