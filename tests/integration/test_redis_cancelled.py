"""An answer of Redis reaches whoever asked for it, also where somebody else gave up: tickets are redeemed there."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from api.hub import Hub
from tests.eventually import eventually_async

#: The hub's own patience would end the command before a busy machine has cancelled it.
PATIENCE_S = 60.0


async def test_a_connection_whose_command_was_cancelled_is_not_used_again(
    configured: dict[str, str], redis_url: str
) -> None:
    client = Hub().redis
    client.connection_pool.connection_kwargs["socket_timeout"] = PATIENCE_S
    async with client, Redis.from_url(redis_url) as other:
        await client.set("mine", "1")

        async def wait() -> None:
            await client.blpop(["theirs"], timeout=PATIENCE_S)

        async def is_blocked() -> bool:
            clients: dict[str, int] = await other.info("clients")
            return clients["blocked_clients"] == 1

        waiting = asyncio.create_task(wait())

        await eventually_async(is_blocked, within=30)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await other.rpush("theirs", "somebody else's ticket")
        assert [await client.get("mine") for _ in range(3)] == [b"1"] * 3
        assert await other.llen("theirs") == 1
