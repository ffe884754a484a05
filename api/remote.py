"""Asking other people's servers: fixed addresses, no redirects, bounded in time and size."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from shared.errors import CarillonError
from shared.strict_json import loads

#: From the first byte sent to the last one read: whoever waits for the answer is a request.
DEADLINE_S = 3.0
#: A key set has some kilobytes, an answer about a session less.
MAX_ANSWER_BYTES = 256 * 1024


class RemoteError(Exception):
    """Another server gave no usable answer; the text says why, without what it sent."""


def client(most_connections: int) -> httpx.AsyncClient:
    """Return a client that goes where it is told and nowhere else."""
    limits = httpx.Limits(max_connections=most_connections, max_keepalive_connections=most_connections)
    return httpx.AsyncClient(timeout=DEADLINE_S, follow_redirects=False, limits=limits)


async def ask(http: httpx.AsyncClient, request: httpx.Request) -> Any:
    """Return the JSON of a 200 answer; raises `RemoteError` for any other one, a late one, and none."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            return loads(await _body(http, request))
    except TimeoutError:
        raise RemoteError("no answer in time") from None
    except httpx.HTTPError as error:
        raise RemoteError(type(error).__name__) from None
    except CarillonError:
        raise RemoteError("no JSON") from None


async def _body(http: httpx.AsyncClient, request: httpx.Request) -> bytes:
    answer = await http.send(request, stream=True)
    try:
        if answer.status_code != httpx.codes.OK:
            raise RemoteError(f"status {answer.status_code}")
        body = b""
        async for piece in answer.aiter_bytes():
            body += piece
            if len(body) > MAX_ANSWER_BYTES:
                raise RemoteError("an answer that is too large")
        return body
    finally:
        await answer.aclose()
