"""What each call asks of the database: docs/statements.md says it, call by call, and is right."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg
import pytest
from sqlalchemy import event

from api.read import Reader, Wish
from api.sse import Inbox
from shared import db as database
from shared import signing
from shared.cursor import Cursor
from shared.frames import channel_of
from shared.settings import PROJECT_ROOT
from shared.tokens import make_token
from tests import directory
from tests.directory import Row
from tests.inboxes import WHO, Publish, publisher
from tests.producers import BATCHED, STRUCTURED, TENANT, bearer, envelope, make_key, serving

DOCS = PROJECT_ROOT / "docs" / "statements.md"
JSON, NDJSON = "application/json", "application/x-ndjson"
PAGE = "/api/notifications"
EVENT = f"?source=/tests&tenant={TENANT}"
HOOK = json.dumps({"type": "achievement.awarded", "timestamp": "2026-03-01T12:00:00Z", "data": envelope()["data"]})
MOST = 1_000

_counting: ContextVar[list[str] | None] = ContextVar("counting", default=None)


@contextmanager
def counted() -> Iterator[list[str]]:
    """Collect the statements of what is awaited in the block; those of tasks beside it are none of its own."""
    seen: list[str] = []
    token = _counting.set(seen)
    try:
        yield seen
    finally:
        _counting.reset(token)


def _note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
    seen = _counting.get()
    if seen is not None:
        seen.append(statement)


@dataclass
class World:
    """A recipient with four notifications, and whoever may call."""

    api: httpx.AsyncClient
    key: dict[str, str]
    ada: dict[str, str]
    ids: list[str]
    secrets: dict[str, str]
    publish: Publish

    async def unread(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """Call as the recipient, who has just got one more."""
        self.publish("grade.posted")
        return await self.as_ada(method, path, body)

    async def as_ada(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """Call as the recipient."""
        return await self.api.request(method, path, json=body, headers=self.ada)

    async def as_producer(self, method: str, path: str, body: Any = None, kind: str = JSON) -> httpx.Response:
        """Call with a key that may do everything."""
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        return await self.api.request(method, path, content=content, headers={**self.key, "content-type": kind})

    async def by_cookie(self, method: str, path: str) -> httpx.Response:
        """Call with a session made for it, whose making is not counted."""
        token = _counting.set(None)
        cookie = (await self.api.post("/api/session", headers=self.ada)).headers["set-cookie"].partition(";")[0]
        self.api.cookies.clear()
        _counting.reset(token)
        headers = {"cookie": cookie, "sec-fetch-site": "same-origin"}
        return await self.api.request(method, path, headers=headers)

    async def standard(self) -> httpx.Response:
        """Deliver a Standard Webhook."""
        moment, key = int(time.time()), base64.b64decode(self.secrets["standard"].removeprefix("whsec_"))
        digest = base64.b64encode(hmac.digest(key, f"w1.{moment}.{HOOK}".encode(), hashlib.sha256)).decode()
        headers = {"webhook-id": "w1", "webhook-timestamp": str(moment), "webhook-signature": f"v1,{digest}"}
        path = f"/api/webhooks/standard?tenant={TENANT}"
        return await self.api.post(path, content=HOOK, headers={**headers, "content-type": JSON})

    async def github(self) -> httpx.Response:
        """Deliver something of GitHub's that tells somebody."""
        user = {"login": WHO, "type": "User"}
        issue = {"number": 7, "title": "It breaks", "html_url": "https://github.com/o/h/issues/7", "user": user}
        told = {"action": "assigned", "issue": {**issue, "assignees": [user]}, "assignee": user,
                "repository": {"full_name": "o/h"}, "sender": {"login": "ben", "type": "User"}}  # fmt: skip
        body = json.dumps(told).encode()
        digest = hmac.digest(self.secrets["github"].encode(), body, hashlib.sha256).hex()
        headers = {"x-hub-signature-256": f"sha256={digest}", "x-github-delivery": "d1", "x-github-event": "issues"}
        path = f"/api/webhooks/github?tenant={TENANT}"
        return await self.api.post(path, content=body, headers={**headers, "content-type": JSON})

    async def query(self, document: str) -> httpx.Response:
        """Ask GraphQL."""
        answer = await self.unread("POST", "/graphql", {"query": document})
        assert "errors" not in answer.json(), answer.text
        return answer

    async def opened(self, wish: Wish) -> httpx.Response:
        """Read how a stream begins; it is none of HTTP's requests here, as those of this client would never end."""
        reader = Reader()
        await reader.opening(Inbox(TENANT, WHO, channel_of(TENANT, WHO).encode()), wish)
        await reader.stop()
        return httpx.Response(200)


