"""The embedded Redis has a user for each address: the product works with what they may, and they may nothing else."""

from __future__ import annotations

import json
from typing import Any

import httpx
import psycopg
import pytest
import redis
from celery import Celery

from shared.embedded import EmbeddedRedis
from shared.redis_users import BROKER, STREAM, User
from shared.tokens import make_token
from shared.wake import ACCEPT_QUEUE, ACCEPT_TASK
from tests import directory
from tests.directory import Row
from tests.eventually import eventually, eventually_async
from tests.listener import Listener
from tests.producers import TENANT, bearer, envelope, make_key, post
from tests.servers import ApiServer, Beat, Worker


@pytest.fixture
def redis_url(redis_url: str, shared_redis: EmbeddedRedis) -> str:
    """The emptied Redis, for the user of the streams."""
    return shared_redis.url(0, STREAM)


@pytest.fixture
def broker_url(redis_url: str, shared_redis: EmbeddedRedis) -> str:
    """The emptied Redis, for the broker's user."""
    return shared_redis.url(1, BROKER)


@pytest.fixture
def parts(api_server: ApiServer, worker: Worker, beat: Beat) -> tuple[ApiServer, Worker, Beat]:
    """The product's processes, with these two addresses."""
    return api_server, worker, beat


async def test_everything_works_with_what_the_users_may(
    db: psycopg.Connection[Row], broker_url: str, shared_redis: EmbeddedRedis, parts: tuple[ApiServer, Worker, Beat]
) -> None:
    directory.add_recipients(db, TENANT, ["ann"])
    key, ann = make_key(scopes=("events:write", "directory:write")), bearer(make_token(TENANT, "ann"))
    url = parts[0].url
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:

        async def is_ready() -> bool:
            return (await client.get("/readyz?full=1")).status_code == 200

        await eventually_async(is_ready, within=60)
        ticket = (await client.post("/api/notifications/stream/tickets", headers=ann)).json()["ticket"]
        assert (await client.post("/api/session", headers=ann)).status_code == 201
        listener = Listener(url, None, f"ticket={ticket}")
        await listener.open()
        assert (await post(client, key, envelope())).status_code == 202
        frames = await listener.until(lambda told: [frame for frame in told if frame.kind == "created"], within=30)
        assert frames[-1].data["notification"]["title"]
        revoked = await client.post(
            "/api/revocations", json={"tenant": TENANT, "recipient": "ann"}, headers=bearer(key)
        )
        assert revoked.status_code == 201
        await listener.until(lambda told: [frame for frame in told if frame.event == "goodbye"], within=30)
    await listener.close()
    assert result_of_a_message(broker_url, shared_redis)["status"] == 401
    outputs = [child.output.lower() for child in parts]
    assert [output for output in outputs if "noperm" in output or "no permission" in output] == []


def result_of_a_message(broker_url: str, server: EmbeddedRedis) -> dict[str, Any]:
    """Send an event without a signature, and return the worker's answer."""
    app = Celery("producer", broker=broker_url, set_as_current=False)
    sent = app.send_task(ACCEPT_TASK, args=["{}"], queue=ACCEPT_QUEUE)
    app.close()
    with redis.Redis.from_url(server.url()) as results:
        found = json.loads(eventually(lambda: results.get(f"celery-task-meta-{sent.id}"), within=30) or "")
    told: dict[str, Any] = found["result"]
    return told


FORBIDDEN: list[tuple[User, tuple[str, ...]]] = [
    (STREAM, ("EVAL", "return 1", "0")),
    (STREAM, ("SCRIPT", "LOAD", "return 1")),
    (STREAM, ("GET", "carillon.fan_out")),
    (STREAM, ("LPUSH", "carillon.accept", "{}")),
    (STREAM, ("PUBLISH", "/0.celeryev/x", "{}")),
    *(
        (user, command)
        for user in (STREAM, BROKER)
        for command in (("CONFIG", "SET", "dir", "/tmp"), ("FLUSHALL",), ("KEYS", "*"), ("SHUTDOWN",), ("ACL", "LIST"),
                        ("DEBUG", "SLEEP", "0"), ("REPLICAOF", "127.0.0.1", "1"), ("MONITOR",), ("SAVE",))
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("user", "command"), FORBIDDEN, ids=lambda value: " ".join(value) if isinstance(value, tuple) else value
)
def test_a_user_may_nothing_else(shared_redis: EmbeddedRedis, user: User, command: tuple[str, ...]) -> None:
    with redis.Redis.from_url(shared_redis.url(0, user)) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command)
