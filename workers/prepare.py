"""From a claimed event to what a fan-out needs of it: its type, targets and texts, or the reason why it cannot be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection

from shared import cloudevent, db, templates
from shared.audience import Sought, sought
from shared.catalog import PLATFORM, Audience, EventType, catalog, targets
from shared.errors import CarillonError, InvalidInput
from shared.events import hash_of
from shared.frames import PRIORITIES, shared_rest
from shared.notification_id import time_prefix
from shared.templates import Rendered

Row = Mapping[Any, Any]
#: `carillon_publish` stores these as they came; the catalog and the envelope's rules are applied here.
_ENVELOPE = ("source", "id", "type", "tenant", "subject", "time", "dataschema", "traceparent", "data")


@dataclass(frozen=True, slots=True)
class Text:
    """One text of an event, ready to be stored, and the end of the frames that tell it."""

    rendered: Rendered
    rest: bytes

    @property
    def size(self) -> int:
        """How many bytes a row of it has, about."""
        return len(self.rest)


@dataclass(slots=True)
class Prepared:
    """An event that can be fanned out. Its texts are rendered when somebody is to get them, the shared ones once."""

    key: int
    place: int
    tenant: str
    event_type: EventType
    data: dict[str, Any]
    targets: list[Sought]
    content_hash: bytes
    registers: bool
    derived: bool
    attempts: int
    prefix: str
    accepted_at: datetime
    traceparent: str | None
    now: datetime
    expires_at: datetime | None
    priority: int
    metadata: dict[str, Any]
    metadata_json: str
    _texts: dict[int, Text] = field(default_factory=dict)

    def text_for(self, place: int, recipient: Row) -> Text:
        """Return the text of the target at `place` for a recipient (id, locale, attributes). Raises `InvalidInput`."""
        target = self.targets[place]
        audience = target.target.audience
        if target.personal:
            told = {name: recipient[name] for name in ("id", "locale", "attributes")}
            return self._render(audience, told)
        return self.shared_text(place)

    def shared_text(self, place: int) -> Text:
        """Return the text that everybody gets whom the target at `place` reaches. Raises `InvalidInput`."""
        audience = self.targets[place].target.audience
        if audience.position not in self._texts:
            self._texts[audience.position] = self._render(audience, None)
        return self._texts[audience.position]

    def _render(self, audience: Audience, recipient: dict[str, Any] | None) -> Text:
        rendered = templates.render(self.event_type, audience, self.data, tenant=self.tenant, recipient=recipient)
        row = {
            "type": self.event_type.name,
            "priority": self.priority,
            "title": rendered.title,
            "message": rendered.message,
            "action_url": rendered.action_url,
            "metadata": self.metadata,
            "created_at": self.now,
            "expires_at": self.expires_at,
            "seen_at": None,
            "read_at": None,
            "archived_at": None,
        }
        return Text(rendered, shared_rest(row))


def prepare(row: Row, place: int = 0) -> Prepared:
    """Return the claimed event, at that place of its batch. Raises `InvalidInput`, whose words `reason_of` tells.

    An event that came through SQL is checked here for the first time, by the rules of the door.
    """
    if row["content_hash"] is None:
        cloudevent.read({"specversion": "1.0", **{name: row[name] for name in _ENVELOPE}})
    event_type = catalog().get(row["type"])
    if event_type is None:
        raise InvalidInput("The event type is not in the catalog.")
    # What is of no use any more is told to nobody.
    over = row["expires_at"] is not None and row["expires_at"] <= row["now"]
    found = targets(event_type, row["tenant"], row["data"]) if event_type.shown and not over else ()
    metadata = event_type.metadata_of(row["data"])
    return Prepared(
        key=row["key"],
        place=place,
        tenant=row["tenant"],
        event_type=event_type,
        data=row["data"],
        targets=sought(place, row["tenant"], row["data"], found),
        content_hash=row["content_hash"] or hash_of(row),
        registers=row["registers"],
        derived=row["derived"],
        attempts=row["attempts"],
        prefix=time_prefix(row["accepted_at"]),
        accepted_at=row["accepted_at"],
        traceparent=row.get("traceparent"),
        now=row["now"],
        expires_at=_end_of(event_type, row),
        priority=PRIORITIES.index(event_type.priority),
        metadata=metadata,
        metadata_json=orjson.dumps(metadata).decode(),
    )


def _end_of(event_type: EventType, row: Row) -> datetime | None:
    """Return when the event's notifications expire: by the type's time to live or the event's own word, the earlier."""
    lives = event_type.time_to_live
    ends = [None if lives is None else row["now"] + lives, row["expires_at"]]
    return min((end for end in ends if end is not None), default=None)


def see_targets(connection: Connection, events: Iterable[Prepared]) -> None:
    """Let the transaction that claimed these events see the rows of everybody whom they reach.

    Nothing is asked of the database unless that is more than the claim saw to: an announcement to all tenants, say.
    """
    listed = list(events)
    seen = {PLATFORM, *(event.tenant for event in listed)}
    reached = {target.target.tenant for event in listed for target in event.targets}
    if not reached <= seen:
        named = {tenant for tenant in reached if tenant is not None}
        db.set_tenants(connection, [db.EVERY_TENANT] if None in reached else sorted(seen | named))


def reason_of(error: CarillonError) -> str:
    """Return why an event is refused, with every field that is wrong; quotes no value of the event's."""
    return " ".join([error.detail, *(f"{fault.field} {fault.message}." for fault in error.errors if fault.field)])
