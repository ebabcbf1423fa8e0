"""Line charts as self-contained SVG: panels side by side, each with its axes and its own legend."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

BLUE, ORANGE, GREY = "#1f6fb4", "#c8560b", "#6b7280"

_WIDTH, _HEIGHT = 440, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 18, 66, 48
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#1f2937}.title{font-size:14px;font-weight:600}"
    ".grid{stroke:#e5e7eb}.axis{stroke:#6b7280}.line{fill:none;stroke-width:2}"
)


@dataclass(frozen=True)
class Series:
    """A line through points; `dots` marks each of them, for where there are few."""

    label: str
    points: Sequence[tuple[float, float]]
    colour: str
    dots: bool = False


@dataclass(frozen=True)
class Panel:
    """Axes with lines. `x_ticks` names places on the x axis, where numbers will not do."""

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    x_ticks: Mapping[float, str] = field(default_factory=dict)
    y_from: float | None = None
    y_to: float | None = None


def figure(panels: Sequence[Panel]) -> str:
    """The text of an SVG file."""
    width = _WIDTH * len(panels)
    drawn = "\n".join(
        f'<g transform="translate({index * _WIDTH} 0)">\n{_panel(panel)}\n</g>'
        for index, panel in enumerate(panels)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT}" width="{width}" '
        f'height="{_HEIGHT}" role="img">\n<style>{_STYLE}</style>\n'
        f'<rect width="{width}" height="{_HEIGHT}" fill="#ffffff"/>\n{drawn}\n</svg>\n'
    )


@dataclass(frozen=True)
class _Scale:
    """From values to pixels along one axis."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def _panel(panel: Panel) -> str:
    points = [point for series in panel.series for point in series.points]
    y_ticks = _ticks(
        min(y for _, y in points) if panel.y_from is None else panel.y_from,
        max(y for _, y in points) if panel.y_to is None else panel.y_to,
    )
    x_ticks = panel.x_ticks or _ticks(0, max(x for x, _ in points))
    x = _Scale(min(x_ticks), max(x_ticks), _LEFT, _WIDTH - _RIGHT)
    y = _Scale(min(y_ticks), max(y_ticks), _HEIGHT - _BOTTOM, _TOP)
    return "\n".join(
        [
            f'<text class="title" x="{_LEFT}" y="24">{escape(panel.title)}</text>',
            *_legend(panel.series),
            *_x_axis(x_ticks, x, y, panel.x_label),
            *_y_axis(y_ticks, x, y, panel.y_label),
            *(_line(series, x, y) for series in panel.series),
        ]
    )


def _legend(series: Sequence[Series]) -> list[str]:
    drawn, at = [], float(_LEFT)
    for one in series:
        drawn.append(f'<rect x="{at:.0f}" y="37" width="14" height="4" fill="{one.colour}"/>')
        drawn.append(f'<text x="{at + 19:.0f}" y="44">{escape(one.label)}</text>')
        at += 36 + 6.6 * len(one.label)  # 12 px system fonts are about 6.6 px a letter wide
    return drawn


def _x_axis(ticks: Mapping[float, str], x: _Scale, y: _Scale, label: str) -> list[str]:
    return [
        f'<path class="axis" d="M{x.start} {y.start}H{x.end}"/>',
        *(
            f'<text x="{x(tick):.1f}" y="{y.start + 17}" text-anchor="middle">{escape(text)}</text>'
            for tick, text in ticks.items()
        ),
        f'<text x="{(x.start + x.end) / 2}" y="{_HEIGHT - 12}" text-anchor="middle">{escape(label)}</text>',
    ]


def _y_axis(ticks: Mapping[float, str], x: _Scale, y: _Scale, label: str) -> list[str]:
    middle = (y.start + y.end) / 2
    drawn = []
    for tick, text in ticks.items():
        drawn.append(f'<path class="grid" d="M{x.start} {y(tick):.1f}H{x.end}"/>')
        drawn.append(f'<text x="{x.start - 7}" y="{y(tick) + 4:.1f}" text-anchor="end">{escape(text)}</text>')
    return [
        *drawn,
        f'<text transform="translate(16 {middle}) rotate(-90)" text-anchor="middle">{escape(label)}</text>',
    ]


def _line(series: Series, x: _Scale, y: _Scale) -> str:
    places = [(f"{x(a):.1f}", f"{y(b):.1f}") for a, b in series.points]
    dots = "".join(f'<circle cx="{a}" cy="{b}" r="3.5" fill="{series.colour}"/>' for a, b in places)
    path = " ".join(f"{a},{b}" for a, b in places)
    line = f'<polyline class="line" stroke="{series.colour}" points="{path}"/>'
    return line + dots if series.dots else line


def _ticks(low: float, high: float) -> dict[float, str]:
    """Four to nine round numbers that hold all values between them."""
    span = max(high - low, 1e-9)
    size = 10 ** math.floor(math.log10(span / 4))
    step = size * next(m for m in (1, 2, 5, 10) if span / (m * size) <= 8)
    places = range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return {place * step: f"{place * step:.{digits}f}" for place in places}
