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


class FieldProblem(BaseModel):
    """One offending field, as a dotted path; `index` is its event's or row's place in a batch, from 0."""

    field: str
    message: str
    index: int | None = None


class Problem(BaseModel):
    """An error (RFC 9457). `type` is a URN to compare, `detail` a sentence to read."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] | None = None


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI responses of an endpoint's errors."""
    content = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"model": Problem, "content": content, "description": "A problem"} for status in statuses}


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
