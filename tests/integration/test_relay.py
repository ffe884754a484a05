"""The outbox of a producer with a database of its own, on two real databases: nothing lost, nothing doubled."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import orjson
import psycopg
import pytest
from carillon_client import Event
from carillon_client import outbox as client
from psycopg import sql
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from shared import db, directory, exposition, outbox
from shared.embedded import EmbeddedPostgres
from shared.settings import settings
from tests.eventually import eventually
from tests.outboxes import (
    NAME,
    Producer,
    RelayProcess,
    dumped,
    events,
    make,
    refusals,
    relay_once,
    setting,
    waiting,
    write,
)
from tests.producers import TENANT, envelope, make_key, post, rows, stored
from tests.servers import Worker, killed_by_itself
from workers.fan_out import fan_out_pending

DATA = {"student_id": "ann", "achievement_id": "a-1", "title": "First steps"}


# --- the way ---


def test_what_the_producer_commits_becomes_an_event_and_leaves_the_outbox(
    producer: Producer, producer_url: str, database_url: str
) -> None:
    engine = create_engine(db.sqlalchemy_url(producer_url))
    with Session(engine) as session:
        client.publish(session, Event("achievement.awarded", TENANT, "/tests", DATA, id="rolled-back"))
        session.rollback()
        assert client.publish(session, Event("achievement.awarded", TENANT, "/tests", DATA, id="e1")) == "accepted"
        assert relay_once().stored == []
        session.commit()
    engine.dispose()
    client.publish(producer, envelope("e2", time="2026-03-01T12:00:00Z"))
    producer.commit()
    assert len(relay_once().stored) == 2
    assert (waiting(producer), relay_once().stored) == ([], [])
    query = "SELECT id, type, data, registers, length(content_hash), time FROM events ORDER BY id"
    assert rows(database_url, query) == [
        ("e1", "achievement.awarded", DATA, False, 32, None),
        ("e2", "achievement.awarded", DATA, False, 32, "2026-03-01T12:00:00Z"),
    ]


def test_an_event_without_a_time_happened_when_it_was_written(producer: Producer, database_url: str) -> None:
    write(producer, envelope("e1"))
    producer.execute("UPDATE carillon_outbox SET written_at = '2026-03-01T12:00:00Z'")
    producer.commit()
    relay_once()
    query = "SELECT occurred_at = '2026-03-01T12:00:00Z', accepted_at > occurred_at + interval '1 d' FROM events"
    assert rows(database_url, query) == [(True, True)]


def test_the_process_brings_it_to_the_inbox_counts_it_and_ends_when_told(
    producer: Producer, new_relay: Callable[[], RelayProcess], worker: Worker, database_url: str
) -> None:
    relay = new_relay()
    client.publish(producer, envelope("e1"))
    write(producer, envelope("e1"), envelope("w", type="no.such"))
    producer.commit()
    eventually(lambda: rows(database_url, "SELECT recipient, unread FROM inboxes") == [("ann", 1)], within=30.0)
    eventually(lambda: waiting(producer) == [], within=30.0)
    assert relay.stop() == 0
    assert "relay.stopped" in relay.output
    counts = exposition.counted(settings().metrics_folder).sums
    told = [counts[name] for name in (("carillon_events_total", "", "accepted"),
                                      ("carillon_events_total", "", "duplicate"),
                                      ("carillon_outbox_refused_total", "", NAME))]  # fmt: skip
    assert told == [1, 1, 1]
    assert counts["carillon_outbox_last_look_timestamp_seconds", "", NAME] > 0


def test_tenants_of_several_databases_may_share_an_outbox(
    settings_env: dict[str, str],
    empty_database_url: str,
    new_database: Callable[[], str],
    request: pytest.FixtureRequest,
) -> None:
    make(empty_database_url)
    own = new_database()
    settings_env["CARILLON_OUTBOXES"] = dumped(setting(empty_database_url, "*"))
    settings_env["CARILLON_TENANT_DATABASES"] = orjson.dumps({"uni-north": own}).decode()
    request.getfixturevalue("configured")
    for tenant in (TENANT, "uni-north"):
        with db.transaction(tenant) as connection:
            directory.ensure_tenant(connection, tenant)
    with psycopg.connect(empty_database_url) as session:
        write(session, envelope("e1"), envelope("e2", tenant="uni-north"), envelope("e3"))
        session.commit()
        assert (relay_once().homes, waiting(session)) == ({"shared", "uni-north"}, [])
    assert events(settings_env["CARILLON_DATABASE_URL"]) == ["e1", "e3"]
    assert events(own) == ["e2"]


# --- exactly once ---


def die_between_the_commits(environment: dict[str, str]) -> None:
    """Relay in a process that kills itself once Carillon's database has committed."""
    code = (
        "import os, signal\nfrom tests.outboxes import relay_once\n"
        "relay_once(between=lambda: os.kill(os.getpid(), signal.SIGKILL))\n"
    )
    killed_by_itself(code, environment)


