"""How often each principal may ask: counted here at once, and together with the other processes each second.

A request pays no round trip: it is judged by what this process counted and what Redis told a moment ago, so that of
several processes together up to a second's worth more gets through. Without Redis each counts for itself: reads stay
open. The windows are `limits`' fixed ones, of one minute by the clock: two windows side by side may let twice the
number through at their border. `limits`' own storage for Redis is not used: it wants redis-py below 8, and Lua.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import quote

from limits import RateLimitItem, RateLimitItemPerMinute
from redis.asyncio import Redis

from api.tasks import end
from shared.errors import TooManyRequests, Unavailable
from shared.logs import log
from shared.settings import settings
from shared.stream_redis import AWAY

SYNC_S = 1.0
#: Principals of one process and window; beyond them the first is counted anew, which lets it ask more, never less.
MOST_COUNTED = 50_000
#: What a process counted of a principal is told to the others from this share of the limit on: those who ask little
#: cost Redis nothing.
TOLD_FROM = 0.02
#: Counters in one pipeline.
AT_ONCE = 1_000
NAMESPACE = "carillon"


@dataclass(slots=True)
class _Count:
    """One principal in the present window: counted here, of that told to Redis, and counted by the others."""

    here: int = 0
    told: int = 0
    others: int = 0


class Rate:
    """One limit for many principals. `now` gives Unix seconds: windows of all processes begin together."""

    def __init__(self, item: RateLimitItem, now: Callable[[], float] = time.time) -> None:
        self._item, self._now = item, now
        self._window = 0
        self._counts: dict[str, _Count] = {}
        #: Of those the ones that the others should know more of, and from what growth on.
        self._grown: dict[str, _Count] = {}
        self._least = max(1, int(item.amount * TOLD_FROM))

    def over(self, who: str) -> int | None:
        """Count one of `who`; returns None while that is within the limit, else the seconds until it is again."""
        count = self._count(who)
        count.here += 1
        if count.here - count.told >= self._least:
            self._grown[who] = count
        if count.here + count.others <= self._item.amount:
            return None
        length = self._item.get_expiry()
        return max(1, math.ceil(length - self._now() % length))

    def require(self, who: str) -> None:
        """Count one of `who`; raises `TooManyRequests` over the limit."""
        seconds = self.over(who)
        if seconds is not None:
            raise TooManyRequests(f"More than {self._item.amount} requests a minute.", retry_after=seconds)

    def _count(self, who: str) -> _Count:
        window = int(self._now() // self._item.get_expiry())
        if window != self._window:
            self._window, self._counts, self._grown = window, {}, {}
        count = self._counts.get(who)
        if count is None:
            if len(self._counts) >= MOST_COUNTED:
                self._forget(next(iter(self._counts)))
            count = self._counts[who] = _Count()
        return count

    def _forget(self, who: str) -> None:
        del self._counts[who]
        self._grown.pop(who, None)

    def untold(self) -> list[tuple[str, _Count, int]]:
        """Return what the others should know: the name in Redis, the count, and by how much it grew.

        Looks at those alone who asked much since the last time: all of them would hold up a second's frames.
        """
        self._grown = {who: count for who, count in self._grown.items() if count.here - count.told >= self._least}
        return [
            (self._item.key_for(quote(who, safe=""), str(self._window)), count, count.here - count.told)
            for who, count in self._grown.items()
        ]

    @property
    def life_s(self) -> int:
        """How long a counter is of use."""
        return 2 * int(self._item.get_expiry())


class Rates:
    """The limits of this process, between `start` and `stop`."""

    def __init__(self, redis: Redis) -> None:
        chosen = settings()
        self._redis = redis
        self.recipients = _rate("recipient", chosen.recipient_requests_per_minute)
        self.producers = _rate("producer", chosen.producer_requests_per_minute)
        self.addresses = _rate("address", chosen.failed_attempts_per_minute)
        self._sign_ins = RateLimitItemPerMinute(chosen.sign_ins_per_minute, namespace=f"{NAMESPACE}:rate")
        self._task: asyncio.Task[None] | None = None
        self._up = True

    def start(self) -> None:
        """Begin to tell the other processes."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End."""
        await end(self._task)

    async def require_sign_in(self, who: str) -> None:
        """Count a sign-in in Redis itself: raises `TooManyRequests` over the limit, `Unavailable` without Redis."""
        name = self._sign_ins.key_for("sign-in", quote(who, safe=""), str(int(time.time() // 60)))
        try:
            counted = await self._redis.incr(name)
            await self._redis.expire(name, 2 * self._sign_ins.get_expiry())
        except AWAY:
            raise Unavailable("Nobody can sign in at this moment.", retry_after=1) from None
        if counted > self._sign_ins.amount:
            raise TooManyRequests("Too many sign-ins.", retry_after=max(1, math.ceil(60 - time.time() % 60)))

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(SYNC_S)
            try:
                for rate in (self.recipients, self.producers, self.addresses):
                    await self._sync(rate)
                self._up = True
            except AWAY as error:
                if self._up:
                    log().warning("rates.redis_away", reason=type(error).__name__)
                self._up = False

    async def _sync(self, rate: Rate) -> None:
        untold = rate.untold()
        for start in range(0, len(untold), AT_ONCE):
            piece = untold[start : start + AT_ONCE]
            totals = await self._add(((name, grown) for name, _, grown in piece), rate.life_s)
            for (_, count, grown), total in zip(piece, totals, strict=True):
                count.told += grown
                count.others = max(0, total - count.told)

    async def _add(self, grown: Iterable[tuple[str, int]], life_s: int) -> list[int]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for name, by in grown:
                pipe.incrby(name, by)
                pipe.expire(name, life_s)
            return [int(total) for total in (await pipe.execute())[::2]]


def _rate(what: str, per_minute: int) -> Rate:
    return Rate(RateLimitItemPerMinute(per_minute, namespace=f"{NAMESPACE}:rate:{what}"))
