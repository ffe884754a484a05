"""One stream's sending: at once while the reader takes it, a bounded backlog when it does not."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from api.sse import BACKLOG_BYTES, BACKLOG_FRAMES, PIECE_BYTES, Goodbye, Inbox, Stream, goodbye_frame, retry_ms, step
from tests.eventually import eventually_async


class Reader:
    """A server's `send` and transport, whose reader can be stopped: what was taken, and whether the end was sent."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.taken: list[bytes] = []
        self.ended = self.aborted = False

    async def send(self, message: Any) -> None:
        if not self.open.is_set():
            await self.open.wait()
        if message["body"]:
            self.taken.append(message["body"])
        self.ended = self.ended or not message["more_body"]

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted


class Owner:
    """Remembers what a stream told its hub."""

    def __init__(self, send_timeout: float = 10.0) -> None:
        self.send_timeout = send_timeout
        self.told: list[str] = []

    def overflowed(self, stream: Stream) -> None:
        self.told.append("overflowed")
        stream.end(Goodbye.SLOW)

    def stuck(self, stream: Stream) -> None:
        self.told.append("stuck")

    def flowing(self, stream: Stream) -> None:
        self.told.append("flowing")


def stream_of(reader: Reader, owner: Owner) -> Stream:
    stream = Stream(owner, Inbox("north", "ada", b"channel"), 1, client=None, send=reader.send, transport=reader)
    stream.start()
    return stream


async def test_an_open_reader_gets_bytes_without_any_task() -> None:
    reader = Reader()
    stream = stream_of(reader, Owner())
    before = len(asyncio.all_tasks())
    stream.write(b"one", 1)
    stream.write(b"two", 1)
    assert reader.taken == [b"one", b"two"]
    assert (len(asyncio.all_tasks()), stream.paused) == (before, False)


async def test_what_waits_for_a_stopped_reader_is_sent_in_order_when_it_goes_on() -> None:
    reader, owner = Reader(), Owner()
    stream = stream_of(reader, owner)
    reader.open.clear()
    for number in range(5):
        stream.write(b"%d" % number, 1)
    assert (reader.taken, stream.paused) == ([], True)
    reader.open.set()
    await asyncio.wait_for(settled(stream), 5)
    stream.write(b"5", 1)
    assert reader.taken == [b"0", b"1", b"2", b"3", b"4", b"5"]
    assert owner.told == ["flowing"]


async def settled(stream: Stream) -> None:
    while stream.paused:
        await asyncio.sleep(0)


