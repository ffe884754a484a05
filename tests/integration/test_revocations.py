"""Ending a recipient's access: by a producer's server, and by an operator on the command line."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from shared.embedded import EmbeddedPostgres, EmbeddedRedis
from tests.edge import Edge, key_for, new_database, running_edge
from tests.listener import Listener, token_for
from tests.producers import rows
from tests.programs import carillon
from tests.writer import TENANT

#: Told by Redis, on a busy machine; the look at PostgreSQL comes every 30 s.
AT_ONCE_S = 10


@pytest.fixture(scope="module")
def edges(
    postgres: EmbeddedPostgres, shared_redis: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Edge, Edge]]:
    """Two API processes on the same servers."""
    folder = tmp_path_factory.mktemp("revocations")
    with new_database(postgres) as url, running_edge(url, shared_redis.url(), folder) as one:
        secret = one.environment["CARILLON_JWT_SECRET"]
        with running_edge(url, shared_redis.url(), folder, CARILLON_JWT_SECRET=secret) as other:
            yield one, other


def ask(edge: Edge, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
    return httpx.request(method, edge.server.url + path, headers=headers)


def revoke(edge: Edge, key: str, body: object) -> httpx.Response:
    return httpx.post(f"{edge.server.url}/api/revocations", json=body, headers={"authorization": f"Bearer {key}"})


async def test_a_revocation_ends_streams_in_every_process_at_once_and_what_was_issued_is_void(
    edges: tuple[Edge, Edge],
) -> None:
    one, other = edges
    ada, bob = one.recipient(), one.recipient()
    token, key = one.token(ada), key_for(one, "directory:write")
    bearer = {"authorization": f"Bearer {token}"}
    cookie = ask(one, "POST", "/api/session", bearer).headers["set-cookie"].partition(";")[0]
    ticket = ask(one, "POST", "/api/notifications/stream/tickets", bearer).json()["ticket"]
    async with (
        Listener(one.server.url, token) as here,
        Listener(other.server.url, None, Cookie=cookie) as there,
        other.listener(bob) as stays,
    ):
        for stream in (here, there, stays):
            await stream.count(1)
        answer = revoke(one, key, {"tenant": TENANT, "recipient": ada})
        assert answer.status_code == 201
        assert (answer.json()["tenant"], answer.json()["recipient"]) == (TENANT, ada)
        for stream in (here, there):
            frames = await stream.until_closed(within=AT_ONCE_S)
            assert [(frame.event, frame.data.get("reason")) for frame in frames[1:]] == [("goodbye", "revoked")]
        assert not stays.closed
    for edge in edges:
        for path in ("", "/changes?since=1-0", "/unread-count"):
            assert ask(edge, "GET", f"/api/notifications{path}", bearer).status_code == 401
            assert ask(edge, "GET", f"/api/notifications{path}", {"cookie": cookie}).status_code == 401
    async with Listener(other.server.url, None, f"ticket={ticket}") as late:
        assert late.status == 401


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"tenant": "south", "recipient": "ann"}, 403, "tenant"),
        ({"recipient": "ann"}, 422, "tenant"),
        ({"tenant": TENANT, "recipient": ""}, 422, "recipient"),
        ({"tenant": TENANT, "recipient": 7}, 422, "recipient"),
        ({"tenant": TENANT, "recipient": "a\nb"}, 422, "recipient"),
        ({"tenant": TENANT, "recipient": "ann", "until": "now"}, 422, "until"),
    ],
)
def test_a_wrong_revocation_is_refused_and_nothing_is_revoked(
    edges: tuple[Edge, Edge], body: object, status: int, field: str
) -> None:
    database = edges[0].environment["CARILLON_DATABASE_URL"]
    before = rows(database, "SELECT * FROM revocations ORDER BY 1, 2")
    answer = revoke(edges[0], key_for(edges[0], "directory:write"), body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (status, field)
    assert rows(database, "SELECT * FROM revocations ORDER BY 1, 2") == before


def test_a_revocation_needs_the_scope_of_the_directory(edges: tuple[Edge, Edge]) -> None:
    answer = revoke(edges[0], key_for(edges[0], "events:write"), {"tenant": TENANT, "recipient": "ann"})
    assert answer.status_code == 403
    assert revoke(edges[0], edges[0].token("ann"), {"tenant": TENANT, "recipient": "ann"}).status_code == 401


async def test_the_command_line_revokes_one_recipient_or_everyone(edges: tuple[Edge, Edge]) -> None:
    one, other = edges
    tokens = [token_for(one.environment, name, tenant="west") for name in ("ann", "ben", "cid")]
    async with (
        Listener(one.server.url, tokens[0]) as ann,
        Listener(other.server.url, tokens[1]) as ben,
        Listener(other.server.url, tokens[2]) as cid,
    ):
        told = carillon(one.environment, "revoke", "--tenant", "west", "--recipient", "ann")
        assert (told.returncode, told.stderr) == (0, "")
        assert told.stdout == "The access of ann in west is revoked: what was issued up to now is void.\n"
        assert (await ann.until_closed(within=AT_ONCE_S))[-1].data["reason"] == "revoked"
        assert not ben.closed
        assert carillon(one.environment, "revoke", "--tenant", "west", "--everyone").returncode == 0
        for stream in (ben, cid):
            assert (await stream.until_closed(within=AT_ONCE_S))[-1].data["reason"] == "revoked"


@pytest.mark.parametrize("arguments", [("--tenant", "west"), ("--tenant", "west", "--recipient", "a", "--everyone")])
def test_the_command_line_asks_whose(edges: tuple[Edge, Edge], arguments: tuple[str, ...]) -> None:
    told = carillon(edges[0].environment, "revoke", *arguments)
    assert (told.returncode, told.stderr) == (1, "Say whose access ends: either --recipient, or --everyone.\n")
