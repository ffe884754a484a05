"""Who may open a stream, how many, and how a stream ends."""

from __future__ import annotations

import asyncio
import time
from uuid import uuid4

import httpx
import orjson
import psycopg
import pytest
import redis

from shared.embedded import EmbeddedRedis
from tests.edge import Edge, key_for
from tests.eventually import eventually_async
from tests.listener import Listener, token_for
from tests.writer import TENANT


@pytest.fixture
def ada(edge: Edge) -> str:
    """A recipient of this test's own."""
    return edge.recipient()


async def refusal(stream: Listener) -> tuple[int, str]:
    """Open a stream that is to be refused; returns the status and the problem's type."""
    async with stream:
        await eventually_async(lambda: asyncio.sleep(0, stream.closed))
    assert stream.headers["content-type"] == "application/problem+json"
    assert orjson.loads(stream.body)["status"] == stream.status
    return stream.status, orjson.loads(stream.body)["type"].rsplit(":", 1)[1]


@pytest.mark.parametrize("token", [None, "nonsense", "a.b.c"])
async def test_without_valid_credentials_the_answer_is_401(edge: Edge, token: str | None) -> None:
    stream = Listener(edge.server.url, token)
    assert await refusal(stream) == (401, "unauthenticated")
    assert stream.headers["www-authenticate"] == "Bearer"


async def test_an_expired_token_is_401(edge: Edge, ada: str) -> None:
    assert await refusal(Listener(edge.server.url, edge.token(ada, ttl=-60))) == (401, "unauthenticated")


async def test_a_token_in_the_address_is_refused_unless_switched_on(edge: Edge, ada: str) -> None:
    stream = Listener(edge.server.url, None, f"token={edge.token(ada)}")
    assert await refusal(stream) == (401, "unauthenticated")


@pytest.mark.parametrize("query", ["client=me", "snapshot=0", "snapshot=101", "snapshot=x", "snapshot=%D9%A1"])
async def test_a_wrong_parameter_is_422_and_named(edge: Edge, ada: str, query: str) -> None:
    stream = edge.listener(ada, query)
    assert await refusal(stream) == (422, "invalid-input")
    assert orjson.loads(stream.body)["errors"][0]["field"] == query.partition("=")[0]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "HEAD"])
def test_another_method_than_get_is_405(edge: Edge, ada: str, method: str) -> None:
    headers = {"Authorization": f"Bearer {edge.token(ada)}"}
    answer = httpx.request(method, f"{edge.server.url}/api/notifications/stream", headers=headers)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert answer.headers["content-type"] == "application/problem+json"


def ticket_of(edge: Edge, recipient: str, ttl: float = 3600) -> str:
    headers = {"Authorization": f"Bearer {edge.token(recipient, ttl)}"}
    answer = httpx.post(f"{edge.server.url}/api/notifications/stream/tickets", headers=headers)
    assert answer.status_code == 201
    assert answer.json()["expiresIn"] == 30
    return str(answer.json()["ticket"])


async def test_a_ticket_opens_one_stream_of_its_recipient(edge: Edge, ada: str) -> None:
    ticket = ticket_of(edge, ada)
    async with Listener(edge.server.url, None, f"snapshot=5&ticket={ticket}") as stream:
        await stream.count(2)
        edge.writer.create(ada)
        assert (await stream.count(3))[2].kind == "created"
    assert await refusal(Listener(edge.server.url, None, f"ticket={ticket}")) == (401, "unauthenticated")


async def test_a_ticket_is_kept_as_its_hash_for_thirty_seconds(
    edge: Edge, ada: str, shared_redis: EmbeddedRedis
) -> None:
    with redis.Redis.from_url(shared_redis.url()) as client:
        before = set(client.keys("carillon:ticket:*"))
        ticket = ticket_of(edge, ada)
        (key,) = set(client.keys("carillon:ticket:*")) - before
        assert 28 <= client.ttl(key) <= 30
        assert ticket.encode() not in key + client.get(key)


@pytest.mark.parametrize("ticket", ["", "unknown", "x" * 5000])
async def test_an_unknown_ticket_is_401(edge: Edge, ticket: str) -> None:
    assert await refusal(Listener(edge.server.url, None, f"ticket={ticket}")) == (401, "unauthenticated")


async def test_no_secret_of_the_address_is_logged(edge: Edge, ada: str) -> None:
    ticket, token = ticket_of(edge, ada), edge.token(ada)
    async with Listener(edge.server.url, None, f"snapshot=3&ticket={ticket}") as stream:
        await stream.count(2)
    await refusal(Listener(edge.server.url, None, f"ticket={ticket}&snapshot=4"))
    await refusal(Listener(edge.server.url, None, f"%74oken={token}&snapshot=4"))
    assert '"GET /api/notifications/stream?… HTTP/1.1" 200' in edge.server.output
    assert "snapshot=" not in edge.server.output
    assert ticket not in edge.server.output
    assert token not in edge.server.output