@pytest.mark.parametrize(("frames", "size"), [(BACKLOG_FRAMES, 1), (4, BACKLOG_BYTES // 4)])
async def test_one_frame_or_byte_over_the_backlog_ends_the_stream_as_slow(frames: int, size: int) -> None:
    reader, owner = Reader(), Owner()
    stream = stream_of(reader, owner)
    reader.open.clear()
    stream.write(b"in flight", 1)
    for _ in range(frames):
        stream.write(b"x" * size, 1)
    assert owner.told == []
    stream.write(b"x", 1)
    assert (owner.told, stream.open, stream.ended) == (["overflowed"], False, Goodbye.SLOW)
    reader.open.set()
    await asyncio.wait_for(settled(stream), 5)
    assert reader.taken[0] == b"in flight"
    assert b'"reason":"slow"' in reader.taken[1]
    assert (len(reader.taken), reader.ended) == (2, True)


async def test_a_replay_does_not_count_against_the_backlog() -> None:
    reader, owner = Reader(), Owner()
    stream = stream_of(reader, owner)
    reader.open.clear()
    stream.write(b"in flight", 1)
    stream.write(b"r" * (2 * BACKLOG_BYTES))
    stream.write(b"live", 1)
    assert owner.told == []
    reader.open.set()
    await asyncio.wait_for(settled(stream), 5)
    assert b"".join(reader.taken) == b"in flight" + b"r" * (2 * BACKLOG_BYTES) + b"live"
    assert max(map(len, reader.taken)) == PIECE_BYTES


def _frame(seq: int, size: int) -> bytes:
    return b"id: 1-%d\nevent: notification\ndata: %s\n\n" % (seq, b"x" * size)


@pytest.mark.parametrize(
    ("sizes", "kept"),
    [
        ([1_000] * 200, 64),
        ([10, 2 * PIECE_BYTES + 5, 10], 2),
        ([10, 3 * PIECE_BYTES], 2),
        ([3 * PIECE_BYTES, 10], 2),
    ],
)
@pytest.mark.parametrize("live", [0, 4])
async def test_a_stream_that_ends_amid_a_long_body_tells_whole_frames_and_goodbye(
    sizes: list[int], kept: int, live: int
) -> None:
    """Half a frame would be one event with the goodbye, and its change lost for ever: its id is the client's cursor."""
    reader = Reader()
    stream = stream_of(reader, Owner())
    frames = [_frame(seq, size) for seq, size in enumerate(sizes, 1)]
    reader.open.clear()
    stream.write(b"".join(frames), live)
    stream.end(Goodbye.DRAIN)
    reader.open.set()
    await asyncio.wait_for(settled(stream), 30)
    told = b"".join(reader.taken)
    goodbye = told[told.rindex(b"retry: ") :]
    assert b'"reason":"drain"' in goodbye
    sent = told.removesuffix(goodbye).split(b"\n\n")
    assert sent.pop() == b""
    assert [frame + b"\n\n" for frame in sent] == frames[: len(sent)]
    assert 0 < len(sent) <= kept
    assert (max(map(len, reader.taken)) <= PIECE_BYTES, reader.ended) == (True, True)


async def test_a_reader_that_takes_nothing_for_the_send_timeout_is_cut() -> None:
    reader, owner = Reader(), Owner(send_timeout=0.05)
    stream = stream_of(reader, owner)
    reader.open.clear()
    stream.write(b"x", 1)

    async def is_cut() -> bool:
        return reader.aborted

    await eventually_async(is_cut, within=5)
    assert (owner.told, stream.open) == (["stuck"], False)


async def test_a_server_that_fails_to_send_ends_the_stream_alone() -> None:
    async def failing(_message: Any) -> None:
        raise RuntimeError("response already completed")

    reader, owner = Reader(), Owner()
    stream = Stream(owner, Inbox("north", "ada", b"c"), 1, client=None, send=failing, transport=reader)
    stream.write(b"x", 1)
    stream.write(b"y", 1)
    assert (owner.told, reader.aborted, stream.open) == (["stuck"], True, False)


async def test_goodbye_is_the_last_that_is_sent_and_is_sent_once() -> None:
    reader = Reader()
    stream = stream_of(reader, Owner())
    stream.end(Goodbye.DRAIN)
    stream.end(Goodbye.REVOKED)
    stream.write(b"late", 1)
    stream.write_unless_waiting(b"late")
    assert len(reader.taken) == 1
    assert reader.taken[0].startswith(b"retry: ")
    assert (reader.ended, stream.ended) == (True, Goodbye.DRAIN)


async def test_a_stream_that_was_ended_before_it_began_says_goodbye_when_it_begins() -> None:
    reader = Reader()
    stream = Stream(Owner(), Inbox("north", "ada", b"c"), 1, client=None, send=reader.send, transport=reader)
    stream.end(Goodbye.REPLACED)
    assert reader.taken == []
    stream.start()
    assert b'"reason":"replaced"' in reader.taken[0]
    assert reader.ended


async def test_closing_a_stream_with_a_stopped_reader_leaves_no_task() -> None:
    reader = Reader()
    stream = stream_of(reader, Owner())
    before = asyncio.all_tasks()
    reader.open.clear()
    stream.write(b"x", 1)
    (task,) = asyncio.all_tasks() - before
    stream.close()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


def test_stepping_runs_a_coroutine_to_its_end_when_it_does_not_wait() -> None:
    done: list[int] = []

    async def work() -> None:
        done.append(1)

    assert step(work()) is None
    assert done == [1]


async def test_what_is_left_after_stepping_goes_on_in_a_task_and_carries_errors() -> None:
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def work() -> None:
        await gate
        await asyncio.sleep(0)
        raise ValueError("late")

    rest = step(work())
    assert rest is not None
    gate.set_result(None)
    with pytest.raises(ValueError, match="late"):
        await rest


@pytest.mark.parametrize(("reason", "lowest", "highest"), [(Goodbye.DRAIN, 500, 5_000), (Goodbye.SLOW, 1_000, 3_000)])
def test_the_time_to_come_back_is_drawn_between_its_bounds(reason: Goodbye, lowest: int, highest: int) -> None:
    drawn = [retry_ms(reason) for _ in range(2_000)]
    assert lowest <= min(drawn) < lowest + (highest - lowest) * 0.05
    assert highest - (highest - lowest) * 0.05 < max(drawn) <= highest


def test_a_large_drain_is_spread_so_that_a_thousand_come_back_each_second() -> None:
    drawn = [retry_ms(Goodbye.DRAIN, returning=20_000) for _ in range(2_000)]
    assert 500 <= min(drawn) < 1_500
    assert 19_500 < max(drawn) <= 20_500
    assert max(retry_ms(Goodbye.SLOW, returning=20_000) for _ in range(2_000)) <= 3_000


def test_goodbye_says_why_and_when_to_come_back() -> None:
    frame = goodbye_frame(Goodbye.MAX_AGE)
    retry, event, data = frame.removesuffix(b"\n\n").split(b"\n")
    told = orjson.loads(data.removeprefix(b"data: "))
    assert (event, told["reason"]) == (b"event: goodbye", "max_age")
    assert retry == b"retry: %d" % told["retryMs"]
