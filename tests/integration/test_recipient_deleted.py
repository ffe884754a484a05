"""A recipient who is deleted while a fan-out that found the person waits for the inbox: nothing is written for them.

Pins `inboxes.deserted`, which the fan-out reads again once it has the lock. Without it, a removed person's inbox gets a
notification that nobody ever removes.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any

import psycopg
import pytest

from shared import db as database
from shared.directory import Recipient, delete_recipient, put_recipients
from shared.statements import run
from tests import directory
from tests.directory import Row
from tests.eventually import eventually
from workers.chunks import plan, run_chunk
from workers.fan_out import fan_out_pending

ISSUED = {"student_id": "ada", "certificate_id": "c1", "badge_title": "Rust"}
ANNOUNCED = {"title": "Hello", "message": "All of you", "audience": {"everyone": True}}


def waits_for_a_lock(db: psycopg.Connection[Row]) -> bool:
    row = db.execute(
        "SELECT count(*) AS waiting FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    ).fetchone()
    return bool(row and row["waiting"])


def while_ada_is_deleted(db: psycopg.Connection[Row], fan_out: Callable[[], Any]) -> None:
    """Run `fan_out` between the deletion of Ada and its commit."""
    thread = Thread(target=fan_out)
    with database.transaction("*") as connection:
        run(connection, delete_recipient("acme", "ada"))
        thread.start()
        eventually(lambda: waits_for_a_lock(db))
    thread.join(30)
    assert not thread.is_alive()


def test_one_who_is_named_gets_nothing(db: psycopg.Connection[Row]) -> None:
    keys = directory.add_recipients(db, "acme", ["ada", "bob"], roles=["university_admin"])
    event = directory.add_event(db, "certificate.issued", ISSUED)
    while_ada_is_deleted(db, fan_out_pending)
    assert [len(directory.notifications(db, keys[name])) for name in ("ada", "bob")] == [0, 1]
    ended = directory.event(db, event)
    assert (ended["state"], ended["recipients"], ended["notifications"]) == ("done", 1, 1)


def test_one_among_everyone_gets_nothing(db: psycopg.Connection[Row], monkeypatch: pytest.MonkeyPatch) -> None:
    keys = directory.add_recipients(db, "acme", ["ada", "bob", "cem"])
    event = directory.add_event(db, "system.announcement", ANNOUNCED)
    db.execute("UPDATE events SET state = 'fanning_out' WHERE key = %s", (event,))
    plan(event)
    while_ada_is_deleted(db, lambda: run_chunk(event, 0))
    assert [len(directory.notifications(db, keys[name])) for name in ("ada", "bob", "cem")] == [0, 1, 1]
    ended = directory.event(db, event)
    assert (ended["state"], ended["recipients"], ended["notifications"]) == ("done", 2, 2)


def test_one_who_returns_is_told_again(db: psycopg.Connection[Row]) -> None:
    key = directory.add_recipients(db, "acme", ["ada"])["ada"]
    with database.transaction("*") as connection:
        run(connection, delete_recipient("acme", "ada"))
    with database.transaction("*") as connection:
        run(connection, put_recipients([Recipient("acme", "ada", (), "en", {})]))
    directory.add_event(db, "certificate.issued", ISSUED)
    fan_out_pending()
    assert [row["seq"] for row in directory.notifications(db, key)] == [2]