async def test_an_ending_token_ends_its_stream_with_goodbye_expired(edge: Edge, ada: str) -> None:
    expires = time.time() + 2
    async with Listener(edge.server.url, edge.token(ada, ttl=2)) as stream:
        frames = await stream.until_closed()
    assert [frame.event for frame in frames] == ["connected", "goodbye"]
    assert frames[1].data["reason"] == "expired"
    assert frames[1].data["retryMs"] == frames[1].retry
    assert -1.1 < time.time() - expires < 3


async def test_a_ticket_ends_its_stream_when_its_token_ends(edge: Edge, ada: str) -> None:
    async with Listener(edge.server.url, None, f"ticket={ticket_of(edge, ada, ttl=2)}") as stream:
        assert (await stream.until_closed())[-1].data["reason"] == "expired"


async def test_a_revocation_ends_the_recipients_streams_alone(
    edge: Edge, ada: str, shared_redis: EmbeddedRedis
) -> None:
    bob = edge.recipient()
    async with edge.listener(ada) as first, edge.listener(ada) as second, edge.listener(bob) as other:
        for stream in (first, second, other):
            await stream.count(1)
        with redis.Redis.from_url(shared_redis.url()) as client:
            client.publish("carillon:control", b"{ not json")
            client.publish("carillon:control", orjson.dumps({"revoke": {"tenant": TENANT, "recipient": ada}}))
        for stream in (first, second):
            frames = await stream.until_closed(within=3)
            assert [frame.kind for frame in frames] == ["connected", "goodbye"]
            assert frames[1].data["reason"] == "revoked"
        edge.writer.create(bob)
        assert (await other.count(2))[1].kind == "created"


async def test_a_sixth_stream_is_refused_and_no_other_is_closed(edge: Edge, ada: str) -> None:
    streams = [await edge.listener(ada).open() for _ in range(5)]
    sixth = edge.listener(ada)
    assert await refusal(sixth) == (429, "too-many-requests")
    assert int(sixth.headers["retry-after"]) > 0
    async with edge.listener(edge.recipient()) as other:
        assert other.status == 200
    edge.writer.create(ada)
    for stream in streams:
        assert [frame.kind for frame in await stream.count(2)] == ["connected", "created"]
    await streams[0].close()

    async def one_more_is_accepted() -> bool:
        async with edge.listener(ada) as stream:
            return stream.status == 200

    await eventually_async(one_more_is_accepted)
    for stream in streams:
        await stream.close()


async def test_a_stream_of_the_same_client_replaces_its_predecessor(edge: Edge, ada: str) -> None:
    client = uuid4()
    streams = [await edge.listener(ada).open() for _ in range(4)]
    async with edge.listener(ada, f"client={client}") as fifth:
        await fifth.count(1)
        async with edge.listener(ada, f"client={str(client).upper()}") as successor:
            assert successor.status == 200
            frames = await fifth.until_closed()
            edge.writer.create(ada)
            assert [frame.kind for frame in await successor.count(2)] == ["connected", "created"]
    assert [frame.kind for frame in frames] == ["connected", "goodbye"]
    assert frames[1].data["reason"] == "replaced"
    for stream in streams:
        assert [frame.kind for frame in await stream.count(2)] == ["connected", "created"]
        await stream.close()


async def test_fifty_open_streams_hold_no_database_connection(edge: Edge) -> None:
    recipients = [edge.recipient() for _ in range(50)]
    streams = [await edge.listener(recipient).open() for recipient in recipients]
    for stream in streams:
        await stream.count(1)
    with psycopg.connect(edge.environment["CARILLON_DATABASE_URL"], autocommit=True) as session:

        async def none_is_in_use() -> bool:
            row = session.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle'"
                " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            ).fetchone()
            return row == (0,)

        for _ in range(10):
            await eventually_async(none_is_in_use)
        (connections,) = session.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'carillon-api'"
            " AND datname = current_database()"
        ).fetchone() or (0,)
    assert connections <= 10
    for stream in streams:
        await stream.close()


async def test_operators_see_the_open_streams_of_their_tenants(edge: Edge, ada: str) -> None:
    key = key_for(edge, "ops:read")
    async with edge.listener(ada) as first, edge.listener(ada) as second, httpx.AsyncClient() as client:
        await first.count(1)
        await second.count(1)
        url = f"{edge.server.url}/api/stream/connections"
        assert (await client.get(url)).status_code == 401
        assert (await client.get(url, headers={"Authorization": f"Bearer {edge.token(ada)}"})).status_code == 401
        told = (await client.get(url, headers={"Authorization": f"Bearer {key}"})).json()
    assert told["streams"] >= 2
    assert {"tenant": TENANT, "recipient": ada, "streams": 2} in told["recipients"]


async def test_another_tenants_recipient_of_the_same_name_gets_nothing(edge: Edge, ada: str) -> None:
    foreign = token_for(edge.environment, ada, tenant="south")
    async with Listener(edge.server.url, foreign) as stream, edge.listener(ada) as own:
        await stream.count(1)
        await own.count(1)
        edge.writer.create(ada)
        edge.writer.create_chunk([ada])
        assert len(await own.count(3)) == 3
        assert [frame.id for frame in stream.told()] == ["1-0"]
