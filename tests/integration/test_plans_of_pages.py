"""A page reads its own places of an inbox, whatever the planner knows of the statement's values and of the inbox."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from bench.plans import Session, become_application, prepared
from bench.stored import TENANTS, fill
from shared import inbox
from shared.inbox_filter import Filter

#: Many tenants, of which row-level security lets one through, and the page's inbox, which is longer than the others.
INBOXES, EACH, LONGER, LIMIT = 100, 15, 120, 20
TENANT, RECIPIENT = TENANTS[1], "r1"
MORE = """
    INSERT INTO notifications (id, key, tenant, event_key, ordinal, created_seq, seq, type, priority, title, message,
                               metadata, created_at)
    SELECT gen_random_uuid(), i.key, i.tenant, g, g, g, g, 'grade.posted', 1, 'Grade Posted', repeat('x', 2000), '{}',
           now() FROM inboxes i, generate_series(%s::bigint, %s::bigint) g WHERE i.recipient = %s"""


@pytest.fixture
def reader(configured: dict[str, str]) -> Iterator[Session]:
    """A session of the API within one tenant, on tables that the planner knows."""
    with psycopg.connect(configured["CARILLON_DATABASE_URL"], autocommit=True) as session:
        fill(session, INBOXES, EACH)
        session.execute(MORE, (EACH + 1, LONGER, RECIPIENT))
        session.execute("VACUUM ANALYZE notifications")
        become_application(session, TENANT)
        yield session


def _scans(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if node.get("Relation Name") == "notifications":
        yield node
    for each in node.get("Plans", ()):
        yield from _scans(each)


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("before", [None, LONGER // 2], ids=["newest", "deep"])
def test_a_page_reads_the_index_backwards_and_ends_with_its_last_row(
    reader: Session, mode: str, before: int | None
) -> None:
    """Fails with the limit as a plain parameter: planned for its values the whole inbox was read and sorted.

    And, deep in the inbox, with COALESCE around the ordinal: all that is newer was read and thrown away.
    """
    statement, values = inbox.read_page(Filter())
    given = {"tenant": TENANT, "recipient": RECIPIENT, "before": before, "limit": LIMIT, **values}
    with prepared(reader, statement, given, mode) as command:
        row = reader.execute(sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) ") + command).fetchone()
    assert row is not None
    (scan,) = _scans(row[0][0]["Plan"])
    assert scan.get("Scan Direction") == "Backward", scan
    assert (scan["Actual Rows"], scan.get("Rows Removed by Filter", 0)) == (LIMIT + 1, 0)
