"""Telling notifications anew: each that still exists gets its event's present text, and whoever has it hears so."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from shared import fan_out, updates
from shared.cursor import Cursor
from shared.frames import Counters, channel_of, updated
from shared.notification_id import notification_id
from workers.prepare import Prepared, Row, Text
from workers.publish import Message

#: A notification's id → its event and its present text.
Texts = dict[str, tuple[Prepared, Text]]


def texts_of(event: Prepared, audience: dict[int, tuple[int, Row]]) -> Texts:
    """Return what the event's notifications should say now. Raises `InvalidInput`."""
    return {
        str(notification_id(event.prefix, event.key, key)): (event, event.text_for(place, row))
        for key, (place, row) in audience.items()
    }


def update(connection: Connection, texts: Texts) -> list[Message]:
    """Write these texts into those of the notifications that exist, and return the frames that tell it.

    Each one that says something else than before is one change of its inbox: it keeps its place, its marks and its
    times, and the counters stay. What is deleted stays deleted; who lost the notification's audience since is not
    among the texts. The caller has locked the events and publishes after the commit.
    """
    found = connection.execute(updates.find(), {"ids": list(texts)}).all()
    if not found:
        return []
    keys = sorted({row.key for row in found})
    locked = connection.execute(fan_out.lock_inboxes(), {"keys": keys}).mappings()
    inboxes = {row["key"]: dict(row) for row in locked}
    rows = connection.execute(updates.read(), {"ids": [row.id for row in found]}).mappings().all()
    return _Rewriting(inboxes, texts).run(connection, rows)


class _Rewriting:
    def __init__(self, inboxes: dict[int, dict[str, Any]], texts: Texts) -> None:
        self._inboxes, self._texts = inboxes, texts
        self._columns: dict[str, list[Any]] = defaultdict(list)
        self._moved: set[int] = set()
        self._messages: list[Message] = []

    def run(self, connection: Connection, rows: Sequence[Row]) -> list[Message]:
        for row in rows:
            if row["key"] in self._inboxes:
                self._rewrite(row)
        if self._messages:
            moved = sorted(self._moved)
            inboxes = {"inbox_key": moved, "inbox_seq": [self._inboxes[key]["seq"] for key in moved]}
            connection.execute(updates.write(), {**self._columns, **inboxes})
        return self._messages

    def _rewrite(self, row: Row) -> None:
        event, text = self._texts[str(row["id"])]
        rendered = text.rendered
        told = {"title": rendered.title, "message": rendered.message, "action_url": rendered.action_url}
        if all(row[name] == value for name, value in {**told, "metadata": event.metadata}.items()):
            return
        inbox = self._inboxes[row["key"]]
        inbox["seq"] += 1
        self._moved.add(row["key"])
        stored = {"id": row["id"], "seq": inbox["seq"], **told, "metadata": event.metadata_json}
        for name, value in stored.items():
            self._columns[name].append(value)
        now = {**row, **told, "metadata": event.metadata, "seq": inbox["seq"]}
        cursor, counters = Cursor(inbox["epoch"], inbox["seq"]), Counters(inbox["unread"], inbox["unseen"], 0)
        self._messages.append((channel_of(inbox["tenant"], inbox["recipient"]), updated(cursor, counters, now)))
