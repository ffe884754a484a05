"""Cost over the open streams of one API process, 1,000 to 10,000: memory, idling, latency, announcements.

The API has a core of its own (the first one); everything else, this client included, shares the second. Each number of
streams gets a new process. Frames are published as workers would; nothing of them is in PostgreSQL.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

import psutil
import psycopg
import redis.asyncio
import uvloop

from bench.cpu import cpu_seconds
from bench.edge import OTHER_CORE, servers
from bench.herd import api
from bench.series import Growth, Point, Series, point
from shared.frames import channel_of
from shared.wake import chunk_channel
from tests.edge import environment_of
from tests.herd import Visit, room_for
from tests.listener import token_for
from tests.writer import TENANT

SIZES = (1_000, 2_000, 5_000, 10_000)
#: Connections that are being opened at the same time: less than the server's listen queue.
OPENING = 200
PATIENCE_S = 60.0
#: Each stream is told one heartbeat within this, so that the idle time has one of each, and two rounds of reconciling.
HEARTBEAT_S = IDLE_S = 10.0
#: Recipients in one message of a chunk, as a worker makes them.
CHUNK = 2_000
BROADCASTS = 7
#: Single frames, how many a second, and how often that is done.
MESSAGES, RATE, SINGLES = 6_000, 2_000, 3
#: Lines of chunk messages that are for nobody here, and the share of those that are in the next messages.
FOREIGN_CHUNKS, SOME = 200, 100
TEXT = b"x" * 400
_STAMP = b'"sent":'
MEASURED: dict[str, tuple[str, Growth]] = {
    "memory of the process": ("MiB", "linear"),
    "memory for each stream": ("KiB", "constant"),
    "idle": ("% of a core", "linear"),
    "announcement, until the last has it": ("ms", "linear"),
    "announcement, CPU for each stream": ("µs", "constant"),
    "single frame at 2,000/s, p50": ("ms", "constant"),
    "single frame at 2,000/s, p99": ("ms", "constant"),
    "single frame at 2,000/s, CPU": ("µs", "constant"),
    "opening, CPU for each stream": ("µs", "constant"),
    "recipient of a chunk who is not here": ("µs", "constant"),
    "the same, one in a hundred here": ("µs", "constant"),
}


class Told:
    """What all streams together have got: how many frames, their ages in milliseconds, and when the last one came."""

    def __init__(self) -> None:
        self.frames = 0
        self.ages: list[float] = []
        self.last = 0.0

    def reset(self) -> None:
        """Count anew from here."""
        self.frames, self.ages = 0, []


class Sink(asyncio.Protocol):
    """One stream; of the frames that one read brings, the last one's age is noted."""

    def __init__(self, told: Told, request: bytes) -> None:
        self._told, self._request = told, request
        self.connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        told = self._told
        told.frames += data.count(b"event: notification")
        place = data.rfind(_STAMP)
        if place >= 0:
            told.last = time.monotonic()
            sent = int(data[place + len(_STAMP) : data.index(b"}", place)])
            told.ages.append((time.monotonic_ns() - sent) / 1e6)
        elif not self.connected.done() and b"event: connected" in data:
            self.connected.set_result(None)


class Costs(NamedTuple):
    """The values of `MEASURED` for one number of streams, several where it was done several times."""

    memory: list[float]
    memory_each: list[float]
    idle: list[float]
    last: list[float]
    broadcast_cpu: list[float]
    p50: list[float]
    p99: list[float]
    single_cpu: list[float]
    opening_cpu: list[float]
    foreign_cpu: list[float]
    some_cpu: list[float]


