"""Publishing frames after a commit: the fast path to every process's streams.

At most once by nature: with Redis away a frame is dropped and counted, and the reconciler repairs the streams.
"""

from __future__ import annotations

import asyncio

from shared.frames import channel_of
from shared.logs import log
from shared.stream_redis import AWAY, async_client, publisher

#: A mutation's answer waits no longer than this for its frame to be published: of a cluster's client the bound of each
#: step alone, of which one that looks for a dead server's slots takes several.
TIMEOUT_S = 0.5


class Publisher:
    """Publishes frames of committed changes."""

    def __init__(self) -> None:
        self._redis = async_client(TIMEOUT_S)
        self._publish = publisher(self._redis)

    async def publish(self, tenant: str, recipient: str, frame: bytes) -> bool:
        """Publish one frame on its inbox's channel; returns False when Redis was away. Never raises."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._publish(channel_of(tenant, recipient), frame)
        except AWAY as error:
            log().warning("publish.dropped", tenant=tenant, reason=type(error).__name__)
            return False
        return True

    async def ping(self) -> bool:
        """Tell whether Redis answers."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._redis.ping()
        except AWAY:
            return False
        return True

    async def close(self) -> None:
        """Give the connections back."""
        await self._redis.aclose()
