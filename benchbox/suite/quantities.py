"""What several fields are made of: lists, counts, durations, sizes, names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
)

from benchbox.suite.check import (
    Between,
    custom,
    refuse,
    wrong,
)
from benchbox.suite.source import kind

DAY_SECONDS = 86_400.0

_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_SIZES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def listed(data: Any) -> Any:
    """A list; what is none is short for a list of one."""
    return data if isinstance(data, list) else [data]


def _no_twins(values: list[int]) -> list[int]:
    twins = [wrong(f"{v} stands in the list twice", i) for i, v in enumerate(values) if v in values[:i]]
    if twins:
        refuse(*twins)
    return values


_OneOrMore = (BeforeValidator(listed), Field(min_length=1, max_length=1000), AfterValidator(_no_twins))
_Sizes = Annotated[list[Annotated[int, Between(1, 1 << 20)]], *_OneOrMore]
ThreadCounts = Annotated[list[Annotated[int, Between(1, 4096)]], *_OneOrMore]
SIZES_OF_INPUTS: TypeAdapter[list[int]] = TypeAdapter(_Sizes, config=ConfigDict(strict=True))


def _quantity(units: Mapping[str, float], example: str) -> BeforeValidator:
    def read(data: Any) -> Any:
        if not isinstance(data, str):
            return data
        match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*([A-Za-z]+)\s*", data, re.ASCII)
        if not match or match.group(2).lower() not in units:
            raise custom(
                f"{kind(data)} is not understood. Allowed: a number, or one with a unit "
                f"({', '.join(units)}), such as {example!r}."
            )
        return float(match.group(1)) * units[match.group(2).lower()]

    return BeforeValidator(read)


def _whole(data: Any) -> Any:
    return int(data) if isinstance(data, float) and data.is_integer() else data


_DURATION = _quantity(_UNITS, "2m")
_SIZE = _quantity(_SIZES, "4 GiB")
Seconds = Annotated[float, Between(0.001, 7 * DAY_SECONDS), _DURATION]
Rest = Annotated[float, Between(0.0, DAY_SECONDS), _DURATION]
Bytes = Annotated[int, Between(1, 2**53), BeforeValidator(_whole), _SIZE]


# --- models ---


def checked_name(text: str) -> str:
    """The text, where it can be shown as a name."""
    if not text.isprintable() or text != text.strip():
        raise custom(f"{kind(text)} is no name: printable characters only, no space at either end")
    return text


def clean_name(text: str) -> str:
    """A name made of a file's: what a suite may write under `name`."""
    return "".join(c for c in text if c.isprintable()).strip()[:80].strip() or "unnamed"
