"""The inbox's calls: pages, counts, changes, one notification, and the mutations with their frames.

Tenant and recipient come from the token alone and are part of every statement. Each mutation is one transaction under
the inbox's lock; its frame is published after the commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth import Subscriber
from api.body import problems, read_body, require_type
from api.deps import CurrentSubscriber, FramePublisher
from api.inbox_models import Changed, Changes, Counts, Deleted, MarkAll, MarkOne, NotificationAnswer, Page, ReadAll
from api.problems import invalid
from shared import db, inbox
from shared.catalog import catalog
from shared.cursor import Cursor, require_cursor
from shared.errors import Conflict, FieldError, InvalidInput, NotFound
from shared.frames import PRIORITIES, Change, DeletedReason, Row, deleted, dumps, live, notification_json
from shared.settings import settings
from shared.strict_json import loads

#: The largest body here is one mark and one cursor.
MAX_BODY_BYTES = 4 * 1024
Body = TypeVar("Body", bound=BaseModel)
#: An `after` spells the ordinal of the last row told: pages stay right while notifications arrive.
AFTER_PREFIX = "o"


router = APIRouter(prefix="/api/notifications", tags=["inbox"], responses=problems(401, 422, 503))


async def _read(request: Request, model: type[Body]) -> Body:
    """Return the body as `model`, read strictly; raises what names the fault and its field."""
    require_type(request, ("application/json",))
    document = loads(await read_body(request, MAX_BODY_BYTES))
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise invalid(error.errors()) from None


def _documented(model: type[BaseModel]) -> dict[str, Any]:
    """Return the OpenAPI description of a body that `_read` reads."""
    return {"requestBody": {"content": {"application/json": {"schema": model.model_json_schema()}}}}


def _answer(body: Mapping[str, Any]) -> Response:
    return Response(dumps(body), media_type="application/json")


def _types_of(type_: str | None, category: str | None) -> tuple[str, ...] | None:
    """Return the catalog names that the two filters leave, or raise `InvalidInput` for an unknown one."""
    types = catalog().types.values()
    if type_ is None and category is None:
        return None
    if type_ is not None and not any(type_ in (known.notification_type, known.name) for known in types):
        raise InvalidInput(errors=(FieldError("type", "is not a type of the catalog"),))
    if category is not None and not any(category == known.category for known in types):
        raise InvalidInput(errors=(FieldError("category", "is not a category of the catalog"),))
    return tuple(
        known.name
        for known in types
        if type_ in (None, known.notification_type, known.name) and category in (None, known.category)
    )


def _before(after: str | None) -> int | None:
    if after is None:
        return None
    number = after.removeprefix(AFTER_PREFIX)
    if not after.startswith(AFTER_PREFIX) or not number.isdecimal() or not number.isascii() or len(number) > 18:
        raise InvalidInput(errors=(FieldError("after", "must be the endCursor of a page"),))
    return int(number)


def page_json(rows: Sequence[Row], limit: int) -> dict[str, Any]:
    """Return the rows of `read_page` as the contract's page."""
    head = inbox.head_of(rows[0])
    found = [row for row in rows if row["id"] is not None]
    shown = found[:limit]
    end = f"{AFTER_PREFIX}{shown[-1]['ordinal']}" if shown else None
    return {
        "nodes": [notification_json(row) for row in shown],
        "pageInfo": {"hasNextPage": len(found) > limit, "endCursor": end},
        "totalCount": rows[0]["matching"],
        **head.as_json(),
    }


async def read_page(
    connection: AsyncConnection, who: Subscriber, shown: inbox.Filter, before: int | None, limit: int
) -> dict[str, Any]:
    """Return one page with the counters and the cursor of the same snapshot, in one statement."""
    statement, values = inbox.read_page(shown)
    parameters = {"tenant": who.tenant, "recipient": who.recipient, "before": before, "limit": limit, **values}
    return page_json((await connection.execute(statement, parameters)).mappings().all(), limit)


@router.get("", response_model=Page)
async def page(
    who: CurrentSubscriber,
    *,
    first: Annotated[int | None, Query(ge=1)] = None,
    after: Annotated[str | None, Query(max_length=32)] = None,
    unread: bool | None = None,
    type: str | None = None,
    category: str | None = None,
    priority: Literal["LOW", "NORMAL", "HIGH", "URGENT"] | None = None,
    archived: bool = False,
) -> Response:
    """A page, newest first. Archived notifications are left out unless asked for."""
    limit = settings().page_size if first is None else first
    if limit > settings().max_page_size:
        raise InvalidInput(errors=(FieldError("first", f"must be at most {settings().max_page_size}"),))
    priorities = None if priority is None else (PRIORITIES.index(priority),)
    shown = inbox.Filter(unread, archived, _types_of(type, category), priorities)
    before = _before(after)
    async with db.async_transaction(who.tenant) as connection:
        return _answer(await read_page(connection, who, shown, before, limit))


