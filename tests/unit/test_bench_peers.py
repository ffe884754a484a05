"""What the comparison with other servers says follows from the medians of its runs."""

from __future__ import annotations

from bench.peers import report
from bench.peers.measures import Figures


def runs(*rates: float, **more: float) -> list[Figures]:
    told = dict.fromkeys(report.COLUMNS, 1.0) | {f"identical_{name}": 1.0 for name in report.COLUMNS} | more
    return [{**told, "unicast_per_s": rate} for rate in rates]


def test_a_figure_is_held_against_its_bound_by_the_median_of_all_runs() -> None:
    results = {"limit": runs(100_000, 90_000, 200_000), "carillon": runs(49_000, 50_000, 90_000)}
    assert report.HELD[0].row(results) == ["unicast, of the C limit", "0.50", "≥ 0.5", "yes"]
    results["carillon"] = runs(49_000, 49_000, 90_000)
    assert report.HELD[0].row(results) == ["unicast, of the C limit", "0.49", "≥ 0.5", "no"]


def test_a_run_whose_limit_is_none_says_that_it_does_not_count() -> None:
    told = report.text({"limit": runs(100_000), "nchan": runs(41_000)})
    assert "2.44 times nchan's unicast rate (at least 2.5): the run does **not** count." in told
    assert "2.50 times nchan's unicast rate (at least 2.5): the run counts." in report.text(
        {"limit": runs(100_000), "nchan": runs(40_000)}
    )


def test_a_server_that_was_left_out_is_in_no_row() -> None:
    told = report.text({"nchan": runs(40_000)})
    assert "| nchan, published by HTTP | 40,000 |" in told
    assert "Carillon" not in told
