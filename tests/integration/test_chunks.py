"""The fan-out of large audiences in chunks, run in this process on a real database."""

from __future__ import annotations

from dataclasses import replace
from threading import Thread
from unittest.mock import patch

import orjson
import psycopg
import pytest
import redis
from structlog.testing import capture_logs

from shared.catalog import Catalog, catalog
from shared.frames import channel_of
from shared.wake import CHUNK_SHARDS, chunk_channel
from tests import directory
from tests.directory import Row
from tests.eventually import eventually
from tests.statements import recorded
from workers.chunks import plan, run_chunk
from workers.fan_out import fan_out_pending

SIZE = 10
PEOPLE = 25
CALL = {"title": "Maintenance", "message": "Tonight", "audience": {"everyone": True}}


@pytest.fixture
def settings_env(settings_env: dict[str, str]) -> dict[str, str]:
    return {**settings_env, "CARILLON_CHUNK_SIZE": str(SIZE)}


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


def test_a_chunk_is_one_transaction_of_four_statements_between_two_short_ones(db: psycopg.Connection[Row]) -> None:
    directory.add_recipients(db, "acme", [f"p{number:03}" for number in range(PEOPLE)])
    event = planned(db)
    with recorded() as told:
        run_chunk(event, 0)
    assert told == [
        *("UPDATE fan_out_chunks c", "commit"),
        *("WITH claimed AS", "SELECT i.key, a.place,", "WITH moved AS", "UPDATE fan_out_chunks SET", "commit"),
        *("SELECT e.state FROM", "UPDATE fan_out_chunks SET", "UPDATE events e", "commit"),
    ]


def test_the_same_chunk_twice_is_told_once(db: psycopg.Connection[Row]) -> None:
    directory.add_recipients(db, "acme", [f"p{number:03}" for number in range(PEOPLE)])
    event = planned(db)
    for _ in range(2):
        run_chunk(event, 0)
    assert (directory.event(db, event)["notifications"], chunks(db, event)[0]["attempts"]) == (SIZE, 1)
    directory.assert_numbered_without_gaps(db)


def test_a_chunk_whose_message_comes_again_waits_for_what_the_dead_worker_still_holds(
    db: psycopg.Connection[Row], configured: dict[str, str]
) -> None:
    """Pins that it is not given up until the sweeper takes it for lost, which in a busy lane lasts for a minute."""
    directory.add_recipients(db, "acme", [f"p{number:03}" for number in range(PEOPLE)])
    event = planned(db)
    waiting = "SELECT count(*) AS many FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with directory.connect(configured["CARILLON_DATABASE_URL"]) as dead:
        with dead.transaction():
            dead.execute("SELECT FROM fan_out_chunks WHERE event_key = %s AND number = 0 FOR UPDATE", (event,))
            run_chunk(event, 0)
            assert (chunks(db, event)[0]["state"], chunks(db, event)[0]["attempts"]) == ("pending", 0)
            again = Thread(target=run_chunk, args=(event, 0), kwargs={"waits": True})
            again.start()
            eventually(lambda: db.execute(waiting).fetchone() == {"many": 1}, within=30)
        again.join()
    assert (chunks(db, event)[0]["state"], chunks(db, event)[0]["attempts"]) == ("done", 1)


