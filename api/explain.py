"""Why somebody did, or did not, get an event. Scope `events:write`, for both tenants where those differ."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from api import events
from api.body import answer, problems
from api.credentials import EventsKey, require_tenant
from api.paths import Name, PathName, event_and_recipient
from shared import explain
from shared.plans import arun_plan

router = APIRouter(prefix="/api/events", tags=["producers"])


class ExplainedEvent(BaseModel):
    """The event that was asked about. `traceId` finds it in the logs of every part, and in traces."""

    tenant: str
    source: str
    id: str
    type: str
    state: Literal["accepted", "fanning_out", "done", "cancelling", "cancelled", "failed"]
    traceId: str


class ExplainedRecipient(BaseModel):
    """Who was asked about, and whether the directory knows them."""

    tenant: str
    id: str
    registered: bool


class ExplainedRule(BaseModel):
    """An audience of the event's type, tried against the directory as it is now. `why` it does not match."""

    audience: int
    kind: Literal["recipient", "topic", "role", "everyone", "posted"]
    name: str | None
    tenant: str | None
    matches: bool
    why: str | None


class ExplainedStep(BaseModel):
    """Something that happened, and when."""

    step: str
    at: datetime
    note: str | None


class Explanation(BaseModel):
    """What became of an event for one recipient: `reason` says it in a sentence, `steps` are in order of time.

    `rule` is the audience that matches, whose words the recipient gets; null where none does.
    """

    event: ExplainedEvent
    recipient: ExplainedRecipient
    outcome: explain.Outcome
    reason: str
    rule: ExplainedRule | None
    rules: list[ExplainedRule]
    notificationId: str | None
    steps: list[ExplainedStep]


@router.get("/{id:path}/recipients/{recipient:path}", response_model=Explanation,
            responses=problems(401, 403, 404, 422, 503))  # fmt: skip
async def explain_one(
    *, request: Request, key: EventsKey, id: PathName, recipient: PathName, source: Name, tenant: Name,
    recipientTenant: Name | None = None,
) -> Response:  # fmt: skip
    """Why a recipient did, or did not, get an event. `recipientTenant`: theirs, where it is not the event's."""
    names = event_and_recipient(request)
    if names is None:
        return await events.get(key, f"{id}/recipients/{recipient}", source, tenant)
    for each in {tenant, recipientTenant or tenant}:
        require_tenant(key, each)
    return answer(await arun_plan(explain.explain(tenant, source, *names, recipientTenant)))
