"""Readers that are slow or stuck, and the end of the process: nobody else waits, nothing grows, nothing hangs."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import psutil
import pytest

from shared.embedded import EmbeddedPostgres, EmbeddedRedis
from tests.edge import Edge, new_database, running_edge
from tests.eventually import eventually_async
from tests.listener import Frame, Listener

#: Seconds that a reader may take nothing, here.
SEND_TIMEOUT = 2.0
#: Enough text in one frame to fill sockets and buffers with a few hundred.
LONG = "x" * 20_000
#: Socket buffer of a reader that is to be stuck soon, in bytes.
SMALL = 4096


#: So long that only the bound of the backlog ends a reader, however slow this machine is.
PATIENT = 300.0


@pytest.fixture
def send_timeout() -> float:
    """How long readers of the test's process may take nothing."""
    return SEND_TIMEOUT


@pytest.fixture
def edge(
    postgres: EmbeddedPostgres, shared_redis: EmbeddedRedis, tmp_path: Path, send_timeout: float
) -> Iterator[Edge]:
    """An API process of one test."""
    settings = {"CARILLON_STREAM_SEND_TIMEOUT_SECONDS": str(send_timeout), "CARILLON_RECONCILE_SECONDS": "1"}
    with new_database(postgres) as url, running_edge(url, shared_redis.url(), tmp_path, **settings) as running:
        yield running


@asynccontextmanager
async def stuck_listener(edge: Edge, recipient: str, **headers: str) -> AsyncIterator[Listener]:
    """A stream of which nothing is taken, closed at the end."""
    listener = edge.listener(recipient, **headers)
    try:
        yield await listener.open(read=False, receive_buffer=SMALL)
    finally:
        await listener.close()


def ends_at(seq: int, frames: list[Frame]) -> bool:
    return frames[-1].seq == seq


async def streams_open(edge: Edge, number: int) -> None:
    """Return once the process has so many connections of ours."""

    async def so_many() -> bool:
        process = psutil.Process(edge.server.pid)
        found = [each for each in process.net_connections("tcp") if each.laddr.port == edge.server.port]
        return len([each for each in found if each.status == psutil.CONN_ESTABLISHED]) == number

    await eventually_async(so_many, within=20)


async def test_a_reader_that_takes_nothing_is_cut(edge: Edge) -> None:
    ada = edge.recipient()
    async with stuck_listener(edge, ada):
        for _ in range(400):
            edge.writer.create(ada, LONG)
        await streams_open(edge, 0)


@pytest.mark.parametrize("send_timeout", [PATIENT])
async def test_the_neighbour_of_a_reader_that_takes_nothing_hears_everything_meanwhile(edge: Edge) -> None:
    ada = edge.recipient()
    async with stuck_listener(edge, ada), edge.listener(ada) as quick:
        for number in range(1, 401):
            edge.writer.create(ada, LONG)
            # Often enough not to be slow itself: writing holds up this process's loop.
            if number % 20 == 0:
                frames = await quick.until(partial(ends_at, number), within=30)
        assert [frame.seq for frame in frames] == list(range(401))
        # The stuck one has not gone: nobody waited for its end.
        await streams_open(edge, 2)
        memory = psutil.Process(edge.server.pid).memory_info().rss
        assert memory < 300 * 1024 * 1024


@pytest.mark.parametrize("send_timeout", [PATIENT])
async def test_a_slow_reader_that_wakes_up_is_told_slow_and_resumes_with_its_cursor(edge: Edge) -> None:
    ada = edge.recipient()
    async with stuck_listener(edge, ada) as slow:
        for _ in range(380):
            edge.writer.create(ada, LONG)
        slow.read_on()
        frames = await slow.until_closed(within=30)
    told = [frame.seq for frame in frames[:-1]]
    assert told == list(range(len(told)))
    assert len(told) < 381
    assert (frames[-1].kind, frames[-1].data["reason"]) == ("goodbye", "slow")
    async with edge.listener(ada, Last_Event_ID=str(frames[-2].id)) as stream:
        rest = await stream.until(lambda frames: frames[-1].kind == "synced", within=30)
    assert [frame.seq for frame in rest[1:-1]] == list(range(len(told), 381))


@pytest.mark.parametrize("send_timeout", [PATIENT])
async def test_a_reader_that_only_pauses_gets_all_that_waited_for_it(edge: Edge) -> None:
    ada = edge.recipient()
    async with stuck_listener(edge, ada) as slow:
        for _ in range(30):
            edge.writer.create(ada, LONG)
        slow.read_on()
        await slow.until(partial(ends_at, 30), within=30)
        edge.writer.create(ada)
        frames = await slow.until(partial(ends_at, 31), within=30)
    assert [(frame.kind, frame.seq) for frame in frames] == [
        ("connected", 0), *[("created", seq) for seq in range(1, 32)]
    ]  # fmt: skip


@pytest.mark.parametrize("send_timeout", [PATIENT])
async def test_a_long_replay_reaches_a_slow_reader_whole(edge: Edge) -> None:
    ada = edge.recipient()
    for _ in range(150):
        edge.writer.create(ada, LONG)
    async with stuck_listener(edge, ada, Last_Event_ID="1-0") as slow:
        edge.writer.create(ada)
        slow.read_on()
        frames = await slow.until(partial(ends_at, 151), within=30)
    assert [(frame.kind, frame.seq) for frame in frames] == [
        ("connected", 0), *[("changed", seq) for seq in range(1, 151)], ("synced", 150), ("created", 151)
    ]  # fmt: skip


async def test_a_stop_says_goodbye_to_three_hundred_streams_and_the_process_is_gone(edge: Edge) -> None:
    recipients = [edge.recipient() for _ in range(100)]
    async with AsyncExitStack() as stack:
        opened = [edge.listener(recipient) for recipient in recipients for _ in range(3)]
        streams = [await stack.enter_async_context(stream) for stream in opened]
        await stack.enter_async_context(stuck_listener(edge, "stuck"))
        for stream in streams:
            await stream.count(1, within=30)
        assert edge.server.process is not None
        edge.server.signal(signal.SIGTERM)
        for stream in streams:
            await stream.until_closed(within=30)
        code = await asyncio.to_thread(edge.server.process.wait, 30)
        told = [stream.told() for stream in streams]
    assert {tuple(frame.kind for frame in frames) for frames in told} == {("connected", "goodbye")}
    assert {frames[1].data["reason"] for frames in told} == {"drain"}
    waits = [frames[1].data["retryMs"] for frames in told]
    assert 500 <= min(waits) < 1_500
    assert 4_000 < max(waits) <= 5_000
    assert code == -signal.SIGTERM, edge.server.output[-2000:]
    # It ended by itself: nothing had to be given up.
    assert "timeout graceful shutdown exceeded" not in edge.server.output
    assert "Traceback" not in edge.server.output


async def test_a_stop_does_not_wait_for_a_reader_that_takes_nothing(edge: Edge) -> None:
    ada = edge.recipient()
    async with stuck_listener(edge, ada):
        for _ in range(260):
            edge.writer.create(ada, LONG)
        assert edge.server.process is not None
        edge.server.signal(signal.SIGTERM)
        code = await asyncio.to_thread(edge.server.process.wait, 30)
    assert code == -signal.SIGTERM
    assert "timeout graceful shutdown exceeded" not in edge.server.output
