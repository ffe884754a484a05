"""Reading bodies within bounds, and what producers are answered."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from typing import Any

from fastapi import Request
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from api.problems import PROBLEM_JSON
from shared.errors import BodyTooLarge, MalformedBody, UnsupportedContentType
from shared.frames import dumps

_FIELD_PROBLEM = {
    "type": "object",
    "required": ["field", "message"],
    "properties": {
        "field": {"type": "string", "description": "The dotted path of the field; empty for the whole."},
        "message": {"type": "string"},
        "index": {"type": "integer", "description": "The event's place in a batch, from 0."},
    },
}
_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": "A URN to compare."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "A sentence to read."},
        "errors": {"type": "array", "items": _FIELD_PROBLEM},
    },
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI responses of an endpoint's errors (RFC 9457)."""
    told = {"description": "A problem", "content": {PROBLEM_JSON: {"schema": _PROBLEM}}}
    return dict.fromkeys(statuses, told)


def json_body(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """Return the OpenAPI description of an operation whose JSON body is read strictly, as `model`."""
    content = {"application/json": {"schema": model.model_json_schema()}}
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
