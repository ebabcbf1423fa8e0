"""How numbers read: they are rounded here, once for the page, the pull request and the terminal.

None is what is not known, and reads as nothing. `narrow` is for the columns of a terminal 80 signs wide: at
most four decimals, and bounds that are joined by a hyphen.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from benchbox.schema.seen import less_is_better

MIB, GIB = 2**20, 2**30

# A float of 32 bits has seven digits; a column of the terminal has room for four decimals.
_DECIMALS, _NARROW_DECIMALS = 6, 4
# A ratio that reaches so far says that nothing is known: two noisy processes can give an interval as wide.
_BOUNDLESS = 1000


# Of an interval: too few processes, or too far apart, to say anything.
NOT_YET_KNOWN = "not yet known"


def number(value: float | None, digits: int = 4, *, narrow: bool = False) -> str:
    """`2,485`, `140.8`, `0.8333`: significant digits without an exponent, thousands apart."""
    if value is None:
        return ""
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    return f"{value:,.{_decimals(value, digits, narrow)}f}"


def plain_number(value: float | None) -> str:
    """`24.7`: four significant digits at most, and no zeros at the end."""
    text = number(value)
    return text.rstrip("0").rstrip(".") if "." in text else text


def integer(value: float | None) -> str:
    """A whole number with thousands apart."""
    return "" if value is None else f"{round(value):,}"


def count(how_many: int, noun: str, plural: str = "") -> str:
    """`1 case`, `2,000 cases`."""
    return f"{how_many:,} {noun if how_many == 1 else plural or noun + 's'}"


def interval(
    low: float | None, high: float | None, point: float | None, digits: int = 4, *, narrow: bool = False
) -> str:
    """`133.0 to 148.9`; `133.0-148.9` where it is narrow. `not yet known` where there is none of a point.

    Bounds have as many decimals as the point has, but for one that lies far above it.
    """
    if point is None:
        return ""
    if low is None or high is None:
        return NOT_YET_KNOWN
    far = high if high >= 10 * point else point
    first, last = (
        f"{bound:,.{_decimals(like, digits, narrow)}f}" for bound, like in ((low, point), (high, far))
    )
    return f"{first}-{last}" if narrow else f"{first} to {last}"


def with_interval(point: float | None, low: float | None, high: float | None) -> str:
    """`140.7 (133.0 to 148.9)`, `140.7 (not yet known)`."""
    return _and_bounds(number(point), "" if point is None else interval(low, high, point))


def ratio(
    point: float | None, low: float | None, high: float | None, digits: int = 3, *, narrow: bool = False
) -> str:
    """`0.453 (0.441 to 0.466)`; in four signs a number, `0.45 (0.44-0.47)`, where it is narrow."""
    said = _four_signs(point) if narrow and point is not None else number(point, digits)
    return _and_bounds(said, ratio_interval(low, high, point, digits, narrow=narrow))


def ratio_interval(
    low: float | None, high: float | None, point: float | None, digits: int = 3, *, narrow: bool = False
) -> str:
    """`0.441 to 0.466`; an end that is boundless reads so. `not yet known` where there is none of a point."""
    if point is None:
        return ""
    if low is None or high is None:
        return "unknown" if narrow else NOT_YET_KNOWN
    if narrow:
        return f"{_four_signs(low)}-{_four_signs(high)}"
    if high >= _BOUNDLESS:
        return f"{low:.2g} to {_BOUNDLESS:,} or more"
    return interval(low, high, point, digits)


def growth(factor: float | None) -> str:
    """`+5.0 %`; a factor from two upwards as `x2.1`."""
    if factor is None:
        return ""
    if factor >= _BOUNDLESS:
        return f"x{_BOUNDLESS:,} or more"
    return f"x{factor:.3g}" if factor >= 2 else signed_percent(factor - 1)


def percent(share: float, decimals: int | None = None) -> str:
    """`95 %`: what was asked for, as it was; or with so many decimals."""
    return f"{share * 100:g} %" if decimals is None else f"{share * 100:.{decimals}f} %"


def signed_percent(share: float) -> str:
    """`+5.0 %`."""
    return f"{share * 100:+.1f} %"


def agreement(share: float | None) -> str:
    """`99.5 %`, rounded down: what does not agree everywhere never reads 100 %."""
    return "" if share is None else f"{_rounded_down(share, 3) * 100:g} %"


def cosine(value: float | None, *, narrow: bool = False) -> str:
    """Five decimals, rounded down: a candidate that differs never reads 1.00000."""
    if value is None or math.isnan(value):
        return ""
    decimals = 4 if narrow and value < 0 else 5  # as wide with the sign
    return f"{_rounded_down(value, decimals):.{decimals}f}"


def error(value: float | None) -> str:
    """`2.0e-06`."""
    return "" if value is None else f"{value:.1e}"


def metric(name: str) -> Callable[[float | None], str]:
    """How a task's metric reads: an error, a loss or a perplexity as a number, a cosine as one, others as a
    share."""
    if name.endswith("_error"):
        return error
    if name.endswith("_cosine"):
        return cosine
    return plain_number if less_is_better(name) else agreement


def judged(value: float) -> str:
    """`0.00104`: what a limit is held against, with as many digits as limits are written with."""
    return f"{value:.6g}"


def file_mib(value: float | None) -> str:
    """MiB of a file: its size is exact, and a comparison looks at the last digit."""
    return number(value)


def memory_mib(value: float | None) -> str:
    """MiB of memory, whole ones: pages and allocators make it vary by more."""
    return integer(value)


def gib(size_bytes: float) -> str:
    """`23.5 GiB`."""
    return f"{size_bytes / GIB:.1f} GiB"


def times_as_fast(of_baseline: float | None) -> str:
    """`2.21x as fast`, of a ratio of times."""
    return f"{1 / of_baseline:.2f}x as fast" if of_baseline else ""


def _decimals(value: float, digits: int, narrow: bool = False) -> int:
    most = _NARROW_DECIMALS if narrow else _DECIMALS
    if not value or not math.isfinite(value):
        return min(digits - 1, most)
    return min(most, max(0, digits - 1 - math.floor(math.log10(abs(value)))))


def _four_signs(value: float) -> str:
    """Three significant digits in at most four signs."""
    if value >= _BOUNDLESS - 0.5:
        return f">{_BOUNDLESS - 1}"
    return f"{value:.{min(2, _decimals(value, 3))}f}"


def _and_bounds(said: str, bounds: str) -> str:
    return f"{said} ({bounds})" if said and bounds else said


def _rounded_down(value: float, decimals: int) -> float:
    """0.57 * 1000 is 569.9999999999999, but 0.57 is no less than 0.57."""
    if not math.isfinite(value):
        return value
    scale = 10.0**decimals
    down = math.floor(value * scale)
    return (down + 1) / scale if (down + 1) / scale == value else down / scale
