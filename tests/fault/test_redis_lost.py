"""Redis, as broker and as the fast path, dies, comes back empty, or stands still: it costs time, no notification."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import psycopg
import pytest
import redis
from kombu.exceptions import OperationalError

from shared.embedded import EmbeddedRedis, free_port
from tests import directory
from tests.directory import Row, count
from tests.eventually import eventually
from tests.servers import Beat, Worker
from workers.app import app

EVENTS = 1_000
PEOPLE = 20
#: Small batches, so that there are many transactions to be interrupted between.
BATCH = 5


@pytest.fixture
def settings_env(settings_env: dict[str, str], private_redis: EmbeddedRedis) -> dict[str, str]:
    url = {"CARILLON_REDIS_URL": private_redis.url(0), "CARILLON_BROKER_URL": private_redis.url(1)}
    return {**settings_env, **url, "CARILLON_CLAIM_BATCH": str(BATCH)}


def post(db: psycopg.Connection[Row], many: int) -> None:
    directory.add_recipients(db, "acme", [f"s{number}" for number in range(PEOPLE)])
    with db.transaction():
        for number in range(many):
            data = {"student_id": f"s{number % PEOPLE}", "certificate_id": f"c{number}", "badge_title": "Rust"}
            directory.add_event(db, "certificate.issued", data, id=str(number))


def assert_everything_arrived_once(db: psycopg.Connection[Row]) -> None:
    eventually(lambda: count(db, "events WHERE state = 'done'") == EVENTS, within=90)
    assert count(db, "notifications") == EVENTS
    directory.assert_numbered_without_gaps(db)


@pytest.mark.usefixtures("beat")
def test_a_redis_that_dies_and_comes_back_empty_loses_no_event(
    settings_env: dict[str, str], new_worker: Callable[..., Worker], private_redis: EmbeddedRedis
) -> None:
    """Pins that the queue of record is PostgreSQL: every message was lost with the broker, and the sweeper goes on."""
    new_worker()
    with directory.connect(settings_env["CARILLON_DATABASE_URL"]) as db:
        post(db, EVENTS)
        eventually(lambda: count(db, "notifications") > EVENTS // 10, within=60)
        with redis.Redis.from_url(private_redis.url()) as client:
            client.flushall()
        private_redis.kill()
        assert count(db, "events WHERE state = 'accepted'") > 0
        private_redis.start()
        assert_everything_arrived_once(db)


def test_events_accepted_while_redis_is_away_arrive_without_it_and_its_return_is_noticed(
    settings_env: dict[str, str], new_worker: Callable[..., Worker], beat: Beat, private_redis: EmbeddedRedis
) -> None:
    """Pins that a broker's outage leaves no backlog, and that worker and beat outlive it.

    Celery gives up after 100 tries by default, and what nobody is woken for waited for the broker's return.
    """
    settings_env["CARILLON_CHUNK_SIZE"] = "10"
    worker = new_worker()
    private_redis.kill()
    call = {"title": "Maintenance", "message": "Tonight", "audience": {"everyone": True}}
    with directory.connect(settings_env["CARILLON_DATABASE_URL"]) as db:
        post(db, EVENTS)
        assert_everything_arrived_once(db)
        # Two chunks of ten people each.
        meanwhile = directory.add_event(db, "system.announcement", call)
        eventually(lambda: directory.event(db, meanwhile)["state"] == "done", within=30)
        eventually(lambda: "Connection to broker lost" in worker.output, within=30)
        private_redis.start()
        eventually(lambda: "broker.back" in worker.output, within=30)
        later = directory.add_event(db, "system.announcement", call)
        eventually(lambda: directory.event(db, later)["state"] == "done", within=30)
        assert count(db, "notifications") == EVENTS + 2 * PEOPLE
        directory.assert_numbered_without_gaps(db)
    assert worker.process is not None
    assert beat.process is not None
    assert (worker.process.poll(), beat.process.poll()) == (None, None)


@pytest.mark.usefixtures("beat")
def test_a_redis_that_stands_still_holds_up_no_event_and_loses_none(
    settings_env: dict[str, str], new_worker: Callable[..., Worker], private_redis: EmbeddedRedis
) -> None:
    """Pins the time limits towards Redis: a stopped one answers nothing, and refuses nothing either."""
    new_worker()
    with directory.connect(settings_env["CARILLON_DATABASE_URL"]) as db:
        post(db, EVENTS)
        eventually(lambda: count(db, "notifications") > EVENTS // 10, within=60)
        stopped = int(private_redis.pid_file.read_text())
        os.kill(stopped, signal.SIGSTOP)
        try:
            assert_everything_arrived_once(db)
        finally:
            os.kill(stopped, signal.SIGCONT)


def test_a_redis_that_is_full_holds_up_no_event(
    settings_env: dict[str, str], new_worker: Callable[..., Worker], private_redis: EmbeddedRedis
) -> None:
    """Pins that a broker which answers and takes nothing counts as away, and that no worker ends by it."""
    worker = new_worker()
    with redis.Redis.from_url(private_redis.url()) as client:
        client.config_set("maxmemory", "1mb")
    with directory.connect(settings_env["CARILLON_DATABASE_URL"]) as db:
        post(db, EVENTS)
        assert_everything_arrived_once(db)
    assert worker.process is not None
    assert worker.process.poll() is None


def test_a_broker_that_is_back_is_noticed_within_two_seconds_however_long_it_was_away() -> None:
    """Pins the waits between attempts: kombu's grow by two seconds each, up to thirty."""
    waits: list[float] = []
    connection = app.amqp.Connection(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(OperationalError):
        connection.ensure_connection(lambda _error, wait: waits.append(wait), 3, interval_start=0, interval_step=2)
    assert waits == [0.0, 2.0, 2.0]


def test_a_message_whose_acknowledgement_fails_makes_room_for_the_next_one(private_redis: EmbeddedRedis) -> None:
    """Pins that a worker goes on: in kombu 5.7 a place was lost with each, and with the last one it stood still."""
    with app.amqp.Connection(private_redis.url(1)) as connection, connection.SimpleQueue("lane") as lane:
        lane.put({})
        message = lane.get(timeout=5)
        message.channel.qos.prefetch_count = 1
        assert not message.channel.qos.can_consume()
        private_redis.kill()
        with pytest.raises(connection.connection_errors):
            message.ack()
        assert message.channel.qos.can_consume()
        private_redis.start()
