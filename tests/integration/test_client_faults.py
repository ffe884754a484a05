"""The Python client, blocking and asyncio, behind a proxy that refuses, asks to wait, and cuts after the commit."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import psycopg
import pytest
from carillon_client import AsyncClient, Client, Event, Refused, Unavailable

from tests.edge import Edge
from tests.http_proxy import Proxy, Step, proxy_to
from tests.producers import TENANT, make_key, rows, stored

DATA = {"student_id": "ann", "achievement_id": "a-1", "title": "First steps"}
Call = Callable[..., Awaitable[Any]]


def event(id: str = "e1", **data: str) -> Event:
    return Event("achievement.awarded", TENANT, "/tests", {**DATA, **data}, id=id)


@pytest.fixture
def settings_env(edge: Edge) -> dict[str, str]:
    return edge.environment


@pytest.fixture
def database_url(edge: Edge) -> str:
    """The database of the file's API process, with neither events nor recipients."""
    url = edge.environment["CARILLON_DATABASE_URL"]
    with psycopg.connect(url) as session:
        session.execute("TRUNCATE events, inboxes CASCADE")
    return url


@pytest.fixture
def proxy(configured: dict[str, str], database_url: str, edge: Edge) -> Iterator[Proxy]:
    # Its tenant is there from then on.
    make_key()
    with proxy_to(edge.server.url) as proxy:
        yield proxy


@pytest.fixture
def producer_key(configured: dict[str, str]) -> str:
    return make_key(None, ["events:write", "directory:write"])


@pytest.fixture(params=["blocking", "asyncio"])
def call(request: pytest.FixtureRequest, proxy: Proxy, producer_key: str) -> Call:
    """Call a method of either client: `await call("publish", event())`."""

    async def blocking(method: str, *arguments: Any, patience: float = 30.0) -> Any:
        with Client(proxy.url, producer_key, patience=patience) as client:
            return getattr(client, method)(*arguments)

    async def aio(method: str, *arguments: Any, patience: float = 30.0) -> Any:
        async with AsyncClient(proxy.url, producer_key, patience=patience) as client:
            return await getattr(client, method)(*arguments)

    return blocking if request.param == "blocking" else aio


@pytest.mark.parametrize(
    "steps",
    [
        [(503, {"retry-after": "0"}), (503, {}), "pass"],
        [(429, {"retry-after": "0"}), "pass"],
        [(502, {}), (504, {}), "pass"],
        ["cut", "pass"],
        [(503, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}), "cut", (429, {}), "pass"],
    ],
)
async def test_what_is_refused_for_now_or_cut_off_is_stored_once(
    call: Call, proxy: Proxy, database_url: str, steps: list[Step]
) -> None:
    proxy.steps.extend(steps)
    expected = "duplicate" if "cut" in steps else "accepted"
    assert await call("publish", event()) == expected
    assert proxy.seen == ["POST /api/events"] * len(steps)
    assert stored(database_url) == 1


async def test_the_server_is_not_asked_again_before_it_said(call: Call, proxy: Proxy) -> None:
    proxy.steps.append((429, {"retry-after": "1"}))
    began = time.monotonic()
    assert await call("publish", event()) == "accepted"
    assert time.monotonic() - began >= 1.1


async def test_patience_ends_at_once_where_the_server_asks_for_more_of_it(
    call: Call, proxy: Proxy, database_url: str
) -> None:
    proxy.steps.append((503, {"retry-after": "3600"}))
    began = time.monotonic()
    with pytest.raises(Unavailable, match="answered 503, 1 times within 5 s"):
        await call("publish", event(), patience=5.0)
    assert time.monotonic() - began < 4
    assert (len(proxy.seen), stored(database_url)) == (1, 0)


async def test_of_a_batch_that_is_cut_each_piece_is_stored_once(call: Call, proxy: Proxy, database_url: str) -> None:
    proxy.steps.extend(["pass", "cut", (503, {"retry-after": "0"}), "pass", "cut", "pass"])
    told = await call("publish_many", [event(f"e{number}") for number in range(2_100)])
    assert told == ["accepted"] * 1_000 + ["duplicate"] * 1_100
    assert (stored(database_url), len(proxy.seen)) == (2_100, 6)


async def test_the_directory_is_kept_through_cuts(call: Call, proxy: Proxy, database_url: str) -> None:
    proxy.steps.extend(["cut", "pass", "cut", "pass"])
    await call("put_tenant", "new")
    assert (await call("put_recipient", "new", "a/b"))["id"] == "a/b"
    proxy.steps.append("cut")
    assert await call("delete_recipient", "new", "a/b") is False
    assert await call("get_recipient", "new", "a/b") is None
    people = [{"tenant": "new", "id": f"p{number}"} for number in range(1_001)]
    proxy.steps.extend(["cut", "pass"])
    told = await call("import_recipients", people)
    assert told == {"created": 1, "updated": 1_000, "rejected": 0, "errors": []}
    await call("join", "new", "t/1", "p1")
    assert (await call("change_topics", [{"tenant": "new", "topic": "t/1", "recipient": "p2"}]))["changed"] == 1
    await call("leave", "new", "t/1", "p1")
    assert rows(database_url, "SELECT count(*) FROM topic_members") == [(1,)]


async def test_a_refusal_is_told_at_once(call: Call, proxy: Proxy, database_url: str) -> None:
    with pytest.raises(Refused) as refused:
        await call(
            "publish_many", [*(event(f"e{number}") for number in range(1_000)), event("x"), event("y", title="")]
        )
    assert (refused.value.status, [error["index"] for error in refused.value.errors]) == (422, [1_001])
    assert (len(proxy.seen), stored(database_url)) == (2, 1_000)
    with pytest.raises(Refused, match="409"):
        await call("publish", event("e1", title="Other"))
    with pytest.raises(Refused, match="404"):
        await call("event", TENANT, "/tests", "nobody")
    assert (await call("cancel", TENANT, "/tests", "e1"))["state"] == "cancelling"


async def test_a_wrong_address_is_told_without_patience(producer_key: str) -> None:
    with Client("ftp://127.0.0.1", producer_key) as client, pytest.raises(httpx.UnsupportedProtocol):
        client.publish(event())
