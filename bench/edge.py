"""What one API process can do for open streams: `python -m bench.edge [--streams 5000]`.

The API has a core of its own (the first one); everything else, this client included, shares the second. Measured are:
memory for each idle stream, the cost of idling, single frames as fast as they go and their latency at a fixed rate, and
an announcement to all. Frames are published as workers would; nothing of them is in PostgreSQL.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import random
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import jwt
import psutil
import psycopg
import redis.asyncio
import uvloop

from shared import migration
from shared.embedded import EmbeddedPostgres, EmbeddedRedis, free_port
from shared.frames import channel_of
from shared.settings import PROJECT_ROOT
from shared.wake import chunk_channel

TENANT = "bench"
SERVER_CORE, OTHER_CORE = 0, 1
#: Connections that are being opened at the same time: less than the server's listen queue.
OPENING = 200
#: Recipients in one chunk message, as a worker makes them.
CHUNK = 2_000
#: Commands in one write to Redis.
PIPELINE = 500
IDLE_S = 10.0
START_S = 60.0
#: A frame is this large: the usual notification.
TEXT = "x" * 400
_STAMP = b'"sent":'


class Client(asyncio.Protocol):
    """One stream: counts its frames, and notes the age of each that carries a time stamp."""

    total = 0
    ages: list[float] = []  # noqa: RUF012 - one list for all clients is the point

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.connected = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        if not self.connected.done():
            if b"event: connected" in data:
                self.connected.set_result(None)
            return
        Client.total += data.count(b"event: notification")
        place = data.rfind(_STAMP)
        if place >= 0:
            sent = int(data[place + len(_STAMP) : data.index(b"}", place)])
            Client.ages.append((time.monotonic_ns() - sent) / 1e6)


def frame(seq: int, stamp: int) -> bytes:
    """Return a frame of the usual size."""
    data = b'{"prev":%d,"type":"created","notification":{"title":"%s"},"sent":%d}' % (seq - 1, TEXT.encode(), stamp)
    return b"id: 1-%d\nevent: notification\ndata: %s\n\n" % (seq, data)


class Bench:
    """The measurements over `number` open streams of as many recipients."""

    def __init__(self, number: int, port: int, pid: int, secret: str, redis_url: str) -> None:
        self._number, self._port, self._secret = number, port, secret
        self._server = psutil.Process(pid)
        self._redis = redis.asyncio.Redis.from_url(redis_url)
        self._seqs = [0] * number
        self._channels = [channel_of(TENANT, f"r{place}") for place in range(number)]

    def _request(self, place: int) -> bytes:
        now = int(time.time())
        claims = {"sub": f"r{place}", "tenant": TENANT, "iat": now, "exp": now + 3600, "iss": "carillon",
                  "aud": "carillon"}  # fmt: skip
        token = jwt.encode(claims, self._secret, algorithm="HS256")
        head = f"GET /api/notifications/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n"
        return head.encode()

    async def open(self) -> None:
        """Open all streams; says how long that took and what each keeps."""
        requests = [self._request(place) for place in range(self._number)]
        before, began = self._server.memory_info().rss, time.monotonic()
        loop = asyncio.get_running_loop()
        for start in range(0, self._number, OPENING):
            made = [
                loop.create_connection(partial(Client, request), "127.0.0.1", self._port)
                for request in requests[start : start + OPENING]
            ]
            for _, client in await asyncio.gather(*made):
                await asyncio.wait_for(client.connected, START_S)
        took = time.monotonic() - began
        kept = (self._server.memory_info().rss - before) / self._number / 1024
        print(f"open       {self._number / took:10,.0f} streams/s   {kept:6.1f} KiB for each")

    async def idle(self) -> None:
        """Say what open streams cost while nothing happens."""
        before = self._cpu()
        await asyncio.sleep(IDLE_S)
        print(f"idle       {100 * (self._cpu() - before) / IDLE_S:10.2f} % of a core")

    def _cpu(self) -> float:
        times = self._server.cpu_times()
        return float(times.user + times.system)

    def _next(self) -> tuple[str, bytes]:
        place = random.randrange(self._number)
        self._seqs[place] += 1
        return self._channels[place], frame(self._seqs[place], time.monotonic_ns())

    async def unicast(self, messages: int, rate: float | None = None) -> None:
        """Publish single frames to random streams, at `rate` a second or as fast as Redis takes them."""
        Client.total, Client.ages[:] = 0, []
        began, cpu, done = time.monotonic(), self._cpu(), 0
        size = PIPELINE if rate is None else max(1, int(rate / 200))
        while done < messages:
            async with self._redis.pipeline(transaction=False) as pipe:
                for _ in range(size):
                    pipe.publish(*self._next())
                await pipe.execute()
            done += size
            if rate is not None:
                await asyncio.sleep(max(0.0, began + done / rate - time.monotonic()))
        await self._arrived(done)
        name = "unicast" if rate is None else f"at {rate:,.0f}/s"
        self._say(name, done, time.monotonic() - began, self._cpu() - cpu)

    async def broadcast(self, rounds: int) -> None:
        """Publish chunks that name every stream once a round."""
        Client.total, Client.ages[:] = 0, []
        began, cpu = time.monotonic(), self._cpu()
        for _ in range(rounds):
            for start in range(0, self._number, CHUNK):
                await self._redis.publish(chunk_channel(0), self._chunk(start))
        await self._arrived(rounds * self._number)
        self._say("broadcast", rounds * self._number, time.monotonic() - began, self._cpu() - cpu)

    def _chunk(self, start: int) -> bytes:
        lines = []
        for place in range(start, min(start + CHUNK, self._number)):
            self._seqs[place] += 1
            lines.append(b"%d %d 01890000-0000-8000-a000-%012d 1 1" % (place + 1, self._seqs[place], place))
        rest = b',"title":"%s","sent":%d}}' % (TEXT.encode(), time.monotonic_ns())
        return b"\n".join([b"shared 1", rest, *lines])

    async def _arrived(self, number: int) -> None:
        seen, since = Client.total, time.monotonic()
        while Client.total < number:
            await asyncio.sleep(0.005)
            if Client.total != seen:
                seen, since = Client.total, time.monotonic()
            if time.monotonic() - since > START_S:
                raise SystemExit(f"{number - seen} of {number} frames are missing")

    @staticmethod
    def _say(name: str, number: int, took: float, cpu: float) -> None:
        ages = sorted(Client.ages)
        p50, p99 = (ages[int(len(ages) * share)] for share in (0.5, 0.99))
        print(
            f"{name:10} {number / took:10,.0f} frames/s    p50 {p50:8.1f} ms   p99 {p99:8.1f} ms   "
            f"{1e6 * cpu / number:5.1f} µs of the API's core for each"
        )


@contextmanager
def servers(folder: Path) -> Iterator[tuple[str, str]]:
    """Start PostgreSQL and Redis; yields their URLs."""
    postgres, redis_server = (
        EmbeddedPostgres(folder / "postgres", fast=True),
        EmbeddedRedis(folder / "redis", fast=True),
    )
    postgres.start()
    redis_server.start()
    try:
        migration.migrate(postgres.url())
        yield postgres.url(), redis_server.url()
    finally:
        redis_server.stop()
        postgres.stop()


@contextmanager
def api(environment: dict[str, str], port: int) -> Iterator[int]:
    """Start one API process on its core; yields its id once it is ready."""
    command = ["taskset", "-c", str(SERVER_CORE), sys.executable, "-m", "uvicorn", "api.app:create_app", "--factory",
               f"--port={port}", "--no-access-log", "--log-level=warning"]  # fmt: skip
    process = subprocess.Popen(command, env={**os.environ, **environment}, cwd=PROJECT_ROOT)
    try:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            try:
                httpx.get(f"http://127.0.0.1:{port}/readyz").raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


async def measure(number: int, port: int, pid: int, secret: str, redis_url: str) -> None:
    """Run every measurement."""
    bench = Bench(number, port, pid, secret, redis_url)
    await bench.open()
    await bench.idle()
    await bench.unicast(10_000, rate=2_000)
    await bench.unicast(200_000)
    await bench.broadcast(1)
    await bench.broadcast(20)


def main() -> None:
    """Start the servers, measure, print, stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=5_000)
    number: int = parser.parse_args().streams
    os.sched_setaffinity(0, {OTHER_CORE})
    port, secret = free_port(), secrets.token_urlsafe(48)
    with tempfile.TemporaryDirectory(prefix="carillon-bench-") as name, servers(Path(name)) as (url, redis_url):
        with psycopg.connect(url) as session:
            session.execute("INSERT INTO tenants (id) VALUES (%s)", [TENANT])
            session.execute(
                "INSERT INTO inboxes (tenant, recipient)"
                " SELECT %s, 'r' || place FROM generate_series(0, %s) place ORDER BY place",
                [TENANT, number - 1],
            )
        environment = {
            "CARILLON_DATA_DIR": name, "CARILLON_DATABASE_URL": url, "CARILLON_REDIS_URL": redis_url,
            "CARILLON_BROKER_URL": redis_url, "CARILLON_JWT_SECRET": secret,
            "CARILLON_SECRET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        }  # fmt: skip
        with api(environment, port) as pid, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(measure(number, port, pid, secret, redis_url))


if __name__ == "__main__":
    main()
