"""Streams over a Redis Cluster: sharded channels, places by slot, slots that move, a server that dies."""

from __future__ import annotations

import pytest
from redis.crc import key_slot

from shared.frames import channel_of
from tests.deploy.servers import RedisServers
from tests.deploy.whole_way import WITHIN_S, WholeWay
from tests.eventually import eventually_async
from tests.producers import TENANT


def _slot(person: str) -> int:
    return int(key_slot(channel_of(TENANT, person).encode()))


@pytest.fixture
def settings_env(settings_env: dict[str, str], redis_servers: RedisServers, results: str) -> dict[str, str]:
    return {**settings_env, **redis_servers.environment(), "CARILLON_RESULT_URL": results}


async def test_every_stream_is_told_whichever_server_has_its_channel(
    way: WholeWay, redis_servers: RedisServers
) -> None:
    assert {redis_servers.owner_of(_slot(person)).port for person in way.people} == {
        node.port for node in redis_servers.nodes
    }
    async with way.listening() as streams:
        await way.require_told(streams)


async def test_the_limit_counts_the_streams_of_all_processes(way: WholeWay) -> None:
    ada = way.people[0]
    streams = [await way.listener(ada, number % 2).open() for number in range(5)]
    assert [stream.status for stream in streams] == [200] * 5
    for server in (0, 1):
        async with way.listener(ada, server) as sixth:
            assert sixth.status == 429
    await streams[0].close()

    async def is_free() -> bool:
        async with way.listener(ada, 1) as another:
            return another.status == 200

    await eventually_async(is_free, WITHIN_S)
    for stream in streams:
        await stream.close()


async def test_streams_follow_their_channels_when_slots_move(way: WholeWay, redis_servers: RedisServers) -> None:
    """A slot without keys: the places on its list are let go first."""
    async with way.listening() as streams:
        ada, stream = way.people[0], streams[0]
        slot = _slot(ada)
        with redis_servers.owner_of(slot).client() as client:
            client.delete(f"{channel_of(TENANT, ada)}:streams")
        before = redis_servers.owner_of(slot)
        redis_servers.move(slot)
        assert redis_servers.owner_of(slot) is not before
        posted = 0

        async def is_heard() -> bool:
            # What is published in between is lost: the reconciler would tell it, a minute later, and once it has
            # followed, each further one is told at once.
            nonlocal posted
            posted += 1
            await way.award(f"after-{posted}", ada)
            return len(stream.told()) > 1

        await eventually_async(is_heard, WITHIN_S)
        frames = await stream.until(lambda told: told[-1].seq == posted, WITHIN_S)
        assert frames[-1].seq == posted


async def test_a_server_that_dies_takes_the_speed_of_its_own_channels_alone(
    way: WholeWay, redis_servers: RedisServers
) -> None:
    async with way.listening() as streams:
        dead = redis_servers.owner_of(_slot(way.people[0]))
        others = [at for at, person in enumerate(way.people) if redis_servers.owner_of(_slot(person)) is not dead]
        dead.kill()
        for at in others:
            await way.award("alive", way.people[at])
        for at in others:
            frames = await streams[at].count(2, WITHIN_S)
            assert [frame.kind for frame in frames] == ["connected", "created"]
