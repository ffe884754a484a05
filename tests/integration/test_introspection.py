"""The host's own session cookie: whom it speaks for is the host's to say, and how often it is asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
import redis

from shared.embedded import EmbeddedPostgres, EmbeddedRedis
from tests.edge import Edge, new_database, running_edge
from tests.listener import Listener
from tests.third_party import ThirdParty, third_party
from tests.writer import TENANT

PAGE = "/api/notifications"
SECRET = "host-token-kP3vXq9Zu7TbWm2L"
OWN = {"sec-fetch-site": "same-origin"}


class Host:
    """The host's sessions: the value of its cookie, and what it says of it."""

    def __init__(self, server: ThirdParty) -> None:
        self.server = server
        self.sessions: dict[str, Any] = {}
        server.answer = self.answer

    def answer(self, asked: str) -> Any:
        return self.sessions.get(parse_qs(asked)["token"][0], {"active": False})

    def sign_in(self, value: str, recipient: str, **changes: Any) -> None:
        """Have a cookie speak for a recipient."""
        told = {"active": True, "sub": recipient, "tenant": TENANT, "iat": int(time.time()) - 5, **changes}
        self.sessions[value] = {name: claim for name, claim in told.items() if claim is not ...}

    def asked_about(self, value: str) -> int:
        """Return how often it was asked about a cookie."""
        return sum(parse_qs(body)["token"][0] == value for _, body in self.server.requests)


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """The host."""
    with third_party() as server:
        yield Host(server)


@pytest.fixture(scope="module")
def edge(
    host: Host, postgres: EmbeddedPostgres, shared_redis: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Edge]:
    """An API process that asks it."""
    with (
        new_database(postgres) as url,
        running_edge(
            url, shared_redis.url(), tmp_path_factory.mktemp("introspection"), CARILLON_RECHECK_SECONDS="1",
            CARILLON_SESSION_INTROSPECTION_URL=host.server.url, CARILLON_SESSION_INTROSPECTION_COOKIE="host_sid",
            CARILLON_SESSION_INTROSPECTION_SECRET=SECRET,
        ) as running,
    ):  # fmt: skip
        yield running


def get(edge: Edge, value: str, path: str = PAGE, **headers: str) -> httpx.Response:
    return httpx.get(edge.server.url + path, headers={"cookie": f"other=1; host_sid={value}", **headers})


def change(edge: Edge, value: str, path: str, **headers: str) -> httpx.Response:
    return httpx.post(edge.server.url + path, headers={"cookie": f"host_sid={value}", **headers})


def test_the_host_says_whom_its_cookie_speaks_for_and_is_asked_once(edge: Edge, host: Host) -> None:
    ada = edge.recipient()
    edge.writer.create(ada)
    host.sign_in("s-1", ada, roles=["student"])
    for _ in range(3):
        assert get(edge, "s-1").json()["totalCount"] == 1
    assert host.asked_about("s-1") == 1
    headers, body = host.server.requests[-1]
    assert headers["authorization"] == f"Bearer {SECRET}"
    assert headers["content-type"] == "application/x-www-form-urlencoded"
    assert body == "token=s-1"


def test_a_cookie_that_the_host_does_not_know_is_401_and_asked_about_once(edge: Edge, host: Host) -> None:
    assert [get(edge, "unknown").status_code for _ in range(3)] == [401, 401, 401]
    assert host.asked_about("unknown") == 1
    assert get(edge, "x" * 5000).status_code == 401
    assert host.asked_about("x" * 5000) == 0


def test_the_hosts_cookie_obeys_the_same_rules_against_forgery(edge: Edge, host: Host) -> None:
    host.sign_in("s-2", edge.recipient())
    assert change(edge, "s-2", f"{PAGE}/read-all").status_code == 403
    assert change(edge, "s-2", f"{PAGE}/read-all", **{"sec-fetch-site": "cross-site"}).status_code == 403
    assert get(edge, "s-2", **{"sec-fetch-site": "cross-site"}).status_code == 403
    assert host.asked_about("s-2") == 0
    assert change(edge, "s-2", f"{PAGE}/read-all", **OWN).status_code == 200
    assert change(edge, "s-2", "/api/session", **OWN).status_code == 401