class Streams:
    """So many open streams of one process, each of a recipient of its own."""

    def __init__(self, number: int, port: int, pid: int, redis_url: str) -> None:
        self._number, self._port = number, port
        self._server = psutil.Process(pid)
        self._redis = redis.asyncio.Redis.from_url(redis_url)
        self._told = Told()
        self._seqs = [0] * number
        self._sinks: list[Sink] = []

    def __len__(self) -> int:
        return self._number

    def _cpu(self) -> float:
        return cpu_seconds([self._server.pid])

    async def open(self, environment: dict[str, str]) -> float:
        """Open all; returns the CPU microseconds for each."""
        visits = [Visit(token_for(environment, f"r{place}")) for place in range(self._number)]
        room_for(self._number)
        loop, cpu = asyncio.get_running_loop(), self._cpu()
        for start in range(0, self._number, OPENING):
            made = (
                loop.create_connection(partial(Sink, self._told, visit.request()), "127.0.0.1", self._port)
                for visit in visits[start : start + OPENING]
            )
            sinks = [sink for _, sink in await asyncio.gather(*made)]
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.gather(*(sink.connected for sink in sinks))
            self._sinks += sinks
        return 1e6 * (self._cpu() - cpu) / self._number

    def memory(self) -> float:
        """Return the MiB of the process."""
        return float(self._server.memory_info().rss) / 2**20

    async def idle(self) -> float:
        """Return the share of a core, in percent, that the streams cost while nothing happens."""
        cpu = self._cpu()
        await asyncio.sleep(IDLE_S)
        return 100 * (self._cpu() - cpu) / IDLE_S

    async def broadcast(self) -> tuple[float, float]:
        """Announce to all; returns the milliseconds until the last has it, and the CPU microseconds for each."""
        self._told.reset()
        messages = [
            self._chunk(range(start, min(start + CHUNK, self._number))) for start in range(0, self._number, CHUNK)
        ]
        began, cpu = time.monotonic(), self._cpu()
        await self._publish_chunks(messages)
        await self._arrived(self._number)
        return 1e3 * (self._told.last - began), 1e6 * (self._cpu() - cpu) / self._number

    async def _publish_chunks(self, messages: list[bytes]) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            for message in messages:
                pipe.publish(chunk_channel(0), message)
            await pipe.execute()

    def _chunk(self, places: range, foreign: int = 0) -> bytes:
        """Return the message of a chunk that reaches these places, and `foreign` recipients who are elsewhere."""
        lines = []
        for place in places:
            self._seqs[place] += 1
            lines.append(b"%d %d 01890000-0000-8000-a000-%012d 1 1" % (place + 1, self._seqs[place], place))
        first = 10**6
        lines += [b"%d 17 01890000-0000-8000-a000-%012d 1 1" % (first + each, each) for each in range(foreign)]
        rest = b',"title":"%s","sent":%d}}' % (TEXT, time.monotonic_ns())
        return b"\n".join([b"shared 1", rest, *lines])

    async def foreign(self, here: int) -> float:
        """Publish chunks of which `here` recipients each have a stream here; returns CPU microseconds a recipient."""
        self._told.reset()
        messages = [self._chunk(range(here), CHUNK - here) for _ in range(FOREIGN_CHUNKS - 1)]
        # Behind all others, so that its arrival tells that they were read.
        messages.append(self._chunk(range(max(here, 1)), CHUNK - here))
        cpu = self._cpu()
        await self._publish_chunks(messages)
        await self._arrived(here * (FOREIGN_CHUNKS - 1) + max(here, 1))
        return 1e6 * (self._cpu() - cpu) / (FOREIGN_CHUNKS * CHUNK)

    async def single(self, idle: float) -> tuple[float, float, float]:
        """Publish single frames to random streams at a steady rate.

        Returns the milliseconds of p50 and p99, and the CPU microseconds for each beyond what the streams cost idly.
        """
        self._told.reset()
        cpu = self._cpu()
        began, done, at_once = time.monotonic(), 0, RATE // 200
        while done < MESSAGES:
            async with self._redis.pipeline(transaction=False) as pipe:
                for _ in range(at_once):
                    pipe.publish(*self._frame())
                await pipe.execute()
            done += at_once
            await asyncio.sleep(max(0.0, began + done / RATE - time.monotonic()))
        await self._arrived(done)
        ages, spent = sorted(self._told.ages), idle / 100 * (time.monotonic() - began)
        return ages[len(ages) // 2], ages[int(0.99 * len(ages))], 1e6 * (self._cpu() - cpu - spent) / done

    def _frame(self) -> tuple[str, bytes]:
        place = random.randrange(self._number)
        self._seqs[place] += 1
        seq = self._seqs[place]
        data = b'{"prev":%d,"type":"created","notification":{"title":"%s"},"sent":%d}' % (
            seq - 1, TEXT, time.monotonic_ns())  # fmt: skip
        return channel_of(TENANT, f"r{place}"), b"id: 1-%d\nevent: notification\ndata: %s\n\n" % (seq, data)

    async def _arrived(self, number: int) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while self._told.frames < number:
            await asyncio.sleep(0.005)
            if time.monotonic() > deadline:
                raise SystemExit(f"{number - self._told.frames} of {number} frames are missing")

    async def close(self) -> None:
        """Cut all streams."""
        for sink in self._sinks:
            if sink.transport is not None:
                sink.transport.abort()
        await self._redis.aclose()


async def _measure_one(streams: Streams, environment: dict[str, str]) -> Costs:
    try:
        before = streams.memory()
        opening, memory = await streams.open(environment), streams.memory()
        each = 1024 * (memory - before) / len(streams)
        idle = await streams.idle()
        singles = [await streams.single(idle) for _ in range(SINGLES)]
        broadcasts = [await streams.broadcast() for _ in range(BROADCASTS + 1)][1:]
        foreign, some = await streams.foreign(0), await streams.foreign(CHUNK // SOME)
    finally:
        await streams.close()
    lasts, cpus = zip(*broadcasts, strict=True)
    p50, p99, single = zip(*singles, strict=True)
    told = (list(lasts), list(cpus), list(p50), list(p99), list(single))
    return Costs([memory], [each], [idle], *told, [opening], [foreign], [some])


def measure(_folder: Path) -> list[Series]:
    """Measure every number of streams."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {OTHER_CORE})
    try:
        with servers(_folder) as (url, redis_url), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            _register(url)
            environment = environment_of(url, redis_url, _folder, CARILLON_HEARTBEAT_SECONDS=str(HEARTBEAT_S))
            found: dict[str, list[Point]] = {name: [] for name in MEASURED}
            for number in SIZES:
                with api(environment) as (port, process):
                    costs = runner.run(_measure_one(Streams(number, port, process.pid, redis_url), environment))
                for name, values in zip(MEASURED, costs, strict=True):
                    found[name].append(point(number, values))
                print(f"{number:,} streams measured", flush=True)
    finally:
        os.sched_setaffinity(0, allowed)
    return [Series(name, *MEASURED[name], tuple(points)) for name, points in found.items()]


def _register(url: str) -> None:
    statement = "INSERT INTO inboxes (tenant, recipient) SELECT %s, 'r' || g FROM generate_series(0, %s) g ORDER BY g"
    with psycopg.connect(url) as session:
        session.execute("INSERT INTO tenants (id) VALUES (%s)", (TENANT,))
        session.execute(statement, (TENANT, SIZES[-1] - 1))
