"""What others would write: applications for uvicorn that follow Redis channels. Configured as their authors would.

Both take uvloop, httptools and hiredis, log no access, and keep the garbage collector away from what the start made.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.asyncio.connection import ConnectionPool, parse_url
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

REDIS_URL = "BENCH_REDIS_URL"
#: More than any run opens: one connection for each stream is the tutorial's way.
MAX_CONNECTIONS = 20_000
READ_BYTES = 1 << 18


def tune_gc() -> None:
    """Freeze what is there, as it stays, and look for garbage less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


def tutorial() -> Starlette:
    """sse-starlette as its examples have it: a generator for each stream, with a Redis subscription of its own."""
    pool = ConnectionPool.from_url(os.environ[REDIS_URL], max_connections=MAX_CONNECTIONS)
    redis = Redis(connection_pool=pool)

    async def stream(request: Request) -> EventSourceResponse:
        channel = request.path_params["channel"]

        async def events() -> AsyncIterator[dict[str, Any]]:
            async with redis.pubsub(ignore_subscribe_messages=True) as subscription:
                await subscription.subscribe(channel)
                yield {"event": "connected", "data": "{}"}
                async for message in subscription.listen():
                    yield {"event": "notification", "data": message["data"].decode()}

        return EventSourceResponse(events())

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        tune_gc()
        yield
        await redis.aclose()

    return Starlette(routes=[Route("/{channel}", stream)], lifespan=lifespan)


class RawHub:
    """A raw ASGI endpoint over one Redis connection read by hiredis: no framework, `send` awaited for each frame.

    No authentication, no order, no bounds, no metrics.
    """

    def __init__(self) -> None:
        self._sends: dict[bytes, list[Send]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await self._stream(scope["path"][1:].encode(), receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        target = parse_url(os.environ[REDIS_URL])
        reader, self._writer = await asyncio.open_connection(target["host"], target["port"], limit=READ_BYTES)
        self._tell(b"AUTH", target["password"].encode())
        self._task = asyncio.create_task(self._relay(reader))
        tune_gc()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._writer.close()
        await send({"type": "lifespan.shutdown.complete"})

    def _tell(self, *words: bytes) -> None:
        assert self._writer is not None
        self._writer.write(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))

    async def _relay(self, reader: asyncio.StreamReader) -> None:
        parser = hiredis.Reader()
        while data := await reader.read(READ_BYTES):
            parser.feed(data)
            while (reply := parser.gets()) is not False:
                if isinstance(reply, list) and reply[0] == b"message":
                    for send in self._sends.get(reply[1], ()):
                        await send({"type": "http.response.body", "body": reply[2], "more_body": True})

    async def _stream(self, channel: bytes, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"event: connected\n\n", "more_body": True})
        sends = self._sends.setdefault(channel, [])
        sends.append(send)
        if len(sends) == 1:
            self._tell(b"SUBSCRIBE", channel)
        while (await receive())["type"] != "http.disconnect":
            continue
        sends.remove(send)


def raw() -> RawHub:
    """Return the application."""
    return RawHub()
