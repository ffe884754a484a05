"""An event as a CloudEvents 1.0 envelope."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import uuid4


@dataclass(frozen=True, slots=True)
class Event:
    """A fact of yours. The same `id` (within tenant and source) is the same event, however often it is sent."""

    type: str
    tenant: str
    source: str
    data: Mapping[str, Any]
    id: str = field(default_factory=lambda: str(uuid4()))
    subject: str | None = None
    time: datetime | str | None = None
    dataschema: str | None = None
    traceparent: str | None = None
    #: From when on the event is of no use: what it made expires then.
    expirytime: datetime | str | None = None

    def envelope(self) -> dict[str, Any]:
        """Return the CloudEvent. Raises ValueError for a time without a time zone."""
        attributes = {
            "id": self.id,
            "source": self.source,
            "type": self.type,
            "tenant": self.tenant,
            "subject": self.subject,
            "time": _text(self.time),
            "dataschema": self.dataschema,
            "traceparent": self.traceparent,
            "expirytime": _text(self.expirytime),
        }
        told = {name: value for name, value in attributes.items() if value is not None}
        return {"specversion": "1.0", **told, "data": dict(self.data)}


def _text(time: datetime | str | None) -> str | None:
    if not isinstance(time, datetime):
        return time
    if time.tzinfo is None:
        raise ValueError("An event's time needs a time zone.")
    return time.isoformat()


def envelope_of(event: Event | Mapping[str, Any]) -> dict[str, Any]:
    """Return the envelope of an `Event`, or of one that you made yourself."""
    return event.envelope() if isinstance(event, Event) else dict(event)
