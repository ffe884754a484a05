"""The calls, told as generators of requests: written once, sent by `Client` and by `AsyncClient` alike.

A call yields a request, is sent the answer's JSON (None where there is none) or thrown `Refused`, and returns its
result.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, TypeVar
from urllib.parse import quote

from carillon_client.errors import Refused
from carillon_client.event import Event, envelope_of

T = TypeVar("T")
Status = Literal["accepted", "duplicate"]
AnyEvent = Event | Mapping[str, Any]
Found = dict[str, Any]

#: The server's bound for one batch, and the rows that it stores in one transaction.
BATCH = 1_000
_JSON = "application/json"
_STRUCTURED = "application/cloudevents+json"
_BATCHED = "application/cloudevents-batch+json"
_NDJSON = "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class Request:
    """One request, which may be sent as often as it takes: every call of Carillon's may be repeated."""

    method: str
    path: str
    content: bytes | None = None
    kind: str = _JSON
    query: Mapping[str, str] = field(default_factory=dict)


Call = Generator[Request, Any, T]


def _path(*names: str) -> str:
    return "/api/" + "/".join(quote(name, safe="") for name in names)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _pieces(items: Iterable[T], size: int) -> Iterator[list[T]]:
    left = iter(items)
    while piece := list(islice(left, size)):
        yield piece


def publish(event: AnyEvent) -> Call[Status]:
    """Post one event."""
    told = yield Request("POST", "/api/events", _json(envelope_of(event)), _STRUCTURED)
    status: Status = told["events"][0]["status"]
    return status


def publish_many(events: Iterable[AnyEvent]) -> Call[list[Status]]:
    """Post any number of events, a thousand at a time."""
    statuses: list[Status] = []
    for piece in _pieces(events, BATCH):
        try:
            told = yield Request("POST", "/api/events", _json([envelope_of(event) for event in piece]), _BATCHED)
        except Refused as refused:
            raise _moved(refused, len(statuses)) from None
        statuses += [event["status"] for event in told["events"]]
    return statuses


def _moved(refused: Refused, by: int) -> Refused:
    """Return the refusal of a later piece with its indexes counted from the first event of all."""
    errors = [{**error, "index": error["index"] + by} if "index" in error else error for error in refused.errors]
    return Refused(refused.status, {**refused.problem, "errors": errors} if errors else refused.problem)


def event(method: str, tenant: str, source: str, id: str) -> Call[Found]:
    """Ask how far an event is (GET), or cancel it (DELETE)."""
    found: Found = yield Request(method, _path("events", id), query={"tenant": tenant, "source": source})
    return found


def put_tenant(tenant: str) -> Call[None]:
    """Make a tenant."""
    yield Request("PUT", _path("tenants", tenant))


def put_recipient(tenant: str, id: str, body: Mapping[str, Any]) -> Call[Found]:
    """Register a recipient."""
    found: Found = yield Request("PUT", _path("recipients", tenant, id), _json(body))
    return found


def get_recipient(tenant: str, id: str) -> Call[Found | None]:
    """Ask for a recipient; None for an unknown one."""
    return (yield from _unless_unknown(Request("GET", _path("recipients", tenant, id))))


def delete_recipient(tenant: str, id: str) -> Call[bool]:
    """Remove a person's data; False for an unknown one."""
    return (yield from _unless_unknown(Request("DELETE", _path("recipients", tenant, id)), {})) is not None


def _unless_unknown(request: Request, nothing: Found | None = None) -> Call[Found | None]:
    try:
        found: Found | None = yield request
    except Refused as refused:
        if refused.status == 404:
            return None
        raise
    return nothing if found is None else found


def member(method: str, tenant: str, topic: str, recipient: str) -> Call[None]:
    """Begin (PUT) or end (DELETE) a membership."""
    yield Request(method, _path("topics", tenant, topic, "members", recipient))


def import_rows(what: str, rows: Iterable[Mapping[str, Any]], counts: tuple[str, ...]) -> Call[Found]:
    """Send rows, a thousand at a time, and sum up what became of them."""
    totals: Found = dict.fromkeys(counts, 0)
    errors: list[Found] = []
    sent = 0
    for piece in _pieces(rows, BATCH):
        lines = b"\n".join(_json(dict(row)) for row in piece)
        told = yield Request("POST", _path(what, "bulk"), lines, _NDJSON)
        totals = {name: totals[name] + told[name] for name in counts}
        errors += [{**error, "line": error["line"] + sent} for error in told["errors"]]
        sent += len(piece)
    return {**totals, "errors": errors}
