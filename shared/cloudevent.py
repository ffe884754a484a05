"""A CloudEvents 1.0 envelope, judged field by field and turned into the event that is stored.

`null` is the same as absent (CloudEvents JSON format, section 3.1). Extension attributes may come along, but `tenant`,
`traceparent` and `expirytime` (CloudEvents' extension of that name) alone are kept. Times are kept as they were sent,
since that text is part of what makes two events the same, and beside it as a point in time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.catalog import EventType, catalog, targets
from shared.errors import FieldError, InvalidInput
from shared.following import TRACEPARENT
from shared.strict_json import faults, shown

SPECVERSION = "1.0"
#: Characters: these stand in keys, channel names and log lines.
MAX_ID = 200
#: Characters: a subject may be a path.
MAX_SUBJECT = 500
MAX_DATASCHEMA = 500
#: The events that Carillon itself makes of failed logins: nobody else may take their ids before them.
RESERVED_SOURCE = "/carillon/failed-logins"
#: CloudEvents 1.0, section "naming conventions", recommends at most 20 characters.
_ATTRIBUTE = re.compile(r"[a-z0-9]{1,20}")
_PCHAR = r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})"
_NAME = r"(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})"
_AUTHORITY = rf"(?:(?:{_NAME}|:)*@)?(?:\[[0-9A-Za-z:.]+\]|{_NAME}*)(?::[0-9]*)?"
_SCHEME = r"[A-Za-z][A-Za-z0-9+.\-]*:"
_HIERARCHY = (
    rf"(?://{_AUTHORITY}(?:/{_PCHAR}*)*|(?!//)(?:{_PCHAR}|/)*)(?:\?(?:{_PCHAR}|[/?])*)?(?:#(?:{_PCHAR}|[/?])*)?"
)
#: RFC 3986: with a scheme, or relative without a colon in its first segment.
_URI = re.compile(_SCHEME + _HIERARCHY)
_URI_REFERENCE = re.compile(rf"(?:{_SCHEME}|(?![^/?#]*:)){_HIERARCHY}")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_JSON = re.compile(r"application/(json|[a-z0-9.!#$&^_+-]+\+json)(\s*;.*)?", re.IGNORECASE)
_KNOWN = frozenset(
    {"specversion", "id", "source", "type", "tenant", "subject", "time", "dataschema", "datacontenttype", "data"}
)


@dataclass(frozen=True, slots=True)
class Event:
    """A valid event. `time` is the text that was sent, `occurred_at` the same moment; both None where none was.

    `expires_at`: from when on it is of no use to anybody; None: its type says.
    """

    tenant: str
    source: str
    id: str
    type: str
    data: dict[str, Any]
    subject: str | None = None
    time: str | None = None
    dataschema: str | None = None
    traceparent: str | None = None
    occurred_at: datetime | None = None
    expires_at: datetime | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes a second posting a repetition: tenant, source, id."""
        return self.tenant, self.source, self.id


def parse_time(text: str) -> datetime | None:
    """Return the moment that an RFC 3339 text names, in UTC; None where it names none.

    A leap second is the second after it; digits beyond microseconds are dropped.
    """
    if not _TIME.fullmatch(text):
        return None
    leap = timedelta(seconds=1) if text[17:19] == "60" else timedelta()
    try:
        return (datetime.fromisoformat((text[:17] + "59" + text[19:] if leap else text).upper()) + leap).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def read(value: Any, index: int | None = None) -> Event:
    """Return the event that a decoded envelope spells, its data fitting the catalog's schema.

    `index` is its place in a batch. Raises `InvalidInput` naming every field that is wrong, what the door refuses
    included; whether the tenant exists is the database's to say.
    """
    indecent = faults(value, index=index)
    if indecent:
        raise InvalidInput("The event is not valid.", errors=indecent)
    if not isinstance(value, dict):
        raise InvalidInput(errors=(FieldError("", "must be an object", index),))
    present = {name: given for name, given in value.items() if given is not None or name == "data"}
    found = [FieldError(field, message, index) for field, message in _faults(present)]
    if found:
        raise InvalidInput("The event is not valid.", errors=tuple(found))
    event = _event(present)
    _refuse_targets(event, index)
    return event


def _event(present: Mapping[str, Any]) -> Event:
    time = present.get("time")
    return Event(
        tenant=present["tenant"],
        source=present["source"],
        id=present["id"],
        type=present["type"],
        data=present.get("data", {}),
        subject=present.get("subject"),
        time=time,
        dataschema=present.get("dataschema"),
        traceparent=present.get("traceparent"),
        occurred_at=None if time is None else parse_time(time),
        expires_at=parse_time(present["expirytime"]) if "expirytime" in present else None,
    )


