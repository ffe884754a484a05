"""Whether the process lives, and whether the product is ready."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from shared import broker, databases, db, migration, overview
from shared.errors import Unavailable
from shared.roles import APP, FAULTS, login_fault
from shared.settings import settings

router = APIRouter(tags=["operators"])

#: A lane whose heartbeat task (every 5 s) was not seen for this long has no worker.
WORKER_SILENCE_S = 20
PING_TIMEOUT_S = 1.0
_LOGIN_FAULTS = text(FAULTS.format(role=APP))
LANES = ("urgent", "fan_out", "maintenance")


class Alive(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Readiness(BaseModel):
    """Whether the product is ready; `missing` says what keeps it, `degraded` what is away without keeping it."""

    status: Literal["ready", "not ready"]
    missing: Literal["database", "migrations"] | None = None
    degraded: list[Literal["redis", "broker", "worker"]]


@router.get("/healthz")
async def alive() -> Alive:
    """The process answers: it asks nothing of anybody else."""
    return Alive()


async def _fault() -> tuple[str | None, bool]:
    """Return what is wrong with any database (None: nothing), and whether every lane's worker was heard lately."""
    told = await asyncio.gather(*map(_database_fault, databases.names()))
    return next((fault for fault, _ in told if fault), None), told[0][1]


async def _database_fault(name: str) -> tuple[str | None, bool]:
    """Return the same of one database; workers leave their marks in the first, the shared one."""
    try:
        async with db.async_transaction(database=name) as connection:
            if not settings().development and login_fault(await connection.execute(_LOGIN_FAULTS)):
                return "database role", False
            revision = await connection.scalar(text("SELECT version_num FROM alembic_version"))
            beating = await connection.scalar(
                text(
                    "SELECT count(*) FROM heartbeats WHERE lane = ANY(:lanes)"
                    " AND beaten_at > clock_timestamp() - make_interval(secs => :silence)"
                ),
                {"lanes": list(LANES), "silence": WORKER_SILENCE_S},
            )
    except Unavailable:
        return "database", False
    except DBAPIError as error:
        if not db.is_unmigrated(error):
            raise
        return "migrations", False
    return (None if migration.is_migrated(revision) else "migrations"), beating == len(LANES)


async def _pings(url: str) -> bool:
    client = Redis.from_url(url, socket_timeout=PING_TIMEOUT_S, socket_connect_timeout=PING_TIMEOUT_S, retry=None)
    try:
        return bool(await client.ping())
    except (RedisError, OSError):
        return False
    finally:
        await client.aclose()


async def _brokered(publishing: bool) -> bool:
    """Tell whether the broker answers; one of a kind that is not asked counts as being where Redis is."""
    url = overview.url_of(settings(), "broker_url") or ""
    if broker.is_amqp(url):
        return await asyncio.to_thread(broker.waiting, url, (), PING_TIMEOUT_S) is not None
    asked = broker.redis_url(url)
    return publishing if asked is None else await _pings(asked)


@router.get(
    "/readyz",
    response_model=Readiness,
    response_model_exclude_unset=True,
    responses={503: {"model": Readiness, "description": "Not ready, or not all of it where all is asked for"}},
)
async def ready(request: Request, full: bool = Query(False)) -> JSONResponse:
    """Ready means: the database answers and has every migration. What else is away makes the product slower, not wrong.

    With `full=1` everything must be there, workers included.
    """
    (fault, working), publishing = await asyncio.gather(_fault(), request.app.state.publisher.ping())
    brokered = await _brokered(publishing)
    there = {"redis": publishing, "broker": brokered, "worker": working}
    degraded = [name for name, is_there in there.items() if not is_there]
    body: dict[str, Any] = {"status": "ready", "degraded": degraded}
    if fault is not None:
        body = {"status": "not ready", "missing": fault, "degraded": degraded}
    refused = fault is not None or (full and bool(degraded))
    return JSONResponse(body, 503 if refused else 200, {"retry-after": "1"} if refused else None)
