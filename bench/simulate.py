"""What a large installation does to its parts, tried on small ones: `python -m bench.simulate` writes
`bench/results/simulation.json`, which the model of docs/scaling.md reads.

Tried are a Redis with many channels and with many edges that hear its chunks, and, by calculation, the return of all
streams of an edge, a host or everything: queues in front of the edges that are left.
"""

from __future__ import annotations

import heapq
import random
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from api.sse import RETRY_MS
from bench import report
from bench.cpu import cpu_seconds
from shared.embedded import EmbeddedRedis
from shared.frames import channel_of
from shared.wake import chunk_channel

#: Inboxes that are listened to, and how many connections share them: 10,000 to an edge.
CHANNELS, EDGES = 100_000, 10
PUBLISHED = 100_000
FRAME = b"x" * 700
#: Recipients of a chunk, and the bytes that its message has for each: key, seq, id, two counters.
CHUNK, LINE = 2_000, 61
CHUNKS = 200
HEARD_BY = (1, 10, 50)
PIPELINE = 500
READ = 2**18


class Edge(threading.Thread):
    """A connection that listens and throws away what it hears: the cheapest edge that there can be."""

    def __init__(self, port: int, password: str, channels: list[str]) -> None:
        super().__init__(daemon=True)
        self.heard = 0
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._send("AUTH", password)
        for start in range(0, len(channels), PIPELINE):
            self._send("SUBSCRIBE", *channels[start : start + PIPELINE])
        self.start()

    def _send(self, *parts: str) -> None:
        encoded = (b"$%d\r\n%s\r\n" % (len(part), part.encode()) for part in parts)
        self._socket.sendall(b"*%d\r\n" % len(parts) + b"".join(encoded))

    def run(self) -> None:
        """Read until the other side ends it."""
        while data := self._receive():
            self.heard += len(data)

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(READ)
        except OSError:
            return b""

    def close(self) -> None:
        """End the connection."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self.join()
        self._socket.close()


@contextmanager
def listening(server: EmbeddedRedis, edges: list[list[str]]) -> Iterator[list[Edge]]:
    """Have connections listen to channels, one for each list; all are subscribed inside the block."""
    wanted = sum(len(channels) for channels in edges)
    made = [Edge(server.port, server.password, channels) for channels in edges]
    try:
        with redis.Redis.from_url(server.url()) as client:
            while sum(_subscriptions(client, edges)) < wanted:
                time.sleep(0.05)
        yield made
    finally:
        for edge in made:
            edge.close()


def _subscriptions(client: redis.Redis, edges: list[list[str]]) -> Iterator[int]:
    for channels in edges:
        for start in range(0, len(channels), PIPELINE):
            yield sum(number for _, number in client.pubsub_numsub(*channels[start : start + PIPELINE]))


def _memory(client: redis.Redis) -> int:
    info: dict[str, Any] = client.info("memory")
    return int(info["used_memory"])


def channels(server: EmbeddedRedis) -> dict[str, float]:
    """Return what a channel costs Redis in bytes, and a frame published on one of them in CPU microseconds."""
    names = [channel_of("tenant-of-usual-length", f"recipient-{number}") for number in range(CHANNELS)]
    each = CHANNELS // EDGES
    with redis.Redis.from_url(server.url()) as client:
        before = _memory(client)
        with listening(server, [names[place * each : (place + 1) * each] for place in range(EDGES)]):
            bytes_each = (_memory(client) - before) / CHANNELS
            cpu = _cpu(server)
            for start in range(0, PUBLISHED, PIPELINE):
                with client.pipeline(transaction=False) as pipe:
                    for name in names[start : start + PIPELINE]:
                        pipe.publish(name, FRAME)
                    pipe.execute()
            took = _cpu(server) - cpu
    return {"channel_bytes": round(bytes_each, 1), "frame_us": round(1e6 * took / PUBLISHED, 2)}


def _cpu(server: EmbeddedRedis) -> float:
    assert server.process is not None
    return cpu_seconds([server.process.pid])


def chunks(server: EmbeddedRedis, edges: int) -> float:
    """Return the CPU microseconds that a recipient in a chunk costs Redis for each of so many edges that hear it."""
    message = b"\n".join([b"shared 1", FRAME, *([b"x" * LINE] * CHUNK)])
    with redis.Redis.from_url(server.url()) as client, listening(server, [[chunk_channel(0)]] * edges) as heard:
        expected = CHUNKS * len(message)
        cpu = _cpu(server)
        for _ in range(CHUNKS):
            client.publish(chunk_channel(0), message)
        while min(edge.heard for edge in heard) < expected:
            time.sleep(0.01)
        took = _cpu(server) - cpu
    return round(1e6 * took / (CHUNKS * CHUNK * edges), 4)


@dataclass(frozen=True, slots=True)
class Return:
    """How a herd comes back: when the last one is told everything, and how long the unluckiest waited for that."""

    streams: int
    last_s: float
    longest_wait_s: float


def come_back(streams: int, edges: int, opening_s: float, spread_s: tuple[float, float], seed: int = 1) -> Return:
    """Let so many streams, cut at the same moment, return to so many edges, each at a random moment of `spread_s`.

    A balancer deals them out in turn; an edge serves one after the other, `opening_s` each. Nobody gives up waiting.
    """
    drawn = random.Random(seed)
    arrivals = sorted(drawn.uniform(*spread_s) for _ in range(streams))
    free = [0.0] * min(edges, streams)
    heapq.heapify(free)
    longest = last = 0.0
    for arrival in arrivals:
        begun = max(arrival, heapq.heappop(free))
        last = begun + opening_s
        heapq.heappush(free, last)
        longest = max(longest, last - arrival)
    return Return(streams, last, longest)


def spread() -> tuple[float, float]:
    """Return within which seconds the clients of a lost edge return."""
    return (RETRY_MS[0] / 1e3, RETRY_MS[1] / 1e3)


def main() -> None:
    """Try everything and write what came of it."""
    with tempfile.TemporaryDirectory(prefix="carillon-bench-") as folder:
        server = EmbeddedRedis(Path(folder) / "redis", fast=True)
        server.start()
        try:
            found: dict[str, Any] = {"machine": report.machine(), **channels(server)}
            found["chunk_line_us"] = {str(edges): chunks(server, edges) for edges in HEARD_BY}
        finally:
            server.stop()
    print(found)
    report.save("simulation", found)
    from bench import model

    model.write()


if __name__ == "__main__":
    main()