#: Path segments that clients and proxies resolve: an event of that id could never be asked for.
_RESOLVED = (".", "..")


def _faults(present: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if present.get("specversion") != SPECVERSION:
        yield "specversion", _absent_or(present, "specversion", f'must be "{SPECVERSION}"')
    for name in ("id", "source", "type", "tenant"):
        if not is_name(present.get(name)):
            yield name, _absent_or(present, name, f"must be a text of 1 to {MAX_ID} printable characters")
    if present.get("source") == RESERVED_SOURCE:
        yield "source", "is reserved"
    if present.get("id") in _RESOLVED:
        yield "id", "must not be a dot or two"
    yield from _optional_faults(present)
    yield from _extension_faults(present)
    yield from _data_faults(present)


def is_name(value: Any, most: int = MAX_ID) -> bool:
    """Tell whether `value` can name something: a text of 1 to `most` printable characters."""
    return isinstance(value, str) and 0 < len(value) <= most and value.isprintable()


def _absent_or(present: Mapping[str, Any], name: str, message: str) -> str:
    return message if name in present else "is required"


def _optional_faults(present: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    source, subject, time = present.get("source"), present.get("subject"), present.get("time")
    if is_name(source) and not _URI_REFERENCE.fullmatch(str(source)):
        yield "source", "must be a URI reference (RFC 3986)"
    if subject is not None and not is_name(subject, MAX_SUBJECT):
        yield "subject", f"must be a text of 1 to {MAX_SUBJECT} printable characters"
    if time is not None and not (isinstance(time, str) and parse_time(time)):
        yield "time", "must be a time as RFC 3339 writes it: 2026-03-01T12:00:00Z"
    schema = present.get("dataschema")
    if schema is not None and not (is_name(schema, MAX_DATASCHEMA) and _URI.fullmatch(schema)):
        yield "dataschema", f"must be a URI (RFC 3986) of at most {MAX_DATASCHEMA} characters"
    kind = present.get("datacontenttype")
    if kind is not None and not is_json(kind):
        yield "datacontenttype", "must be application/json"


def is_json(media_type: Any) -> bool:
    """Tell whether a media type, with or without parameters, is JSON."""
    return isinstance(media_type, str) and _JSON.fullmatch(media_type) is not None


def _extension_faults(present: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in present.keys() - _KNOWN:
        value = present[name]
        if name == "data_base64":
            yield name, "is not accepted: send the data as JSON"
        elif not _ATTRIBUTE.fullmatch(name):
            yield shown((name,)), "is no attribute: those have 1 to 20 lower-case letters and digits"
        elif not isinstance(value, str | bool | int) and not (isinstance(value, float) and value.is_integer()):
            yield name, "must be a text, a whole number, true or false"
    expiry = present.get("expirytime")
    if expiry is not None and not (isinstance(expiry, str) and parse_time(expiry)):
        yield "expirytime", "must be a time as RFC 3339 writes it: 2026-03-01T12:00:00Z"
    trace = present.get("traceparent")
    if trace is not None and not (isinstance(trace, str) and TRACEPARENT.fullmatch(trace)):
        yield "traceparent", "must be a W3C trace parent"


def _data_faults(present: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    data, kind = present.get("data", {}), _type_of(present)
    if is_name(present.get("type")) and kind is None:
        yield "type", "is not an event type of the catalog"
    if not isinstance(data, dict):
        yield "data", "must be an object"
    elif kind is not None:
        for error in kind.errors(data):
            yield _within_data(error), error.message


def _type_of(present: Mapping[str, Any]) -> EventType | None:
    name = present.get("type")
    return catalog().get(name) if isinstance(name, str) else None


def _within_data(error: FieldError) -> str:
    return f"data.{error.field}" if error.field else "data"


def _refuse_targets(event: Event, index: int | None) -> None:
    """Refuse what the schema allows and the fan-out could not do: too many named recipients, another's tenant."""
    kind = catalog().get(event.type)
    assert kind is not None
    try:
        targets(kind, event.tenant, event.data)
    except InvalidInput as refused:
        within = tuple(FieldError(_within_data(error), error.message, index) for error in refused.errors)
        raise InvalidInput(refused.detail, errors=within or (FieldError("data", refused.detail, index),)) from None
