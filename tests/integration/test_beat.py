"""Beat and the lanes' marks, as processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import orjson
import psycopg
import pytest
import redis

from tests import directory
from tests.directory import Row
from tests.eventually import eventually
from tests.servers import Beat, Worker


@pytest.fixture
def broker(broker_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(broker_url) as client:
        yield client


@pytest.fixture
def db(database_url: str) -> Iterator[psycopg.Connection[Row]]:
    with directory.connect(database_url) as connection:
        yield connection


def lanes(db: psycopg.Connection[Row]) -> list[str]:
    return [row["lane"] for row in db.execute("SELECT lane FROM heartbeats ORDER BY lane").fetchall()]


@pytest.mark.usefixtures("beat", "worker")
def test_every_lane_that_has_workers_leaves_its_mark(db: psycopg.Connection[Row]) -> None:
    eventually(lambda: lanes(db) == ["fan_out", "maintenance", "urgent"], within=30)


@pytest.mark.usefixtures("beat")
def test_a_lane_without_workers_leaves_none(db: psycopg.Connection[Row], new_worker: Callable[..., Worker]) -> None:
    new_worker(queues="carillon.urgent,carillon.maintenance")
    eventually(lambda: lanes(db) == ["maintenance", "urgent"], within=30)


def test_two_beats_at_once_do_no_harm(
    db: psycopg.Connection[Row], beat: Beat, worker: Worker, settings_env: dict[str, str]
) -> None:
    second = Beat(settings_env, beat.log.with_name("second.log"))
    try:
        second.start()
        directory.add_recipients(db, "acme", ["ada"])
        data = {"student_id": "ada", "certificate_id": "c1", "badge_title": "Rust"}
        for _ in range(50):
            directory.add_event(db, "certificate.issued", data)
        done = "SELECT count(*) AS many FROM events WHERE state = 'done'"
        eventually(lambda: db.execute(done).fetchone() == {"many": 50}, within=30)
        directory.assert_numbered_without_gaps(db)
        assert beat.process is not None
        assert worker.process is not None
        assert (beat.process.poll(), worker.process.poll()) == (None, None)
    finally:
        second.kill()


def test_beat_piles_up_nothing_in_a_lane_that_is_full(broker: redis.Redis, beat: Beat) -> None:
    """Pins I8 for beat: a day without workers would leave 100,000 messages."""
    eventually(lambda: broker.llen("carillon.maintenance") > 0, within=30)
    broker.rpush("carillon.maintenance", *[orjson.dumps({}) for _ in range(1_100)])
    eventually(lambda: "beat.lane_full" in beat.output, within=30)
    waiting = broker.llen("carillon.maintenance")
    before = beat.output.count("beat.lane_full")
    eventually(lambda: beat.output.count("beat.lane_full") > before + 2, within=30)
    assert broker.llen("carillon.maintenance") == waiting
