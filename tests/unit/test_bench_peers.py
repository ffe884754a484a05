"""What the comparison with other servers says follows from the medians of its runs."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from argparse import Namespace
from pathlib import Path
from subprocess import CalledProcessError
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from bench.peers import report
from bench.peers.__main__ import _measure_all, plan
from bench.peers.load import FailedError
from bench.peers.measures import CALM, FULL, NEAR, PRECISION, STEP, Effort, Figures, search, unicast
from bench.peers.picture import Column, Row, bars
from bench.peers.servers import running
from shared.embedded import free_port
from tests.eventually import eventually

SVG = "{http://www.w3.org/2000/svg}"


def runs(*rates: float, **more: float) -> list[Figures]:
    told = dict.fromkeys(report.COLUMNS, 1.0) | {f"identical_{name}": 1.0 for name in report.COLUMNS} | more
    return [{**told, "unicast_per_s": rate} for rate in rates]


def said(results: report.Results) -> str:
    return report.text(report.Told("make bench-peers", {"cores": "2"}, results))


def held(what: str) -> report.Held:
    return next(each for each in report.HELD if each.what.startswith(what))


def test_a_figure_is_held_against_its_bound_by_the_median_of_all_runs() -> None:
    results = {"limit": runs(100_000, 90_000, 200_000), "carillon": runs(49_000, 50_000, 90_000)}
    assert report.HELD[0].row(results) == ["unicast, of the C limit", "0.50", "≥ 0.5", "yes"]
    results["carillon"] = runs(49_000, 49_000, 90_000)
    assert report.HELD[0].row(results) == ["unicast, of the C limit", "0.49", "≥ 0.5", "no"]


def test_nchan_through_redis_is_taken_in_its_faster_way_where_both_were_measured() -> None:
    line = held("unicast, of nchan through Redis")
    results = {"carillon": runs(120_000), "nchan-redis": runs(10_000)}
    assert line.row(results) is None
    results["nchan-nostore"] = runs(24_000)
    assert (row := line.row(results)) is not None
    assert row[1:] == ["5.00", "≥ 6", "no"]
    del results["nchan-redis"]
    assert line.row(results) is None


def test_a_server_that_reaches_no_rate_is_in_no_ratio_and_in_the_table_all_the_same() -> None:
    results = {"carillon": runs(120_000), "nchan": runs(0.0), "limit": runs(200_000)}
    assert held("unicast, of nchan by HTTP").row(results) is None
    told = said(results)
    assert "| nchan, published by HTTP | 0.0 |" in told
    assert "The C limit or nchan has no rate: the run does not count." in told
    assert "“unicast, of nchan by HTTP”" in told


def test_reconnects_that_are_not_answered_are_held_against_the_product() -> None:
    line = held("of those reconnects not answered")
    assert line.row({"carillon": runs(1.0, unanswered=0)}) == [line.what, "0.00", "≤ 0", "yes"]
    assert line.row({"carillon": runs(1.0, 1.0, 1.0, unanswered=3)}) == [line.what, "3.00", "≤ 0", "no"]


def test_a_server_of_fewer_runs_than_the_others_says_so() -> None:
    told = said({"limit": runs(1.0, 1.0, 1.0), "node": runs(1.0), "nchan": runs(1.0, 1.0)})
    assert "medians of 3 runs" in told
    assert "| Node, http, one hub (1 run) |" in told
    assert "| nchan, published by HTTP (2 runs) |" in told
    assert "| C, epoll, hand-written (the limit) |" in told


class Losing:
    """A generator that misses a message in as many trials."""

    def __init__(self, times: int) -> None:
        self.times, self.trials = times, 0

    def unicast(self, rate: float, seconds: float) -> dict[str, float]:
        self.trials += 1
        sent = round(rate * seconds)
        missing = self.trials <= self.times or rate > CALM
        return {"sent": sent, "received": sent - missing, "p50": 1.0, "p99": 2.0}


@pytest.mark.parametrize("whole", [True, False])
def test_messages_that_are_missing_twice_at_the_calm_rate_fail_what_is_to_be_whole(whole: bool) -> None:
    once: Any = Losing(1)
    assert unicast(once, 100.0, FULL, whole=whole)["p99_calm_ms"] == 2.0
    always: Any = Losing(1_000)
    if not whole:
        assert unicast(always, 100.0, FULL)["unicast_per_s"] == 0.0
        return
    with pytest.raises(FailedError, match="1 of 6000 messages are missing at 2000/s"):
        unicast(always, 100.0, FULL, whole=True)


def test_a_servers_failure_of_any_kind_loses_its_own_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []
    monkeypatch.setattr(report, "keep", lambda told: kept.append(len(told.results.get("carillon", []))))
    monkeypatch.setattr(report, "machine", dict)
    errors = iter([FailedError("no"), ConnectionRefusedError(), psutil.NoSuchProcess(1), CalledProcessError(1, "gcc")])

    def fails(_effort: Effort, _known: float | None) -> Figures:
        raise next(errors)

    options = Namespace(only=["limit", "carillon"], runs=4, others=1, quick=True)
    results = _measure_all(options, {"limit": fails, "carillon": lambda _effort, _known: {"unicast_per_s": 5.0}})
    assert results == {"carillon": [{"unicast_per_s": 5.0}] * 4}
    assert kept == [0, 1, 1, 2, 2, 3, 3, 4]


def test_all_that_a_server_has_started_ends_with_it(tmp_path: Path) -> None:
    """Its first process ends at once when told to; the second, in the same group, would not for a minute."""
    port = free_port()
    program = (
        "import signal, subprocess, sys, http.server as h\n"
        "child = 'import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)'\n"
        "started = subprocess.Popen([sys.executable, '-c', child], stdout=subprocess.PIPE)\n"
        "started.stdout.readline()\n"
        f"h.HTTPServer(('127.0.0.1', {port}), h.BaseHTTPRequestHandler).serve_forever()\n"
    )
    place: Any = SimpleNamespace(folder=tmp_path, core=0)
    with running(place, port, [sys.executable, "-c", program]) as server:
        [child] = server.process.children()
    eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, within=30)


def test_a_run_whose_limit_is_none_says_that_it_does_not_count() -> None:
    told = said({"limit": runs(100_000), "nchan": runs(41_000)})
    assert "2.44 times nchan's unicast rate (at least 2.5): the run does **not** count." in told
    assert "2.50 times nchan's unicast rate (at least 2.5): the run counts." in said(
        {"limit": runs(100_000), "nchan": runs(40_000)}
    )


def test_a_server_that_was_left_out_is_in_no_row() -> None:
    told = said({"nchan": runs(40_000)})
    assert "| nchan, published by HTTP | 40,000 |" in told
    assert "Carillon" not in told


def test_what_was_measured_in_one_run_alone_has_no_range_and_what_in_none_no_figure() -> None:
    first, second = runs(30_000, 40_000)
    del second["idle_percent"], first["rss_kib"], second["rss_kib"]
    [line] = [line for line in said({"nchan": [first, second]}).splitlines() if line.startswith("| nchan")]
    assert line.startswith("| nchan, published by HTTP | 35,000 (30,000 to 40,000) |")
    assert line.endswith("|  | 1.0 |")


def test_what_the_product_is_not_held_to_is_measured_in_fewer_runs() -> None:
    assert plan(["limit", "node", "carillon"], 3, 1) == [
        (1, "limit"), (1, "node"), (1, "carillon"), (2, "limit"), (2, "carillon"), (3, "limit"), (3, "carillon"),
    ]  # fmt: skip


@pytest.mark.parametrize("step", [STEP, NEAR])
@pytest.mark.parametrize("true", [150.0, 4_000.0, 99_000.0, 101_000.0, 3_000_000.0])
def test_the_search_ends_just_below_what_is_reached_wherever_it_begins(step: float, true: float) -> None:
    tried: list[float] = []

    def reached(rate: float) -> bool:
        tried.append(rate)
        return rate <= true

    assert true / PRECISION <= search(reached, 100_000.0, step) <= true
    assert len(tried) <= 20


def test_a_limit_near_the_guess_is_found_in_a_few_trials_and_a_dead_server_given_up() -> None:
    tried: list[float] = []

    def reached(rate: float) -> bool:
        tried.append(rate)
        return rate <= 104_000

    assert 101_000 <= search(reached, 100_000.0, NEAR) <= 104_000
    assert len(tried) <= 5
    assert search(lambda _: False, 100_000.0, STEP) == 0.0


def test_the_picture_has_a_bar_of_each_median_and_the_range_where_there_is_one() -> None:
    rows = [Row("a & b", "ours", {"rate": [100, 200, 150]}), Row("c", "", {"rate": [75]}), Row("d", "", {"rate": []})]
    root = ET.fromstring(bars(rows, [Column("rate", "messages/s", "more is better")]))
    sizes = [float(each.attrib["width"]) for each in root.iter(f"{SVG}rect")]
    assert len(sizes) == 2
    assert sizes[0] == pytest.approx(2 * sizes[1], abs=0.2)
    assert len(list(root.iter(f"{SVG}line"))) == 1
    assert {"a & b", "c", "d", "150", "75"} <= {each.text for each in root.iter(f"{SVG}text")}
