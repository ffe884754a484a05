"""Attacks and bad inputs as tables: each case is one request, its exact answer, and what it may leave behind.

A group is a file `test_<group>.py` with a list of cases and one test over it:

    CASES = [Case("a token without a signature", Ask("GET", PAGE, authorization=...), 401, "unauthenticated")]

    @pytest.mark.parametrize("case", CASES, ids=str)
    def test_credentials(target: Target, case: Case) -> None:
        target.judge(case)

Every value of a request may be a function of the target, called when the case runs. After each case the server is ready
and the database is as it was, the tables of `stores` excepted.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
import psycopg

from tests.edge import Edge, key_for
from tests.writer import TENANT

PROBLEM = "application/problem+json"
JSON = "application/json"
PAGE = "/api/notifications"
COUNT = "/api/notifications/unread-count"
STREAM = "/api/notifications/stream"
TICKETS = "/api/notifications/stream/tickets"
SESSION = "/api/session"
APP = "https://app.example"
EVIL = "https://evil.example"
#: Of the framing of HTTP, nothing that an attack of ours waits for takes longer.
PATIENCE_S = 30.0
#: Tables that the product writes by itself, and the log of refusals.
_OWN = ("alembic_version", "heartbeats", "audit_log")
#: When a key was last used is written once a minute.
_BUT_USE = {"producer_keys": "to_jsonb(t) - 'last_used_at'"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    text: str


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. Header names are written with underscores."""

    method: str
    path: Any
    headers: dict[str, Any] = field(default_factory=dict)
    body: bytes = b""

    def send(self, target: Target) -> Answer:
        """Send it, and return the answer; of one without an end, the head alone."""
        headers = {name: told(value, target) for name, value in self.headers.items()}
        # A whole URL: of a path with two slashes the client would make another one.
        url = target.edge.server.url + told(self.path, target)
        with target.client.stream(self.method, url, headers=headers, content=self.body) as answer:
            is_endless = answer.headers.get("content-type", "").startswith("text/event-stream")
            text = "" if is_endless else answer.read().decode(errors="replace")
            return Answer(answer.status_code, answer.headers, text)


@dataclass(frozen=True, slots=True)
class Bytes:
    """Bytes that need not be HTTP."""

    sent: bytes

    def send(self, target: Target) -> Answer:
        """Send them on a connection of their own, and return the first answer."""
        address = urlsplit(target.edge.server.url)
        with socket.create_connection((str(address.hostname), address.port or 0), timeout=PATIENCE_S) as connection:
            connection.sendall(self.sent)
            head, _, body = _all_of(connection).partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        return Answer(int(status.split(" ")[1]), headers, body.decode(errors="replace"))


def _all_of(connection: socket.socket) -> bytes:
    received = b""
    while piece := connection.recv(65536):
        received += piece
    return received


def ask(method: str, path: Any, body: bytes = b"", **headers: Any) -> Ask:
    """Return a request; header names are written with underscores."""
    return Ask(method, path, {name.replace("_", "-"): value for name, value in headers.items()}, body)


@dataclass(frozen=True, slots=True)
class Case:
    """One attack. `problem` is the last part of the problem's type, `about:blank` for one without a type of ours, None
    for an answer that is no problem. `stores`: tables that it may change. `has`: headers of the answer.
    """

    name: str
    request: Ask | Bytes
    status: int
    problem: str | None = None
    stores: frozenset[str] = frozenset()
    has: dict[str, str | None] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def told(value: Any, target: Target) -> str:
    """Return a request's value, made now where it is a function."""
    return str(value(target) if callable(value) else value)


