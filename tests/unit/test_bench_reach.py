"""The table of the measurement end to end: the median of its runs decides, and their range stands beside it."""

from __future__ import annotations

from typing import Any

import pytest

from bench import reach


def run(batches: float, tasks: float = 1_000, **more: Any) -> dict[str, Any]:
    return {"batches": {"events a second": batches}, "tasks": {"events a second": tasks}, **more}


def line(runs: list[dict[str, Any]], what: str) -> tuple[str, str, str, str]:
    return next(each for each in reach.lines(runs) if each[0].startswith(what))


def test_an_aim_is_reached_by_the_median_of_all_runs() -> None:
    runs = [run(4_000), run(9_000), run(5_000)]
    assert line(runs, "batch endpoint:")[1:] == ("5,000 (4,000 to 9,000) events/s", "≥ 5,000 events/s", "yes")
    runs[2] = run(4_999)
    assert line(runs, "batch endpoint:")[1:] == ("4,999 (4,000 to 9,000) events/s", "≥ 5,000 events/s", "no")


def test_a_ratio_is_taken_within_each_run() -> None:
    runs = [run(4_000, 1_000), run(9_000, 3_000), run(5_000, 500)]
    assert line(runs, "batch endpoint ÷")[1:] == ("4 (3 to 10)", "≥ 4", "yes")


def test_one_run_has_no_range_and_what_was_not_measured_no_line() -> None:
    told = reach.lines([{"tasks": {"events a second": 736}}])
    assert told == [("one Celery task for each event, a small application", "736 events/s", "", "")]


@pytest.mark.parametrize(("people", "reached"), [(1_000_000, "no"), (300_000, "")])
def test_an_aim_for_a_million_people_is_none_for_fewer(people: int, reached: str) -> None:
    figures = {"recipients": people, "seconds": 21.5, "worker MiB more for each 100,000": 0.1}
    runs = [{"million": {**figures, "one-to-one beside it": {"p99": 100.0}}}]
    assert line(runs, f"announcement to {people:,}")[3] == reached
