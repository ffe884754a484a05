"""What a claim reads of the queue: what it takes and no more, whatever PostgreSQL believes of the tables' sizes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, text

from shared import chunks, deletions, failed_logins, fan_out
from shared import db as database
from tests import directory
from tests.directory import Row

PENDING, LIMIT = 400, 20
#: More than psycopg's and PostgreSQL's five each: then the plan for any parameters is in use.
CLAIMS = 12


def add_events(db: psycopg.Connection[Row], many: int, state: str) -> None:
    db.execute(
        "INSERT INTO events (tenant, source, id, type, data, occurred_at, state)"
        " SELECT 'acme', '/tests', %s || g, 'grade.posted', '{}', now(), %s FROM generate_series(1, %s) g",
        (state, state, many),
    )


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for each in plan.get("Plans", ()):
        yield from nodes(each)


def read_of(plan: dict[str, Any], table: str) -> float:
    """Return how many rows the plan's scans of a table looked at, those that they threw away included."""
    scans = [node for node in nodes(plan) if node.get("Relation Name") == table]
    assert scans, plan
    thrown = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
    read: float = sum(
        scan["Actual Loops"] * (scan["Actual Rows"] + sum(scan.get(one, 0) for one in thrown)) for scan in scans
    )
    return read


def explained(connection: Connection, statement: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Run the statement and return its plan."""
    (told,) = connection.execute(text(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement.text}"), given).scalars().one()
    plan: dict[str, Any] = told["Plan"]
    return plan


@pytest.fixture(params=["never seen", "seen empty", "seen when all was done"])
def believed(request: pytest.FixtureRequest, db: psycopg.Connection[Row]) -> None:
    """What PostgreSQL knows of the events: statistics come now and then, and pending events go in between."""
    directory.add_recipients(db, "acme", ["ada"])
    if request.param == "seen empty":
        db.execute("VACUUM ANALYZE events")
    elif request.param == "seen when all was done":
        add_events(db, 50, "done")
        db.execute("VACUUM ANALYZE events")


@pytest.mark.usefixtures("believed")
def test_a_claim_reads_what_it_takes_of_a_backlog(db: psycopg.Connection[Row]) -> None:
    """Fails where a plan sorts what is pending: each batch of a backlog read all of it (20 ms for 33,000)."""
    add_events(db, PENDING, "accepted")
    with database.transaction("acme") as connection:
        plan = explained(connection, fan_out.claim_batch(), {"limit": LIMIT})
    assert read_of(plan, "events") == LIMIT
    assert {node.get("Index Name") for node in nodes(plan) if node.get("Relation Name") == "events"} == {
        "events_pending"
    }


#: Rows of the events that this transaction has looked at, by an index or without.
READ = text("SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'events'")


@pytest.mark.usefixtures("believed")
def test_a_plan_made_for_a_few_events_serves_a_backlog_that_came_after_it(db: psycopg.Connection[Row]) -> None:
    """A worker's connection keeps its plans. What is done must not be read by them either."""
    for _ in range(CLAIMS):
        add_events(db, 1, "accepted")
        with database.transaction("acme") as connection:
            assert len(connection.execute(fan_out.claim_batch(), {"limit": LIMIT}).all()) == 1
        db.execute("UPDATE events SET state = 'done', id = 'd' || key WHERE state = 'accepted'")
    add_events(db, PENDING, "accepted")
    with database.transaction("acme") as connection:
        before = connection.scalar(READ) or 0
        assert len(connection.execute(fan_out.claim_batch(), {"limit": LIMIT}).all()) == LIMIT
        assert connection.scalar(READ) - before <= 2 * LIMIT


def test_what_a_batch_ends_is_found_by_its_keys_however_small_the_table_was(db: psycopg.Connection[Row]) -> None:
    """Fails as a join alone: with these statistics all events are read, and hashed."""
    directory.add_recipients(db, "acme", ["ada"])
    db.execute("VACUUM ANALYZE events")
    add_events(db, PENDING, "done")
    keys = [row["key"] for row in db.execute("SELECT key FROM events ORDER BY key LIMIT 5").fetchall()]
    with database.transaction("acme") as connection:
        plan = explained(connection, fan_out.count_published(), {"keys": keys, "counts": [1] * 5})
    assert read_of(plan, "events") == 5


def test_whether_the_lane_of_chunks_stands_still_is_looked_at_once_and_not_for_each_chunk(
    db: psycopg.Connection[Row],
) -> None:
    directory.add_recipients(db, "acme", ["ada"])
    event = directory.add_event(db, "system.announcement", {})
    db.execute("UPDATE events SET state = 'fanning_out' WHERE key = %s", (event,))
    db.execute(
        "INSERT INTO fan_out_chunks (event_key, number, after_key, up_to_key)"
        " SELECT %s, g, g, g + 1 FROM generate_series(1, 60) g",
        (event,),
    )
    with database.transaction() as connection:
        plan = explained(connection, chunks.requeue_chunks(), {"most": 5, "limit": 100})
    assert read_of(plan, "fan_out_chunks") <= 2 * 60


@pytest.mark.parametrize("analyzed", [False, True], ids=["never seen", "analyzed"])
def test_the_failed_logins_that_are_to_be_counted_are_read_without_those_that_are_kept(
    db: psycopg.Connection[Row], configured: object, analyzed: bool
) -> None:
    """Fails in the order of event keys alone: the primary key was walked past all that are kept (12 ms for 100,000)."""
    db.execute(
        "INSERT INTO failed_logins (event_key, tenant, account, at, kept_at)"
        " SELECT g, 'acme', 'a' || g, now(), CASE WHEN g <= %s THEN now() END FROM generate_series(1, 2 * %s) g",
        (PENDING, PENDING),
    )
    if analyzed:
        db.execute("ANALYZE failed_logins")
    with database.transaction(database.EVERY_TENANT) as connection:
        plan = explained(connection, failed_logins.staged(), {"limit": LIMIT})
        keys = [row.event_key for row in connection.execute(failed_logins.staged(), {"limit": LIMIT})]
    assert read_of(plan, "failed_logins") == LIMIT
    assert keys == list(range(PENDING + 1, PENDING + LIMIT + 1))


def test_what_has_expired_is_found_by_its_time(configured: object) -> None:
    """Fails with the clock in line: under row-level security no index served it, and all that expires was read."""
    with database.transaction(database.EVERY_TENANT) as connection:
        given = {"now": None, "limit": 100}
        plan = "\n".join(connection.scalars(text(f"EXPLAIN {deletions.expired().text}"), given))
        aged = "\n".join(connection.scalars(text(f"EXPLAIN {deletions.old_tombstones().text}"), {**given, "days": 7}))
    assert "Index Cond: (expires_at <" in plan, plan
    assert "Index Cond: (deleted_at <" in aged, aged


def test_a_look_for_caps_reads_a_page_of_inboxes_and_no_more(db: psycopg.Connection[Row]) -> None:
    """However few are over theirs: the last look of a run read all inboxes there are."""
    keys = sorted(directory.add_recipients(db, "acme", [f"p{number}" for number in range(50)]).values())
    db.execute("UPDATE inboxes SET created = 9, seq = 9 WHERE key = %s", (keys[3],))
    given = {"cap": 5, "tenants": ["else"], "caps": [1], "least": 1, "after": keys[0], "inboxes": 10}
    with database.transaction(database.EVERY_TENANT) as connection:
        page = connection.execute(deletions.over_caps(), given).one()
        plan = explained(connection, deletions.over_caps(), given)
        grown = connection.execute(deletions.grown(), {"after": keys[0], "inboxes": 10}).one()
        plan_of_types = explained(connection, deletions.grown(), {"after": keys[0], "inboxes": 10})
    assert (tuple(page), tuple(grown)) == ((keys[10], [keys[3]], [4]), (keys[10], [keys[3]], [1]))
    assert read_of(plan, "inboxes") == read_of(plan_of_types, "inboxes") == 10
