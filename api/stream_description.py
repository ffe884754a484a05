"""The OpenAPI description of the stream, and what it takes to begin a session and to end one."""

from __future__ import annotations

from typing import Any

from api.body import problems
from api.json_schemas import CURSOR
from shared.settings import settings

_EXAMPLE = (
    'id: 1-41\nevent: connected\ndata: {"status":"connected","cursor":"1-41","head":"1-41","unreadCount":3,'
    '"unseenCount":1,"heartbeatSeconds":30}\n\n'
)
_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}


def _answer(description: str, schema: dict[str, Any], example: Any) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema, "example": example}}}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": [*properties], "properties": properties}


_STREAMS = _object(tenant=_TEXT, recipient=_TEXT, streams=_COUNT)
_CONNECTIONS = _object(streams=_COUNT, inboxes=_COUNT, recipients={"type": "array", "items": _STREAMS})


def _responses(*statuses: int) -> dict[str, Any]:
    return {str(status): told for status, told in problems(*statuses).items()}


_NOTHING = {"type": "object", "additionalProperties": False, "description": "There is nothing to say."}
#: What stands in place of what is derived, by method and path.
OPERATIONS: dict[tuple[str, str], dict[str, Any]] = {
    ("post", "/api/notifications/stream/tickets"): {
        "responses": {
            "201": _answer("A ticket", _object(ticket=_TEXT, expiresIn=_COUNT), {"ticket": "kq3l8V…", "expiresIn": 30}),
            **_responses(401, 403, 415, 503),
        }
    },
    ("post", "/api/session"): {
        "security": [{"subscriberToken": []}],
        "requestBody": {"required": False, "content": {"application/json": {"schema": _NOTHING, "example": {}}}},
    },
    ("delete", "/api/session"): {"security": [{"sessionCookie": []}]},
    ("get", "/api/stream/connections"): {
        "responses": {
            "200": _answer(
                "The streams of this process",
                _CONNECTIONS,
                {
                    "streams": 1,
                    "inboxes": 1,
                    "recipients": [{"tenant": "uni-berlin", "recipient": "ada", "streams": 1}],
                },
            ),
            **_responses(401, 403, 503),
        }
    },
}


def _query(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


def _operation(name: str) -> dict[str, Any]:
    parameters = [
        {
            "name": "Last-Event-ID",
            "in": "header",
            "required": False,
            "schema": CURSOR,
            "description": "Resume after this id; any other text is answered `reset`.",
        },
        _query("lastEventId", CURSOR, "The same, for clients that can set no header."),
        _query("snapshot", {"type": "integer", "minimum": 1}, "Begin with so many of the newest; without a cursor."),
        _query("client", {"type": "string", "format": "uuid"}, "A stream of the same client is replaced."),
        _query("ticket", _TEXT, "A single-use ticket in the place of a token."),
    ]
    if settings().allow_token_in_query:
        parameters.append(_query("token", _TEXT, "A recipient's token, where nothing else is possible."))
    frames = {"text/event-stream": {"schema": _TEXT, "example": _EXAMPLE}}
    return {
        "tags": ["stream"],
        "summary": "Follow the inbox",
        "description": "Server-Sent Events without an end; what they say is told in docs/protocol.md.",
        "operationId": f"stream.{name}",
        "parameters": parameters,
        "responses": {"200": {"description": "The stream", "content": frames}, **_responses(401, 403, 422, 429, 503)},
        "security": [{"subscriberToken": []}, {"sessionCookie": []}],
    }


def paths() -> dict[str, Any]:
    """Return the paths of the stream and of its alias."""
    return {
        "/api/notifications/stream": {"get": _operation("stream")},
        "/api/notifications/subscribe": {"get": _operation("subscribe")},
    }
