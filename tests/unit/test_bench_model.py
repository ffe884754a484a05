"""The model of large installations: its arithmetic, and that the document says what it computes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench import model, report
from bench.model import Costs, Model, Plan, limits
from bench.scaling import all_told
from bench.simulate import come_back

COSTS = Costs()


def test_the_document_says_what_the_committed_figures_come_to() -> None:
    """Mend it with `python -m bench.model`."""
    text = model.DOCUMENT.read_text()
    for mark, part in model.parts(Model(Plan(), COSTS)).items():
        assert report.between(text, mark) == part, mark


def test_the_tables_of_growth_are_those_of_the_committed_figures() -> None:
    """Mend it by measuring any part again."""
    assert report.between(report.PERFORMANCE.read_text(), "scaling") == all_told()


def test_twice_the_recipients_and_streams_take_twice_as_much_and_chunks_four_times() -> None:
    one, two = (Model(replace(Plan(), recipients=n * 50e6, streams=n * 500_000), COSTS) for n in (1, 2))
    for name in ("edges", "event_cores", "announcement_cores", "reconcile_cores", "stored_gb", "redis_memory_gb"):
        assert getattr(two, name) == pytest.approx(2 * getattr(one, name), rel=0.02), name
    assert two.chunk_gbit == pytest.approx(4 * one.chunk_gbit, rel=0.02)


def test_limits_come_in_the_order_in_which_they_are_reached() -> None:
    found = limits(Model(Plan(), COSTS))
    assert [each.recipients for each in found] == sorted(each.recipients for each in found)
    assert len({each.what for each in found}) == len(found) == 10


def test_at_its_limit_a_part_is_exactly_as_busy_as_planned() -> None:
    plan = Plan()
    by_name = {each.what: each for each in limits(Model(plan, COSTS))}
    network = by_name["one Redis network: chunks, which every edge hears"].recipients
    at_limit = replace(plan, recipients=network, streams=network / 100, edge_streams=1_000)
    chunks = Model(at_limit, COSTS).chunk_gbit / (plan.edge_streams / at_limit.edge_streams)
    assert chunks == pytest.approx(plan.redis_gbit * plan.busy, rel=0.01)
    disk = by_name["one PostgreSQL: disk"].recipients
    assert Model(replace(plan, recipients=disk), COSTS).stored_gb == pytest.approx(plan.postgres_disk_gb / 2)


def test_money_is_the_sum_of_its_parts() -> None:
    *several, together = Model(Plan(), COSTS).money().values()
    assert together == pytest.approx(sum(several))
    assert all(dollars > 0 for dollars in several)


def test_a_herd_that_the_edges_keep_up_with_waits_for_its_own_opening_only() -> None:
    back = come_back(1_000, 100, 0.001, (1.0, 3.0))
    assert back.last_s == pytest.approx(3.0, abs=0.05)
    assert back.longest_wait_s < 0.02


def test_a_herd_that_is_too_much_queues_until_the_edges_have_opened_all() -> None:
    back = come_back(10_000, 2, 0.001, (1.0, 3.0))
    assert back.last_s == pytest.approx(1.0 + 10_000 * 0.001 / 2, rel=0.01)
    assert back.longest_wait_s == pytest.approx(back.last_s - 3.0, rel=0.1)


def test_streams_that_come_back_to_nobody_else_are_served_one_by_one() -> None:
    assert come_back(3, 1, 1.0, (0.0, 0.0)).last_s == 3.0
