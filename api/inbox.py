"""The inbox's calls over HTTP: what `api.inbox_calls` does, with its parameters and bodies judged."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ValidationError

from api import inbox_calls
from api.body import answer, json_body, problems, read_body, require_type
from api.deps import CurrentSubscriber, FramePublisher
from api.inbox_filters import PageFilter, before_of, limit_of
from api.inbox_models import (
    Changed,
    Changes,
    Deleted,
    MarkAll,
    MarkOne,
    NotificationAnswer,
    Page,
    ReadAll,
    UnreadCounts,
)
from api.problems import invalid
from shared.cursor import require_cursor
from shared.inbox import Wish
from shared.strict_json import loads

#: The largest body here is one mark and one cursor.
MAX_BODY_BYTES = 4 * 1024
Body = TypeVar("Body", bound=BaseModel)

router = APIRouter(prefix="/api/notifications", tags=["inbox"], responses=problems(401, 422, 503))


async def _read(request: Request, model: type[Body]) -> Body:
    """Return the body as `model`, read strictly; raises what names the fault and its field."""
    require_type(request, ("application/json",))
    document = loads(await read_body(request, MAX_BODY_BYTES))
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise invalid(error.errors()) from None


@router.get("", response_model=Page)
async def page(
    who: CurrentSubscriber,
    shown: PageFilter,
    first: Annotated[int | None, Query(ge=1)] = None,
    after: Annotated[str | None, Query(max_length=32)] = None,
) -> Response:
    """A page, newest first. Archived notifications are left out unless asked for."""
    return answer(await inbox_calls.page(who, shown, before_of(after), limit_of(first)))


@router.get("/unread-count", response_model=UnreadCounts, response_model_exclude_unset=True)
async def unread_count(who: CurrentSubscriber, by: Literal["category"] | None = None) -> Response:
    """The badge; with `by=category` also the parts that it is the sum of."""
    return answer(await (inbox_calls.counts(who) if by is None else inbox_calls.counts_by_category(who)))


@router.get("/changes", response_model=Changes)
async def changes(who: CurrentSubscriber, since: Annotated[str, Query(max_length=64)]) -> Response:
    """What a stream would replay after `since`; `reset` where that can no longer be told whole."""
    return answer(await inbox_calls.changes(who, require_cursor(since, "since")))


@router.get("/{id}", response_model=NotificationAnswer, responses=problems(404))
async def one(who: CurrentSubscriber, id: str) -> Response:
    """One notification. Another recipient's is answered like one that does not exist."""
    return answer(await inbox_calls.one(who, id))


@router.patch(
    "/{id}",
    response_model=NotificationAnswer,
    openapi_extra=json_body(MarkOne),
    responses=problems(400, 404, 409, 413, 415),
)
async def mark_one(who: CurrentSubscriber, publisher: FramePublisher, id: str, request: Request) -> Response:
    """Mark one notification; several marks are one change, and marks that are set already are none."""
    body = await _read(request, MarkOne)
    return answer(await inbox_calls.mark_one(who, publisher, id, Wish(body.seen, body.read, body.archived)))


@router.delete("/{id}", response_model=Deleted, responses=problems(404))
async def delete_one(who: CurrentSubscriber, publisher: FramePublisher, id: str) -> Response:
    """Delete one notification for good; again: 404."""
    return answer(await inbox_calls.delete_one(who, publisher, id))


@router.patch(
    "",
    response_model=Changed,
    openapi_extra=json_body(MarkAll),
    responses=problems(400, 409, 413, 415),
)
async def mark_all(who: CurrentSubscriber, publisher: FramePublisher, request: Request) -> Response:
    """Mark all that the inbox shows and that was created up to `upTo`."""
    body = await _read(request, MarkAll)
    return answer(await inbox_calls.change_many(who, publisher, "read" if body.read else "seen", body.upTo))


@router.post(
    "/read-all",
    response_model=Changed,
    openapi_extra=json_body(ReadAll, required=False),
    responses=problems(400, 409, 413, 415),
)
async def read_all(who: CurrentSubscriber, publisher: FramePublisher, request: Request) -> Response:
    """The same as `PATCH` with `{"read":true}`."""
    told = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    up_to = (await _read(request, ReadAll)).upTo if told else None
    return answer(await inbox_calls.change_many(who, publisher, "read", up_to))


@router.delete("", response_model=Changed, responses=problems(409))
async def delete_read(
    who: CurrentSubscriber,
    publisher: FramePublisher,
    read: Literal["true"],
    upTo: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """Delete all that the inbox shows, that is read, and that was created up to `upTo`. The archive is left alone."""
    return answer(await inbox_calls.change_many(who, publisher, "delete", upTo))
