"""The servers' figures as bars, side by side: SVG that is readable on light and on dark pages."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from bench.series import short

#: Pixels: a server's name, a column with its longest bar and the room for its number, a line, what is above and below.
NAMES, COLUMN, NUMBER, LINE, TOP, BOTTOM = 340, 190, 66, 24, 48, 8
BAR = 14
#: Behind a bar's end, or its range's.
GAP = 6
_STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #333 }
  .title, .ours { font-weight: 600 }
  .note { fill: #777 }
  .bar { fill: #9aa0a6 }
  .bar.ours { fill: #0072b2 }
  .bar.limit { fill: #9aa0a655; stroke: #9aa0a6; stroke-dasharray: 3 2 }
  .range { stroke: #333; stroke-width: 1 }
  @media (prefers-color-scheme: dark) { text { fill: #ddd } .note { fill: #999 } .range { stroke: #ddd }
    .bar.ours { fill: #3d9ad6 } }
"""


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of all servers: its title, and what is to be known of it."""

    figure: str
    title: str
    note: str


@dataclass(frozen=True, slots=True)
class Row:
    """One server: its name, how it is shown (`ours`, `limit` or nothing), and the values of each figure."""

    name: str
    kind: str
    values: dict[str, Sequence[float]]


def bars(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """Return an SVG: a line for each server, a bar of its median for each figure, its range as a thin line."""
    width, height = NAMES + COLUMN * len(columns), TOP + LINE * len(rows) + BOTTOM
    title = escape("; ".join(f"{each.title}, {each.note}" for each in columns))
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        f' role="img"><title>{title}</title><style>{_STYLE}</style>'
    )
    parts = [_name(row, place) for place, row in enumerate(rows)]
    for number, column in enumerate(columns):
        parts += _column(rows, column, NAMES + number * COLUMN)
    return "\n".join((head, *parts, "</svg>", ""))


def _middle(place: int) -> int:
    return TOP + LINE * place + LINE // 2


def _name(row: Row, place: int) -> str:
    where = f'x="{NAMES - 12}" y="{_middle(place) + 4}" text-anchor="end"'
    return f'<text class="{row.kind}" {where}>{escape(row.name)}</text>'


def _column(rows: Sequence[Row], column: Column, left: int) -> list[str]:
    most = max((max(row.values[column.figure]) for row in rows if row.values.get(column.figure)), default=1.0)
    scale = (COLUMN - NUMBER) / (most or 1.0)
    parts = [
        f'<text class="title" x="{left}" y="18">{escape(column.title)}</text>',
        f'<text class="note" x="{left}" y="34">{escape(column.note)}</text>',
    ]
    for place, row in enumerate(rows):
        if values := row.values.get(column.figure):
            parts += _bar(values, row.kind, left, _middle(place), scale)
    return parts


def _bar(values: Sequence[float], kind: str, left: int, y: int, scale: float) -> list[str]:
    middle, least, most = statistics.median(values), min(values), max(values)
    size = max(1.0, round(middle * scale, 1))
    parts = [f'<rect class="bar {kind}" x="{left}" y="{y - BAR // 2}" width="{size}" height="{BAR}" rx="2"/>']
    end = left + max(size, round(most * scale, 1))
    if least < most:
        low = left + round(least * scale, 1)
        parts.append(f'<line class="range" x1="{low}" x2="{end}" y1="{y}" y2="{y}"/>')
    parts.append(f'<text class="{kind}" x="{end + GAP:.1f}" y="{y + 4}">{short(middle)}</text>')
    return parts
