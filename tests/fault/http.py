"""HTTP/1.1 by hand, one connection a request: a client library would take more of the two cores than the product."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from tests.fault.proxy import LOOPBACK

#: The longest line, or answer, that is kept.
LIMIT_BYTES = 4 * 1024 * 1024


class Refused(Exception):
    """The answer was not the one hoped for. `retry_after` is None where it named no time."""

    def __init__(self, status: int, retry_after: float | None) -> None:
        super().__init__(str(status))
        self.status, self.retry_after = status, retry_after


def _head(method: str, path: str, headers: dict[str, str]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    return int(first.split()[1]), {
        name.lower(): value for name, value in (line.split(": ", 1) for line in lines if line)
    }


def _refusal(status: int, headers: dict[str, str]) -> Refused:
    told = headers.get("retry-after")
    return Refused(status, None if told is None else float(told))


async def request(
    port: int, method: str, path: str, headers: dict[str, str], body: bytes = b"", *, within: float
) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of the answer; raises OSError, TimeoutError or IncompleteReadError."""
    async with asyncio.timeout(within):
        reader, writer = await asyncio.open_connection(LOOPBACK, port, limit=LIMIT_BYTES)
        try:
            told = {**headers, "Connection": "close", "Content-Length": str(len(body))}
            writer.write(_head(method, path, told) + body)
            status, answered = await _answer(reader)
            return status, answered, await reader.readexactly(int(answered.get("content-length", "0")))
        finally:
            writer.transport.abort()


async def get_json(port: int, path: str, token: str, within: float) -> dict[str, Any]:
    """Return what a GET answers with 200; raises as `request`, and `Refused` for another status."""
    status, headers, body = await request(port, "GET", path, {"Authorization": f"Bearer {token}"}, within=within)
    if status != 200:
        raise _refusal(status, headers)
    found: dict[str, Any] = orjson.loads(body)
    return found


async def open_stream(
    port: int, token: str, query: str, headers: dict[str, str], within: float
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a stream whose head was read; raises as `get_json`."""
    writer = None
    try:
        async with asyncio.timeout(within):
            reader, writer = await asyncio.open_connection(LOOPBACK, port, limit=LIMIT_BYTES)
            told = {"Authorization": f"Bearer {token}", **headers}
            writer.write(_head("GET", f"/api/notifications/stream?{query}", told))
            status, answered = await _answer(reader)
        if status != 200:
            raise _refusal(status, answered)
    except BaseException:
        if writer is not None:
            writer.transport.abort()
        raise
    return reader, writer