def test_chunks_run_by_several_workers_at_once_end_the_event_once_all_are_done(db: psycopg.Connection[Row]) -> None:
    directory.add_recipients(db, "acme", [f"p{number:03}" for number in range(8 * SIZE)])
    event = planned(db)
    threads = [Thread(target=run_chunk, args=(event, number % 8)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    row = directory.event(db, event)
    assert (row["state"], row["recipients"], row["notifications"], row["published"]) == ("done", 80, 80, 80)
    directory.assert_numbered_without_gaps(db)


def test_whoever_joins_while_an_announcement_runs_is_reached_by_its_open_end_in_chunks_of_their_own(
    db: psycopg.Connection[Row],
) -> None:
    directory.add_recipients(db, "acme", [f"p{number:03}" for number in range(PEOPLE)])
    event = planned(db)
    directory.add_recipients(db, "acme", [f"q{number:03}" for number in range(PEOPLE)])
    for number in range(5):
        run_chunk(event, number)
    assert [chunk["recipients"] for chunk in chunks(db, event)] == [10, 10, 10, 10, 10]
    assert directory.event(db, event)["state"] == "done"
    assert directory.event(db, event)["notifications"] == 2 * PEOPLE
    directory.assert_numbered_without_gaps(db)


def test_a_large_audience_of_several_kinds_gets_each_text_in_chunks(db: psycopg.Connection[Row]) -> None:
    deans = directory.add_recipients(db, "acme", [f"dean{number}" for number in range(12)], roles=["university_admin"])
    roots = directory.add_recipients(db, "platform", [f"root{number}" for number in range(12)], roles=["super_admin"])
    event = directory.add_event(db, "university.approved", {"university_id": "acme", "university_name": "Acme"})
    fan_out_pending()
    plan(event)
    for number in range(3):
        run_chunk(event, number)
    assert directory.event(db, event)["notifications"] == 24
    texts = [{directory.notifications(db, key)[0]["message"] for key in keys.values()} for keys in (deans, roots)]
    assert [len(told) for told in texts] == [1, 1]
    assert texts[0] != texts[1]
    directory.assert_numbered_without_gaps(db)


def test_personal_texts_are_copied_in_and_told_to_each_alone(
    db: psycopg.Connection[Row], configured: dict[str, str]
) -> None:
    keys = directory.add_recipients(
        db, "acme", [f"p{number:03}" for number in range(PEOPLE)], attributes={"salutation": "Dear"}
    )
    event_type = catalog().get("system.announcement")
    assert event_type is not None
    (audience,) = event_type.audiences
    words = "{{ recipient.attributes.salutation }} {{ recipient.id }}: {{ message }}"
    personal = replace(event_type, audiences=(replace(audience, message=words),))
    types = {**catalog().types, personal.name: personal}
    with (
        patch("workers.prepare.catalog", lambda: Catalog(types)),
        redis.Redis.from_url(configured["CARILLON_REDIS_URL"]) as client,
        client.pubsub() as heard,
    ):
        heard.subscribe(channel_of("acme", "p003"))
        assert heard.get_message(timeout=5)
        event = planned(db)
        for number in range(3):
            run_chunk(event, number)
        message = heard.get_message(timeout=5)
    assert message is not None
    frame = orjson.loads(message["data"].split(b"data: ")[1])
    assert frame["notification"]["message"] == "Dear p003: Tonight"
    assert {key: [row["message"] for row in directory.notifications(db, key)] for key in keys.values()} == {
        key: [f"Dear {name}: Tonight"] for name, key in keys.items()
    }
    assert directory.event(db, event)["published"] == PEOPLE
    directory.assert_numbered_without_gaps(db)


def test_an_announcement_that_reaches_nobody_any_more_is_done(db: psycopg.Connection[Row]) -> None:
    directory.add_recipients(db, "acme", [f"p{number:03}" for number in range(PEOPLE)])
    event = directory.add_event(db, "system.announcement", CALL)
    fan_out_pending()
    db.execute("DELETE FROM recipients")
    plan(event)
    row = directory.event(db, event)
    assert (row["state"], row["recipients"]) == ("done", 0)


def test_a_chunk_that_fails_five_times_fails_its_event_after_the_others_are_told(db: psycopg.Connection[Row]) -> None:
    directory.add_recipients(db, "acme", [f"p{number:03}" for number in range(PEOPLE)])
    event = planned(db)
    with patch("workers.chunks._Chunk.run", side_effect=RuntimeError), capture_logs() as told:
        for _ in range(5):
            run_chunk(event, 1)
    assert [line for line in told if line["event"] == "event.given_up"] == [directory.alarm(db, event, number=1)]
    assert directory.event(db, event)["state"] == "fanning_out"
    for number in (0, 2):
        run_chunk(event, number)
    row = directory.event(db, event)
    assert (row["state"], row["notifications"], row["error"]) == ("failed", 15, "1 of 3 chunks failed.")


def test_a_chunk_tried_again_leaves_out_what_is_there(db: psycopg.Connection[Row]) -> None:
    """Pins the second net of I2 for chunks: a retry meets its own notifications without failing or doubling them."""
    directory.add_recipients(db, "acme", [f"p{number:03}" for number in range(PEOPLE)])
    event = planned(db)
    run_chunk(event, 0)
    db.execute("UPDATE fan_out_chunks SET state = 'pending' WHERE number = 0")
    for number in range(3):
        run_chunk(event, number)
    row = directory.event(db, event)
    assert (row["state"], row["recipients"], row["notifications"]) == ("done", PEOPLE, PEOPLE)
    directory.assert_numbered_without_gaps(db)


def test_a_plan_whose_message_came_twice_makes_its_chunks_once(db: psycopg.Connection[Row]) -> None:
    directory.add_recipients(db, "acme", [f"p{number:03}" for number in range(PEOPLE)])
    event = planned(db)
    plan(event)
    assert len(chunks(db, event)) == 3


def test_long_texts_make_smaller_chunks(db: psycopg.Connection[Row]) -> None:
    directory.add_recipients(db, "acme", [f"p{number:03}" for number in range(PEOPLE)])
    with patch("workers.chunks.MAX_BATCH_BYTES", 4 * 4_500):
        event = planned(db, message="x" * 4_000)
    assert len(chunks(db, event)) == 7
