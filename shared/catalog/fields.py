"""The kinds of data fields that catalog files name, and the judgement of data against a schema.

A file writes `badge_title = "title"` or `"reason?" = "text"` (optional); where no kind fits, an inline JSON Schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import jsonschema_rs

from shared import action_url
from shared.errors import FieldError, InvalidInput

Validator = jsonschema_rs.Draft202012Validator

#: Ids stand in keys and channel names; longer ones are a mistake of the producer.
MAX_ID = 200
#: Titles are one line of a list.
MAX_TITLE = 500
#: Messages and excerpts; an event's body is 64 KiB at most.
MAX_TEXT = 4_000
#: PostgreSQL's bigint, and what every JSON reader but JavaScript's keeps exact.
MAX_INTEGER = 2**63 - 1
#: What doubles tell apart to the cent.
MAX_AMOUNT = 10**13
#: As many as one event may name.
MAX_NAMED = 100

_ID: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": MAX_ID, "format": "id"}

KINDS: dict[str, dict[str, Any]] = {
    "id": _ID,
    "ids": {"type": "array", "items": _ID, "maxItems": MAX_NAMED, "uniqueItems": True},
    "title": {"type": "string", "minLength": 1, "maxLength": MAX_TITLE},
    "text": {"type": "string", "maxLength": MAX_TEXT},
    "url": {"type": "string", "maxLength": action_url.MAX_LENGTH, "format": "action-url"},
    "time": {"type": "string", "maxLength": 40, "format": "day-or-time"},
    "count": {"type": "integer", "minimum": 0, "maximum": MAX_INTEGER},
    "flag": {"type": "boolean"},
    "amount": {
        "type": ["number", "string"],
        "minimum": -MAX_AMOUNT,
        "maximum": MAX_AMOUNT,
        "pattern": r"^-?[0-9]{1,15}(\.[0-9]{1,8})?$",
        "maxLength": 25,
    },
    "currency": {"type": "string", "pattern": "^[A-Za-z]{3,10}$"},
    "grade": {
        "type": ["string", "number"],
        "minLength": 1,
        "maxLength": 100,
        "minimum": -MAX_AMOUNT,
        "maximum": MAX_AMOUNT,
    },
    "posted_audience": {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
        "properties": {"everyone": {"const": True}, "role": _ID, "topic": _ID, "tenant": _ID},
    },
}

#: Every type takes them: who did it, where an audience leaves out the one who did.
ACTOR_FIELDS = {"actor_id": KINDS["id"], "actor_name": KINDS["title"]}

_TYPE_NAMES = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "object": "an object",
    "array": "a list",
    "null": "null",
}
_FORMATS = {
    "action-url": "must be a path with one leading slash, or an https URL on an allowed host",
    "day-or-time": "must be a date or a time (RFC 3339)",
    "id": "must be printable characters",
}


def _is_action_url(value: str) -> bool:
    try:
        return bool(action_url.normalise(value))
    except InvalidInput:
        return False


def _is_day_or_time(value: str) -> bool:
    try:
        return bool(datetime.fromisoformat(value))
    except ValueError:
        return False


def schema_of(declared: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of an event type's data.

    `declared` maps field names, with a final `?` for optional ones, to kinds or inline schemas. Raises KeyError with
    the name of a kind that does not exist.
    """
    properties = {name.removesuffix("?"): _schema(kind) for name, kind in declared.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {**ACTOR_FIELDS, **properties},
        "required": [name for name in declared if not name.endswith("?")],
        "additionalProperties": False,
    }


def _schema(kind: Any) -> dict[str, Any]:
    return dict(kind) if isinstance(kind, Mapping) else KINDS[kind]


def validator(schema: dict[str, Any]) -> Validator:
    """Return the compiled schema. Raises ValueError where it is no valid JSON Schema."""
    # An id may name a recipient or a topic, and those are printable in the directory and in tokens as well.
    formats = {"action-url": _is_action_url, "day-or-time": _is_day_or_time, "id": str.isprintable}
    return Validator(schema, validate_formats=True, formats=formats)


def errors(compiled: Validator, data: Any) -> tuple[FieldError, ...]:
    """Return one error for each offending field and fault, ordered by path; the messages quote no value."""
    found = [told for error in compiled.iter_errors(data) for told in _told(error)]
    return tuple(sorted(found, key=lambda error: (error.field, error.message)))


def _told(error: jsonschema_rs.ValidationError) -> list[FieldError]:
    path = [str(step) for step in error.instance_path]
    kind, facts = error.kind.name, error.kind.as_dict()
    if kind == "additionalProperties":
        return [FieldError(".".join([*path, name]), "is not a field of this type") for name in facts["unexpected"]]
    if kind == "required":
        return [FieldError(".".join([*path, facts["property"]]), "is required")]
    return [FieldError(".".join(path), _sentence(kind, facts))]


def _sentence(kind: str, facts: Mapping[str, Any]) -> str:
    if kind == "type":
        return "must be " + " or ".join(_TYPE_NAMES[name] for name in facts["types"])
    if kind == "format":
        return _FORMATS.get(facts["format"], f"must be a valid {facts['format']}")
    sentence = _SENTENCES.get(kind)
    return sentence.format(**facts) if sentence else "does not fit the schema"


_SENTENCES = {
    "minLength": "must have at least {limit} characters",
    "maxLength": "must have at most {limit} characters",
    "minimum": "must be at least {limit}",
    "maximum": "must be at most {limit}",
    "minItems": "must have at least {limit} entries",
    "maxItems": "must have at most {limit} entries",
    "minProperties": "must have at least {limit} field",
    "maxProperties": "must have at most {limit} field",
    "uniqueItems": "must not name the same twice",
    "pattern": "does not have the right form",
    "const": "must be the one value that is allowed",
    "enum": "must be one of {options}",
}
