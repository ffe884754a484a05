"""The sweeper: what a lost message left is queued again, once it is due."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import orjson
import psycopg
import pytest
import redis
from structlog.testing import capture_logs

from tests import directory
from tests.directory import Row, count
from workers import sweep as sweeper
from workers.chunks import plan, run_chunk
from workers.fan_out import fan_out_pending
from workers.sweep import sweep

ISSUED = {"student_id": "ada", "certificate_id": "c1", "badge_title": "Rust"}
CALL = {"title": "Maintenance", "message": "Tonight", "audience": {"everyone": True}}


@pytest.fixture
def settings_env(settings_env: dict[str, str]) -> dict[str, str]:
    return {**settings_env, "CARILLON_CHUNK_SIZE": "2"}


@pytest.fixture
def db(db: psycopg.Connection[Row]) -> psycopg.Connection[Row]:
    directory.add_recipients(db, "acme", ["ada", "bob", "cleo"])
    return db


@pytest.fixture
def queue(configured: dict[str, str]) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(configured["CARILLON_BROKER_URL"]) as client:
        yield client


def queued(queue: redis.Redis) -> list[tuple[str, str, list[int]]]:
    """Take every message out of the lanes: lane, task, arguments."""
    told = []
    for lane in ("carillon.urgent", "carillon.fan_out", "carillon.maintenance"):
        while message := queue.rpop(lane):
            assert isinstance(message, bytes)
            told.append((lane, *_task_of(orjson.loads(message))))
    return told


def _task_of(message: dict[str, Any]) -> tuple[str, list[int]]:
    arguments, *_ = orjson.loads(b64decode(message["body"]))
    return message["headers"]["task"], arguments


def age(db: psycopg.Connection[Row], seconds: int) -> None:
    """Make everything look as old."""
    for table, column in (("events", "accepted_at"), ("events", "tried_at"), ("fan_out_chunks", "tried_at")):
        db.execute(f"UPDATE {table} SET {column} = {column} - make_interval(secs => %s)".encode(), (seconds,))


def test_a_pending_event_is_woken_once_it_is_a_second_old(db: psycopg.Connection[Row], queue: redis.Redis) -> None:
    directory.add_event(db, "certificate.issued", ISSUED)
    sweep()
    assert queued(queue) == []
    age(db, 2)
    sweep()
    assert queued(queue) == [("carillon.urgent", "carillon.fan_out", [])]


def test_with_nothing_to_do_nothing_is_queued(db: psycopg.Connection[Row], queue: redis.Redis) -> None:
    directory.add_event(db, "certificate.issued", ISSUED)
    fan_out_pending()
    age(db, 3600)
    sweep()
    assert queued(queue) == []


def test_a_suspect_is_queued_alone_when_its_wait_is_over_and_by_one_of_two_sweepers(
    db: psycopg.Connection[Row], queue: redis.Redis
) -> None:
    event = directory.add_event(db, "certificate.issued", ISSUED)
    db.execute("UPDATE events SET attempts = 2, tried_at = clock_timestamp() - interval '3 s'")
    sweep()
    assert queued(queue) == []
    age(db, 2)
    sweep()
    sweep()
    assert queued(queue) == [("carillon.urgent", "carillon.fan_out_one", [event, 2])]


def test_a_plan_that_was_lost_is_queued_again(db: psycopg.Connection[Row], queue: redis.Redis) -> None:
    event = directory.add_event(db, "system.announcement", CALL)
    fan_out_pending()
    assert queued(queue) == [("carillon.fan_out", "carillon.plan_chunks", [event])]
    sweep()
    sweep()
    assert queued(queue) == [("carillon.fan_out", "carillon.plan_chunks", [event])]


def test_chunks_that_were_lost_are_queued_again_when_the_lane_stands_still(
    db: psycopg.Connection[Row], queue: redis.Redis
) -> None:
    event = directory.add_event(db, "system.announcement", CALL)
    fan_out_pending()
    plan(event)
    run_chunk(event, 0)
    queued(queue)
    sweep()
    assert queued(queue) == []
    age(db, 6)
    sweep()
    assert queued(queue) == [("carillon.fan_out", "carillon.fan_out_chunk", [event, 1])]


def test_a_waiting_chunk_is_left_in_its_lane_while_the_lane_works_but_not_for_ever(
    db: psycopg.Connection[Row], queue: redis.Redis
) -> None:
    event = directory.add_event(db, "system.announcement", CALL)
    fan_out_pending()
    plan(event)
    queued(queue)
    age(db, 6)
    db.execute("UPDATE fan_out_chunks SET tried_at = clock_timestamp() WHERE number = 0")
    sweep()
    assert queued(queue) == []
    age(db, 60)
    db.execute("UPDATE fan_out_chunks SET tried_at = clock_timestamp() WHERE number = 0")
    sweep()
    assert queued(queue) == [("carillon.fan_out", "carillon.fan_out_chunk", [event, 1])]


def test_a_chunk_whose_last_attempt_died_fails_its_event(db: psycopg.Connection[Row]) -> None:
    event = directory.add_event(db, "system.announcement", CALL)
    fan_out_pending()
    plan(event)
    run_chunk(event, 0)
    db.execute("UPDATE fan_out_chunks SET attempts = 5 WHERE number = 1")
    age(db, 6)
    with capture_logs() as told:
        sweep()
    assert [line for line in told if line["event"] == "event.given_up"] == [directory.alarm(db, event)]
    row = directory.event(db, event)
    assert (row["state"], row["notifications"], row["error"]) == ("failed", 2, "1 of 2 chunks failed.")


def test_one_sweep_gives_up_so_many_of_each_kind_and_the_next_one_the_rest(
    db: psycopg.Connection[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when what is given up has no limit: a poisoned batch of thousands was locked and told by one look."""
    monkeypatch.setattr(sweeper, "LIMIT", 1)
    event = directory.add_event(db, "system.announcement", CALL)
    fan_out_pending()
    plan(event)
    suspects = [directory.add_event(db, "system.announcement", CALL) for _ in range(2)]
    db.execute("UPDATE events SET attempts = 5, tried_at = now() - interval '1 day' WHERE state = 'accepted'")
    db.execute("UPDATE fan_out_chunks SET attempts = 5")
    age(db, 6)
    failed = []
    for _ in range(3):
        sweep()
        states = [directory.event(db, key)["state"] for key in suspects]
        failed.append((states.count("failed"), count(db, "fan_out_chunks WHERE state = 'failed'")))
    assert failed == [(1, 1), (2, 2), (2, 2)]


def test_an_event_whose_end_was_lost_is_ended(db: psycopg.Connection[Row]) -> None:
    event = directory.add_event(db, "system.announcement", CALL)
    fan_out_pending()
    plan(event)
    for number in range(2):
        run_chunk(event, number)
    db.execute("UPDATE events SET state = 'fanning_out', finished_at = NULL, notifications = 0")
    sweep()
    row = directory.event(db, event)
    assert (row["state"], row["notifications"]) == ("done", 3)


def test_a_cancel_is_queued_until_it_is_worked_on(db: psycopg.Connection[Row], queue: redis.Redis) -> None:
    event = directory.add_event(db, "certificate.issued", ISSUED)
    db.execute("UPDATE events SET state = 'cancelling'")
    for _ in range(2):
        sweep()
    assert queued(queue) == [("carillon.maintenance", "carillon.withdraw", [event])]
    age(db, 6)
    sweep()
    assert queued(queue) == [("carillon.maintenance", "carillon.withdraw", [event])]