async def _head(connection: AsyncConnection, who: Subscriber) -> inbox.Head:
    parameters = {"tenant": who.tenant, "recipient": who.recipient}
    return inbox.head_of((await connection.execute(inbox.read_head(), parameters)).mappings().one())


@router.get("/unread-count", response_model=Counts)
async def unread_count(who: CurrentSubscriber) -> Response:
    """The badge."""
    async with db.async_transaction(who.tenant) as connection:
        return _answer((await _head(connection, who)).as_json())


@router.get("/changes", response_model=Changes)
async def changes(who: CurrentSubscriber, since: Annotated[str, Query(max_length=64)]) -> Response:
    """What a stream would replay after `since`; `reset` where that can no longer be told whole."""
    start = require_cursor(since, "since")
    async with db.async_transaction(who.tenant) as connection:
        rows = (
            (
                await connection.execute(
                    inbox.read_changes(),
                    {
                        "tenants": [who.tenant],
                        "recipients": [who.recipient],
                        "epochs": [start.epoch],
                        "seqs": [start.seq],
                        "max_changes": settings().replay_max_changes,
                        "max_rows": inbox.MAX_REPLAY_ROWS,
                    },
                )
            )
            .mappings()
            .all()
        )
    replay = inbox.replay_of(start, rows, settings().replay_max_changes)
    steps = [{"id": str(Cursor(replay.head.epoch, seq)), **step} for seq, step in replay.steps]
    return _answer(
        {
            "changes": steps,
            "hasMore": False,
            "reset": replay.reset,
            "cursor": str(replay.head),
            **replay.counters.as_json(),
        }
    )


def _missing() -> NotFound:
    return NotFound("There is no such notification.")


def _id(value: str) -> UUID:
    """Return the id; one that is no UUID is an id that does not exist."""
    try:
        return UUID(value)
    except ValueError:
        raise _missing() from None


@router.get("/{id}", response_model=NotificationAnswer, responses=problems(404))
async def one(who: CurrentSubscriber, id: str) -> Response:
    """One notification. Another recipient's is answered like one that does not exist."""
    parameters = {"tenant": who.tenant, "recipient": who.recipient, "id": _id(id)}
    async with db.async_transaction(who.tenant) as connection:
        row = (await connection.execute(inbox.read_one(), parameters)).mappings().one_or_none()
    if row is None:
        raise _missing()
    return _answer({**notification_json(row), **inbox.head_of(row).as_json()})


async def _lock(connection: AsyncConnection, who: Subscriber) -> tuple[inbox.Head, Any] | None:
    """Lock the subscriber's inbox; returns its head and the database's clock, None where there is no inbox."""
    parameters = {"tenant": who.tenant, "recipient": who.recipient}
    row = (await connection.execute(inbox.lock_one(), parameters)).mappings().one_or_none()
    return None if row is None else (inbox.head_of(row), row["now"])


async def _advance(connection: AsyncConnection, head: inbox.Head, delta: inbox.Delta) -> inbox.Head:
    await connection.execute(
        inbox.advance(), {"key": head.key, "unread": delta.unread, "unseen": delta.unseen, "total": delta.total}
    )
    return inbox.advanced(head, delta)


def _kind_of(before: inbox.Marks, after: inbox.Marks) -> Change:
    if before.archived != after.archived:
        return Change.ARCHIVED if after.archived else Change.UNARCHIVED
    if before.read != after.read:
        return Change.READ if after.read else Change.UNREAD
    return Change.SEEN


def _mark_frame(kind: Change, head: inbox.Head, row: Row) -> bytes:
    """Return the live frame of one marked notification; one that comes back from the archive is told whole."""
    told = {
        "notificationId": str(row["id"]),
        "readAt": row["read_at"],
        "seenAt": row["seen_at"],
        "archivedAt": row["archived_at"],
    }
    if kind is Change.UNARCHIVED:
        told["notification"] = notification_json(row)
    return live(kind, head.cursor, head.counters, **told)


