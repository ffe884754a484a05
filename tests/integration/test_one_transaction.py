"""What belongs together is committed together, and nothing is told before: I1 to I3, with a database that refuses.

A trigger of the test's makes one statement, or the commit itself, fail. What is not committed may leave no trace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest
import redis

from shared.wake import CHUNK_SHARDS, chunk_channel
from tests import directory
from tests.directory import Row, count
from workers.cancel import withdraw
from workers.chunks import plan, run_chunk
from workers.fan_out import fan_out_pending
from workers.retention import cap

ISSUED = {"student_id": "ada", "certificate_id": "c1", "badge_title": "Rust"}
CALL = {"title": "Maintenance", "message": "Tonight", "audience": {"everyone": True}}
REFUSE = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$"
CAP = 2
Database = psycopg.Connection[Row]


@pytest.fixture
def settings_env(settings_env: dict[str, str]) -> dict[str, str]:
    return {**settings_env, "CARILLON_CHUNK_SIZE": "2", "CARILLON_INBOX_CAP": str(CAP)}


@pytest.fixture
def db(db: Database) -> Database:
    directory.add_recipients(db, "acme", ["ada", "bob", "cleo"])
    db.execute(REFUSE.encode())
    return db


@pytest.fixture
def told(configured: dict[str, str]) -> Iterator[Callable[[], int]]:
    """Hear every inbox and every chunk: each call returns how many messages came since the last one."""
    with redis.Redis.from_url(configured["CARILLON_REDIS_URL"]) as client, client.pubsub() as heard:
        heard.psubscribe("carillon:{acme/*}", *map(chunk_channel, range(CHUNK_SHARDS)))
        for _ in range(1 + CHUNK_SHARDS):
            assert (heard.get_message(timeout=5) or {})["type"] == "psubscribe"

        def take() -> int:
            many = 0
            while heard.get_message(timeout=0.2) is not None:
                many += 1
            return many

        yield take


def refuse(db: Database, when: str, table: str) -> None:
    db.execute(f"CREATE TRIGGER refused BEFORE {when} EXECUTE FUNCTION refuse()".encode())
    assert count(db, f"pg_trigger WHERE tgrelid = '{table}'::regclass AND tgname = 'refused'") == 1


def refuse_commits(db: Database, table: str, operation: str) -> None:
    """Let every transaction fail that touches the table so: not before its commit, which is when this is looked at."""
    db.execute(
        f"CREATE CONSTRAINT TRIGGER refused AFTER {operation} ON {table} DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION refuse()".encode()
    )


def planned(db: Database) -> int:
    event = directory.add_event(db, "system.announcement", CALL)
    fan_out_pending()
    plan(event)
    return event


def test_an_event_that_cannot_be_ended_leaves_no_notification(db: Database) -> None:
    """Fails when rows are committed before their event's state: its redelivery would write them again."""
    directory.add_event(db, "certificate.issued", ISSUED)
    refuse(db, "UPDATE ON events FOR EACH ROW WHEN (NEW.state = 'done')", "events")
    fan_out_pending()
    assert (count(db, "notifications"), count(db, "inboxes WHERE seq > 0")) == (0, 0)
    assert count(db, "events WHERE state = 'accepted'") == 1


def test_a_chunk_whose_rows_cannot_be_written_is_not_done(db: Database) -> None:
    """Fails when a chunk is ended before its rows: who is in it would never be told."""
    event = planned(db)
    refuse(db, "INSERT ON notifications FOR EACH ROW", "notifications")
    run_chunk(event, 0)
    assert count(db, "fan_out_chunks WHERE number = 0 AND state = 'pending' AND attempts = 1") == 1
    assert (count(db, "notifications"), count(db, "inboxes WHERE seq > 0")) == (0, 0)


def test_a_chunk_that_cannot_be_ended_leaves_no_notification(db: Database) -> None:
    event = planned(db)
    refuse(db, "UPDATE ON fan_out_chunks FOR EACH ROW WHEN (NEW.state = 'done')", "fan_out_chunks")
    run_chunk(event, 0)
    assert count(db, "fan_out_chunks WHERE number = 0 AND state = 'pending' AND attempts = 1") == 1
    assert (count(db, "notifications"), count(db, "inboxes WHERE seq > 0")) == (0, 0)


def test_a_batch_that_is_not_committed_is_told_to_nobody(db: Database, told: Callable[[], int]) -> None:
    """Fails when frames are published before the commit: they would tell what does not exist."""
    directory.add_event(db, "certificate.issued", ISSUED)
    refuse_commits(db, "notifications", "INSERT")
    fan_out_pending()
    assert (told(), count(db, "notifications")) == (0, 0)


def test_a_chunk_that_is_not_committed_is_told_to_nobody(db: Database, told: Callable[[], int]) -> None:
    event = planned(db)
    refuse_commits(db, "notifications", "INSERT")
    run_chunk(event, 0)
    assert (told(), count(db, "notifications")) == (0, 0)


def test_a_withdrawal_that_is_not_committed_is_told_to_nobody(db: Database, told: Callable[[], int]) -> None:
    event = directory.add_event(db, "certificate.issued", ISSUED)
    fan_out_pending()
    assert told() == 1
    db.execute("UPDATE events SET state = 'cancelling', finished_at = NULL WHERE key = %s", (event,))
    refuse_commits(db, "notifications", "UPDATE")
    with pytest.raises(Exception, match="refused"):
        withdraw(event)
    assert (told(), count(db, "notifications WHERE deleted_at IS NULL")) == (0, 1)


def test_a_cap_that_is_not_committed_is_told_to_nobody(db: Database, told: Callable[[], int]) -> None:
    for _ in range(CAP + 1):
        directory.add_event(db, "certificate.issued", ISSUED)
    fan_out_pending()
    assert told() == CAP + 1
    refuse_commits(db, "notifications", "UPDATE")
    with pytest.raises(Exception, match="refused"):
        cap()
    assert (told(), count(db, "notifications WHERE deleted_at IS NULL")) == (0, CAP + 1)
