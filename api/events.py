"""What producers post: CloudEvents in the three modes of the HTTP binding, and how far an event is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from urllib.parse import unquote_to_bytes

import orjson
from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from api.acceptance import Acceptance
from api.body import answer, media_type, problems, read_body, refuse_encoding
from api.credentials import EventsKey, require_tenant
from api.deps import FanOutWaker, TheAcceptance
from api.json_schemas import EXAMPLE_EVENT
from api.paths import Name
from shared import cloudevent, events, following, forwards, metrics, strict_json
from shared.cloudevent import Event
from shared.databases import database_of
from shared.errors import BodyTooLarge, FieldError, InvalidInput, UnsupportedContentType
from shared.logs import log
from shared.plans import arun_plan
from shared.settings import settings
from shared.statements import Row

router = APIRouter(prefix="/api/events", tags=["producers"])

STRUCTURED = "application/cloudevents+json"
BATCHED = "application/cloudevents-batch+json"
#: A batch's body. 1,000 events of 64 KiB would be 64 MiB in memory at once; real ones have 1 KiB.
MAX_BATCH_BYTES = 16 * 1024 * 1024
#: A body beyond this is judged on a thread of its own, so that live streams do not wait for it (about 1 ms of work).
_INLINE_BYTES = 16 * 1024
_HEADER_PREFIX = "ce-"


class PostedEvent(BaseModel):
    """What became of one event: `duplicate` was posted before and notifies nobody again."""

    id: str
    status: Literal["accepted", "duplicate"]


class Posted(BaseModel):
    """Every event of the request, in its order; all of them are durable."""

    events: list[PostedEvent]


class EventCounts(BaseModel):
    """How many recipients the event reached, and what became of its notifications."""

    recipients: int
    notifications: int
    published: int
    seen: int
    read: int


class EventState(BaseModel):
    """How far an event is."""

    tenant: str
    source: str
    id: str
    type: str
    state: Literal["accepted", "fanning_out", "done", "cancelling", "cancelled", "failed"]
    counts: EventCounts
    acceptedAt: datetime
    finishedAt: datetime | None
    error: str | None


def judged(values: Sequence[Any], is_batch: bool) -> list[Event]:
    """Return the events that decoded envelopes spell, all of them valid.

    Raises `InvalidInput` with the errors of every wrong one, the first hundred, and `BodyTooLarge` for one beyond
    `event_max_bytes`. In a batch the errors carry the index.
    """
    found: list[Event] = []
    errors: list[FieldError] = []
    for place, value in enumerate(values):
        index = place if is_batch else None
        try:
            found.append(_judge(value, index))
        except InvalidInput as refused:
            errors += refused.errors
    if errors:
        detail = "The batch is not valid: nothing of it was stored." if is_batch else "The event is not valid."
        raise InvalidInput(detail, errors=tuple(errors[: strict_json.MAX_FAULTS]))
    return found


def _judge(value: Any, index: int | None) -> Event:
    most = settings().event_max_bytes
    if index is not None and _size(value) > most:
        too_large = FieldError("", f"is larger than {most} bytes", index)
        raise BodyTooLarge(f"An event of the batch is larger than {most} bytes.", errors=(too_large,))
    return cloudevent.read(value, index)


def _size(value: Any) -> int:
    """Return how many bytes a value has as compact JSON; 0 for one that has none, which is refused for that."""
    try:
        return len(orjson.dumps(value))
    except TypeError:
        return 0


def _from_batch(body: bytes) -> list[Event]:
    values = strict_json.parse(body)
    if not isinstance(values, list):
        raise InvalidInput(errors=(FieldError("events", "must be a list of events"),))
    most = settings().batch_max_events
    if not 0 < len(values) <= most:
        raise InvalidInput(errors=(FieldError("events", f"must have 1 to {most:,} events"),))
    return judged(values, is_batch=True)


def _from_structured(body: bytes) -> list[Event]:
    return judged([strict_json.parse(body)], is_batch=False)


def _from_binary(headers: Mapping[str, Any], body: bytes) -> list[Event]:
    return judged([{**headers, "data": strict_json.parse(body) if body else {}}], is_batch=False)


def attributes_of(request: Request) -> dict[str, str]:
    """Return the attributes that `ce-*` headers carry, percent-decoded (HTTP binding, section 3.1.3.2).

    Raises `InvalidInput` for a header that is told twice or does not decode to UTF-8.
    """
    found: dict[str, str] = {}
    for name, value in request.headers.items():
        if not name.startswith(_HEADER_PREFIX):
            continue
        attribute = name.removeprefix(_HEADER_PREFIX)
        if attribute in found:
            raise InvalidInput(errors=(FieldError(attribute, "stands twice among the headers"),))
        found[attribute] = _decoded(attribute, value)
    return found


def _decoded(attribute: str, value: str) -> str:
    """Return a header's value; Starlette hands it over as Latin-1, whatever bytes it was."""
    try:
        return unquote_to_bytes(value.encode("latin-1")).decode()
    except UnicodeDecodeError:
        raise InvalidInput(errors=(FieldError(attribute, "is not percent-encoded UTF-8"),)) from None


