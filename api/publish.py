"""Publishing frames after a commit: the fast path to every process's streams.

At most once by nature: with Redis away a frame is dropped and counted, and the reconciler repairs the streams.
"""

from __future__ import annotations

import asyncio

from api.tasks import apart, end
from shared.frames import channel_of
from shared.logs import log
from shared.stream_redis import AWAY, arefresh, async_client, is_cluster, publisher

#: A mutation's answer waits no longer than this in all for its frame to be published.
TIMEOUT_S = 0.5
#: Steps of a cluster's client that have room in it: only one that fails by itself, before it is cancelled, has the
#: client ask anew who has which slots.
STEPS = 3


class Publisher:
    """Publishes frames of committed changes."""

    def __init__(self) -> None:
        self._redis = async_client(TIMEOUT_S / STEPS if is_cluster() else TIMEOUT_S)
        self._publish = publisher(self._redis)
        self._refreshing: asyncio.Task[None] | None = None

    async def publish(self, tenant: str, recipient: str, frame: bytes) -> bool:
        """Publish one frame on its inbox's channel; returns False when Redis was away. Never raises."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._publish(channel_of(tenant, recipient), frame)
        except AWAY as error:
            log().warning("publish.dropped", tenant=tenant, reason=type(error).__name__)
            self._failed(error)
            return False
        return True

    async def ping(self) -> bool:
        """Tell whether Redis answers."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._redis.ping()
        except AWAY as error:
            self._failed(error)
            return False
        return True

    def _failed(self, error: Exception) -> None:
        """Where all the time was not enough, have the cluster's slots asked for without a limit, once at a time."""
        is_idle = self._refreshing is None or self._refreshing.done()
        if isinstance(error, TimeoutError) and is_cluster() and is_idle:
            self._refreshing = apart(arefresh(self._redis))

    async def close(self) -> None:
        """Give the connections back."""
        await end(self._refreshing)
        await self._redis.aclose()