@router.patch(
    "/{id}",
    response_model=NotificationAnswer,
    openapi_extra=_documented(MarkOne),
    responses=problems(400, 404, 409, 413, 415),
)
async def mark_one(who: CurrentSubscriber, publisher: FramePublisher, id: str, request: Request) -> Response:
    """Mark one notification; several marks are one change, and marks that are set already are none."""
    body, frame = await _read(request, MarkOne), None
    async with db.async_transaction(who.tenant) as connection:
        locked = await _lock(connection, who)
        parameters = {"tenant": who.tenant, "recipient": who.recipient, "id": _id(id)}
        row = (await connection.execute(inbox.read_one(), parameters)).mappings().one_or_none()
        if locked is None or row is None:
            raise _missing()
        head, before = locked[0], inbox.marks_of(row)
        after = inbox.Wish(body.seen, body.read, body.archived).applied(before)
        if after is None:
            raise Conflict("The notification is archived, and so it is read: unarchive it first.")
        if after != before:
            head = await _advance(connection, head, inbox.delta_between(before, after))
            marks = {"seen": after.seen, "read": after.read, "archived": after.archived}
            row = (
                (await connection.execute(inbox.mark_one(), {"id": row["id"], "seq": head.cursor.seq, **marks}))
                .mappings()
                .one()
            )
            frame = _mark_frame(_kind_of(before, after), head, row)
    if frame is not None:
        await publisher.publish(who.tenant, who.recipient, frame)
    return _answer({**notification_json(row), **head.as_json()})


@router.delete("/{id}", response_model=Deleted, responses=problems(404))
async def delete_one(who: CurrentSubscriber, publisher: FramePublisher, id: str) -> Response:
    """Delete one notification for good; again: 404."""
    wanted = _id(id)
    async with db.async_transaction(who.tenant) as connection:
        locked = await _lock(connection, who)
        if locked is None:
            raise _missing()
        head, now = locked
        counted = (
            (
                await connection.execute(
                    inbox.delete_these(), {"key": head.key, "ids": [wanted], "seq": head.cursor.seq + 1, "now": now}
                )
            )
            .mappings()
            .one()
        )
        if not counted["touched"]:
            raise _missing()
        head = await _advance(connection, head, inbox.bulk_delta("delete", counted))
    frame = deleted(head.cursor, head.counters, [str(wanted)], DeletedReason.USER)
    await publisher.publish(who.tenant, who.recipient, frame)
    return _answer({"id": str(wanted), "deleted": True, **head.as_json()})


#: The frame of each bulk change, and the time that it carries.
_BULK_FRAMES = {
    "read": (Change.READ_ALL, "readAt"),
    "seen": (Change.SEEN_ALL, "seenAt"),
    "delete": (Change.DELETED_READ, "deletedAt"),
}


async def _change_many(who: Subscriber, publisher: FramePublisher, kind: str, up_to: str | None) -> Response:
    """Run one bulk change: one seq whatever it touches, none when it touches nothing."""
    bound = None if up_to is None else require_cursor(up_to, "upTo")
    frame = None
    async with db.async_transaction(who.tenant) as connection:
        locked = await _lock(connection, who)
        if locked is None:
            return _answer({"changed": 0, **(await _head(connection, who)).as_json()})
        head, now = locked
        if bound is not None and bound.epoch != head.cursor.epoch:
            raise Conflict("The cursor is of an earlier numbering: fetch the page again.")
        seq = head.cursor.seq if bound is None else min(bound.seq, head.cursor.seq)
        counted = (
            (
                await connection.execute(
                    inbox.change_many(kind), {"key": head.key, "up_to": seq, "seq": head.cursor.seq + 1, "now": now}
                )
            )
            .mappings()
            .one()
        )
        if counted["touched"]:
            change, time = _BULK_FRAMES[kind]
            head = await _advance(connection, head, inbox.bulk_delta(kind, counted))
            told = {"upTo": str(Cursor(head.cursor.epoch, seq)), time: now}
            frame = live(change, head.cursor, head.counters, **told)
    if frame is not None:
        await publisher.publish(who.tenant, who.recipient, frame)
    return _answer({"changed": counted["touched"], **head.as_json()})


@router.patch("", response_model=Changed, openapi_extra=_documented(MarkAll), responses=problems(400, 409, 413, 415))
async def mark_all(who: CurrentSubscriber, publisher: FramePublisher, request: Request) -> Response:
    """Mark all that the inbox shows and that was created up to `upTo`."""
    body = await _read(request, MarkAll)
    return await _change_many(who, publisher, "read" if body.read else "seen", body.upTo)


@router.post(
    "/read-all", response_model=Changed, openapi_extra=_documented(ReadAll), responses=problems(400, 409, 413, 415)
)
async def read_all(who: CurrentSubscriber, publisher: FramePublisher, request: Request) -> Response:
    """The same as `PATCH` with `{"read":true}`."""
    told = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    up_to = (await _read(request, ReadAll)).upTo if told else None
    return await _change_many(who, publisher, "read", up_to)


@router.delete("", response_model=Changed, responses=problems(409))
async def delete_read(
    who: CurrentSubscriber,
    publisher: FramePublisher,
    read: Literal["true"],
    upTo: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """Delete all that the inbox shows, that is read, and that was created up to `upTo`. The archive is left alone."""
    return await _change_many(who, publisher, "delete", upTo)
