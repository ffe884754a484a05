"""JSON Schemas of what stands in addresses and bodies, for the OpenAPI description: exactly what the code accepts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared import cloudevent
from shared.catalog import EventType, catalog
from shared.cloudevent import MAX_DATASCHEMA, MAX_ID, MAX_SUBJECT
from shared.directory import MAX_ROLES
from shared.strict_json import MAX_INTEGER

Schema = dict[str, Any]

#: What strict_json refuses in a text: C0 without tab and newline, DEL, C1.
_DECENT = "^[^\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f]*$"
NAME: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_ID, "format": "id"}
TENANT: Schema = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$"}
CURSOR: Schema = {"type": "string", "pattern": "^(0|[1-9][0-9]{0,17})-(0|[1-9][0-9]{0,17})$", "examples": ["1-42"]}
LOCALE: Schema = {"type": "string", "pattern": "^[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8}){0,8}$"}
ROLES: Schema = {"type": "array", "items": NAME, "maxItems": MAX_ROLES}
TRUE: Schema = {"const": True}
_ANYTHING = {"$ref": "#/components/schemas/Json"}
ANY_OBJECT: Schema = {"type": "object", "propertyNames": {"pattern": _DECENT}, "additionalProperties": _ANYTHING}
#: Any JSON that is taken; deeper than 32 levels it is refused.
JSON: Schema = {
    "anyOf": [
        {"type": "null"},
        {"type": "boolean"},
        {"type": "integer", "minimum": -MAX_INTEGER - 1, "maximum": MAX_INTEGER},
        {"type": "number"},
        {"type": "string", "pattern": _DECENT},
        {"type": "array", "items": _ANYTHING},
        ANY_OBJECT,
    ]
}
EXAMPLE_WEBHOOK: dict[str, Any] = {
    "type": "certificate.issued",
    "timestamp": "2026-03-01T12:00:00Z",
    "data": {"student_id": "ada", "certificate_id": "c1", "badge_title": "Linear Algebra"},
}
EXAMPLE_EVENT: dict[str, Any] = {
    "specversion": cloudevent.SPECVERSION,
    "id": "c-1",
    "source": "/registrar",
    "type": "certificate.issued",
    "tenant": "uni-berlin",
    "data": {"student_id": "ada", "certificate_id": "c1", "badge_title": "Linear Algebra"},
}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _text(most: int, **more: Any) -> Schema:
    return {"type": "string", "minLength": 1, "maxLength": most, **more}


#: Keywords whose values are no schemas.
_LITERAL = ("const", "enum", "examples")
#: An attribute that is null is the same as an absent one (CloudEvents JSON format, section 3.1).
_ATTRIBUTES: Schema = {
    "specversion": {"const": cloudevent.SPECVERSION},
    "id": NAME,
    "source": {**NAME, "format": "uri-reference"},
    "tenant": TENANT,
    "subject": _or_null(_text(MAX_SUBJECT, format="id")),
    "time": _or_null({"type": "string", "format": "date-time"}),
    "dataschema": _or_null(_text(MAX_DATASCHEMA, format="uri")),
    "expirytime": _or_null({"type": "string", "format": "date-time"}),
    "datacontenttype": _or_null({"const": "application/json"}),
    "traceparent": _or_null({"type": "string", "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"}),
}
_EXTENSIONS: Schema = {
    rf"^(?!({'|'.join(['type', 'data', *_ATTRIBUTES])})$)[a-z0-9]{{1,20}}$": {
        "anyOf": [{"type": "string"}, {"type": "boolean"}, {"type": "null"}, {"type": "integer"}]
    }
}


def decent(schema: Any) -> Any:
    """Return a schema of a request with what is said of every body: no control characters, integers of 64 bits."""
    if isinstance(schema, list):
        return [decent(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    made = {name: value if name in _LITERAL else decent(value) for name, value in schema.items()}
    told = schema.get("type", ())
    kinds = told if isinstance(told, list) else [told]
    if "string" in kinds and not {"pattern", "format", "enum"} & schema.keys():
        made["pattern"] = _DECENT
    if "integer" in kinds:
        made = {"minimum": -MAX_INTEGER - 1, "maximum": MAX_INTEGER, **made}
    if "object" in kinds and schema.get("additionalProperties", True) is True and "properties" not in schema:
        made |= ANY_OBJECT
    return made


def _event(kind: EventType) -> Schema:
    data = _data(kind)
    told: Schema = decent(
        {
            "type": "object",
            "title": kind.name,
            "description": kind.description,
            "required": ["specversion", "id", "source", "type", "tenant", *(["data"] if data["required"] else [])],
            "properties": {**_ATTRIBUTES, "type": {"const": kind.name}, "data": data},
            "patternProperties": _EXTENSIONS,
            "additionalProperties": False,
        }
    )
    return told


def event() -> Schema:
    """Return the envelope of every event type of the catalog, with its data's own schema."""
    return {"anyOf": [_event(kind) for kind in catalog()], "discriminator": {"propertyName": "type"}}


def standard_webhook() -> Schema:
    """Return the body of a Standard Webhook, for every event type of the catalog."""
    return {"anyOf": [_webhook(kind) for kind in catalog()], "discriminator": {"propertyName": "type"}}


def _webhook(kind: EventType) -> Schema:
    timestamp = {"type": "string", "format": "date-time"}
    told: Schema = decent(
        {
            "type": "object",
            "title": kind.name,
            "required": ["type", "timestamp", "data"],
            "properties": {"type": {"const": kind.name}, "timestamp": timestamp, "data": _data(kind)},
            "additionalProperties": False,
        }
    )
    return told


def _data(kind: EventType) -> Schema:
    return {name: value for name, value in kind.schema.items() if name != "$schema"}


def types() -> list[str]:
    """Return what a type may be called in a filter: as the event, or as its notifications."""
    return sorted({name for kind in catalog() for name in (kind.name, kind.notification_type)})
