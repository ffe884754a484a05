"""The outbox in its same-database form: `carillon_publish` in the producer's own transaction."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest
from carillon_client import Event, outbox
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from shared import db, directory
from tests.eventually import eventually
from tests.producers import TENANT, envelope, make_key, post, rows, stored
from tests.servers import Worker
from workers.app import wake

DATA = {"student_id": "ann", "achievement_id": "a-1", "title": "First steps"}
EVENT = Event("achievement.awarded", TENANT, "/tests", DATA, id="e1")


@pytest.fixture
def session(configured: dict[str, str], database_url: str) -> Iterator[Session]:
    """A SQLAlchemy session of the host application; the tenant and Ann are there."""
    with db.transaction("*") as connection:
        directory.ensure_tenant(connection, TENANT)
        directory.import_recipients(connection, [{"tenant": TENANT, "id": "ann"}])
    engine = create_engine(db.sqlalchemy_url(database_url))
    with Session(engine) as made:
        yield made
    engine.dispose()


def test_the_event_exists_if_and_only_if_the_transaction_commits(session: Session, database_url: str) -> None:
    assert outbox.publish(session, EVENT) == "accepted"
    assert stored(database_url) == 0
    session.rollback()
    assert stored(database_url) == 0
    outbox.publish(session, EVENT)
    session.commit()
    assert rows(database_url, "SELECT tenant, source, id, type, data, content_hash, registers FROM events") == [
        (TENANT, "/tests", "e1", "achievement.awarded", DATA, None, False)
    ]


async def test_every_kind_of_session_is_served(session: Session, database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        told = [outbox.publish(connection, EVENT), outbox.publish(connection.cursor(), EVENT)]
    engine = create_async_engine(db.sqlalchemy_url(database_url))
    async with AsyncSession(engine) as asynchronous:
        told.append(await outbox.publish_async(asynchronous, EVENT))
    await engine.dispose()
    async with await psycopg.AsyncConnection.connect(database_url) as connecting:
        told.append(await outbox.publish_async(connecting, EVENT.envelope()))
    assert told == ["accepted", "duplicate", "duplicate", "duplicate"]


async def test_http_and_sql_know_each_others_events(
    session: Session, api: httpx.AsyncClient, database_url: str
) -> None:
    key = make_key()
    numbers = {"job_id": "j", "job_name": "n", "total": 2**60 + 1, "succeeded": 10}
    by_sql = envelope("sql", type="batch_job.completed", data=numbers, subject="s", time="2026-03-01T12:00:00.50Z")
    outbox.publish(session, by_sql)
    session.commit()
    written = json.dumps(by_sql).replace('"succeeded": 10', '"succeeded": 1.0e1').encode()
    assert (await post(api, key, written)).json()["events"][0]["status"] == "duplicate"
    assert (await post(api, key, {**by_sql, "data": {**numbers, "total": 2**60}})).status_code == 409
    await post(api, key, envelope("http"))
    assert outbox.publish(session, envelope("http")) == "duplicate"
    with pytest.raises(DBAPIError, match="posted before with other content"):
        outbox.publish(session, envelope("http", subject="x"))
    session.rollback()
    assert stored(database_url) == 2


def _nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


async def test_what_is_no_event_ends_the_transaction_with_a_sentence(session: Session, database_url: str) -> None:
    wrong: dict[str, dict[str, Any]] = {
        "specversion must be": envelope(specversion="2.0"),
        "id must be a text of 1 to 200": envelope(id=""),
        "source must be a text of 1 to 200 printable": envelope(source="/a\nb"),
        "time must be an RFC 3339 time": envelope(time="infinity"),
        "tenant nowhere is not known": envelope(tenant="nowhere"),
        "subject must be a text": envelope(subject=7),
        "data must be a JSON object": envelope(data=[]),
        "larger than 65536 bytes": envelope(data={"a": "x" * 70_000}),
        "nested deeper than 32 levels": envelope(data={"a": _nested(40)}),
    }
    for sentence, event in wrong.items():
        with pytest.raises(DBAPIError, match=sentence):
            outbox.publish(session, event)
        session.rollback()
    with psycopg.connect(database_url) as connection, pytest.raises(psycopg.Error, match="number out of range"):
        huge = json.dumps(envelope()).replace('"a-1"', "1e400")
        connection.execute("SELECT carillon_publish(%s::jsonb)", (huge,))
    with psycopg.connect(database_url) as connection, pytest.raises(psycopg.Error, match="nested deeper"):
        deep = json.dumps(envelope()).replace('"a-1"', "[" * 2_000 + "]" * 2_000)
        connection.execute("SELECT carillon_publish(%s::jsonb)", (deep,))
    assert stored(database_url) == 0


def test_a_committed_event_is_fanned_out_and_a_wrong_one_fails_alone(
    session: Session, worker: Worker, database_url: str
) -> None:
    outbox.publish(session, envelope("wrong", data={"student_id": 7}))
    outbox.publish(session, envelope("strange", type="no.such"))
    outbox.publish(session, envelope("control", data={**DATA, "title": "a\rb"}))
    outbox.publish(session, EVENT)
    session.commit()
    wake()
    eventually(
        lambda: (
            rows(database_url, 'SELECT id, state FROM events ORDER BY id COLLATE "C"')
            == [("control", "failed"), ("e1", "done"), ("strange", "failed"), ("wrong", "failed")]
        ),
        within=30.0,
    )
    assert rows(database_url, "SELECT recipient, unread FROM inboxes") == [("ann", 1)]
    assert rows(database_url, "SELECT length(content_hash) FROM events WHERE id = 'e1'") == [(32,)]