def rows_of(start: int) -> bytes:
    """Return a bulk body of a thousand recipients."""
    return b"\n".join(b'{"tenant":"%s","id":"p%d"}' % (TENANT.encode(), start + n) for n in range(MOST))


def members() -> list[dict[str, str]]:
    """Return a bulk body of a thousand memberships."""
    return [{"tenant": TENANT, "topic": "course:rust", "recipient": f"p{n}"} for n in range(MOST)]


Call = Callable[[World], Awaitable[httpx.Response]]
NODES = "{ notifications { nodes { id title } } }"
#: In this order: what comes later finds what came before.
CALLS: dict[str, Call] = {
    "`GET /api/notifications`": lambda w: w.as_ada("GET", PAGE),
    "the same, filtered": lambda w: w.as_ada("GET", f"{PAGE}?unread=true&type=GRADE_POSTED"),
    "the same, by cookie": lambda w: w.by_cookie("GET", PAGE),
    "`GET /api/notifications/unread-count`": lambda w: w.as_ada("GET", f"{PAGE}/unread-count"),
    "the same, `?by=category`": lambda w: w.as_ada("GET", f"{PAGE}/unread-count?by=category"),
    "`GET /api/notifications/changes`": lambda w: w.as_ada("GET", f"{PAGE}/changes?since=1-0"),
    "`GET /api/notifications/{id}`": lambda w: w.as_ada("GET", f"{PAGE}/{w.ids[0]}"),
    "`PATCH /api/notifications/{id}`": lambda w: w.as_ada("PATCH", f"{PAGE}/{w.ids[0]}", {"read": True}),
    "the same, which changes nothing": lambda w: w.as_ada("PATCH", f"{PAGE}/{w.ids[0]}", {"read": True}),
    "`DELETE /api/notifications/{id}`": lambda w: w.as_ada("DELETE", f"{PAGE}/{w.ids[1]}"),
    "`PATCH /api/notifications` `{\"seen\":true}`": lambda w: w.unread("PATCH", PAGE, {"seen": True}),
    "`PATCH /api/notifications` `{\"read\":true}`": lambda w: w.unread("PATCH", PAGE, {"read": True}),
    "`POST /api/notifications/read-all`": lambda w: w.unread("POST", f"{PAGE}/read-all"),
    "`DELETE /api/notifications?read=true`": lambda w: w.as_ada("DELETE", f"{PAGE}?read=true"),
    "`POST /api/notifications/stream/tickets`": lambda w: w.as_ada("POST", f"{PAGE}/stream/tickets"),
    "`GET /api/notifications/stream`": lambda w: w.opened(Wish()),
    "the same, `Last-Event-ID`": lambda w: w.opened(Wish(after=Cursor(1, 1))),
    "the same, `?snapshot=20`": lambda w: w.opened(Wish(snapshot=20)),
    "`POST /graphql`: a page": lambda w: w.query(NODES),
    "`POST /graphql`: the count": lambda w: w.query("{ unreadNotificationCount }"),
    "`POST /graphql`: mark all": lambda w: w.query("mutation { markAllNotificationsAsRead }"),
    "`POST /api/session`": lambda w: w.as_ada("POST", "/api/session"),
    "`DELETE /api/session`": lambda w: w.by_cookie("DELETE", "/api/session"),
    "`POST /api/events`": lambda w: w.as_producer("POST", "/api/events", envelope(), STRUCTURED),
    "the same again": lambda w: w.as_producer("POST", "/api/events", envelope(), STRUCTURED),
    "the same, a batch of 1,000": lambda w: w.as_producer(
        "POST", "/api/events", [envelope(f"b{n}") for n in range(MOST)], BATCHED),
    "`GET /api/events/{id}`": lambda w: w.as_producer("GET", f"/api/events/e1{EVENT}"),
    "`GET /api/events/{id}/recipients/{recipient}`": lambda w: w.as_producer(
        "GET", f"/api/events/e1/recipients/ada{EVENT}"),
    "`DELETE /api/events/{id}`": lambda w: w.as_producer("DELETE", f"/api/events/e1{EVENT}"),
    "`POST /api/webhooks/standard`": lambda w: w.standard(),
    "`POST /api/webhooks/github`": lambda w: w.github(),
    "`PUT /api/tenants/{tenant}`": lambda w: w.as_producer("PUT", "/api/tenants/new"),
    "`PUT /api/recipients/{tenant}/{id}`": lambda w: w.as_producer(
        "PUT", f"/api/recipients/{TENANT}/eve", {"roles": ["student"]}),
    "`GET /api/recipients/{tenant}/{id}`": lambda w: w.as_producer("GET", f"/api/recipients/{TENANT}/eve"),
    "`DELETE /api/recipients/{tenant}/{id}`": lambda w: w.as_producer("DELETE", f"/api/recipients/{TENANT}/eve"),
    "`POST /api/recipients/bulk`, 1,000 rows": lambda w: w.as_producer(
        "POST", "/api/recipients/bulk", rows_of(0), NDJSON),
    "`PUT /api/topics/{tenant}/{topic}/members/{recipient}`": lambda w: w.as_producer(
        "PUT", f"/api/topics/{TENANT}/course:rust/members/{WHO}"),
    "`DELETE` of the same": lambda w: w.as_producer("DELETE", f"/api/topics/{TENANT}/course:rust/members/{WHO}"),
    "`POST /api/topics/bulk`, 1,000 rows": lambda w: w.as_producer("POST", "/api/topics/bulk", members()),
    "`GET /api/topics/{tenant}/{topic}/members`": lambda w: w.as_producer(
        "GET", f"/api/topics/{TENANT}/course:rust/members"),
    "`POST /api/revocations`": lambda w: w.as_producer(
        "POST", "/api/revocations", {"tenant": TENANT, "recipient": "ben"}),
    "`GET /api/stream/connections`": lambda w: w.as_producer("GET", "/api/stream/connections"),
}  # fmt: skip


