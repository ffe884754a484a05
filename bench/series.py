"""One measured quantity at several sizes, and what its growth comes to: figures decide, not words."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

#: The steepest line through the logarithms that still counts as what was promised. Exactly linear is 1, constant 0.
#: Above constant there is room for an index's depth and for caches that a larger table misses: 0.1 is 1.26 times as
#: much at ten times the size, 1.6 times at a hundred. Linear has room for what a run differs by from the next.
STEEPEST = {"constant": 0.1, "linear": 1.1}
Growth = Literal["constant", "linear"]


#: Of so many runs or more the outer twentieths are left out of the range: they tell of the machine.
MANY = 40


class Point(NamedTuple):
    """The median of several runs at one size, and their range; of `MANY` that in which nine tenths lie."""

    size: float
    median: float
    low: float
    high: float


def point(size: float, values: Sequence[float]) -> Point:
    """Return the point of several runs' values, of which there is at least one."""
    outer = len(values) // 20 if len(values) >= MANY else 0
    ordered = sorted(values)
    return Point(size, statistics.median(values), ordered[outer], ordered[-1 - outer])


def slope(points: Sequence[Point]) -> float:
    """Return the steepness of the best line through (log size, log median): 1 is linear, 2 quadratic, 0 constant.

    Needs two sizes or more, and medians above zero.
    """
    xs, ys = [math.log(each.size) for each in points], [math.log(each.median) for each in points]
    return statistics.linear_regression(xs, ys).slope


@dataclass(frozen=True, slots=True)
class Series:
    """A quantity over sizes, with the growth that is promised for it at most."""

    name: str
    unit: str
    promised: Growth
    points: tuple[Point, ...]

    @property
    def slope(self) -> float:
        """The steepness over all sizes."""
        return slope(self.points)

    @property
    def last_slope(self) -> float:
        """The steepness between the two largest sizes: a bend upwards shows here first, and so does any noise."""
        return slope(self.points[-2:])

    @property
    def keeps(self) -> bool:
        """Whether it grows no faster than promised."""
        return self.slope <= STEEPEST[self.promised]

    def as_json(self) -> dict[str, Any]:
        """Return what `of` reads, with what was computed of it beside."""
        return {
            "name": self.name,
            "unit": self.unit,
            "promised": self.promised,
            "points": [[significant(number, 5) for number in each] for each in self.points],
            "slope": round(self.slope, 3),
            "keeps": self.keeps,
        }

    @classmethod
    def of(cls, told: dict[str, Any]) -> Series:
        """Return the series of which `as_json` told; what was computed is computed anew."""
        return cls(told["name"], told["unit"], told["promised"], tuple(Point(*each) for each in told["points"]))


def significant(number: float, digits: int) -> float:
    """Return a number rounded to so many significant digits, as an int where nothing is left behind the point."""
    rounded = float(f"{number:.{digits}g}")
    return int(rounded) if rounded.is_integer() else rounded


def shown(number: float) -> str:
    """Return a number for people: three significant digits, thousands apart."""
    rounded = significant(number, 3)
    return f"{rounded:,}" if abs(rounded) >= 1 or rounded == 0 else f"{rounded:.10f}".rstrip("0")


def short(size: float) -> str:
    """Return a size as axes and headings show it: 300, 1 k, 2.5 M."""
    for unit, factor in (("M", 1e6), ("k", 1e3)):
        if size >= factor:
            return f"{significant(size / factor, 3)} {unit}"
    return str(significant(size, 3))


def rows_of(series: Sequence[Series]) -> tuple[list[str], list[list[str]]]:
    """Return a table of several series over the same sizes: its heading, and a row for each."""
    sizes = [each.size for each in series[0].points]
    header = ["measured", *(short(size) for size in sizes), "slope", "last step", "at most", "kept"]
    return header, [_row(each) for each in series]


def _row(each: Series) -> list[str]:
    medians = [shown(point.median) for point in each.points]
    slopes = [f"{each.slope:.2f}", f"{each.last_slope:.2f}"]
    return [f"{each.name}, {each.unit}", *medians, *slopes, each.promised, "yes" if each.keeps else "**no**"]
