"""A producer for tests: a key of its own, and the API in this process on the test's real servers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import psycopg
from sqlalchemy import event

from api.app import create_app
from shared import db, directory, key_store

STRUCTURED = "application/cloudevents+json"
BATCHED = "application/cloudevents-batch+json"
TENANT = "acme"


def make_key(tenants: Sequence[str] | None = (TENANT,), scopes: Sequence[str] = ("events:write",)) -> str:
    """Return a new producer key; its tenants are made. None: every tenant."""
    with db.transaction("*") as connection:
        for tenant in tenants or ():
            directory.ensure_tenant(connection, tenant)
        return key_store.create_key(connection, tenants, scopes)


@asynccontextmanager
async def serving() -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of the application, started within this process. It sends no key by itself."""
    app = create_app()
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://carillon") as client,
    ):
        yield client


def bearer(key: str) -> dict[str, str]:
    """Return the header that carries a key."""
    return {"authorization": f"Bearer {key}"}


def envelope(id: str = "e1", **changes: Any) -> dict[str, Any]:
    """Return a valid event; a change to None takes the attribute away."""
    made = {
        "specversion": "1.0",
        "id": id,
        "source": "/tests",
        "type": "achievement.awarded",
        "tenant": TENANT,
        "data": {"student_id": "ann", "achievement_id": "a-1", "title": "First steps"},
        **changes,
    }
    return {name: value for name, value in made.items() if value is not None}


async def post(client: httpx.AsyncClient, key: str, body: Any, kind: str = STRUCTURED) -> httpx.Response:
    """Post one event (or, with `kind` BATCHED, a list of them). Bytes are sent as they are."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await client.post("/api/events", content=content, headers={**bearer(key), "content-type": kind})


def rows(database_url: str, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """Return a query's rows from the test's database."""
    with psycopg.connect(database_url) as session:
        return session.execute(query.encode(), values).fetchall()


def stored(database_url: str) -> int:
    """Return how many events are stored."""
    return int(rows(database_url, "SELECT count(*) FROM events")[0][0])


@contextmanager
def counted_statements() -> Iterator[list[str]]:
    """Collect every statement that the API's engine runs in the block, BEGIN and COMMIT not among them."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        seen.append(statement)

    engine = db.async_engine_of().sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


def errors_of(answer: httpx.Response) -> list[tuple[Any, ...]]:
    """Return a problem's errors as (index, field, message), the index only where there is one; checks its form."""
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == answer.status_code
    assert all(body[name] for name in ("type", "title", "detail"))
    return [tuple(error[name] for name in ("index", "field", "message") if name in error) for error in body["errors"]]
