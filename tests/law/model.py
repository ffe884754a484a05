"""A client's copy of an inbox: pages, and what streams and `/changes` tell after them, applied by the rule.

Nothing here knows the server: it is `docs/protocol.md`, section 2, as a client has to read it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from shared.cursor import Cursor, require_cursor

Notification = Mapping[str, Any]


def cursor_of(text: str) -> Cursor:
    """Return the cursor that an answer or a frame carries."""
    return require_cursor(text, "cursor")


@dataclass(frozen=True, slots=True)
class Copy:
    """An inbox as a client has it: every notification, the archive included, the counters, and the mark.

    Immutable: applying a frame gives the copy after it.
    """

    mark: Cursor
    rows: Mapping[str, Notification]
    unread: int
    unseen: int

    def counted(self) -> tuple[int, int]:
        """Return how many rows are unread and unseen; archived ones are neither."""
        shown = [row for row in self.rows.values() if row["archivedAt"] is None]
        return sum(not row["read"] for row in shown), sum(row["seenAt"] is None for row in shown)

    def newest_first(self) -> list[Notification]:
        """Return the rows in the order of a page."""
        return sorted(self.rows.values(), key=lambda row: -row["createdSeq"])

    def shown(self) -> list[Notification]:
        """Return what a page shows: all but the archive."""
        return [row for row in self.newest_first() if row["archivedAt"] is None]

    def follows(self, frame: Mapping[str, Any], seq: int) -> bool | None:
        """Tell by the rule what to do with a frame: True apply it, False drop it, None read the changes."""
        if frame["prev"] == self.mark.seq:
            return True
        return False if seq <= self.mark.seq else None

    def after(self, frame: Mapping[str, Any], seq: int) -> Copy:
        """Return the copy after a frame that follows it. A live frame carries the counters, a step of a replay none."""
        rows = _APPLIED[frame["type"]](self.rows, frame, seq)
        unread, unseen = frame.get("unreadCount", self.unread), frame.get("unseenCount", self.unseen)
        return Copy(Cursor(self.mark.epoch, seq), rows, unread, unseen)

    def synced(self, told: Mapping[str, Any]) -> Copy:
        """Return the copy at the end of a replay: `told` carries the cursor and the counters."""
        return Copy(cursor_of(told["cursor"]), self.rows, told["unreadCount"], told["unseenCount"])

    def replayed(self, told: Mapping[str, Any]) -> Copy:
        """Return the copy after an answer of `/changes` since its mark."""
        copy = self
        for step in told["changes"]:
            copy = copy.after(step, cursor_of(step["id"]).seq)
        return copy.synced(told)


Rows = Mapping[str, Notification]


def _whole(rows: Rows, frame: Mapping[str, Any], seq: int) -> Rows:
    told = frame["notification"]
    assert told["seq"] == seq, "a notification that changed has the seq of its change"
    return {**rows, told["id"]: told}


def _created(rows: Rows, frame: Mapping[str, Any], seq: int) -> Rows:
    assert frame["notification"]["id"] not in rows, "a notification was created twice"
    return _whole(rows, frame, seq)


def _marked(rows: Rows, frame: Mapping[str, Any], seq: int) -> Rows:
    marks = {name: frame[name] for name in ("readAt", "seenAt", "archivedAt")}
    row = rows[frame["notificationId"]]
    return {**rows, row["id"]: {**row, **marks, "read": marks["readAt"] is not None, "seq": seq}}


def _unarchived(rows: Rows, frame: Mapping[str, Any], seq: int) -> Rows:
    whole, marked = _whole(rows, frame, seq), _marked(rows, frame, seq)
    assert whole == marked, "the notification and the marks of one frame differ"
    return whole


def _each(
    rows: Rows, frame: Mapping[str, Any], concerned: Callable[[Notification], bool], then: Mapping[str, Any] | None
) -> Rows:
    """Give what the inbox shows, created up to `upTo` and concerned, these fields; None: take it away."""
    up_to = cursor_of(frame["upTo"]).seq
    chosen = {
        id: row
        for id, row in rows.items()
        if row["archivedAt"] is None and row["createdSeq"] <= up_to and concerned(row)
    }
    assert chosen, "a change touches something"
    if then is None:
        return {id: row for id, row in rows.items() if id not in chosen}
    return {**rows, **{id: {**row, **then, "seenAt": row["seenAt"] or then["seenAt"]} for id, row in chosen.items()}}


def _read_all(rows: Rows, frame: Mapping[str, Any], seq: int) -> Rows:
    then = {"read": True, "readAt": frame["readAt"], "seenAt": frame["readAt"], "seq": seq}
    return _each(rows, frame, lambda row: not row["read"], then)


def _seen_all(rows: Rows, frame: Mapping[str, Any], seq: int) -> Rows:
    return _each(rows, frame, lambda row: row["seenAt"] is None, {"seenAt": frame["seenAt"], "seq": seq})


def _deleted_read(rows: Rows, frame: Mapping[str, Any], _seq: int) -> Rows:
    return _each(rows, frame, lambda row: row["read"], None)


def _without(rows: Rows, ids: Iterable[str]) -> Rows:
    gone = set(ids)
    return {id: row for id, row in rows.items() if id not in gone}


def _deleted(rows: Rows, frame: Mapping[str, Any], _seq: int) -> Rows:
    ids = frame["notificationIds"]
    assert ids, "a change touches something"
    assert set(ids) <= set(rows), "what is deleted was there"
    assert frame.get("notificationId") == (ids[0] if len(ids) == 1 else None)
    return _without(rows, ids)


def _changed(rows: Rows, frame: Mapping[str, Any], seq: int) -> Rows:
    assert {row["seq"] for row in frame["notifications"]} <= {seq}, "all rows of a step have its seq"
    assert frame["notifications"] or frame["deletedIds"], "a step tells something"
    return {**_without(rows, frame["deletedIds"]), **{row["id"]: row for row in frame["notifications"]}}


_APPLIED: Mapping[str, Callable[[Rows, Mapping[str, Any], int], Rows]] = {
    "created": _created,
    "updated": _whole,
    "unarchived": _unarchived,
    "read": _marked,
    "unread": _marked,
    "seen": _marked,
    "archived": _marked,
    "read_all": _read_all,
    "seen_all": _seen_all,
    "deleted_read": _deleted_read,
    "deleted": _deleted,
    "changed": _changed,
}


def assert_same(told: Copy, fresh: Copy, how: str) -> None:
    """Fail, naming what differs, unless the two copies are the same field by field."""
    if told == fresh:
        return
    differing = {
        id: (told.rows.get(id), fresh.rows.get(id))
        for id in {**told.rows, **fresh.rows}
        if told.rows.get(id) != fresh.rows.get(id)
    }
    heads = [(str(copy.mark), copy.unread, copy.unseen) for copy in (told, fresh)]
    raise AssertionError(f"{how} is not a page fetched fresh: {heads[0]} for {heads[1]}; rows: {differing}")
