"""Two processes count a principal's requests together."""

from __future__ import annotations

from redis.asyncio import Redis

from api.rates import Rates
from tests.eventually import eventually_async


async def test_what_one_process_lets_through_another_counts(configured: dict[str, str], redis_url: str) -> None:
    async with Redis.from_url(redis_url) as client:
        one, other = Rates(client), Rates(client)
        for rates in (one, other):
            # A minute that turned meanwhile would begin the count anew.
            rates.recipients._now = lambda: 0.0
            rates.start()
        limit = 1_200
        for _ in range(limit - 100):
            assert one.recipients.over("north/ada") is None

        async def is_over() -> bool:
            return other.recipients.over("north/ada") is not None

        for _ in range(24):
            other.recipients.over("north/ada")
        try:
            await eventually_async(is_over, within=30)
            # The other asked once each 20 ms, some of it before it was told: never as much as a limit of its own.
            counted = other.recipients._counts["north/ada"]
            assert counted.here < limit / 2
            assert counted.others == limit - 100
            keys = [key async for key in client.scan_iter("carillon:rate:recipient/*")]
            assert [0 < await client.ttl(key) <= 120 for key in keys] == [True]
        finally:
            for rates in (one, other):
                await rates.stop()
