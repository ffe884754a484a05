"""The session cookie: how it is had, what a browser must tell to use it, and how it ends."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator

import httpx
import orjson
import psycopg
import pytest
import redis

from shared.embedded import EmbeddedPostgres, EmbeddedRedis
from shared.sessions import MOST_SESSIONS
from tests.edge import Edge, new_database, running_edge
from tests.eventually import eventually_async
from tests.listener import Listener, token_for
from tests.writer import TENANT

APP = "https://app.example"
PAGES = "/api/notifications"
OWN = {"sec-fetch-site": "same-origin"}


@pytest.fixture(scope="module")
def database(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A database for all tests of this file."""
    with new_database(postgres) as url:
        yield url


@pytest.fixture(scope="module")
def edge(database: str, shared_redis: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """An API process for all tests of this file."""
    folder = tmp_path_factory.mktemp("session")
    with running_edge(database, shared_redis.url(), folder, CARILLON_ALLOWED_ORIGINS=APP) as running:
        yield running


@pytest.fixture(scope="module")
def hasty(database: str, shared_redis: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """Another one on the same database that re-checks its streams all the time."""
    folder = tmp_path_factory.mktemp("hasty")
    with running_edge(database, shared_redis.url(), folder, CARILLON_RECHECK_SECONDS="0.5") as running:
        yield running


@pytest.fixture
def ada(edge: Edge) -> str:
    """A recipient of this test's own."""
    return edge.recipient()


def begin_session(edge: Edge, recipient: str, ttl: float = 3600) -> httpx.Response:
    """Ask for a cookie with a token."""
    headers = {"authorization": f"Bearer {edge.token(recipient, ttl)}"}
    return httpx.post(f"{edge.server.url}/api/session", headers=headers)


def get(edge: Edge, path: str, headers: dict[str, str]) -> httpx.Response:
    """Read something with these headers and no others."""
    return httpx.get(edge.server.url + path, headers=headers)


def sign_in(edge: Edge, recipient: str, ttl: float = 3600) -> httpx.Response:
    """Exchange a token for a cookie."""
    answer = begin_session(edge, recipient, ttl)
    assert answer.status_code == 201, answer.text
    return answer


def cookie_of(edge: Edge, recipient: str, ttl: float = 3600) -> str:
    """Return a session's cookie as a browser sends it."""
    return sign_in(edge, recipient, ttl).headers["set-cookie"].partition(";")[0]


def ask(edge: Edge, method: str, path: str, cookie: str | None, **headers: str) -> httpx.Response:
    """Send a request as a page would: with the cookie, and the headers that its browser adds."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if cookie is not None:
        sent["cookie"] = cookie
    return httpx.request(method, edge.server.url + path, headers=sent)


def listener(edge: Edge, cookie: str, **headers: str) -> Listener:
    """Return a stream that is opened with a cookie alone."""
    return Listener(edge.server.url, None, Cookie=cookie, **headers)


def test_a_token_is_exchanged_for_a_cookie_that_ends_with_it(edge: Edge, ada: str) -> None:
    before = time.time()
    answer = sign_in(edge, ada, ttl=600)
    pair, *attributes = answer.headers["set-cookie"].split("; ")
    assert pair.startswith("carillon=")
    assert sorted(attributes[:1] + attributes[2:]) == ["HttpOnly", "Path=/", "SameSite=Strict"]
    assert 595 <= int(attributes[1].removeprefix("Max-Age=")) <= 600
    told = answer.json()
    assert (told["tenant"], told["recipient"]) == (TENANT, ada)
    assert answer.headers["cache-control"] == "no-store"
    value = pair.partition("=")[2]
    with psycopg.connect(edge.environment["CARILLON_DATABASE_URL"]) as session:
        rows = session.execute(
            "SELECT name, extract(epoch FROM expires_at)::float FROM sessions WHERE recipient = %s", (ada,)
        ).fetchall()
    assert [name for name, _ in rows] == [hashlib.sha256(value.encode()).hexdigest()]
    assert -2 < rows[0][1] - before - 600 < 2
    assert value not in answer.text
    assert ask(edge, "GET", PAGES, pair).status_code == 200


def test_only_a_token_in_the_header_makes_a_session(edge: Edge, ada: str) -> None:
    cookie = cookie_of(edge, ada)
    assert ask(edge, "POST", "/api/session", cookie, **OWN).status_code == 401
    token = edge.token(ada)
    headers = {"authorization": f"Bearer {token}"}
    for content, kind, status in [
        (b"", None, 201),
        (b"{}", "application/json", 201),
        (b'{"tenant":"x"}', "application/json", 422),
        (b"{", "application/json", 400),
        (b"a=b", "application/x-www-form-urlencoded", 415),
        (b" " * 2000, "application/json", 413),
    ]:
        sent = headers | ({"content-type": kind} if kind else {})
        assert httpx.post(f"{edge.server.url}/api/session", content=content, headers=sent).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec_fetch_site": "same-origin"}, 200),
        ({"origin": APP}, 200),
        ({"sec_fetch_site": "same-site", "origin": APP}, 200),
        ({"sec_fetch_site": "cross-site", "origin": APP}, 200),
        ({}, 403),
        ({"sec_fetch_site": "none"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "Same-Origin"}, 403),
        ({"sec_fetch_site": "cross-site", "origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": f"{APP}.evil.example"}, 403),
        ({"origin": f"{APP}:443"}, 403),
        ({"origin": "http://app.example"}, 403),
        ({"referer": f"{APP}/page"}, 403),
    ],
)
def test_a_cookie_changes_something_only_from_the_servers_own_pages_or_allowed_origins(
    edge: Edge, ada: str, headers: dict[str, str], status: int
) -> None:
    edge.writer.create(ada)
    cookie = cookie_of(edge, ada)
    answer = ask(edge, "POST", f"{PAGES}/read-all", cookie, **headers)
    assert answer.status_code == status
    unread = ask(edge, "GET", f"{PAGES}/unread-count", cookie).json()["unreadCount"]
    assert unread == (0 if status == 200 else 1)
    if status == 403:
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"sec_fetch_site": "same-origin"}, 200),
        ({"sec_fetch_site": "none"}, 200),
        ({"sec_fetch_site": "cross-site", "origin": APP}, 200),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"sec_fetch_site": "cross-site", "origin": "https://evil.example"}, 403),
    ],
)
async def test_a_page_of_another_origin_neither_reads_nor_opens_the_stream(
    edge: Edge, ada: str, headers: dict[str, str], status: int
) -> None:
    cookie = cookie_of(edge, ada)
    assert ask(edge, "GET", PAGES, cookie, **headers).status_code == status
    async with listener(edge, cookie, **headers) as stream:
        assert stream.status == status


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_what_a_form_can_send_is_no_body_for_a_cookie(edge: Edge, ada: str, kind: str) -> None:
    cookie = cookie_of(edge, ada)
    headers = {"cookie": cookie, **OWN, "content-type": kind}
    answer = httpx.patch(edge.server.url + PAGES, content=b'{"read":true}', headers=headers)
    assert answer.status_code == 415


async def test_a_token_wins_over_a_cookie(edge: Edge, ada: str) -> None:
    cookie, bob = cookie_of(edge, ada), edge.recipient()
    edge.writer.create(bob)
    both = {"cookie": cookie, "authorization": f"Bearer {edge.token(bob)}", "sec-fetch-site": "cross-site"}
    told = get(edge, f"{PAGES}/unread-count", both)
    assert (told.status_code, told.json()["unreadCount"]) == (200, 1)
    wrong = {"cookie": cookie, "authorization": "Bearer nonsense"}
    assert get(edge, f"{PAGES}/unread-count", wrong).status_code == 401


@pytest.mark.parametrize("value", ["", "unknown", "x" * 5000, "%00", '"', "a b"])
async def test_a_cookie_that_is_none_of_ours_is_401(edge: Edge, value: str) -> None:
    assert ask(edge, "GET", PAGES, f"carillon={value}").status_code == 401
    async with listener(edge, f"carillon={value}") as stream:
        assert stream.status == 401


def test_a_cookie_that_is_sent_twice_differently_is_401(edge: Edge, ada: str) -> None:
    cookie = cookie_of(edge, ada)
    assert ask(edge, "GET", PAGES, f"{cookie}; other=1; {cookie}").status_code == 200
    assert ask(edge, "GET", PAGES, f"carillon=planted; {cookie}").status_code == 401
    assert ask(edge, "GET", PAGES, f"{cookie}; carillon=planted").status_code == 401


async def test_a_logout_ends_the_session_and_its_streams_within_a_second(edge: Edge, ada: str) -> None:
    cookie, other = cookie_of(edge, ada), cookie_of(edge, ada)
    made = ask(edge, "POST", f"{PAGES}/stream/tickets", cookie, **OWN).json()
    unused = ask(edge, "POST", f"{PAGES}/stream/tickets", cookie, **OWN).json()
    async with (
        listener(edge, cookie) as first,
        Listener(edge.server.url, None, f"ticket={made['ticket']}") as by_ticket,
        listener(edge, other) as elsewhere,
        edge.listener(ada) as by_token,
    ):
        for stream in (first, by_ticket, elsewhere, by_token):
            await stream.count(1)
        answer = ask(edge, "DELETE", "/api/session", cookie, **OWN)
        assert answer.status_code == 204
        assert answer.headers["set-cookie"] == "carillon=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict"
        for stream in (first, by_ticket):
            frames = await stream.until_closed(within=1)
            assert [(frame.event, frame.data.get("reason")) for frame in frames[1:]] == [("goodbye", "revoked")]
        edge.writer.create(ada)
        for stream in (elsewhere, by_token):
            assert [frame.kind for frame in await stream.count(2)] == ["connected", "created"]
    assert ask(edge, "GET", PAGES, cookie).status_code == 401
    assert ask(edge, "GET", PAGES, other).status_code == 200
    async with Listener(edge.server.url, None, f"ticket={unused['ticket']}") as late:
        assert late.status == 401
    assert ask(edge, "DELETE", "/api/session", cookie, **OWN).status_code == 204
    assert ask(edge, "DELETE", "/api/session", None).status_code == 401


def test_a_page_of_another_origin_logs_nobody_out(edge: Edge, ada: str) -> None:
    cookie = cookie_of(edge, ada)
    assert ask(edge, "DELETE", "/api/session", cookie, sec_fetch_site="cross-site").status_code == 403
    assert ask(edge, "GET", PAGES, cookie).status_code == 200


async def test_a_session_ended_in_the_database_alone_ends_its_streams_by_the_recheck(hasty: Edge) -> None:
    ada = hasty.recipient()
    cookie = cookie_of(hasty, ada)
    async with listener(hasty, cookie) as stream:
        await stream.count(1)
        with psycopg.connect(hasty.environment["CARILLON_DATABASE_URL"]) as session:
            session.execute("DELETE FROM sessions WHERE recipient = %s", (ada,))
        frames = await stream.until_closed(within=5)
    assert frames[-1].data["reason"] == "revoked"


async def test_a_logout_survives_the_loss_of_redis(edge: Edge, ada: str, shared_redis: EmbeddedRedis) -> None:
    cookie = cookie_of(edge, ada)
    assert ask(edge, "DELETE", "/api/session", cookie, **OWN).status_code == 204
    with redis.Redis.from_url(shared_redis.url()) as client:
        client.flushall()
    edge.server.restart()
    assert ask(edge, "GET", PAGES, cookie).status_code == 401
    assert ask(edge, "GET", PAGES, cookie_of(edge, ada)).status_code == 200


async def test_a_stream_by_cookie_ends_when_the_token_behind_it_would(edge: Edge, ada: str) -> None:
    async with listener(edge, cookie_of(edge, ada, ttl=3)) as stream:
        frames = await stream.until_closed()
    assert frames[-1].data["reason"] == "expired"


def test_one_person_has_a_bounded_number_of_sessions_and_the_oldest_end(edge: Edge, ada: str) -> None:
    cookies = [cookie_of(edge, ada) for _ in range(MOST_SESSIONS + 2)]
    with psycopg.connect(edge.environment["CARILLON_DATABASE_URL"]) as session:
        rows = session.execute("SELECT count(*) FROM sessions WHERE recipient = %s", (ada,)).fetchone()
    assert rows == (MOST_SESSIONS,)
    assert [ask(edge, "GET", PAGES, cookie).status_code for cookie in (*cookies[:3], cookies[-1])] == [
        401,
        401,
        200,
        200,
    ]


async def revoke_by_hand(edge: Edge, tenant: str, recipient: str) -> None:
    """Insert a revocation as another process would have, without a word on Redis."""
    async with await psycopg.AsyncConnection.connect(edge.environment["CARILLON_DATABASE_URL"]) as session:
        await session.execute("INSERT INTO revocations (tenant, recipient) VALUES (%s, %s)", (tenant, recipient))


async def test_a_revocation_that_redis_did_not_tell_holds_by_the_recheck(hasty: Edge) -> None:
    ada = hasty.recipient()
    token = hasty.token(ada)
    headers = {"authorization": f"Bearer {token}"}
    async with Listener(hasty.server.url, token) as stream:
        await stream.count(1)
        await revoke_by_hand(hasty, TENANT, ada)
        assert (await stream.until_closed(within=5))[-1].data["reason"] == "revoked"
    for path in (PAGES, f"{PAGES}/changes?since=1-0", f"{PAGES}/unread-count"):
        answer = get(hasty, path, headers)
        assert (answer.status_code, answer.json()["detail"]) == (401, "Access was revoked: sign in again.")
    async with Listener(hasty.server.url, token, Last_Event_ID="1-0") as stream:
        assert stream.status == 401


async def test_a_revocation_of_everyone_is_of_one_tenant(hasty: Edge) -> None:
    token, other = (token_for(hasty.environment, "ann", tenant=tenant) for tenant in ("closing", "open"))
    async with Listener(hasty.server.url, token) as stream, Listener(hasty.server.url, other) as stays:
        await stream.count(1)
        await stays.count(1)
        await revoke_by_hand(hasty, "closing", "")
        assert (await stream.until_closed(within=5))[-1].data["reason"] == "revoked"
        assert not stays.closed
    headers = {"authorization": f"Bearer {other}"}
    assert get(hasty, PAGES, headers).status_code == 200


async def test_a_process_that_starts_knows_what_was_revoked_before(edge: Edge, ada: str) -> None:
    token = edge.token(ada)
    await revoke_by_hand(edge, TENANT, ada)
    edge.server.restart()
    answer = get(edge, PAGES, {"authorization": f"Bearer {token}"})
    assert answer.status_code == 401


async def test_who_signs_in_after_a_revocation_gets_in(edge: Edge, ada: str, shared_redis: EmbeddedRedis) -> None:
    cookie = cookie_of(edge, ada)
    order = {"tenant": TENANT, "recipient": ada, "at": time.time()}
    with redis.Redis.from_url(shared_redis.url()) as client:
        client.publish("carillon:control", orjson.dumps({"revoke": order}))

    async def is_out() -> bool:
        return ask(edge, "GET", PAGES, cookie).status_code == 401

    await eventually_async(is_out)

    async def may_sign_in() -> bool:
        return begin_session(edge, ada).status_code == 201

    await eventually_async(may_sign_in)