def test_a_relay_killed_between_the_two_commits_loses_and_doubles_nothing(
    producer: Producer, configured: dict[str, str], database_url: str
) -> None:
    """Pins the order of the commits: there first, then the outbox. The other way round, what it took is lost."""
    write(producer, *(envelope(f"e{number}") for number in range(3)))
    producer.commit()
    die_between_the_commits(configured)
    assert (events(database_url), waiting(producer)) == (["e0", "e1", "e2"], [1, 2, 3])
    fan_out_pending()
    producer.commit()
    assert relay_once().stored == [1, 2, 3]
    fan_out_pending()
    assert (events(database_url), waiting(producer)) == (["e0", "e1", "e2"], [])
    assert rows(database_url, "SELECT recipient, created FROM inboxes") == [("ann", 3)]


async def test_what_was_posted_before_notifies_nobody_again(
    producer: Producer, api: httpx.AsyncClient, database_url: str
) -> None:
    await post(api, make_key(), envelope("e1"))
    write(producer, envelope("e1"), envelope("e2"), envelope("e2"))
    producer.commit()
    assert relay_once().stored == [1, 2, 3]
    write(producer, envelope("e2"))
    producer.commit()
    assert relay_once().stored == [4]
    fan_out_pending()
    assert events(database_url) == ["e1", "e2"]
    assert rows(database_url, "SELECT recipient, created FROM inboxes") == [("ann", 2)]
    assert (await post(api, make_key(), envelope("e2"))).json()["events"][0]["status"] == "duplicate"


def test_a_transaction_that_commits_late_leaves_its_smaller_positions_to_be_taken(
    producer: Producer, producer_url: str, database_url: str
) -> None:
    """Fails where the relay remembers how far it was: sequence numbers are drawn before the commit."""
    write(producer, envelope("early"))
    with psycopg.connect(producer_url) as other:
        write(other, envelope("late"))
        other.commit()
        assert (relay_once().stored, events(database_url)) == ([2], ["late"])
        assert relay_once().stored == []
        producer.commit()
        assert (relay_once().stored, events(database_url)) == ([1], ["late", "early"])
        assert waiting(other) == []


def test_one_relay_at_a_time_works_on_an_outbox(producer: Producer, database_url: str) -> None:
    write(producer, envelope("e1"))
    producer.commit()
    others: list[list[int]] = []
    assert relay_once(between=lambda: others.append(relay_once().stored)).stored == [1]
    assert (others, events(database_url)) == ([[]], ["e1"])


def test_a_relay_that_stands_still_lets_another_one_go_on(
    producer: Producer, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    bounds = text("SELECT set_config('idle_in_transaction_session_timeout', '500', true)")
    monkeypatch.setattr(outbox, "_BOUNDS", bounds)
    write(producer, envelope("e1"))
    producer.commit()
    other: list[int] = []

    def another_goes_on() -> bool:
        other.extend(relay_once().stored)
        return bool(other)

    with pytest.raises(DBAPIError):
        relay_once(between=lambda: eventually(another_goes_on, within=30.0))
    assert (other, events(database_url), waiting(producer)) == ([1], ["e1"], [])


def test_two_relay_processes_take_each_event_once(
    producer: Producer, new_relay: Callable[[], RelayProcess], database_url: str
) -> None:
    new_relay()
    second = new_relay()
    for batch in range(20):
        write(producer, *(envelope(f"e{batch}-{number}") for number in range(60)))
        producer.commit()
        if batch == 10:
            second.kill()
    eventually(lambda: waiting(producer) == [], within=60.0)
    assert refusals(producer) == []
    assert stored(database_url) == len(set(events(database_url))) == 1_200


# --- away ---


def test_while_carillons_database_is_away_everything_waits_in_the_outbox(
    producer: Producer, postgres: EmbeddedPostgres, database_url: str
) -> None:
    write(producer, envelope("e1"), envelope("w", type="no.such"))
    producer.commit()
    name = sql.Identifier(database_url.rpartition("/")[2])
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as session:
        session.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        db.forget_engines()
        try:
            with pytest.raises(DBAPIError):
                relay_once()
            assert (waiting(producer), refusals(producer)) == ([1, 2], [])
        finally:
            session.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
    producer.commit()
    taken = relay_once()
    assert (taken.stored, list(taken.refused), events(database_url)) == ([1], [2], ["e1"])


def test_a_producers_database_may_be_away_and_the_other_ones_are_served(
    settings_env: dict[str, str], producer_url: str, private_postgres: EmbeddedPostgres,
    request: pytest.FixtureRequest, database_url: str,
) -> None:  # fmt: skip
    other = private_postgres.url("postgres")
    make(other)
    settings_env["CARILLON_OUTBOXES"] = dumped(setting(producer_url, TENANT), setting(other, TENANT, name="lms"))
    producer = request.getfixturevalue("producer")
    start = request.getfixturevalue("new_relay")
    private_postgres.kill()
    relay = start()
    eventually(lambda: relay.output.count("outbox.away") > 1, within=30.0)
    write(producer, envelope("e1"))
    producer.commit()
    eventually(lambda: events(database_url) == ["e1"], within=30.0)
    private_postgres.start()
    with psycopg.connect(other) as session:
        write(session, envelope("e2"))
        session.commit()
        eventually(lambda: waiting(session) == [], within=60.0)
    assert events(database_url) == ["e1", "e2"]
