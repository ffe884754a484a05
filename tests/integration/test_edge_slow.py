"""Readers that are slow or stuck, and the end of the process: nobody else waits, nothing grows, nothing hangs."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
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


async def stuck_listener(edge: Edge, recipient: str) -> Listener:
    """Open a stream and take nothing from it."""
    return await edge.listener(recipient).open(read=False, receive_buffer=SMALL)


def ends_at(seq: int, frames: list[Frame]) -> bool:
    return frames[-1].seq == seq


async def streams_open(edge: Edge, number: int) -> None:
    """Return once the process has so many connections of ours."""

    async def so_many() -> bool:
        process = psutil.Process(edge.server.pid)
        found = [each for each in process.net_connections("tcp") if each.laddr.port == edge.server.port]
        return len([each for each in found if each.status == psutil.CONN_ESTABLISHED]) == number

    await eventually_async(so_many, within=20)


async def test_a_reader_that_takes_nothing_is_cut_and_its_neighbour_hears_everything_in_time(edge: Edge) -> None:
    ada = edge.recipient()
    slow = await stuck_listener(edge, ada)
    async with edge.listener(ada) as quick:
        await quick.count(1)
        slowest = 0.0
        for number in range(400):
            before = time.monotonic()
            edge.writer.create(ada, LONG)
            if number % 20 == 0:
                await quick.until(partial(ends_at, number + 1))
                slowest = max(slowest, time.monotonic() - before)
        frames = await quick.until(lambda frames: frames[-1].seq == 400)
        assert [frame.seq for frame in frames] == list(range(401))
        assert slowest < SEND_TIMEOUT
        await streams_open(edge, 1)
        memory = psutil.Process(edge.server.pid).memory_info().rss
        assert memory < 300 * 1024 * 1024
    await slow.close()


@pytest.mark.parametrize("send_timeout", [PATIENT])
async def test_a_slow_reader_that_wakes_up_is_told_slow_and_resumes_with_its_cursor(edge: Edge) -> None:
    ada = edge.recipient()
    slow = await stuck_listener(edge, ada)
    for _ in range(380):
        edge.writer.create(ada, LONG)
    slow.read_on()
    frames = await slow.until_closed()
    told = [frame.seq for frame in frames[:-1]]
    assert told == list(range(len(told)))
    assert len(told) < 381
    assert (frames[-1].kind, frames[-1].data["reason"]) == ("goodbye", "slow")
    await slow.close()
    async with edge.listener(ada, Last_Event_ID=str(frames[-2].id)) as stream:
        rest = await stream.until(lambda frames: frames[-1].kind == "synced")
    assert [frame.seq for frame in rest[1:-1]] == list(range(len(told), 381))


async def test_a_reader_that_only_pauses_gets_all_that_waited_for_it(edge: Edge) -> None:
    ada = edge.recipient()
    slow = await stuck_listener(edge, ada)
    for _ in range(30):
        edge.writer.create(ada, LONG)
    slow.read_on()
    frames = await slow.until(lambda frames: frames[-1].seq == 30)
    edge.writer.create(ada)
    frames = await slow.until(lambda frames: frames[-1].seq == 31)
    assert [(frame.kind, frame.seq) for frame in frames] == [
        ("connected", 0), *[("created", seq) for seq in range(1, 32)]
    ]  # fmt: skip
    await slow.close()


async def test_a_long_replay_reaches_a_slow_reader_whole(edge: Edge) -> None:
    ada = edge.recipient()
    for _ in range(150):
        edge.writer.create(ada, LONG)
    slow = await edge.listener(ada, Last_Event_ID="1-0").open(read=False, receive_buffer=SMALL)
    edge.writer.create(ada)
    slow.read_on()
    frames = await slow.until(lambda frames: frames[-1].seq == 151)
    assert [(frame.kind, frame.seq) for frame in frames] == [
        ("connected", 0), *[("changed", seq) for seq in range(1, 151)], ("synced", 150), ("created", 151)
    ]  # fmt: skip
    await slow.close()


async def test_a_stop_says_goodbye_to_three_hundred_streams_and_the_process_is_gone(edge: Edge) -> None:
    recipients = [edge.recipient() for _ in range(100)]
    streams = [await edge.listener(recipient).open() for recipient in recipients for _ in range(3)]
    stuck = await stuck_listener(edge, "stuck")
    for stream in streams:
        await stream.count(1)
    assert edge.server.process is not None
    before = time.monotonic()
    edge.server.signal(signal.SIGTERM)
    for stream in streams:
        await stream.until_closed()
    said = time.monotonic() - before
    code = await asyncio.to_thread(edge.server.process.wait, 20)
    gone = time.monotonic() - before
    told = [stream.told() for stream in streams]
    assert {tuple(frame.kind for frame in frames) for frames in told} == {("connected", "goodbye")}
    assert {frames[1].data["reason"] for frames in told} == {"drain"}
    waits = [frames[1].data["retryMs"] for frames in told]
    assert 500 <= min(waits) < 1_500
    assert 4_000 < max(waits) <= 5_000
    assert (said < 5, gone < 8, code) == (True, True, -signal.SIGTERM), (said, gone, code, edge.server.output[-2000:])
    assert "Traceback" not in edge.server.output
    for stream in (*streams, stuck):
        await stream.close()


async def test_a_stop_does_not_wait_for_a_reader_that_takes_nothing(edge: Edge) -> None:
    ada = edge.recipient()
    slow = await stuck_listener(edge, ada)
    for _ in range(260):
        edge.writer.create(ada, LONG)
    assert edge.server.process is not None
    edge.server.signal(signal.SIGTERM)
    code = await asyncio.to_thread(edge.server.process.wait, 20)
    assert code == -signal.SIGTERM
    assert "timeout graceful shutdown exceeded" not in edge.server.output
    await slow.close()
