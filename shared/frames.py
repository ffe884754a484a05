"""The one encoder of Server-Sent Events frames, and the JSON of a notification and of its changes.

A live frame is encoded once, by whoever made the change, and relayed as bytes: the edge reads its `id` alone.
A fan-out's `created` frame begins with what is personal, so that the rest is encoded once for all its recipients.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import quote

import orjson

from shared.catalog import catalog
from shared.cursor import Cursor
from shared.logs import log
from shared.metrics import UNTELLABLE

#: A row as SQLAlchemy gives it, or any mapping with the same names.
Row = Mapping[Any, Any]

PRIORITIES = ("LOW", "NORMAL", "HIGH", "URGENT")


class FrameEvent(StrEnum):
    """The `event` field of a frame; browsers dispatch on it."""

    CONNECTED = "connected"
    NOTIFICATION = "notification"
    SNAPSHOT = "snapshot"
    SYNCED = "synced"
    RESET = "reset"
    HEARTBEAT = "heartbeat"
    GOODBYE = "goodbye"


class Change(StrEnum):
    """The kinds of change of an inbox (`type` in a frame's data)."""

    CREATED = "created"
    UPDATED = "updated"
    READ = "read"
    UNREAD = "unread"
    SEEN = "seen"
    SEEN_ALL = "seen_all"
    READ_ALL = "read_all"
    ARCHIVED = "archived"
    UNARCHIVED = "unarchived"
    DELETED = "deleted"
    DELETED_READ = "deleted_read"
    CHANGED = "changed"


class DeletedReason(StrEnum):
    """Why notifications were deleted."""

    USER = "user"
    EXPIRED = "expired"
    CAPPED = "capped"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class Counters:
    """An inbox's counters as of one seq. Archived and deleted notifications are in none of them."""

    unread: int
    unseen: int
    total: int

    def as_json(self) -> dict[str, int]:
        """Return the two counters that every frame and answer carries."""
        return {"unreadCount": self.unread, "unseenCount": self.unseen}


def dumps(value: Any) -> bytes:
    """Return `value` as one line of UTF-8 JSON, times as RFC 3339 in UTC."""
    return orjson.dumps(value, option=orjson.OPT_UTC_Z)


def encode(
    event: FrameEvent, data: Mapping[str, Any], cursor: Cursor | None = None, retry_ms: int | None = None
) -> bytes:
    """Return one frame. Its data is one line, so nothing in it can end the frame or begin another field."""
    head = b"" if cursor is None else b"id: %d-%d\n" % cursor
    retry = b"" if retry_ms is None else b"retry: %d\n" % retry_ms
    return b"%s%sevent: %s\ndata: %s\n\n" % (retry, head, event.value.encode(), dumps(data))


_SEQ = re.compile(rb"id: ([0-9]+)-([0-9]+)\n")


def cursor_of(frame: bytes) -> Cursor | None:
    """Return the cursor of an encoded frame with an id; None for any other bytes."""
    match = _SEQ.match(frame)
    return Cursor(int(match[1]), int(match[2])) if match else None


def inbox_name(tenant: str, recipient: str) -> str:
    """Return the name of one inbox. Clients compare it: another one means that another person has signed in."""
    return f"{quote(tenant, safe='')}/{quote(recipient, safe='')}"


def channel_of(tenant: str, recipient: str) -> str:
    """Return the Redis channel of one inbox; the braces keep it on one shard of a cluster."""
    return f"carillon:{{{inbox_name(tenant, recipient)}}}"


def category_of(type: str) -> str:
    """Return the category of an event type; `unknown` for one that the catalog does not have (any more)."""
    event_type = catalog().get(type)
    return event_type.category if event_type else "unknown"


def notification_json(row: Row) -> dict[str, Any]:
    """Return a row of `notifications` as the contract's notification."""
    event_type = catalog().get(row["type"])
    return {
        "id": str(row["id"]),
        "createdSeq": row["created_seq"],
        "seq": row["seq"],
        "tenant": row["tenant"],
        "type": event_type.notification_type if event_type else row["type"].upper().replace(".", "_"),
        "category": category_of(row["type"]),
        "title": row["title"],
        "message": row["message"],
        "priority": PRIORITIES[row["priority"]],
        "metadata": row["metadata"],
        "actionUrl": row["action_url"],
        "read": row["read_at"] is not None,
        "readAt": row["read_at"],
        "seenAt": row["seen_at"],
        "archivedAt": row["archived_at"],
        "createdAt": row["created_at"],
        "expiresAt": row["expires_at"],
    }


def notifications_json(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return rows as the contract's notifications.

    A row that cannot be told, written into the table by somebody else's hand, is left out, counted and logged: it
    costs its own notification, never the page or the stream around it.
    """
    told = []
    for row in rows:
        try:
            notification = notification_json(row)
            _require_writable(notification["metadata"])
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            UNTELLABLE.add()
            log().error("notification.untellable", id=str(row["id"]), reason=type(error).__name__)
        else:
            told.append(notification)
    return told


def _require_writable(metadata: dict[str, Any]) -> None:
    """Raise TypeError for metadata that JSON cannot be written of: what is nested over 254 levels deep (orjson)."""
    if any(isinstance(value, (dict, list)) for value in metadata.values()):
        dumps(metadata)


def live(change: Change, cursor: Cursor, counters: Counters, **fields: Any) -> bytes:
    """Return the live frame of the change that took `cursor.seq`: it follows the seq before it."""
    data = {"prev": cursor.seq - 1, "type": change.value, **fields, **counters.as_json()}
    return encode(FrameEvent.NOTIFICATION, data, cursor)


def deleted(cursor: Cursor, counters: Counters, ids: Sequence[str], reason: DeletedReason) -> bytes:
    """Return the live frame of a deletion: `notificationIds`, and `notificationId` too where it is one."""
    one = {"notificationId": ids[0]} if len(ids) == 1 else {}
    return live(Change.DELETED, cursor, counters, reason=reason.value, notificationIds=list(ids), **one)


def updated(cursor: Cursor, counters: Counters, row: Row) -> bytes:
    """Return the live frame of a notification that says something else now, told whole with its marks as they are."""
    return live(Change.UPDATED, cursor, counters, notification=notification_json(row))


#: What of a `created` frame differs between the recipients of one text, in the order of `notification_json`.
PERSONAL = ("id", "createdSeq", "seq", "tenant")


def shared_rest(row: Row) -> bytes:
    """Return the end of a `created` frame that all recipients of the same text share, up to the frame's end."""
    told = notification_json({**row, "id": "", "created_seq": 0, "seq": 0, "tenant": ""})
    rest = dumps({name: value for name, value in told.items() if name not in PERSONAL})
    return b"," + rest[1:] + b"}\n\n"


def created(cursor: Cursor, id: str, tenant: bytes, counters: Counters, rest: bytes) -> bytes:
    """Return a `created` frame: the personal fields, then `rest` of `shared_rest`.

    `tenant` is the recipient's tenant as JSON (with its quotes). `id` is the notification's UUID as text.
    """
    line = (b"", b"%d" % cursor.seq, id.encode(), b"%d" % counters.unread, b"%d" % counters.unseen)
    return created_by(b"%d" % cursor.epoch, line, tenant, rest)


def created_by(epoch: bytes, line: Sequence[bytes], tenant: bytes, rest: bytes) -> bytes:
    """As `created`, of a recipient's words in a chunk's message: inbox key, seq, id, unread, unseen.

    Raises `ValueError` for a `seq` that is none. (0.6 µs; numbers written as numbers made it 2.4.)
    """
    _, seq, id, unread, unseen = line
    return b"".join(
        (
            b"id: ", epoch, b"-", seq, b'\nevent: notification\ndata: {"prev":', b"%d" % (int(seq) - 1),
            b',"type":"created","unreadCount":', unread, b',"unseenCount":', unseen, b',"notification":{"id":"', id,
            b'","createdSeq":', seq, b',"seq":', seq, b',"tenant":', tenant, rest,
        )
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Replay:
    """The compacted way from a cursor to `head`: `steps` are (seq, data) pairs, ascending, chained by `prev`.

    `reset` true: the way can no longer be told whole and `steps` is empty.
    """

    start: Cursor
    head: Cursor
    counters: Counters
    steps: tuple[tuple[int, dict[str, Any]], ...] = ()
    reset: bool = False

    @property
    def last_seq(self) -> int:
        """The seq of the last step, the start's where there is none."""
        return self.steps[-1][0] if self.steps else self.start.seq

    def encode(self) -> bytes:
        """Return the frames: each step, then `synced`; or `reset` alone."""
        if self.reset:
            return encode(FrameEvent.RESET, {"head": str(self.head), **self.counters.as_json()}, self.head)
        steps = [encode(FrameEvent.NOTIFICATION, data, Cursor(self.head.epoch, seq)) for seq, data in self.steps]
        end = {"prev": self.last_seq, "cursor": str(self.head), **self.counters.as_json()}
        return b"".join([*steps, encode(FrameEvent.SYNCED, end, self.head)])


def compact(start: int, rows: Sequence[Row]) -> tuple[tuple[int, dict[str, Any]], ...]:
    """Return changed rows (ascending by seq) as steps after `start`, all rows of one seq in one step."""
    steps: list[tuple[int, dict[str, Any]]] = []
    for row in rows:
        if not steps or steps[-1][0] != row["seq"]:
            prev = steps[-1][0] if steps else start
            step: dict[str, Any] = {"prev": prev, "type": Change.CHANGED.value, "notifications": [], "deletedIds": []}
            steps.append((row["seq"], step))
        if row["deleted_at"] is None:
            steps[-1][1]["notifications"] += notifications_json([row])
        else:
            steps[-1][1]["deletedIds"].append(str(row["id"]))
    return tuple(steps)
