"""What FastAPI's and Starlette's documentation lead to: applications for uvicorn, tuned as those of `apps`."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.connection import ConnectionPool
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from bench.peers.apps import MAX_CONNECTIONS, REDIS_URL, tune_gc


def fastapi() -> FastAPI:
    """FastAPI's own Server-Sent Events: a generator for each stream, with a Redis subscription of its own.

    The messages are JSON already, so that `raw_data` spares encoding them.
    """
    redis = Redis(connection_pool=ConnectionPool.from_url(os.environ[REDIS_URL], max_connections=MAX_CONNECTIONS))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tune_gc()
        yield
        await redis.aclose()

    app = FastAPI(lifespan=lifespan, openapi_url=None)

    @app.get("/{channel}", response_class=EventSourceResponse)
    async def stream(channel: str) -> AsyncIterator[ServerSentEvent]:
        async with redis.pubsub(ignore_subscribe_messages=True) as subscription:
            await subscription.subscribe(channel)
            yield ServerSentEvent(event="connected", raw_data="{}")
            async for message in subscription.listen():
                yield ServerSentEvent(event="notification", raw_data=message["data"].decode())

    return app


class Hub:
    """One Redis subscription for all streams, and a queue for each of them: what a careful author writes.

    The queues have no bound.
    """

    def __init__(self) -> None:
        self._queues: defaultdict[bytes, set[asyncio.Queue[bytes]]] = defaultdict(set)
        self._redis = Redis.from_url(os.environ[REDIS_URL])
        self._subscription: PubSub = self._redis.pubsub(ignore_subscribe_messages=True)

    async def relay(self) -> None:
        """Put each message into the queues of its channel's streams."""
        async for message in self._subscription.listen():
            for queue in self._queues[message["channel"]]:
                queue.put_nowait(message["data"])

    async def frames(self, channel: bytes) -> AsyncIterator[bytes]:
        """Follow a channel, whose messages are whole frames."""
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        queues = self._queues[channel]
        queues.add(queue)
        try:
            if len(queues) == 1:
                await self._subscription.subscribe(channel)
            yield b"event: connected\n\n"
            while True:
                yield await queue.get()
        finally:
            queues.discard(queue)

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Subscribe while the application lives."""
        # `listen` ends where nothing is subscribed to.
        await self._subscription.subscribe("-")
        task = asyncio.create_task(self.relay())
        tune_gc()
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await self._subscription.aclose()  # type: ignore[no-untyped-call]
        await self._redis.aclose()


def starlette() -> Starlette:
    """Starlette's `StreamingResponse` over a `Hub`."""
    hub = Hub()

    async def stream(request: Request) -> StreamingResponse:
        channel = request.path_params["channel"].encode()
        return StreamingResponse(hub.frames(channel), media_type="text/event-stream")

    return Starlette(routes=[Route("/{channel}", stream)], lifespan=hub.lifespan)
