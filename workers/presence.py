"""Clearing up after processes of the API that died: their streams' places in Redis.

A place names the process that holds its stream, and counts while that process gives signs of life. Places of the dead
are freed by whoever asks for the same recipient's; of recipients who never return nobody asks, and their keys would
stay until they expire, an hour or more later.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from redis import Redis

import beat_schedule
from shared.databases import SHARED, working_in
from shared.logs import log
from shared.stream_redis import AWAY
from workers.app import app
from workers.jobs import JOB_S, Run, perform
from workers.patience import patience
from workers.publish import redis_client

#: Where the processes of the API tell that they live, until when (seconds since 1970).
EDGES = "carillon:edges"
#: Keys of recipients' places, whose members are `<process>/<number>/<client>`.
PLACES = "carillon:{*}:streams"
#: The processes that the last run found dead. A process that stood still for seconds may come back, and would not
#: register its streams anew: only what two runs in a row found dead is cleared up.
DEAD = "carillon:edges:dead"
#: Keys asked for in one round trip: Redis is held up for less than a millisecond.
KEYS_AT_ONCE = 200


@app.task(name=beat_schedule.PRESENCE_TASK)
def presence_task() -> None:
    """Free the places of processes that are long gone."""
    with patience(beat_schedule.PRESENCE_TASK), working_in(SHARED):
        clear_places()


def clear_places(now: float | None = None) -> bool:
    """Remove the places of processes that this run and the one before it found dead; returns whether all were seen.

    Redis away: nothing is done. `now` None: this process's clock, in seconds since 1970.
    """
    return perform(beat_schedule.PRESENCE_TASK, lambda run: _clear(run, now))


def _clear(run: Run, now: float | None) -> bool:
    with run.transaction():
        pass
    try:
        return _look_through(run, redis_client(), time.time() if now is None else now)
    except AWAY as error:
        log().warning("presence.not_cleared", reason=type(error).__name__)
        return False


def _look_through(run: Run, redis: Redis, now: float) -> bool:
    alive = {_text(name) for name in redis.zrangebyscore(EDGES, now, "+inf")}
    known = {_text(name) for name in redis.smembers(DEAD)} - alive
    dead: set[str] = set()
    deadline = time.monotonic() + JOB_S
    for keys in _pieces(redis.scan_iter(match=PLACES, count=KEYS_AT_ONCE)):
        for key, members in _members(redis, keys):
            gone = {member for member in members if _process(member) not in alive}
            dead |= {_process(member) for member in gone}
            run.done += _free(redis, key, [member for member in gone if _process(member) in known])
        if time.monotonic() > deadline:
            return False
    _remember(redis, dead)
    return True


def _pieces(keys: Iterable[bytes]) -> Iterator[list[bytes]]:
    left = iter(keys)
    while piece := list(islice(left, KEYS_AT_ONCE)):
        yield piece


def _members(redis: Redis, keys: list[bytes]) -> list[tuple[bytes, set[bytes]]]:
    with redis.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.smembers(key)
        return list(zip(keys, pipe.execute(), strict=True))


def _free(redis: Redis, key: bytes, members: list[bytes]) -> int:
    return int(redis.srem(key, *members)) if members else 0


def _remember(redis: Redis, dead: set[str]) -> None:
    with redis.pipeline(transaction=True) as pipe:
        # One key: of one slot, where Redis is a cluster.
        pipe.delete(DEAD)
        if dead:
            pipe.sadd(DEAD, *dead)
            pipe.expire(DEAD, int(3 * beat_schedule.PRESENCE_S))
        pipe.execute()


def _process(member: bytes) -> str:
    return _text(member).partition("/")[0]


def _text(name: Any) -> str:
    return bytes(name).decode()
