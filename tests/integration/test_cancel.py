"""Withdrawing cancelled events, run in this process on a real database."""

from __future__ import annotations

from threading import Thread

import orjson
import psycopg
import pytest
import redis

from shared.frames import channel_of
from tests import directory
from tests.directory import Row
from tests.eventually import eventually
from workers.cancel import withdraw
from workers.chunks import plan, run_chunk
from workers.fan_out import fan_out_pending

ISSUED = {"student_id": "ada", "certificate_id": "c1", "badge_title": "Rust"}
CALL = {"title": "Maintenance", "message": "Tonight", "audience": {"everyone": True}}
PEOPLE = ["ada", "bob", "cleo", "dan", "eve"]


@pytest.fixture
def settings_env(settings_env: dict[str, str]) -> dict[str, str]:
    return {**settings_env, "CARILLON_CHUNK_SIZE": "2"}


def cancel(db: psycopg.Connection[Row], event: int) -> None:
    db.execute("UPDATE events SET state = 'cancelling', finished_at = NULL WHERE key = %s", (event,))


def counters(db: psycopg.Connection[Row], key: int) -> tuple[int, ...]:
    row = directory.inbox(db, key)
    return row["seq"], row["created"], row["unread"], row["unseen"], row["total"]


def test_what_is_out_is_withdrawn_with_one_change_and_frame_for_each_inbox_and_others_stay(
    db: psycopg.Connection[Row], configured: dict[str, str]
) -> None:
    key = directory.add_recipients(db, "acme", ["ada"])["ada"]
    kept = directory.add_event(db, "certificate.issued", ISSUED)
    event = directory.add_event(db, "certificate.issued", {**ISSUED, "certificate_id": "c2"})
    fan_out_pending()
    cancel(db, event)
    with redis.Redis.from_url(configured["CARILLON_REDIS_URL"]) as client, client.pubsub() as heard:
        heard.subscribe(channel_of("acme", "ada"))
        assert heard.get_message(timeout=5)
        assert withdraw(event)
        message = heard.get_message(timeout=5)
    assert message is not None
    first, second = directory.notifications(db, key)
    assert message["data"].startswith(b"id: 1-3\n")
    assert orjson.loads(message["data"].split(b"data: ")[1]) == {
        "prev": 2,
        "type": "deleted",
        "reason": "withdrawn",
        "notificationIds": [str(second["id"])],
        "notificationId": str(second["id"]),
        "unreadCount": 1,
        "unseenCount": 1,
    }
    assert (first["deleted_at"], second["seq"], second["title"], second["metadata"]) == (None, 3, "", {})
    assert counters(db, key) == (3, 2, 1, 1, 1)
    assert (directory.event(db, event)["state"], directory.event(db, kept)["state"]) == ("cancelled", "done")
    assert directory.event(db, event)["finished_at"] is not None


def test_what_was_read_or_archived_leaves_the_counters_as_they_are(db: psycopg.Connection[Row]) -> None:
    key = directory.add_recipients(db, "acme", ["ada"])["ada"]
    event = directory.add_event(db, "certificate.issued", ISSUED)
    fan_out_pending()
    db.execute("UPDATE notifications SET seen_at = now(), read_at = now(), archived_at = now()")
    db.execute("UPDATE inboxes SET seq = 2, unread = 0, unseen = 0, total = 0")
    cancel(db, event)
    withdraw(event)
    assert counters(db, key) == (3, 1, 0, 0, 0)


def test_pending_chunks_never_happen_and_done_ones_are_withdrawn(db: psycopg.Connection[Row]) -> None:
    keys = directory.add_recipients(db, "acme", PEOPLE)
    event = directory.add_event(db, "system.announcement", CALL)
    fan_out_pending()
    plan(event)
    run_chunk(event, 0)
    cancel(db, event)
    assert withdraw(event)
    run_chunk(event, 1)
    states = db.execute("SELECT state FROM fan_out_chunks ORDER BY number").fetchall()
    assert [row["state"] for row in states] == ["done", "cancelled", "cancelled"]
    assert [len(directory.notifications(db, key)) for key in sorted(keys.values())] == [1, 1, 0, 0, 0]
    assert db.execute("SELECT count(*) AS shown FROM notifications WHERE deleted_at IS NULL").fetchone() == {"shown": 0}
    assert directory.event(db, event)["state"] == "cancelled"


def test_a_cancel_waits_for_the_chunk_that_runs_and_withdraws_what_it_wrote(db: psycopg.Connection[Row]) -> None:
    """Fails when a chunk that began before the cancel may commit after it: its notifications would stay."""
    directory.add_recipients(db, "acme", PEOPLE)
    event = directory.add_event(db, "system.announcement", CALL)
    fan_out_pending()
    plan(event)
    with directory.connect(db.info.dsn + f" password={db.info.password}") as other, other.transaction():
        other.execute("SELECT 1 FROM inboxes WHERE recipient = 'ada' FOR UPDATE")
        chunk = Thread(target=run_chunk, args=(event, 0))
        chunk.start()
        eventually(lambda: waiting(db) == 1)
        cancel(db, event)
        cancelling = Thread(target=withdraw, args=(event,))
        cancelling.start()
        eventually(lambda: waiting(db) == 2)
    chunk.join()
    cancelling.join()
    assert db.execute("SELECT count(*) AS shown FROM notifications WHERE deleted_at IS NULL").fetchone() == {"shown": 0}
    assert db.execute("SELECT count(*) AS gone FROM notifications").fetchone() == {"gone": 2}
    assert directory.event(db, event)["state"] == "cancelled"


def waiting(db: psycopg.Connection[Row]) -> int:
    row = db.execute(
        "SELECT count(*) AS many FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    ).fetchone()
    assert row is not None
    many: int = row["many"]
    return many


def test_an_event_cancelled_before_its_fan_out_never_happens(db: psycopg.Connection[Row]) -> None:
    key = directory.add_recipients(db, "acme", ["ada"])["ada"]
    event = directory.add_event(db, "certificate.issued", ISSUED)
    cancel(db, event)
    fan_out_pending()
    assert withdraw(event)
    assert directory.event(db, event)["state"] == "cancelled"
    assert counters(db, key) == (0, 0, 0, 0, 0)


def test_withdrawing_twice_changes_nothing_more(db: psycopg.Connection[Row]) -> None:
    key = directory.add_recipients(db, "acme", ["ada"])["ada"]
    event = directory.add_event(db, "certificate.issued", ISSUED)
    fan_out_pending()
    cancel(db, event)
    for _ in range(2):
        assert withdraw(event)
    assert counters(db, key) == (2, 1, 0, 0, 0)
