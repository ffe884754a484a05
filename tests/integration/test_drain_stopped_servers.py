"""A stop while PostgreSQL and Redis stand still: they answer nothing, and hold nobody up."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import psutil

from shared.embedded import EmbeddedPostgres, EmbeddedRedis, EmbeddedServer
from tests.edge import running_edge

#: As with servers that answer.
GONE_S = 5.0
WAIT_S = 60.0
STREAMS = 20


def family(server: EmbeddedServer) -> list[psutil.Process]:
    """Return a server's processes: PostgreSQL has one for each connection."""
    assert server.process is not None
    main = psutil.Process(server.process.pid)
    return [main, *main.children(recursive=True)]


async def test_a_stop_ends_in_time_though_redis_and_the_database_stand_still(
    private_postgres: EmbeddedPostgres, private_redis: EmbeddedRedis, tmp_path: Path
) -> None:
    with running_edge(private_postgres.url(), private_redis.url(), tmp_path, CARILLON_RECONCILE_SECONDS="1") as edge:
        streams = [await edge.listener(edge.recipient()).open() for _ in range(STREAMS)]
        for stream in streams:
            await stream.count(1)
        assert edge.server.process is not None
        processes = [*family(private_postgres), *family(private_redis)]
        for process in processes:
            process.suspend()
        try:
            began = time.monotonic()
            edge.server.signal(signal.SIGTERM)
            for stream in streams:
                await stream.until_closed()
            code = await asyncio.to_thread(edge.server.process.wait, WAIT_S)
            gone = time.monotonic() - began
        finally:
            for process in processes:
                process.resume()
        assert (gone < GONE_S, code) == (True, -signal.SIGTERM), (gone, code, edge.server.output[-2000:])
        told = [[frame.kind for frame in stream.told()] for stream in streams]
        assert told == [["connected", "goodbye"]] * STREAMS
        for stream in streams:
            await stream.close()
