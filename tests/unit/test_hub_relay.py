"""What the hub does for each frame that it relays, counted: the way on which a microsecond is a tenth of a core."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, cast

import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from api.hub import Hub
from api.read import Told
from api.resp import command
from api.sse import Inbox, Stream
from api.subscriber import HOLD_S, LARGE_READ, ORDINARY, Heard, RedisSubscriber, _Connection
from api.wire import Direct
from shared.cursor import Cursor
from shared.frames import Change, Counters, Replay, channel_of, live
from shared.settings import settings

#: Python calls for each frame, alone or a chunk's, from Redis to its connection, and those around a whole read: a guard
#: against what creeps in. Each costs 0.05 µs and more.
CALLS_FOR_EACH = 6
CALLS_FOR_A_READ = 10
NOBODY = "redis://127.0.0.1:1/0"


@pytest.fixture(autouse=True)
def configured(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CARILLON_REDIS_URL", NOBODY)
    monkeypatch.setenv("CARILLON_DATABASE_URL", "postgresql://127.0.0.1:1/none")
    settings.cache_clear()
    yield
    settings.cache_clear()


@dataclass
class Connection:
    """A server's connection: what was written to it past `send`, and what by it."""

    written: list[bytes] = field(default_factory=list)
    sent: list[dict[str, Any]] = field(default_factory=list)
    gone: bool = False

    def __post_init__(self) -> None:
        self.flow = FlowControl(cast(asyncio.Transport, None))

    def write(self, data: bytes) -> None:
        if self.gone:
            raise RuntimeError("the handler is closed")
        self.written.append(data)

    @property
    def body(self) -> bytes:
        """Everything that was sent, then everything that was written."""
        written = (data.partition(b"\r\n")[2].removesuffix(b"\r\n") for data in self.written)
        return b"".join([*(message["body"] for message in self.sent), *written])

    async def send(self, message: Any) -> None:
        if self.flow.write_paused:
            await self.flow.drain()
        self.sent.append(message)


class Streams:
    """A hub with some live streams, one for each recipient, and the connection by which it hears Redis."""

    def __init__(self, number: int) -> None:
        self.hub = Hub()
        self.connections = [Connection() for _ in range(number)]
        self.streams = [self._open(place, connection) for place, connection in enumerate(self.connections)]
        subscriber = RedisSubscriber(
            "redis://127.0.0.1:1/0", Heard(self.hub._on_message, self.hub._flush, lambda: None)
        )
        self.redis = _Connection(subscriber)

    def _open(self, place: int, connection: Connection) -> Stream:
        channel = channel_of("north", f"r{place}").encode()
        inbox = self.hub._inboxes[channel] = Inbox("north", f"r{place}", channel)
        stream = Stream(self.hub, inbox, place, client=None, send=connection.send, transport=None)
        inbox.streams.append(stream)
        self.hub._streams[stream] = None
        self.hub.learn_key(inbox, place + 1)
        stream.start(Direct(connection.flow, connection.write))
        stream.order.told(Cursor(1, 0))
        return stream

    def hear(self, *messages: tuple[bytes, bytes]) -> None:
        """Have one read of Redis bring these (channel, payload)."""
        self.redis.data_received(b"".join(command(ORDINARY.message, *each) for each in messages))

    def frame(self, place: int, seq: int) -> tuple[bytes, bytes]:
        return self.streams[place].inbox.channel, frame_of(seq)


def frame_of(seq: int, size: int = 10) -> bytes:
    return live(Change.READ, Cursor(1, seq), Counters(1, 1, 1), notificationId="x" * size)


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


def calls(work: Callable[[], None]) -> int:
    """Return how many Python functions `work` calls."""
    number = 0

    def count(frame: FrameType, event: str, _: Any) -> None:
        nonlocal number
        number += event == "call"

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return number


async def test_a_stream_leaves_though_its_inbox_was_learnt_under_another_database() -> None:
    streams = Streams(1)
    only = streams.streams[0]
    only.inbox.database = "elsewhere"
    streams.hub.leave(only)
    assert (only.open, streams.hub.sizes()) == (False, (0, 0))


async def test_a_frame_is_one_write_to_the_connection_without_message_or_task() -> None:
    streams = Streams(2)
    before = len(asyncio.all_tasks())
    streams.hear(streams.frame(1, 1))
    assert [each.written for each in streams.connections] == [[], [chunk(frame_of(1))]]
    assert [each.sent for each in streams.connections] == [[], []]
    assert (len(asyncio.all_tasks()), streams.hub.counts.delivered) == (before, 1)


