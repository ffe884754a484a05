"""The fan-out of large audiences in chunks, run in this process on a real database."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
import redis

from shared.wake import CHUNK_SHARDS, chunk_channel
from tests import directory
from tests.directory import Row
from workers.chunks import plan, run_chunk
from workers.fan_out import fan_out_pending

SIZE = 10
PEOPLE = 25
CALL = {"title": "Maintenance", "message": "Tonight", "audience": {"everyone": True}}


@pytest.fixture
def settings_env(settings_env: dict[str, str]) -> dict[str, str]:
    return {**settings_env, "CARILLON_CHUNK_SIZE": str(SIZE)}


@pytest.fixture
def db(configured: dict[str, str]) -> Iterator[psycopg.Connection[Row]]:
    with directory.connect(configured["CARILLON_DATABASE_URL"]) as connection:
        yield connection


def planned(db: psycopg.Connection[Row], **extra: object) -> int:
    """Post an announcement that is too large for a batch, and have it planned."""
    event = directory.add_event(db, "system.announcement", {**CALL, **extra})
    fan_out_pending()
    assert directory.event(db, event)["state"] == "fanning_out"
    plan(event)
    return event


def chunks(db: psycopg.Connection[Row], event: int) -> list[Row]:
    return db.execute("SELECT * FROM fan_out_chunks WHERE event_key = %s ORDER BY number", (event,)).fetchall()


def test_an_announcement_reaches_everyone_in_chunks_with_its_progress(db: psycopg.Connection[Row]) -> None:
    keys = directory.add_recipients(db, "acme", [f"p{number:03}" for number in range(PEOPLE)])
    event = planned(db)
    assert [(chunk["number"], chunk["state"]) for chunk in chunks(db, event)] == [
        (0, "pending"),
        (1, "pending"),
        (2, "pending"),
    ]
    told = []
    for number in range(3):
        run_chunk(event, number)
        row = directory.event(db, event)
        told.append((row["state"], row["recipients"], row["notifications"], row["published"]))
    assert told == [("fanning_out", 10, 10, 10), ("fanning_out", 20, 20, 20), ("done", 25, 25, 25)]
    assert all(len(directory.notifications(db, key)) == 1 for key in keys.values())
    directory.assert_numbered_without_gaps(db)


def test_a_chunk_is_told_in_one_message_of_a_line_for_each_inbox(
    db: psycopg.Connection[Row], configured: dict[str, str]
) -> None:
    keys = directory.add_recipients(db, "acme", [f"p{number:03}" for number in range(PEOPLE)])
    event = planned(db)
    with redis.Redis.from_url(configured["CARILLON_REDIS_URL"]) as client, client.pubsub() as heard:
        heard.subscribe(chunk_channel(event % CHUNK_SHARDS))
        assert heard.get_message(timeout=5)
        run_chunk(event, 0)
        message = heard.get_message(timeout=5)
    assert message is not None
    head, rest, *lines = message["data"].split(b"\n")
    epoch = db.execute("SELECT epoch FROM deployment").fetchone()
    assert epoch is not None
    assert head == b"shared %d" % epoch["epoch"]
    assert rest.startswith(b',"type":"SYSTEM_ANNOUNCEMENT"')
    assert rest.endswith(b"}}")
    first = sorted(keys.values())[:SIZE]
    assert [line.split(b" ") for line in lines] == [
        [b"%d" % key, b"1", str(directory.notifications(db, key)[0]["id"]).encode(), b"1", b"1"] for key in first
    ]
