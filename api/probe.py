"""Trying the whole way, outside production: a test notification to oneself, and whether it came through."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from api.body import answer, problems
from api.deps import CurrentSubscriber, FanOutWaker, TheAcceptance
from api.events import store
from shared import cloudevent, events, forwards, statements
from shared.databases import database_of
from shared.errors import InvalidInput, NotFound
from shared.plans import arun_plan
from shared.settings import settings

router = APIRouter(prefix="/api/test", tags=["operators"])

SOURCE = "/test"
#: Longer than a sweep (a second or two): with the broker away, the test still succeeds.
PATIENCE_S = 5.0
POLL_S = 0.02
MESSAGE = "If you can read this, events, workers, database and stream work."


class Probe(BaseModel):
    """What became of a test notification. `pushConfirmed`: it was committed and Redis took its frame."""

    id: str
    state: str
    notifications: int
    activeConnections: int
    pushConfirmed: bool
    milliseconds: float


async def _outcome(tenant: str, id: str) -> statements.Row:
    """Return the event once it is told, or as it is when patience ends."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        row = await arun_plan(forwards.read(tenant, SOURCE, id))
        over = row["state"] in ("done", "failed") and (row["published"] or not row["notifications"])
        if over or time.monotonic() > deadline:
            return row
        await asyncio.sleep(POLL_S)


@router.post("/notifications", response_model=Probe, responses=problems(401, 404, 422, 503))
async def probe(request: Request, who: CurrentSubscriber, acceptance: TheAcceptance, waker: FanOutWaker) -> Response:
    """Notify the caller, and tell whether the notification was committed and handed to Redis. Not in production."""
    if not settings().development:
        raise NotFound
    id, began = str(uuid4()), time.monotonic()
    envelope: dict[str, Any] = {
        "specversion": cloudevent.SPECVERSION, "source": SOURCE, "id": id, "type": "system.test",
        "tenant": who.tenant, "data": {"recipient_id": who.recipient, "message": MESSAGE},
    }  # fmt: skip
    posting = events.posting_of([cloudevent.read(envelope)])
    try:
        await store(acceptance, posting, registers=True)
    except InvalidInput:
        raise NotFound("The directory does not know your tenant.") from None
    waker.wake(database_of(who.tenant))
    row = await _outcome(who.tenant, id)
    connections = len(request.app.state.hub.streams(who.tenant, who.recipient))
    told = Probe(
        id=id, state=row["state"], notifications=row["notifications"], activeConnections=connections,
        pushConfirmed=row["published"] > 0, milliseconds=round((time.monotonic() - began) * 1000, 1),
    )  # fmt: skip
    return answer(told.model_dump())
