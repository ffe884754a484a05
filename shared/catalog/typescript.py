"""TypeScript's declarations of the catalog: an event's data as producers send it, a notification as browsers get it.

What JSON Schema can say and TypeScript cannot (lengths, patterns, ranges) is left out; what has no type is `unknown`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from shared.catalog.model import Catalog, EventType, camel_case

_PLAIN = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}

_HEAD = """\
// Made of the event types by `carillon catalog types`: declare there what is to change here.

import type { Notification } from "carillon-web";

/** The data of each event type, as a producer posts it. */
export interface EventData {
"""
_MIDDLE = """\
}

export type EventType = keyof EventData;

/** What each type of notification adds to what all of them have. */
export interface NotificationTypes {
"""
_TAIL = """\
}

export type NotificationType = keyof NotificationTypes;

/** A notification of the catalog: its `type` tells which `metadata` it has. */
export type CatalogNotification = {
  [T in NotificationType]: Omit<Notification, "type" | "category" | "metadata"> & { type: T } & NotificationTypes[T];
}[NotificationType];
"""


def declarations(catalog: Catalog) -> str:
    """Return a module's text, the types in the catalog's order; those shown to nobody have no notification."""
    events = [_entry(kind, json.dumps(kind.name), _object(kind.schema)) for kind in catalog]
    notifications = [_entry(kind, kind.notification_type, _notification(kind)) for kind in catalog if kind.shown]
    return "".join([_HEAD, *events, _MIDDLE, *notifications, _TAIL])


def _entry(kind: EventType, name: str, type_: str) -> str:
    retired = " @deprecated It is retired." if kind.retired else ""
    return f"  /** {kind.description.replace('*/', '* /')}{retired} */\n  {name}: {type_};\n"


def _notification(kind: EventType) -> str:
    required = kind.schema.get("required", [])
    fields = {camel_case(name): kind.properties[name] for name in kind.metadata}
    must = {camel_case(name) for name in kind.metadata if name in required}
    return f"{{ category: {json.dumps(kind.category)}; metadata: {_fields(fields, must)} }}"


def _type(schema: Mapping[str, Any]) -> str:
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return _one_of(json.dumps(value) for value in schema["enum"])
    named = schema.get("type", [])
    return _one_of(_named(name, schema) for name in ([named] if isinstance(named, str) else named))


def _named(name: str, schema: Mapping[str, Any]) -> str:
    if name == "array":
        return f"Array<{_type(schema.get('items', {}))}>"
    return _object(schema) if name == "object" else _PLAIN[name]


def _one_of(types: Iterable[str]) -> str:
    return " | ".join(dict.fromkeys(types)) or "unknown"


def _object(schema: Mapping[str, Any]) -> str:
    properties: Mapping[str, Any] = schema.get("properties", {})
    if not properties:
        return "Record<string, unknown>"
    if (schema.get("minProperties"), schema.get("maxProperties")) == (1, 1):
        return _one_of(_fields({name: inner}, {name}) for name, inner in properties.items())
    return _fields(properties, schema.get("required", []))


def _fields(properties: Mapping[str, Any], required: Iterable[str]) -> str:
    must = set(required)
    told = [f"{_key(name)}{'' if name in must else '?'}: {_type(inner)}" for name, inner in properties.items()]
    return f"{{ {'; '.join(told)} }}" if told else "Record<string, never>"


def _key(name: str) -> str:
    return name if name.isidentifier() else json.dumps(name)