async def _events_of(request: Request) -> list[Event]:
    """Return the request's events by the mode that its content type tells (HTTP binding, section 3)."""
    kind = media_type(request)
    refuse_encoding(request)
    most = settings().event_max_bytes
    if kind == BATCHED:
        body = await read_body(request, MAX_BATCH_BYTES)
        return await asyncio.to_thread(_from_batch, body) if len(body) > _INLINE_BYTES else _from_batch(body)
    if kind == STRUCTURED:
        return _from_structured(await read_body(request, most))
    if not any(name.startswith(_HEADER_PREFIX) for name in request.headers) or kind.startswith(
        "application/cloudevents"
    ):
        raise UnsupportedContentType(f"Send {STRUCTURED}, {BATCHED}, or JSON with ce-* headers.")
    body = b"" if kind and not cloudevent.is_json(kind) else await read_body(request, most)
    if not cloudevent.is_json(kind) and (kind or body):
        raise UnsupportedContentType("Send an event's data as application/json.")
    return _from_binary(attributes_of(request), body)


async def store(acceptance: Acceptance, posting: events.Posting, *, registers: bool) -> Response:
    """Store the events, all or none, and return the answer of 202: then they are durable.

    Raises as `events.accept`, and `Unavailable`.
    """
    began = time.time()
    statuses = await acceptance.accept(posting, registers=registers)
    metrics.count_events(statuses)
    following.note_accepted(posting.events, statuses, began)
    return answer({"events": events.told(posting.events, statuses)}, 202)


def require_one_home(posting: events.Posting) -> None:
    """Raise `InvalidInput` where the posting's tenants live in several databases."""
    homes = [database_of(event.tenant) for event in posting.events]
    wrong = [place for place, home in enumerate(homes) if home != homes[0]]
    if wrong:
        errors = posting.errors(wrong, "tenant", "lives in another database than the first one's")
        raise InvalidInput("A batch is stored in one database: post these tenants' events apart.", errors=errors)


_EVENT = {"$ref": "#/components/schemas/Event"}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            STRUCTURED: {"schema": _EVENT, "example": EXAMPLE_EVENT},
            BATCHED: {
                "schema": {"type": "array", "items": _EVENT, "minItems": 1, "maxItems": 1_000},
                "example": [EXAMPLE_EVENT],
            },
        },
    }
}  # fmt: skip


@router.post("", status_code=202, response_model=Posted, openapi_extra=_BODY,
             responses=problems(400, 401, 403, 409, 413, 415, 422, 503))  # fmt: skip
async def post(request: Request, key: EventsKey, acceptance: TheAcceptance, waker: FanOutWaker) -> Response:
    """Post one event or a batch: all or nothing, and durable once it is answered.

    In binary mode the body is the data, as `application/json`, and the attributes are `ce-*` headers.
    """
    found = await _events_of(request)
    is_batch = media_type(request) == BATCHED
    for place, event in enumerate(found):
        require_tenant(key, event.tenant, place if is_batch else None)
    posting = events.posting_of(found, is_batch=is_batch)
    require_one_home(posting)
    told = await store(acceptance, posting, registers=key.may("directory:write"))
    waker.wake(database_of(found[0].tenant))
    return told


def state_json(row: Row) -> dict[str, Any]:
    """Return a row of `events.read` as it is told."""
    return {
        **{name: row[name] for name in ("tenant", "source", "id", "type", "state")},
        "counts": {name: row[name] for name in EventCounts.model_fields},
        "acceptedAt": row["accepted_at"],
        "finishedAt": row["finished_at"],
        "error": row["error"],
    }


@router.get("/{id:path}", response_model=EventState, responses=problems(401, 403, 404, 422, 503))
async def get(key: EventsKey, id: Name, source: Name, tenant: Name) -> Response:
    """How far an event is. Seen and read are counted as of now."""
    require_tenant(key, tenant)
    return answer(state_json(await arun_plan(forwards.read(tenant, source, id))))


@router.delete("/{id:path}", status_code=202, response_model=EventState,
               responses={200: {"model": EventState, "description": "It was asked for before"},
                          **problems(401, 403, 404, 422, 503)})  # fmt: skip
async def cancel(key: EventsKey, waker: FanOutWaker, id: Name, source: Name, tenant: Name) -> Response:
    """Cancel an event: what is not yet fanned out never is, what is gets withdrawn. Again: 200."""
    require_tenant(key, tenant)
    is_new = await arun_plan(forwards.cancel(tenant, source, id, key.actor))
    row = await arun_plan(forwards.read(tenant, source, id))
    if is_new:
        names = {"tenant": tenant, "source": source, "id": id, "trace_id": following.trace_of(row)}
        log().info("event.cancelled", prefix=key.prefix, **names)
        waker.wake(database_of(tenant))
    return answer(state_json(row), 202 if is_new else 200)
