"""Counts what a process asks of PostgreSQL: a TCP proxy that reads the client's side of the protocol.

It sees every statement, prepared ones included, and every connection, whoever makes them and however.
"""

from __future__ import annotations

import asyncio
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

#: The first message of a connection has no type; these ask for encryption, and another first message follows.
_ENCRYPTION_REQUESTS = (80877103, 80877104)


class _Statements:
    """Reads one connection's messages as they come in pieces, and counts its statements by their text."""

    def __init__(self, statements: Counter[str]) -> None:
        self._statements = statements
        self._buffer = b""
        self._begun = False
        self._prepared: dict[bytes, str] = {}
        self._portals: dict[bytes, str] = {}

    def feed(self, data: bytes) -> None:
        """Take bytes that the client sent."""
        self._buffer += data
        while (message := self._next()) is not None:
            self._count(*message)

    def _next(self) -> tuple[bytes, bytes] | None:
        kind = 1 if self._begun else 0
        if len(self._buffer) < kind + 4:
            return None
        end = kind + struct.unpack_from("!I", self._buffer, kind)[0]
        if len(self._buffer) < end:
            return None
        message = self._buffer[:kind], self._buffer[kind + 4 : end]
        self._buffer = self._buffer[end:]
        if not kind:
            self._begun = struct.unpack_from("!I", message[1])[0] not in _ENCRYPTION_REQUESTS
        return message

    def _count(self, kind: bytes, body: bytes) -> None:
        """Count simple queries and executed portals (protocol: Q; P names a statement, B a portal of it, E runs it)."""
        names = body.split(b"\0", 2)
        if kind == b"Q":
            self._statements[self._text(names[0])] += 1
        elif kind == b"P":
            self._prepared[names[0]] = self._text(names[1])
        elif kind == b"B":
            self._portals[names[0]] = self._prepared[names[1]]
        elif kind == b"E":
            self._statements[self._portals[names[0]]] += 1

    @staticmethod
    def _text(query: bytes) -> str:
        return " ".join(query.decode().split())


class Wire:
    """A PostgreSQL behind a counter. `statements` by their text; `connections` open now and `most` at once."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self.port = 0
        self.statements: Counter[str] = Counter()
        self.connections = self.most = 0

    @property
    def url(self) -> str:
        """The database's URL through the counter."""
        credentials = self._target.netloc.rpartition("@")[0]
        return self._target._replace(netloc=f"{credentials}@127.0.0.1:{self.port}").geturl()

    def of(self, words: str) -> int:
        """Return how many statements held these words."""
        return sum(number for text, number in self.statements.items() if words in text)

    def reset(self) -> None:
        """Count anew from here."""
        self.statements.clear()
        self.most = self.connections

    async def serve(self, ready: threading.Event, stop: asyncio.Event) -> None:
        """Pass everything on until `stop`."""
        server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await stop.wait()
        server.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(self._target.hostname, self._target.port)
        self.connections += 1
        self.most = max(self.most, self.connections)
        counted = _Statements(self.statements)
        try:
            await asyncio.gather(_copy(reader, there[1], counted), _copy(there[0], writer, None))
        finally:
            self.connections -= 1
            writer.transport.abort()
            there[1].transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, counted: _Statements | None) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(2**16):
            if counted is not None:
                counted.feed(data)
            writer.write(data)
            await writer.drain()
    writer.close()


@contextmanager
def counted(url: str) -> Iterator[Wire]:
    """Run a counter before the database at `url`, in a thread of its own."""
    wire, ready = Wire(url), threading.Event()
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(wire.serve(ready, stop),), name="wire")
    thread.start()
    try:
        assert ready.wait(10)
        yield wire
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()