@pytest.fixture
async def world(
    configured: dict[str, str], db: psycopg.Connection[Row], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    """All of it, and the API, which has verified the key."""
    # On a busy machine the test may take longer than a key is remembered.
    monkeypatch.setattr("api.credentials.VERIFIED_S", 3600.0)
    key = bearer(make_key(None, ("events:write", "directory:write", "ops:read")))
    directory.add_recipients(db, TENANT, [WHO, "ann", "ben"], roles=["student"])
    publish = publisher(db, TENANT)
    for _ in range(4):
        publish("grade.posted")
    with database.transaction("*") as connection:
        secrets = {name: signing.create_secret(connection, name, TENANT)[1] for name in ("standard", "github")}
    async with serving() as api:
        made = World(api, key, bearer(make_token(TENANT, WHO)), [], secrets, publish)
        made.ids = [node["id"] for node in (await made.as_ada("GET", PAGE)).json()["nodes"]]
        await made.as_producer("GET", "/api/stream/connections")
        yield made


def documented() -> dict[str, int]:
    """Return the number that docs/statements.md gives for each call."""
    found = re.findall(r"^\| (.+?) \| (\d+) \|", DOCS.read_text(), re.MULTILINE)
    return {name: int(number) for name, number in found}


async def test_each_call_costs_as_many_statements_as_is_written(world: World) -> None:
    engine = database.async_engine_of().sync_engine
    event.listen(engine, "before_cursor_execute", _note)
    told = {}
    try:
        for name, call in CALLS.items():
            with counted() as seen:
                answer = await call(world)
            assert answer.is_success, (name, answer.text)
            world.api.cookies.clear()
            told[name] = len(seen)
    finally:
        event.remove(engine, "before_cursor_execute", _note)
    assert told == documented()
