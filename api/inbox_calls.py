"""What can be done with one's own inbox: pages, counts, changes, one notification, and the mutations with their frames.

REST and GraphQL call the same functions; each returns the answer's JSON. Tenant and recipient come from the token alone
and are part of every statement. Each mutation is one transaction under the inbox's lock; its frame is published after
the commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import TextClause
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth import Subscriber
from api.homes import inbox_transaction
from api.inbox_filters import end_cursor
from api.publish import Publisher
from shared import inbox
from shared.cursor import Cursor, require_cursor
from shared.errors import Conflict, NotFound
from shared.frames import (
    Change,
    DeletedReason,
    Row,
    category_of,
    deleted,
    inbox_name,
    live,
    notification_json,
    notifications_json,
)
from shared.inbox_filter import Filter
from shared.settings import settings

Answer = dict[str, Any]
Bulk = Literal["seen", "read", "delete"]


def page_json(rows: Sequence[Row], limit: int) -> Answer:
    """Return the rows of `read_page` as the contract's page."""
    head = inbox.head_of(rows[0])
    found = [row for row in rows if row["id"] is not None]
    shown = found[:limit]
    return {
        "nodes": notifications_json(shown),
        "pageInfo": {"hasNextPage": len(found) > limit, "endCursor": end_cursor(shown[-1]) if shown else None},
        "totalCount": rows[0]["matching"],
        **head.as_json(),
    }


async def page(who: Subscriber, shown: Filter, before: int | None, limit: int) -> Answer:
    """Return one page with the counters and the cursor of the same snapshot, in one statement."""
    statement, values = inbox.read_page(shown)
    parameters = {"tenant": who.tenant, "recipient": who.recipient, "before": before, "limit": limit, **values}
    async with inbox_transaction(who) as connection:
        rows = (await connection.execute(statement, parameters)).mappings().all()
    return {"inbox": inbox_name(who.tenant, who.recipient), **page_json(rows, limit)}


async def _row(connection: AsyncConnection, statement: TextClause, **values: Any) -> Row | None:
    return (await connection.execute(statement, values)).mappings().one_or_none()


async def _one_row(connection: AsyncConnection, statement: TextClause, **values: Any) -> Row:
    return (await connection.execute(statement, values)).mappings().one()


async def _head(connection: AsyncConnection, who: Subscriber) -> inbox.Head:
    return inbox.head_of(await _one_row(connection, inbox.read_head(), tenant=who.tenant, recipient=who.recipient))


async def counts(who: Subscriber) -> Answer:
    """Return the counters, in one statement that reads the inbox's row alone."""
    async with inbox_transaction(who) as connection:
        return (await _head(connection, who)).as_json()


async def counts_by_category(who: Subscriber) -> Answer:
    """Return the counters, whole and for each category that has any, in one statement: they sum up."""
    parameters = {"tenant": who.tenant, "recipient": who.recipient}
    async with inbox_transaction(who) as connection:
        rows = (await connection.execute(inbox.read_categories(), parameters)).mappings().all()
    told: dict[str, dict[str, int]] = {}
    for row in rows:
        if row["type_unread"] or row["type_unseen"]:
            each = told.setdefault(category_of(row["type"]), {"unreadCount": 0, "unseenCount": 0})
            each["unreadCount"] += row["type_unread"]
            each["unseenCount"] += row["type_unseen"]
    return {**inbox.head_of(rows[0]).as_json(), "byCategory": dict(sorted(told.items()))}


async def changes(who: Subscriber, start: Cursor) -> Answer:
    """Return what a stream would replay after `start`; `reset` where that can no longer be told whole."""
    limit = settings().replay_max_changes
    parameters = {
        "tenants": [who.tenant],
        "recipients": [who.recipient],
        "epochs": [start.epoch],
        "seqs": [start.seq],
        "max_changes": limit,
        "max_rows": inbox.MAX_REPLAY_ROWS,
    }
    async with inbox_transaction(who) as connection:
        rows = (await connection.execute(inbox.read_changes(), parameters)).mappings().all()
    replay = inbox.replay_of(start, rows, limit)
    return {
        "inbox": inbox_name(who.tenant, who.recipient),
        "changes": [{"id": str(Cursor(replay.head.epoch, seq)), **step} for seq, step in replay.steps],
        "hasMore": False,
        "reset": replay.reset,
        "cursor": str(replay.head),
        **replay.counters.as_json(),
    }


def _missing() -> NotFound:
    return NotFound("There is no such notification.")


def _id(value: str) -> UUID:
    """Return the id; one that is no UUID is an id that does not exist."""
    try:
        return UUID(value)
    except ValueError:
        raise _missing() from None


async def _read_one(connection: AsyncConnection, who: Subscriber, id: UUID) -> Row | None:
    return await _row(connection, inbox.read_one(), tenant=who.tenant, recipient=who.recipient, id=id)


