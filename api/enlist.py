"""How a stream's place is put on its recipient's list in Redis, so that of two at a limit one comes first."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis

from shared.frames import channel_of
from shared.stream_redis import is_cluster

#: Where the processes tell that they live, until when (seconds since 1970).
EDGES = "carillon:edges"


class Place(NamedTuple):
    """One stream's place among its recipient's streams."""

    tenant: str
    recipient: str
    member: str

    @property
    def key(self) -> str:
        """Where Redis keeps the places of this recipient: on the shard of the inbox's channel."""
        return f"{channel_of(self.tenant, self.recipient)}:streams"

    @property
    def client(self) -> str:
        """The client that the stream named; empty without one."""
        return self.member.split("/", 2)[2]


Enlisted = tuple[set[str], list[set[bytes]]]


async def enlist(redis: Redis, freed: Sequence[Place], places: Sequence[Place], keep_s: int) -> Enlisted:
    """Take `freed` off their lists and put `places` on theirs, for `keep_s`.

    Returns the processes that live, and of each place what its list held just then, itself included. One server does
    all of it at once; a cluster does so for each place. Raises `stream_redis.AWAY`.
    """
    if is_cluster():
        return await _in_cluster(redis, freed, places, keep_s)
    async with redis.pipeline(transaction=True) as pipe:
        for place in freed:
            pipe.srem(place.key, place.member)
        pipe.zrangebyscore(EDGES, time.time(), "+inf")
        for place in places:
            pipe.sadd(place.key, place.member)
            pipe.expire(place.key, keep_s)
            pipe.smembers(place.key)
        replies = (await pipe.execute())[len(freed) :]
    return _names(replies[0]), replies[3::3]


async def _in_cluster(redis: Any, freed: Sequence[Place], places: Sequence[Place], keep_s: int) -> Enlisted:
    """Do it by a transaction for each place, all sent at once to the servers of their slots.

    Who lives is asked afterwards: a process tells that it does before it puts anything on a list, so that none of those
    on the lists that were read can be taken for dead because it is new.
    """
    await redis.initialize()
    async with redis.pipeline(transaction=False) as pipe:
        for place in freed:
            pipe.srem(place.key, place.member)
        for place in places:
            server = redis.get_node_from_key(place.key)
            # The pipeline's own transactions are of one slot, and start a thread for each command (redis-py 8.1).
            for command in transaction(place, keep_s):
                pipe.execute_command(*command, target_nodes=server)
        replies = (await pipe.execute())[len(freed) :]
    alive = await redis.zrangebyscore(EDGES, time.time(), "+inf") if places else ()
    return _names(alive), [set(done[-1]) for done in replies[COMMANDS - 1 :: COMMANDS]]


def transaction(place: Place, keep_s: int) -> tuple[tuple[str | int, ...], ...]:
    """Return the commands that put a place on its list and tell what the list holds: the last one's last reply."""
    return (
        ("MULTI",),
        ("SADD", place.key, place.member),
        ("EXPIRE", place.key, keep_s),
        ("SMEMBERS", place.key),
        ("EXEC",),
    )


#: Of one such transaction.
COMMANDS = 5


def _names(names: Any) -> set[str]:
    return {name.decode() for name in names}
