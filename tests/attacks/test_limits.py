"""How often somebody may ask: too often is 429, and never for anybody else."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest

from shared.embedded import EmbeddedPostgres, EmbeddedRedis
from tests.attacks.harness import COUNT, JSON, PAGE, SESSION, STREAM, TICKETS, Ask, Case, Target, ask, targeted
from tests.edge import new_database, running_edge
from tests.eventually import eventually
from tests.writer import TENANT

MANY = (429, "too-many-requests")
LIMIT = 5


@pytest.fixture(scope="module")
def limited(
    postgres: EmbeddedPostgres, shared_redis: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    """A process that lets five of everything through in a minute, behind a proxy at 127.0.0.1."""
    limits = {
        f"CARILLON_{name}_PER_MINUTE": str(LIMIT)
        for name in ("RECIPIENT_REQUESTS", "PRODUCER_REQUESTS", "FAILED_ATTEMPTS", "SIGN_INS")
    }
    folder = tmp_path_factory.mktemp("limits")
    with (
        new_database(postgres) as url,
        running_edge(
            url,
            shared_redis.url(),
            folder,
            CARILLON_TRUSTED_PROXIES="127.0.0.1/32",
            CARILLON_STREAMS_PER_PROCESS="2",
            CARILLON_HEARTBEAT_SECONDS="0.5",
            **limits,
        ) as edge,
        targeted(edge) as made,
    ):
        yield made


def exhausted(target: Target, case: Case) -> None:
    """Send a case's request until it is refused: within two windows' worth, as the clock's minute may turn."""
    seen = [case.request.send(target).status for _ in range(2 * LIMIT + 1)]
    assert 429 in seen, seen
    assert seen.index(429) >= LIMIT, seen


def within_a_minute(check: Callable[[], None]) -> None:
    """Check; if the clock's minute turned meanwhile, all were counted anew: check again."""
    began = time.time() // 60
    try:
        check()
    except AssertionError:
        if time.time() // 60 == began:
            raise
        check()


def guess(address: str, method: str = "GET", path: str = PAGE, **headers: Any) -> Ask:
    """Return a request with wrong credentials, from an address that the proxy tells."""
    return ask(method, path, x_forwarded_for=address, **headers)


_made_up: Iterator[int] = iter(range(1, 1_000))
EVENT = {"specversion": "1.0", "id": "e", "source": "/s", "type": "no.such", "tenant": TENANT, "data": {}}
CASES = [
    Case("a recipient who asks too often", ask("GET", COUNT, authorization=Target.bearer), *MANY),
    Case("a recipient who begins too many sessions", ask("POST", SESSION, authorization=Target.bearer), *MANY,
         frozenset({"sessions"})),
    Case("a producer that posts too often",
         ask("POST", "/api/events", json.dumps(EVENT).encode(), content_type="application/cloudevents+json",
             authorization=lambda t: f"Bearer {t.key('events:write')}"), *MANY),
    Case("an address that guesses tokens", guess("192.0.2.1", authorization="Bearer x"), *MANY),
    Case("an address that guesses keys",
         guess("192.0.2.2", "POST", "/api/events", content_type=JSON, authorization="Bearer ck_x"), *MANY),
    Case("an address that guesses tickets",
         guess("192.0.2.3", path="/api/notifications/stream?ticket=x"), *MANY),
    Case("an address that guesses cookies", guess("192.0.2.4", cookie="carillon=x"), *MANY),
    Case("an address that changes what stands before its own",
         ask("GET", PAGE, x_forwarded_for=lambda _: f"{next(_made_up)}, 192.0.2.5"), *MANY),
    Case("a household that changes its IPv6 address",
         ask("GET", PAGE, x_forwarded_for=lambda _: f"2001:db8:1:2::{next(_made_up):x}"), *MANY),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_too_often(limited: Target, case: Case) -> None:
    limited.victim = limited.edge.recipient()

    def check() -> None:
        exhausted(limited, case)
        answer = case.request.send(limited)
        assert answer.status == 429
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        limited.judge(case)

    within_a_minute(check)


def test_whoever_has_valid_credentials_is_let_in_beside_those_who_fail(limited: Target) -> None:
    request = guess("192.0.2.9", authorization="Bearer x")
    exhausted(limited, Case("guesses", request, *MANY))
    limited.victim = limited.edge.recipient()
    neighbour = ask("GET", COUNT, authorization=Target.bearer, x_forwarded_for="192.0.2.9")
    limited.judge(Case("a neighbour with a token", neighbour, 200))


def test_another_recipient_and_another_address_are_counted_apart(limited: Target) -> None:
    limited.victim = limited.edge.recipient()
    exhausted(limited, Case("asks too often", ask("GET", COUNT, authorization=Target.bearer), *MANY))
    limited.victim = limited.edge.recipient()
    limited.judge(Case("another one", ask("GET", COUNT, authorization=Target.bearer), 200))
    exhausted(limited, Case("guesses", guess("192.0.2.20"), *MANY))
    limited.judge(Case("another address", guess("192.0.2.21"), 401, "unauthenticated"))


def fresh(target: Target) -> str:
    """Return the credentials of somebody new."""
    return target.bearer(sub=target.edge.recipient())


def test_a_process_that_has_all_its_streams_takes_no_other_until_one_has_ended(limited: Target) -> None:
    another = ask("GET", STREAM, authorization=fresh)
    with ExitStack() as streams:
        for _ in range(2):
            opened = limited.client.stream("GET", STREAM, headers={"authorization": fresh(limited)})
            assert streams.enter_context(opened).status_code == 200
        full = Case("a stream too many", another, 503, "unavailable", frozenset({"inboxes"}), {"retry-after": "10"})
        limited.judge(full)
    eventually(lambda: another.send(limited).status == 200, within=30)


def test_streams_that_another_request_follows_on_their_connections_end_with_those(limited: Target) -> None:
    """uvicorn tells the connection's end to its last request alone: the places would be taken for ever."""
    address = urlsplit(limited.edge.server.url)
    for _ in range(2):
        request = f"GET {STREAM} HTTP/1.1\r\nhost: x\r\nauthorization: {fresh(limited)}\r\n\r\n".encode()
        with socket.create_connection((str(address.hostname), address.port or 0), timeout=30) as connection:
            connection.sendall(2 * request)
            received = b""
            while b"event: connected" not in received:
                received += connection.recv(65_536)
    another = ask("GET", STREAM, authorization=fresh)
    eventually(lambda: another.send(limited).status == 200, within=30)


def test_without_redis_reads_stay_open_and_logins_stay_closed(
    postgres: EmbeddedPostgres, private_redis: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("no-redis")
    with (
        new_database(postgres) as url,
        running_edge(url, private_redis.url(), folder) as edge,
        targeted(edge) as target,
    ):
        cookie = target.cookie()
        private_redis.kill()
        for _ in range(3):
            target.judge(Case("a read by token", ask("GET", COUNT, authorization=Target.bearer), 200))
            target.judge(Case("a read by cookie", ask("GET", COUNT, cookie=cookie), 200))
            login = ask("POST", SESSION, authorization=Target.bearer)
            target.judge(Case("a login", login, 503, "unavailable", has={"retry-after": "1"}))
            ticket = ask("POST", TICKETS, authorization=Target.bearer)
            target.judge(Case("a ticket", ticket, 503, "unavailable"))
            wrong = ask("GET", PAGE, authorization="Bearer x")
            target.judge(Case("a guess", wrong, 401, "unauthenticated"))
