"""A bare FastAPI route that does one INSERT: `uvicorn bench.plain.route:app`, as fast as its author would make it.

One statement without a transaction around it, prepared, on a pool of asynchronous connections; uvloop and httptools.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel

INSERT = "INSERT INTO plain_events (tenant, source, id, type, data) VALUES (%s, %s, %s, %s, %s)"


class Event(BaseModel):
    """What is posted."""

    specversion: str
    id: str
    source: str
    type: str
    tenant: str
    data: dict[str, Any]


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncConnectionPool(
        os.environ["PLAIN_DATABASE"], min_size=10, max_size=10, kwargs={"autocommit": True}, open=False
    ) as app.state.pool:
        yield


app = FastAPI(lifespan=_lifespan)


@app.post("/api/events", status_code=202)
async def post(event: Event, request: Request) -> dict[str, str]:
    """Store the event."""
    async with request.app.state.pool.connection() as connection:
        await connection.execute(INSERT, (event.tenant, event.source, event.id, event.type, Jsonb(event.data)))
    return {"id": event.id}
