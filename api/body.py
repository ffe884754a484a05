"""Reading bodies within bounds, and what producers are answered."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from typing import Any

from fastapi import Request
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from api.examples import BODIES
from api.problems import PROBLEM_JSON
from shared.errors import (
    BodyTooLarge,
    CarillonError,
    Conflict,
    FieldError,
    Forbidden,
    InvalidInput,
    MalformedBody,
    NotFound,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    UnsupportedContentType,
)
from shared.frames import dumps

#: RFC 9457.
PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": "A URN to compare."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "A sentence to read."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {
                    "field": {"type": "string", "description": "The dotted path of the field; empty for the whole."},
                    "message": {"type": "string"},
                    "index": {"type": "integer", "description": "The event's place in a batch, from 0."},
                },
            },
        },
    },
}
#: What each status is, and what its answer says for example.
_PROBLEMS: dict[int, tuple[type[CarillonError], str]] = {
    400: (MalformedBody, "The body is not valid JSON: expecting value at line 1, column 1."),
    401: (Unauthenticated, "Send a token: Authorization: Bearer <token>."),
    403: (Forbidden, "The key may not act for this tenant."),
    404: (NotFound, "There is no such notification."),
    409: (Conflict, "The cursor is of an earlier numbering: fetch the page again."),
    413: (BodyTooLarge, "The body is larger than 65536 bytes."),
    415: (UnsupportedContentType, "Send the body as application/json."),
    422: (InvalidInput, "The input is not valid"),
    429: (TooManyRequests, "This recipient has 5 streams already."),
    503: (Unavailable, "The database is away or busy; try again."),
}
_FIELD_ERRORS = (FieldError("first", "must be from 1 to 100"),)
_RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string", "pattern": "^[0-9]+$"}}}
_HEADERS: dict[int, dict[str, Any]] = {
    401: {"WWW-Authenticate": {"schema": {"type": "string"}}},
    429: _RETRY_AFTER,
    503: _RETRY_AFTER,
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI responses of an endpoint's errors (RFC 9457), each with an example."""
    return {status: _problem(status) for status in statuses}


def _problem(status: int) -> dict[str, Any]:
    kind, detail = _PROBLEMS[status]
    example = kind(detail, errors=_FIELD_ERRORS if status == 422 else ()).as_json()
    content = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}}
    told: dict[str, Any] = {"description": example["title"], "content": content}
    return {**told, "headers": _HEADERS[status]} if status in _HEADERS else told


def json_body(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """Return the OpenAPI description of an operation whose JSON body is read strictly, as `model`."""
    content = {"application/json": {"schema": model.model_json_schema(), "example": BODIES[model.__name__]}}
    return {"requestBody": {"required": required, "content": content}}


def answer(value: Any, status: int = 200) -> Response:
    """Return `value` as JSON."""
    return Response(dumps(value), status, media_type="application/json")


def media_type(request: Request) -> str:
    """Return the body's type in lower case and without its parameters; empty where none is told."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def require_type(request: Request, allowed: Collection[str]) -> str:
    """Return the body's type, or raise `UnsupportedContentType` unless it is one of `allowed` and not compressed."""
    kind = media_type(request)
    if kind not in allowed:
        raise UnsupportedContentType(f"Send the body as {' or '.join(allowed)}.")
    refuse_encoding(request)
    return kind


def refuse_encoding(request: Request) -> None:
    """Raise `UnsupportedContentType` for a compressed body: it would have a size that nobody sees beforehand."""
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise UnsupportedContentType("Send the body without a content encoding.")


async def read_body(request: Request, most: int) -> bytes:
    """Return the whole body, or raise `BodyTooLarge` before more than `most` bytes were taken into memory."""
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared[:20]) > most:
        raise _too_large(most)
    parts: list[bytes] = []
    size = 0
    async for part in pieces(request):
        size += len(part)
        if size > most:
            raise _too_large(most)
        parts.append(part)
    return b"".join(parts)


def _too_large(most: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body is larger than {most} bytes.")


async def pieces(request: Request) -> AsyncIterator[bytes]:
    """Yield the body as it arrives; one that breaks off raises `MalformedBody`."""
    try:
        async for part in request.stream():
            yield part
    except ClientDisconnect:
        raise MalformedBody("The body broke off.") from None