async def test_the_frames_that_one_read_brings_for_a_stream_are_one_write() -> None:
    streams = Streams(2)
    streams.hear(*(streams.frame(place, seq) for seq in (1, 2, 3) for place in (0, 1)))
    joined = chunk(b"".join(map(frame_of, (1, 2, 3))))
    assert [each.written for each in streams.connections] == [[joined], [joined]]


async def test_a_relayed_frame_costs_a_fixed_number_of_calls() -> None:
    streams = Streams(100)
    read = b"".join(command(ORDINARY.message, *streams.frame(place, 1)) for place in range(100))
    number = calls(lambda: streams.redis.data_received(read))
    assert streams.hub.counts.delivered == 100
    assert number <= 100 * CALLS_FOR_EACH + CALLS_FOR_A_READ


async def test_a_recipient_of_a_chunk_costs_a_fixed_number_of_calls() -> None:
    streams = Streams(100)
    lines = [b"%d 1 01890000-0000-8000-a000-000000000001 1 1" % key for key in range(1, 101)]
    payload = b"\n".join([b"shared 1", b',"title":"x"}}', *lines])
    read = command(ORDINARY.message, b"carillon:{b0}", payload)
    number = calls(lambda: streams.redis.data_received(read))
    assert streams.hub.counts.delivered == 100
    assert all(b'"tenant":"north","title":"x"}}\n\n' in each.written[0] for each in streams.connections)
    assert number <= 100 * CALLS_FOR_EACH + CALLS_FOR_A_READ


async def test_a_paused_connection_is_written_to_by_send_in_order() -> None:
    streams = Streams(1)
    connection = streams.connections[0]
    connection.flow.write_paused = True
    connection.flow._is_writable_event.clear()
    streams.hear(streams.frame(0, 1))
    streams.hear(streams.frame(0, 2))
    assert (connection.written, connection.sent, streams.streams[0].paused) == ([], [], True)
    connection.flow.resume_writing()
    while streams.streams[0].paused:
        await asyncio.sleep(0)
    streams.hear(streams.frame(0, 3))
    assert [each["body"] for each in connection.sent] == [frame_of(1), frame_of(2)]
    assert connection.written == [chunk(frame_of(3))]


async def test_a_connection_that_is_over_costs_nobody_else_a_frame() -> None:
    streams = Streams(2)
    streams.connections[0].gone = True
    streams.hear(streams.frame(0, 1), streams.frame(1, 1))
    assert streams.connections[1].written == [chunk(frame_of(1))]


async def test_what_one_large_read_brings_waits_for_the_next_and_is_joined_with_it() -> None:
    streams = Streams(1)
    big = frame_of(1, LARGE_READ)
    streams.hear((streams.streams[0].inbox.channel, big))
    assert streams.connections[0].written == []
    streams.hear(streams.frame(0, 2))
    assert streams.connections[0].body == big + frame_of(2)


async def test_what_a_large_read_brought_is_written_two_turns_later_if_nothing_follows() -> None:
    streams = Streams(1)
    read = [streams.frame(0, seq) for seq in range(1, LARGE_READ // len(frame_of(1)) + 2)]
    streams.hear(*read)
    assert streams.connections[0].written == []
    for _ in range(3):
        await asyncio.sleep(0)
    assert streams.connections[0].body == b"".join(frame for _, frame in read)


async def test_reads_are_held_for_no_longer_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = Streams(2)
    now = 100.0
    monkeypatch.setattr("api.subscriber.time.monotonic", lambda: now)
    streams.hear(streams.frame(0, 1), (b"other", b"x" * LARGE_READ))
    now += 0.9 * HOLD_S
    streams.hear((b"other", b"x" * LARGE_READ))
    assert streams.connections[0].written == []
    now += 0.2 * HOLD_S
    streams.hear((b"other", b"x" * LARGE_READ))
    assert streams.connections[0].written == [chunk(frame_of(1))]


async def test_a_repair_comes_after_what_passed_before_it_and_is_not_written_yet() -> None:
    streams = Streams(1)
    stream = streams.streams[0]
    streams.hear(streams.frame(0, 1), (b"other", b"x" * LARGE_READ))
    stream.order.read()
    replay = Replay(Cursor(1, 1), Cursor(1, 2), Counters(0, 0, 0), ((2, {"prev": 1}),))
    streams.hub.told(stream, Told(1, replay))
    assert streams.connections[0].written == [chunk(frame_of(1)), chunk(replay.encode())]