@pytest.mark.parametrize(
    ("value", "changes", "status"),
    [
        ("no-sub", {"sub": ...}, 503),
        ("empty-sub", {"sub": ""}, 503),
        ("no-tenant", {"tenant": ...}, 503),
        ("no-iat", {"iat": ...}, 503),
        ("text-exp", {"exp": "soon"}, 503),
        ("roles", {"roles": "student"}, 503),
        ("active", {"active": "yes"}, 503),
        ("expired", {"exp": 1_000_000_000}, 401),
        ("inactive", {"active": False}, 401),
    ],
)
def test_an_answer_that_says_too_little_lets_nobody_in(
    edge: Edge, host: Host, value: str, changes: dict[str, Any], status: int
) -> None:
    host.sign_in(value, edge.recipient(), **changes)
    answer = get(edge, value)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


@pytest.mark.parametrize("status", [500, 401, 302, 204])
def test_a_host_that_gives_no_answer_signs_nobody_out(edge: Edge, host: Host, status: int) -> None:
    host.sign_in(f"s-{status}", edge.recipient())
    host.server.status, host.server.headers = status, {"location": "http://127.0.0.1:9/elsewhere"}
    try:
        answer = get(edge, f"s-{status}")
    finally:
        host.server.status, host.server.headers = 200, {}
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert get(edge, f"s-{status}").status_code == 200


def test_a_host_that_stands_still_costs_a_request_its_patience_alone(edge: Edge, host: Host) -> None:
    host.server.answers.clear()
    began = time.monotonic()
    try:
        assert get(edge, "slow").status_code == 503
        assert httpx.get(f"{edge.server.url}/healthz").status_code == 200
    finally:
        host.server.answers.set()
    assert 2.5 < time.monotonic() - began < 10


async def test_a_stream_by_the_hosts_cookie_ends_when_the_session_does(edge: Edge, host: Host) -> None:
    ada, bob = edge.recipient(), edge.recipient()
    host.sign_in("s-ends", ada, exp=int(time.time()) + 3)
    host.sign_in("s-stays", bob)
    async with (
        Listener(edge.server.url, None, Cookie="host_sid=s-ends") as ends,
        Listener(edge.server.url, None, Cookie="host_sid=s-stays") as stays,
    ):
        assert (await ends.until_closed())[-1].data["reason"] == "expired"
        assert not stays.closed


async def test_a_ticket_by_the_hosts_cookie_carries_it_encrypted_and_dies_with_it(
    edge: Edge, host: Host, shared_redis: EmbeddedRedis
) -> None:
    ada = edge.recipient()
    host.sign_in("s-secret-cookie", ada)
    ticket = await asyncio.to_thread(change, edge, "s-secret-cookie", f"{PAGE}/stream/tickets", **OWN)
    with redis.Redis.from_url(shared_redis.url()) as client:
        kept = [client.get(key) for key in client.keys("carillon:ticket:*")]
    assert kept
    assert not any(b"s-secret-cookie" in value for value in kept)
    async with Listener(edge.server.url, None, f"ticket={ticket.json()['ticket']}") as stream:
        assert stream.status == 200
        await stream.count(1)
        assert "s-secret-cookie" not in edge.server.output


def test_a_token_and_our_own_cookie_win_over_the_hosts(edge: Edge, host: Host) -> None:
    ada, bob = edge.recipient(), edge.recipient()
    edge.writer.create(bob)
    host.sign_in("s-3", ada)
    assert get(edge, "s-3", authorization=f"Bearer {edge.token(bob)}").json()["totalCount"] == 1
    assert get(edge, "s-3", authorization="Bearer x").status_code == 401
    assert host.asked_about("s-3") == 0
