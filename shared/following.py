"""By what log lines of all parts are found again: an event's `trace_id`, a request's `request_id`.

Nothing is stored or sent for the first: each part works it out of what it has of the event anyway. The steps of an
event (accepted, fanned out, published, pushed) are logged where its producer samples its trace, and with
`CARILLON_LOG_EVENTS` of every event; what goes wrong is logged always. docs/operations.md tells how to follow one.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from shared import traces
from shared.logs import log
from shared.settings import settings

if TYPE_CHECKING:
    from shared.cloudevent import Event

#: W3C Trace Context, version 00: version, trace id, the span's id, flags.
TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-([0-9a-f]{2})")
#: As long as a W3C trace id.
_TRACE_ID_DIGITS = 32
_TRACE_ID = re.compile(rf"[0-9a-f]{{{_TRACE_ID_DIGITS}}}")
_SAMPLED = 1
#: What proxies and frameworks make: UUIDs, hex, base64, `host/7f3a-000012`. No blank, quote or control character.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._~+/=:-]{1,64}")
#: The header of a task that is about one event.
TRACE_HEADER = "carillon-trace-id"
#: By which a producer names its request, over HTTP (in any case) and over Celery.
REQUEST_HEADER = "x-request-id"
#: The control message that tells the edges of a followed event.
FOLLOW_ORDER = "follow"


def request_id(given: object, otherwise: str | None = None) -> str:
    """Return the sender's own id where it is well-formed and short: up to 64 of letters, digits and `._~+/=:-`.

    Else `otherwise`, or a new one.
    """
    if isinstance(given, str) and _REQUEST_ID.fullmatch(given):
        return given
    return otherwise or secrets.token_hex(16)


def trace_id_of(tenant: str, source: str, id: str, traceparent: str | None = None) -> str:
    """Return an event's trace id: of its `traceparent`, else the first half of the SHA-256 of its name, in hex digits.

    The name is tenant, source and id with a NUL between two. A `traceparent` that is none (as `carillon_publish` takes
    it, unseen) does not count.
    """
    if traceparent is not None and (found := TRACEPARENT.fullmatch(traceparent)):
        return found[1]
    return hashlib.sha256("\0".join((tenant, source, id)).encode(errors="surrogatepass")).hexdigest()[:_TRACE_ID_DIGITS]


def trace_of(row: Mapping[Any, Any]) -> str:
    """Return the trace id of a row of `events`: tenant, source, id, and `traceparent` where it was selected."""
    return trace_id_of(row["tenant"], row["source"], row["id"], row.get("traceparent"))


def told_trace(headers: Mapping[str, Any]) -> dict[str, str]:
    """Return the trace id that a task's message carries, as a field of log lines; none for what is no such id."""
    given = headers.get(TRACE_HEADER)
    return {"trace_id": given} if isinstance(given, str) and _TRACE_ID.fullmatch(given) else {}


def is_sampled(traceparent: str | None) -> bool:
    """Return whether the producer samples the event's trace (the last flag of W3C Trace Context)."""
    return traceparent is not None and bool(
        (found := TRACEPARENT.fullmatch(traceparent)) and int(found[2], 16) & _SAMPLED
    )


def is_followed(traceparent: str | None) -> bool:
    """Return whether the event's steps are logged."""
    return settings().log_events or is_sampled(traceparent)


def note_accepted(events: Sequence[Event], statuses: Sequence[str], began: float) -> None:
    """Tell of events that a posting, begun at that Unix time, made durable, or that were there already.

    A line for each that is followed, a span for each that is traced. Call it after the commit.
    """
    for event, status in zip(events, statuses, strict=True):
        if is_followed(event.traceparent):
            trace_id = trace_id_of(*event.key, event.traceparent)
            names = {name: getattr(event, name) for name in ("tenant", "source", "id", "type")}
            log().info("event.accepted", trace_id=trace_id, status=status, **names)
        traces.tell("carillon.accept", event.traceparent, began, time.time(), id=event.id, type=event.type)


@dataclass(frozen=True, slots=True)
class Followed:
    """An event that is followed, from its fan-out on: `keys` are the inboxes of `database` that have its frames."""

    trace_id: str
    traceparent: str | None
    event_key: int
    type: str
    database: str
    keys: Sequence[int]

    def note(self, step: str, **ids: str | int) -> None:
        """Log a step of it."""
        log().info(step, trace_id=self.trace_id, event_key=self.event_key, type=self.type, **ids)

    def as_order(self, committed_at: float) -> bytes:
        """Return the control message that tells the edges of it, to be published behind its frames."""
        told = {
            "traceId": self.trace_id,
            "traceparent": self.traceparent,
            "eventKey": self.event_key,
            "type": self.type,
            "committedAt": committed_at,
            "database": self.database,
            "keys": list(self.keys),
        }
        return orjson.dumps({FOLLOW_ORDER: told})
