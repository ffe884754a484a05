"""What a chunk reads of the directory: its own range, wherever in a large audience that is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import TextClause, text

from shared import audience
from shared import db as database
from tests import directory
from tests.directory import Row

PEOPLE, SIZE = 3_000, 100
EVERYONE = {
    "events": [0], "places": [0], "kinds": ["everyone"], "tenants": ["acme"], "names": [None],
    "event_tenants": ["acme"], "left_outs": [None], "personals": [False],
}  # fmt: skip


def _scans(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if node.get("Relation Name"):
        yield node
    for each in node.get("Plans", ()):
        yield from _scans(each)


@pytest.mark.parametrize("statement", [audience.lock_range(), audience.read_range()], ids=["locked", "read"])
def test_a_late_chunk_reads_its_own_range_alone_also_where_a_plan_joins_in_order(
    statement: TextClause, db: psycopg.Connection[Row]
) -> None:
    """Such a plan began at the first recipient: chunk after chunk read all that were before it."""
    keys = sorted(directory.add_recipients(db, "acme", [f"p{number}" for number in range(PEOPLE)]).values())
    db.execute("ANALYZE")
    given = {**EVERYONE, "after_key": keys[-SIZE - 1], "up_to_key": keys[-1], "limit": SIZE + 1}
    with database.transaction("acme") as connection:
        connection.execute(text("SET LOCAL enable_hashjoin = off; SET LOCAL enable_nestloop = off"))
        explained = text(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement.text}")
        (plan,) = connection.execute(explained, given).scalars().one()
    scans = list(_scans(plan["Plan"]))
    read = [scan["Actual Loops"] * (scan["Actual Rows"] + scan.get("Rows Removed by Filter", 0)) for scan in scans]
    assert "recipients" in {scan["Relation Name"] for scan in scans}
    assert sum(read) <= 5 * SIZE