class Target:
    """A running API process, and what an attacker may have got hold of."""

    def __init__(self, edge: Edge, client: httpx.Client, session: psycopg.Connection) -> None:
        self.edge, self.client, self._session = edge, client, session
        self.victim = edge.recipient()
        edge.writer.create(self.victim, "For nobody else's eyes")
        self._keys: dict[tuple[str, ...], str] = {}

    def key(self, *scopes: str) -> str:
        """Return a producer key of the tests' tenant with these scopes."""
        if scopes not in self._keys:
            self._keys[scopes] = key_for(self.edge, *scopes)
        return self._keys[scopes]

    def token(self, key: str | None = None, algorithm: str = "HS256", header: Any = None, **changes: Any) -> str:
        """Return the victim's token but for the changes; a claim changed to ... is left out."""
        now = int(time.time())
        whole = {"sub": self.victim, "tenant": TENANT, "roles": [], "iat": now, "exp": now + 600, "aud": "carillon",
                 "iss": "carillon", **changes}  # fmt: skip
        claims = {name: value for name, value in whole.items() if value is not ...}
        secret = self.edge.environment["CARILLON_JWT_SECRET"] if key is None else key
        return jwt.encode(claims, secret, algorithm, headers=header)

    def bearer(self, **changes: Any) -> str:
        """Return the header with such a token."""
        return f"Bearer {self.token(**changes)}"

    def cookie(self) -> str:
        """Return the victim's session cookie, as a browser sends it."""
        answer = self.client.post(SESSION, headers={"authorization": self.bearer()})
        assert answer.status_code == 201, answer.text
        return answer.headers["set-cookie"].partition(";")[0]

    def ticket(self) -> str:
        """Return a ticket of the victim's that was not used."""
        answer = self.client.post(TICKETS, headers={"authorization": self.bearer()})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["ticket"])

    def judge(self, case: Case) -> None:
        """Send the case's request and check the answer, that the server is ready, and that nothing else was stored."""
        # What the request needs is made first: a session is stored on purpose.
        request = _made(case.request, self)
        with self.unharmed(case.stores):
            self._check(case, request.send(self))

    @contextmanager
    def unharmed(self, stores: frozenset[str] = frozenset()) -> Iterator[None]:
        """Check after the block that the server is ready, and that no table changed but those of `stores`."""
        before = self._stored()
        yield
        ready = self.client.get("/readyz")
        assert ready.status_code == 200, ready.text
        after = self._stored()
        changed = {table for table in before if before[table] != after[table]}
        assert changed <= stores, changed

    def _check(self, case: Case, answer: Answer) -> None:
        assert answer.status == case.status, answer.text
        for name, value in case.has.items():
            assert answer.headers.get(name) == value, (name, dict(answer.headers))
        assert self.edge.environment["CARILLON_JWT_SECRET"] not in answer.text
        assert "For nobody else's eyes" not in answer.text or case.problem is None
        if case.problem is None:
            assert answer.headers.get("content-type") != PROBLEM
            return
        assert answer.headers["content-type"] == PROBLEM
        told = httpx.Response(answer.status, text=answer.text).json()
        assert told["type"].rsplit(":problem:", 1)[-1] == case.problem, told
        assert (told["status"], bool(told["title"]), bool(told["detail"])) == (case.status, True, True)

    def _stored(self) -> dict[str, Any]:
        """Return a fingerprint of every table."""
        return {table: (count, digest) for table, count, digest in self._session.execute(self._fingerprints)}

    @cached_property
    def _fingerprints(self) -> bytes:
        tables = self._session.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> ALL(%s)", (list(_OWN),)
        )
        return " UNION ALL ".join(_fingerprint(table) for (table,) in tables).encode()


@contextmanager
def targeted(edge: Edge) -> Iterator[Target]:
    """Yield the process as a target."""
    # What one case leaves, a cookie or a connection that ended early, is not the next one's.
    none = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    limits = httpx.Limits(max_keepalive_connections=0)
    with (
        httpx.Client(
            base_url=edge.server.url, timeout=PATIENCE_S, limits=limits, cookies=none, trust_env=False
        ) as client,
        psycopg.connect(edge.environment["CARILLON_DATABASE_URL"], autocommit=True) as session,
    ):
        yield Target(edge, client, session)


def _fingerprint(table: str) -> str:
    row = _BUT_USE.get(table, "t")
    return f"SELECT '{table}', count(*), sum(hashtextextended(({row})::text, 0)) FROM {table} t"


def _made(request: Ask | Bytes, target: Target) -> Ask | Bytes:
    if isinstance(request, Bytes):
        return request
    headers = {name: told(value, target) for name, value in request.headers.items()}
    return Ask(request.method, told(request.path, target), headers, request.body)