def _told(row: Row) -> Answer:
    """Return a notification as it is told. One that cannot be raises `NotFound`: pages leave it out, too."""
    found = notifications_json([row])
    if not found:
        raise _missing()
    return found[0]


async def one(who: Subscriber, id: str) -> Answer:
    """Return one notification. Another recipient's raises `NotFound`, like one that does not exist."""
    wanted = _id(id)
    async with inbox_transaction(who) as connection:
        row = await _read_one(connection, who, wanted)
    if row is None:
        raise _missing()
    return {**_told(row), **inbox.head_of(row).as_json()}


async def _lock(connection: AsyncConnection, who: Subscriber) -> tuple[inbox.Head, Any] | None:
    """Lock the subscriber's inbox; returns its head and the database's clock, None where there is no inbox."""
    row = await _row(connection, inbox.lock_one(), tenant=who.tenant, recipient=who.recipient)
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


async def mark_one(who: Subscriber, publisher: Publisher, id: str, wish: inbox.Wish) -> Answer:
    """Mark one notification; several marks are one change, and marks that are set already are none.

    Raises `NotFound`, and `Conflict` for a wish that leaves an archived one unread.
    """
    wanted, frame = _id(id), None
    async with inbox_transaction(who) as connection:
        locked = await _lock(connection, who)
        row = await _read_one(connection, who, wanted)
        if locked is None or row is None:
            raise _missing()
        _told(row)  # Before anything is changed: what cannot be told stays as it is.
        head, before = locked[0], inbox.marks_of(row)
        after = wish.applied(before)
        if after is None:
            raise Conflict("The notification is archived, and so it is read: unarchive it first.")
        if after != before:
            head = await _advance(connection, head, inbox.delta_between(before, after))
            row = await _one_row(connection, inbox.mark_one(), id=wanted, seq=head.cursor.seq, **asdict(after))
            frame = _mark_frame(_kind_of(before, after), head, row)
    if frame is not None:
        await publisher.publish(who.tenant, who.recipient, frame)
    return {**notification_json(row), **head.as_json()}


async def delete_one(who: Subscriber, publisher: Publisher, id: str) -> Answer:
    """Delete one notification for good; again: `NotFound`."""
    wanted = _id(id)
    async with inbox_transaction(who) as connection:
        locked = await _lock(connection, who)
        if locked is None:
            raise _missing()
        head, now = locked
        chosen = {"key": head.key, "ids": [wanted], "seq": head.cursor.seq + 1, "now": now}
        counted = await _one_row(connection, inbox.delete_these(), **chosen)
        if not counted["touched"]:
            raise _missing()
        head = await _advance(connection, head, inbox.bulk_delta("delete", counted))
    frame = deleted(head.cursor, head.counters, [str(wanted)], DeletedReason.USER)
    await publisher.publish(who.tenant, who.recipient, frame)
    return {"id": str(wanted), "deleted": True, **head.as_json()}


#: The frame of each bulk change, and the time that it carries.
_BULK_FRAMES = {
    "read": (Change.READ_ALL, "readAt"),
    "seen": (Change.SEEN_ALL, "seenAt"),
    "delete": (Change.DELETED_READ, "deletedAt"),
}


async def change_many(who: Subscriber, publisher: Publisher, kind: Bulk, up_to: str | None) -> Answer:
    """Change all that the inbox shows, that `kind` applies to, and that was created up to `up_to` (None: all).

    One change whatever it touches, none when it touches nothing. Raises `InvalidInput` for no cursor, and `Conflict`
    for one of an earlier numbering.
    """
    bound = None if up_to is None else require_cursor(up_to, "upTo")
    frame = None
    async with inbox_transaction(who) as connection:
        locked = await _lock(connection, who)
        if locked is None:
            return {"changed": 0, **(await _head(connection, who)).as_json()}
        head, now = locked
        if bound is not None and bound.epoch != head.cursor.epoch:
            raise Conflict("The cursor is of an earlier numbering: fetch the page again.")
        seq = head.cursor.seq if bound is None else min(bound.seq, head.cursor.seq)
        chosen = {"key": head.key, "up_to": seq, "seq": head.cursor.seq + 1, "now": now}
        counted = await _one_row(connection, inbox.change_many(kind), **chosen)
        if counted["touched"]:
            head = await _advance(connection, head, inbox.bulk_delta(kind, counted))
            change, time = _BULK_FRAMES[kind]
            told = {"upTo": str(Cursor(head.cursor.epoch, seq)), time: now}
            frame = live(change, head.cursor, head.counters, **told)
    if frame is not None:
        await publisher.publish(who.tenant, who.recipient, frame)
    return {"changed": counted["touched"], **head.as_json()}
