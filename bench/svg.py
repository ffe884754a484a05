"""Plots as SVG, written by hand: panels with logarithmic axes that are readable on light and on dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from bench.series import Series, short

WIDTH, HEIGHT = 460, 330
#: Around a panel's field: for the title, the numbers and the names of its lines.
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 34, 44
LEGEND_LINE, LEGEND_LEFT, LEGEND_TOP = 16, 8, 10
#: Colours that differ for the colour-blind too (Okabe and Ito, 2008), on white and on near-black.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #333 }
  .title { font-weight: 600; font-size: 13px }
  .grid { stroke: #8884; stroke-width: 1 }
  .ideal { stroke: #888; stroke-dasharray: 4 4; fill: none }
  .line { fill: none; stroke-width: 2 }
  @media (prefers-color-scheme: dark) { text { fill: #ddd } }
"""


@dataclass(frozen=True, slots=True)
class Panel:
    """One field: some series of one unit over the same kind of size."""

    title: str
    across: str
    series: Sequence[Series]


@dataclass(frozen=True, slots=True)
class _Axis:
    """A logarithmic axis from `least` to `most`, drawn from `start` to `end` (pixels)."""

    least: float
    most: float
    start: float
    end: float

    def at(self, value: float) -> float:
        share = math.log(value / self.least) / math.log(self.most / self.least)
        return round(self.start + share * (self.end - self.start), 1)

    @property
    def ticks(self) -> list[float]:
        """Powers of ten within the axis; where there are fewer than three, also their double and fivefold."""
        powers = range(math.floor(math.log10(self.least)), math.ceil(math.log10(self.most)) + 1)
        for steps in ((1,), (1, 2, 5)):
            found = [step * 10.0**power for power in powers for step in steps]
            found = [tick for tick in found if self.least * 0.999 <= tick <= self.most * 1.001]
            if len(found) > 2:
                break
        return found


def plot(panels: Sequence[Panel], across: int = 2) -> str:
    """Return an SVG of panels, so many side by side."""
    height = HEIGHT + LEGEND_TOP + LEGEND_LINE * max(len(panel.series) for panel in panels)
    columns, lines = min(across, len(panels)), -(-len(panels) // across)
    placed = (
        f'<g transform="translate({number % across * WIDTH} {number // across * height})">{_panel(panel)}</g>'
        for number, panel in enumerate(panels)
    )
    box = f'viewBox="0 0 {columns * WIDTH} {lines * height}" width="{columns * WIDTH}" height="{lines * height}"'
    title = escape("; ".join(panel.title for panel in panels))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img"><title>{title}</title><style>{_STYLE}</style>'
    return "\n".join((head, *placed, "</svg>", ""))


def _panel(panel: Panel) -> str:
    points = [point for each in panel.series for point in each.points]
    right = _Axis(min(p.size for p in points), max(p.size for p in points), LEFT, WIDTH - RIGHT)
    values = [value for p in points for value in (p.low, p.median, p.high) if value > 0]
    up = _Axis(*_room(min(values), max(values)), HEIGHT - BOTTOM, TOP)
    parts = [f'<text class="title" x="{LEFT}" y="18">{escape(panel.title)}</text>', *_grid(right, up)]
    parts += [f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(panel.across)}</text>']
    for number, each in enumerate(panel.series):
        parts += _line(each, COLOURS[number % len(COLOURS)], right, up)
        parts += _legend(each, COLOURS[number % len(COLOURS)], HEIGHT + LEGEND_TOP + LEGEND_LINE * number)
    return "\n".join(parts)


def _room(least: float, most: float) -> tuple[float, float]:
    """Return bounds that leave room around the values, a factor of ten at least: noise looks like noise."""
    middle = math.sqrt(least * most)
    return min(least / 1.3, middle / math.sqrt(10)), max(most * 1.3, middle * math.sqrt(10))


def _grid(right: _Axis, up: _Axis) -> list[str]:
    parts = []
    for tick in right.ticks:
        x = right.at(tick)
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{short(tick)}</text>')
    for tick in up.ticks:
        y = up.at(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{short(tick)}</text>')
    return parts


def _line(each: Series, colour: str, right: _Axis, up: _Axis) -> list[str]:
    path = " ".join(f"{right.at(p.size)},{up.at(p.median)}" for p in each.points)
    parts = [f'<polyline class="line" stroke="{colour}" points="{path}"/>']
    for p in each.points:
        x = right.at(p.size)
        if 0 < p.low < p.high:
            ends = f'y1="{up.at(p.low)}" y2="{up.at(p.high)}"'
            parts.append(f'<line x1="{x}" x2="{x}" {ends} stroke="{colour}" stroke-width="1"/>')
        parts.append(f'<circle cx="{x}" cy="{up.at(p.median)}" r="3.5" fill="{colour}"/>')
    return parts


def _legend(each: Series, colour: str, y: float) -> list[str]:
    judged = "" if each.keeps else f", more than {each.promised}"
    told = f"{each.name} (slope {each.slope:.2f}{judged})"
    return [
        f'<rect x="{LEGEND_LEFT}" y="{y - 2}" width="14" height="4" fill="{colour}"/>',
        f'<text x="{LEGEND_LEFT + 20}" y="{y + 4}">{escape(told)}</text>',
    ]
