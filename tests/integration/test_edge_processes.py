"""Two API processes over the same servers: what one knows of the other's streams."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from uuid import uuid4

import pytest

from shared.embedded import EmbeddedPostgres, EmbeddedRedis
from tests.edge import Edge, new_database, running_edge
from tests.eventually import eventually_async
from tests.servers import ApiServer


@pytest.fixture(scope="module")
def edges(
    postgres: EmbeddedPostgres, shared_redis: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Edge, Edge]]:
    """Two processes, which share their secrets."""
    folder = tmp_path_factory.mktemp("edge")
    with new_database(postgres) as url, running_edge(url, shared_redis.url(), folder) as first:
        second = ApiServer(first.environment, folder / "second.log")
        try:
            second.start()
            yield first, replace(first, server=second)
        finally:
            second.kill()


async def test_a_change_reaches_the_streams_of_both(edges: tuple[Edge, Edge]) -> None:
    one, two = edges
    ada = one.recipient()
    async with one.listener(ada) as here, two.listener(ada) as there:
        await here.count(1)
        await there.count(1)
        one.writer.create(ada)
        one.writer.create_chunk([ada])
        for stream in (here, there):
            frames = await stream.count(3)
            assert [(frame.kind, frame.seq) for frame in frames] == [("connected", 0), ("created", 1), ("created", 2)]


async def test_the_limit_counts_the_streams_of_both(edges: tuple[Edge, Edge]) -> None:
    one, two = edges
    ada = one.recipient()
    streams = [await edge.listener(ada).open() for edge in (one, two, one, two, one)]
    assert [stream.status for stream in streams] == [200] * 5
    for edge in edges:
        async with edge.listener(ada) as sixth:
            assert sixth.status == 429
    await streams[0].close()
    await eventually_async(lambda: accepted(two, ada))
    for stream in streams:
        await stream.close()


async def accepted(edge: Edge, recipient: str) -> bool:
    """Tell whether one more stream is accepted; it is closed again."""
    async with edge.listener(recipient) as stream:
        return stream.status == 200


async def test_a_client_replaces_its_predecessor_in_the_other_process(edges: tuple[Edge, Edge]) -> None:
    one, two = edges
    ada, client = one.recipient(), uuid4()
    others = [await edge.listener(ada).open() for edge in (one, two, one, two)]
    async with one.listener(ada, f"client={client}") as first:
        await first.count(1)
        async with two.listener(ada, f"client={client}") as second:
            assert second.status == 200
            frames = await first.until_closed()
            async with one.listener(ada, f"client={client}") as third:
                assert third.status == 200
                assert (await second.until_closed())[-1].data["reason"] == "replaced"
                one.writer.create(ada)
                assert [frame.kind for frame in await third.count(2)] == ["connected", "created"]
    assert [frame.kind for frame in frames] == ["connected", "goodbye"]
    assert frames[1].data["reason"] == "replaced"
    for stream in others:
        await stream.count(2)
        await stream.close()


async def test_a_killed_process_frees_its_streams_places(edges: tuple[Edge, Edge]) -> None:
    one, two = edges
    ada = one.recipient()
    streams = [await two.listener(ada).open() for _ in range(5)]
    assert not await accepted(one, ada)
    two.server.kill()
    await eventually_async(lambda: accepted(one, ada), within=20)
    for stream in streams:
        await stream.close()
