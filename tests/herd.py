"""Thousands of streams by one client process: plain protocols that keep what they are sent."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import psycopg

from tests.eventually import eventually_async
from tests.listener import STREAM, Frame, parse
from tests.writer import EVENT_KEY, TENANT, TYPE

#: Files that this process needs beside the streams.
OTHER_FILES = 500


def room_for(streams: int) -> None:
    """Raise this process's own limit of open files so that it can hold so many streams."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = streams + OTHER_FILES
    assert hard in {resource.RLIM_INFINITY} or hard >= wanted, f"this test needs ulimit -Hn {wanted}"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def unchunked(body: bytes) -> bytes:
    """Return what a chunked body holds; a piece that has not come whole is left out."""
    whole, place = [], 0
    while (end := body.find(b"\r\n", place)) >= 0:
        size = int(body[place:end], 16)
        if len(body) < end + 2 + size:
            break
        whole.append(body[end + 2 : end + 2 + size])
        place = end + 2 + size + 2
    return b"".join(whole)


@dataclass(frozen=True, slots=True)
class Visit:
    """Who asks for a stream, and from where on (None: from now on)."""

    token: str
    cursor: str | None = None

    def request(self) -> bytes:
        """Return the request's bytes."""
        resumed = f"Last-Event-ID: {self.cursor}\r\n" if self.cursor else ""
        head = f"GET {STREAM} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.token}\r\n{resumed}\r\n"
        return head.encode()


class HerdStream(asyncio.Protocol):
    """One stream, from its request to its end. `sent` and `told_at` are the loop's times."""

    def __init__(self, visit: Visit, awaited: bytes) -> None:
        self._visit, self._awaited = visit, awaited
        self.received = bytearray()
        self.closed = False
        loop = asyncio.get_running_loop()
        self.sent = loop.time()
        self.told_at: float | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._visit.request())

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self.told_at is None and self._awaited in self.received:
            self.told_at = asyncio.get_running_loop().time()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True

    @property
    def status(self) -> int:
        """The answer's status."""
        return int(self.received.split(b" ", 2)[1])

    @property
    def frames(self) -> list[Frame]:
        """What was told so far, without heartbeats."""
        body = bytes(self.received).partition(b"\r\n\r\n")[2]
        return [frame for frame in parse(unchunked(body)) if frame.event != "heartbeat"]


class Herd:
    """Many streams, opened all at once."""

    def __init__(self, streams: list[HerdStream]) -> None:
        self.streams = streams

    @classmethod
    async def open(cls, port: int, visits: Sequence[Visit], awaited: bytes, within: float) -> Herd:
        """Connect all at the same moment; returns when each was told the event `awaited`."""
        loop = asyncio.get_running_loop()
        room_for(len(visits))
        made = await asyncio.gather(
            *(loop.create_connection(lambda visit=visit: HerdStream(visit, awaited), "127.0.0.1", port)  # type: ignore[misc]
              for visit in visits)
        )  # fmt: skip
        herd = cls([stream for _, stream in made])
        await herd.all(lambda stream: stream.told_at is not None, within)
        return herd

    async def all(self, satisfied: Callable[[HerdStream], bool], within: float) -> None:
        """Return once `satisfied(stream)` is true of every stream."""

        async def every() -> bool:
            lacking = [stream for stream in self.streams if not satisfied(stream)]
            assert not lacking, (len(lacking), bytes(lacking[0].received)[-300:])
            return True

        await eventually_async(every, within)

    def seconds(self) -> list[float]:
        """Return, ascending, how long each stream waited for the event that was awaited."""
        return sorted(stream.told_at - stream.sent for stream in self.streams if stream.told_at is not None)

    def close(self) -> None:
        """Cut every connection."""
        for stream in self.streams:
            if stream.transport is not None:
                stream.transport.abort()


def change_meanwhile(url: str, modulus: int) -> None:
    """Have the inbox of each recipient `r<n>` get n modulo `modulus` notifications, in seq order, told to nobody."""
    with psycopg.connect(url) as session:
        for place in range(1, modulus):
            session.execute(
                """WITH i AS (UPDATE inboxes SET seq = seq + 1, created = created + 1, unread = unread + 1,
                       unseen = unseen + 1, total = total + 1
                       WHERE tenant = %s AND substr(recipient, 2)::int %% %s >= %s RETURNING *)
                   INSERT INTO notifications (id, key, tenant, event_key, ordinal, created_seq, seq, type, priority,
                       title, message, metadata, created_at)
                   SELECT gen_random_uuid(), key, tenant, %s, created, seq, seq, %s, 1, recipient || ' misses ' || seq,
                       'text', '{}', now() FROM i""",
                [TENANT, modulus, place, EVENT_KEY, TYPE],
            )
