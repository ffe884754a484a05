"""The Python client against a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from carillon_client import Client, Event, Refused, Unavailable
from carillon_client import celery as over_celery
from celery import Celery
from redis import Redis

from shared import db, directory, signing
from tests.eventually import eventually
from tests.producers import TENANT, make_key, rows, stored
from tests.servers import ApiServer, Worker

DATA = {"student_id": "ann", "achievement_id": "a-1", "title": "First steps"}


def _event(id: str = "e1", **data: str) -> Event:
    return Event("achievement.awarded", TENANT, "/tests", {**DATA, **data}, id=id)


@pytest.fixture
def client(configured: dict[str, str], api_server: ApiServer) -> Iterator[Client]:
    """A client with a key for every tenant and scope."""
    make_key()
    with Client(api_server.url, make_key(None, ["events:write", "directory:write"]), patience=30.0) as made:
        yield made


def test_it_publishes_asks_and_cancels(client: Client, database_url: str) -> None:
    assert [client.publish(_event("a/1")) for _ in range(2)] == ["accepted", "duplicate"]
    assert client.event(TENANT, "/tests", "a/1")["state"] == "accepted"
    assert [client.cancel(TENANT, "/tests", "a/1")["state"] for _ in range(2)] == ["cancelling"] * 2
    many = [_event(f"e{number}") for number in range(2_500)]
    assert client.publish_many(event for event in [*many, many[0]]) == ["accepted"] * 2_500 + ["duplicate"]
    assert stored(database_url) == 2_501


def test_a_refusal_tells_the_status_the_field_and_the_place_among_all_events(client: Client) -> None:
    with pytest.raises(Refused) as refused:
        client.publish_many([*(_event(f"e{number}") for number in range(1_000)), _event("x"), _event("y", title="")])
    error = refused.value
    assert (error.status, error.errors) == (
        422, [{"field": "data.title", "message": "must have at least 1 characters", "index": 1_001}],
    )  # fmt: skip
    assert str(error).endswith("[1001] data.title must have at least 1 characters")
    with pytest.raises(Refused, match="404"):
        client.event(TENANT, "/tests", "nobody")


def test_it_keeps_the_directory(client: Client, database_url: str) -> None:
    client.put_tenant("new")
    assert client.put_recipient("new", "a/b", roles=["agent"], attributes={"name": "A"})["roles"] == ["agent"]
    told = client.get_recipient("new", "a/b")
    assert told is not None
    assert (told["id"], told["locale"], client.get_recipient("new", "nobody")) == ("a/b", "en", None)
    people = [{"tenant": "new", "id": f"p{number}"} for number in range(1_500)]
    told = client.import_recipients([*people, {"tenant": "new"}])
    assert told == {
        "created": 1_500, "updated": 0, "rejected": 1,
        "errors": [{"line": 1_501, "field": "id", "message": "is required"}],
    }  # fmt: skip
    client.join("new", "t/1", "a/b")
    joins = ({"tenant": "new", "topic": "t/1", "recipient": person["id"]} for person in people)
    assert client.change_topics(joins) == {"changed": 1_500, "unchanged": 0, "rejected": 0, "errors": []}
    client.leave("new", "t/1", "a/b")
    assert rows(database_url, "SELECT count(*) FROM topic_members") == [(1_500,)]
    assert [client.delete_recipient("new", "a/b") for _ in range(2)] == [True, False]


def test_it_waits_for_a_server_that_restarts(client: Client, api_server: ApiServer, database_url: str) -> None:
    api_server.kill()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(client.publish, _event())
        api_server.start()
        assert waiting.result() == "accepted"
    assert stored(database_url) == 1


def test_a_server_that_stays_away_is_told(configured: dict[str, str], api_server: ApiServer) -> None:
    api_server.kill()
    with (
        Client(api_server.url, "ck", patience=1.0) as client,
        pytest.raises(Unavailable, match=r"could not be reached, \d times within 1 s"),
    ):
        client.publish(_event())


def test_it_sends_over_celery(
    configured: dict[str, str], worker: Worker, broker_url: str, redis_url: str, database_url: str
) -> None:
    with db.transaction("*") as connection:
        directory.ensure_tenant(connection, TENANT)
        id, secret = signing.create_secret(connection, "celery", TENANT)
    app = Celery("host", broker=broker_url, set_as_current=False)
    sent = over_celery.send(app, _event(), id, secret)
    with Redis.from_url(redis_url) as results:
        found = json.loads(eventually(lambda: results.get(f"celery-task-meta-{sent.id}"), within=30.0) or "")
    app.close()
    assert found["result"] == {"events": [{"id": "e1", "status": "accepted"}]}
    assert stored(database_url) == 1
