"""What this process leaves in Redis about itself: that it lives, and which streams it has open.

A recipient's open streams are a set of members `<process>/<number>/<client>`; members of a process that is not heard of
any more count no longer. So nothing has to be refreshed for each stream, and a killed process frees its streams' places
within `LIFE_S`. Nothing here is needed for delivery: with Redis away, a process counts its own streams.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import orjson
from redis.asyncio import Redis

from api.enlist import EDGES, Place, enlist
from api.read import Batch
from api.subscriber import Subscription
from api.tasks import end
from shared.logs import log
from shared.stream_redis import AWAY, publisher
from shared.wake import CONTROL_CHANNEL

#: Seconds between two signs of life, and after which a process without one counts as gone.
BEAT_S = 1.0
LIFE_S = 8.0
#: A sign of life that does not come back through the subscriber in this time, while nothing else comes either, shows a
#: dead connection; one that does not come back at all, a wrong one.
SILENT_S = 3.0
LOST_S = 15.0
#: Commands of one transaction are few enough that Redis is not held up (some 0.5 ms).
PLACES_AT_ONCE = 200
#: Places given back while Redis is away, so that they are free when it is back; more of them count until their key
#: expires.
MAX_FREED = 50_000


class Presence:
    """This process among the others. `others(place)` registers a stream and tells who else is there."""

    def __init__(self, redis: Redis, process: str, keep_seconds: float) -> None:
        self._redis, self.process = redis, process
        self._keep = int(keep_seconds)
        self._places: Batch[Place, list[Place]] = Batch(self._register, PLACES_AT_ONCE, gather_s=0)
        self._freed: deque[Place] = deque(maxlen=MAX_FREED)
        self._task: asyncio.Task[None] | None = None
        self._asked_at: float | None = None
        #: False while Redis does not answer: then nobody waits for it.
        self.up = False

    @property
    def channel(self) -> bytes:
        """The channel on which the process talks to itself."""
        return f"carillon:edge:{self.process}".encode()

    def start(self, subscriber: Subscription, places: Callable[[], list[Place]]) -> None:
        """Begin to give signs of life; `places()` are registered anew whenever Redis comes back."""
        self._task = asyncio.create_task(self._run(subscriber, places))

    async def stop(self) -> None:
        """Be gone at once for the others."""
        await end(self._task)
        await self._places.stop()
        try:
            await self._redis.zrem(EDGES, self.process)
        except AWAY as error:
            log().info("presence.not_removed", reason=type(error).__name__)

    async def others(self, place: Place) -> list[Place]:
        """Register a stream; returns the other processes' streams of the same recipient: without Redis, none."""
        return await self._places.ask(place) if self.up else []

    async def ask_to_end(self, places: Sequence[Place]) -> None:
        """Ask the processes that hold these places of one recipient to end their streams; at most once, as all here."""
        tenant, recipient, _ = places[0]
        order = {"tenant": tenant, "recipient": recipient, "members": [place.member for place in places]}
        try:
            await publisher(self._redis)(CONTROL_CHANNEL, orjson.dumps({"replace": order}))
        except AWAY as error:
            self._say_away(error)

    def free(self, place: Place) -> None:
        """Give a stream's place back, with the next transaction or sign of life."""
        self._freed.append(place)

    def heard(self) -> None:
        """A sign of life came back through the subscriber."""
        self._asked_at = None

    async def _register(self, places: Sequence[Place]) -> list[list[Place]]:
        try:
            alive, members = await self._transact(places)
        except AWAY as error:
            self._say_away(error)
            return [[] for _ in places]
        return [self._theirs(place, found, alive) for place, found in zip(places, members, strict=True)]

    def _theirs(self, place: Place, found: Iterable[bytes], alive: set[str]) -> list[Place]:
        """Return the living among other processes' places; those of the dead are freed."""
        theirs: list[Place] = []
        for name in found:
            other = Place(place.tenant, place.recipient, name.decode())
            process = other.member.partition("/")[0]
            if process in alive and process != self.process:
                theirs.append(other)
            elif process != self.process:
                self.free(other)
        return theirs

    async def _transact(self, places: Sequence[Place]) -> tuple[set[str], list[set[bytes]]]:
        """Free what was given back and register `places`."""
        freed = list(self._freed)
        self._freed.clear()
        try:
            return await enlist(self._redis, freed, places, self._keep)
        except AWAY:
            self._freed.extend(freed)
            raise

    async def _run(self, subscriber: Subscription, places: Callable[[], list[Place]]) -> None:
        while True:
            try:
                await self._beat()
                if not self.up:
                    await self._return(places())
            except AWAY as error:
                self._say_away(error)
            self._watch(subscriber)
            await asyncio.sleep(BEAT_S)

    async def _beat(self) -> None:
        now = time.time()
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.zadd(EDGES, {self.process: now + LIFE_S})
            pipe.zremrangebyscore(EDGES, "-inf", now - LIFE_S)
            publisher(pipe)(self.channel, b"beat")
            await pipe.execute()
        if self._asked_at is None:
            self._asked_at = time.monotonic()
        if self._freed:
            await self._transact(())

    async def _return(self, places: list[Place]) -> None:
        """Register every open stream anew: Redis may have come back empty."""
        for start in range(0, len(places), PLACES_AT_ONCE):
            await self._transact(places[start : start + PLACES_AT_ONCE])
        self.up = True

    def _say_away(self, error: Exception) -> None:
        if self.up:
            log().warning("presence.redis_away", reason=type(error).__name__)
        self.up = False

    def _watch(self, subscriber: Subscription) -> None:
        """End a subscriber connection that no longer brings what is published."""
        if self._asked_at is None or not subscriber.up:
            self._asked_at = None
            return
        waited = time.monotonic() - self._asked_at
        silent = time.monotonic() - subscriber.heard_at
        if waited > LOST_S or (waited > SILENT_S and silent > SILENT_S):
            log().warning("subscriber.silent", seconds=round(waited, 1))
            self._asked_at = None
            subscriber.drop_connection()
