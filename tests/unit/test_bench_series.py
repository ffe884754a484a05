"""Whether a cost grows as promised is worked out of what was measured."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Callable
from itertools import pairwise

import pytest

from bench.series import Growth, Point, Series, point, rows_of, short, shown
from bench.svg import HEIGHT, LEFT, RIGHT, TOP, WIDTH, Panel, plot

SIZES = (100, 1_000, 10_000, 100_000)
SVG = "{http://www.w3.org/2000/svg}"


def series(cost: Callable[[float], float], promised: Growth = "linear", name: str = "page") -> Series:
    """Return a series whose runs are within a tenth of `cost`."""
    points = (point(size, [0.9 * cost(size), cost(size), 1.1 * cost(size)]) for size in SIZES)
    return Series(name, "ms", promised, tuple(points))


@pytest.mark.parametrize(
    ("cost", "slope", "linear", "constant"),
    [
        (lambda size: 5.0, 0, True, True),
        (lambda size: 1 + 0.1 * math.log2(size), 0.07, True, True),
        (math.sqrt, 0.5, True, False),
        (lambda size: 3 * size, 1, True, False),
        (lambda size: size * math.log2(size), 1.14, False, False),
        (lambda size: size**2, 2, False, False),
    ],
)
def test_the_slope_tells_constant_linear_and_more(
    cost: Callable[[float], float], slope: float, linear: bool, constant: bool
) -> None:
    assert series(cost).slope == pytest.approx(slope, abs=0.01)
    assert series(cost).keeps == linear
    assert series(cost, "constant").keeps == constant


def test_the_last_step_shows_a_bend_upwards() -> None:
    bent = series(lambda size: size if size < 50_000 else 4 * size)
    assert bent.last_slope == pytest.approx(1 + math.log10(4))


def test_a_point_is_the_median_of_its_runs_and_their_range() -> None:
    assert point(10, [3, 1, 2, 9]) == Point(10, 2.5, 1, 9)


def test_of_many_runs_the_outer_twentieths_are_left_out_of_the_range() -> None:
    assert point(10, [*range(1, 41)]) == Point(10, 20.5, 3, 38)


def test_a_picture_says_where_more_is_not_as_promised() -> None:
    assert "page (slope 1.00, more than constant)" in plot([Panel("", "", [series(lambda size: size, "constant")])])


def test_a_series_is_read_back_as_it_was_written() -> None:
    told = series(lambda size: 2.5 * size).as_json()
    assert (told["slope"], told["keeps"]) == (1, True)
    assert Series.of({**told, "slope": 7, "keeps": False}).as_json() == told


def test_a_table_has_sizes_across_and_says_what_is_not_kept() -> None:
    header, rows = rows_of([series(lambda size: 2 * size), series(lambda size: size, "constant", "count")])
    assert header == ["measured", "100", "1 k", "10 k", "100 k", "slope", "last step", "at most", "kept"]
    assert rows[0] == ["page, ms", "200", "2,000", "20,000", "200,000", "1.00", "1.00", "linear", "yes"]
    assert rows[1][-2:] == ["constant", "**no**"]


@pytest.mark.parametrize(("number", "told"), [(0.012345, "0.0123"), (3.14159, "3.14"), (12345, "12,300"), (0, "0")])
def test_numbers_have_three_digits_that_count(number: float, told: str) -> None:
    assert shown(number) == told


@pytest.mark.parametrize(("size", "told"), [(0.5, "0.5"), (300, "300"), (2_500, "2.5 k"), (10_000_000, "10 M")])
def test_sizes_are_told_short(size: float, told: str) -> None:
    assert short(size) == told


def circles(svg: str) -> list[tuple[float, float]]:
    """Return the places of all measured points."""
    return [(float(each.attrib["cx"]), float(each.attrib["cy"])) for each in ET.fromstring(svg).iter(f"{SVG}circle")]


def test_a_linear_cost_is_a_straight_line_from_corner_to_corner() -> None:
    places = circles(plot([Panel("cost", "rows", [series(lambda size: size)])]))
    assert [x for x, _ in places] == pytest.approx([LEFT + third * (WIDTH - RIGHT - LEFT) / 3 for third in range(4)])
    rises = [before - after for (_, before), (_, after) in pairwise(places)]
    assert rises == pytest.approx([rises[0]] * 3, abs=0.2)
    assert all(TOP < y < HEIGHT for _, y in places)
    assert rises[0] > 50


def test_a_constant_cost_is_level_in_the_middle() -> None:
    (_, first), *rest = circles(plot([Panel("cost", "rows", [series(lambda size: 7.0, "constant")])]))
    assert [y for _, y in rest] == [first] * 3
    assert HEIGHT / 3 < first < 2 * HEIGHT / 3


def test_a_picture_says_what_it_shows_and_escapes_it() -> None:
    svg = plot([Panel("a < b", "rows & more", [series(lambda size: size, name="p<1>")]) for _ in range(3)])
    texts = [each.text or "" for each in ET.fromstring(svg).iter(f"{SVG}text")]
    assert texts.count("a < b") == texts.count("rows & more") == 3
    assert texts.count("p<1> (slope 1.00)") == 3
    assert "prefers-color-scheme: dark" in svg
