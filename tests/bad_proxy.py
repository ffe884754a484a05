"""A reverse proxy as they are met in the field: it passes streams on, or spoils them in one of the usual ways."""

from __future__ import annotations

import asyncio
import ssl
import threading
import zlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

#: zlib's number for the gzip format with its greatest window.
GZIP_FORMAT = 31


@dataclass(frozen=True, slots=True)
class Habits:
    """What the proxy does to streams; other answers it passes on."""

    #: It keeps bytes until it has so many.
    whole_after: int = 0
    #: The answer's head goes out at once even where its body is held back.
    head_first: bool = False
    #: It keeps back everything after so many bytes of the body.
    silent_after: int | None = None
    compress: bool = False
    #: Seconds of silence after which it ends a connection.
    idle_s: float | None = None
    #: A header that it takes away.
    drop_header: bytes | None = None
    tls: ssl.SSLContext | None = None


class _Answer:
    """Turns an answer's bytes into what the proxy sends."""

    def __init__(self, habits: Habits) -> None:
        self._habits = habits
        self._head = b""
        self._held = b""
        self._begun = self._streams = False
        self._sent = 0
        self._squeeze = zlib.compressobj(wbits=GZIP_FORMAT)
        self._chunked = b""

    def feed(self, data: bytes) -> bytes:
        """Return what goes out now."""
        if self._begun:
            return self._body(data)
        self._head += data
        head, end, body = self._head.partition(b"\r\n\r\n")
        if not end:
            return b""
        self._begun = True
        self._streams = b"text/event-stream" in head
        first = self._spoiled(head) + end
        if self._streams and self._habits.whole_after and not self._habits.head_first:
            self._held = first
            return self._body(body)
        return first + self._body(body)

    def _spoiled(self, head: bytes) -> bytes:
        lines = head.split(b"\r\n")
        if self._habits.drop_header is not None:
            lines = [line for line in lines if not line.lower().startswith(self._habits.drop_header)]
        if self._streams and self._habits.compress:
            lines.append(b"content-encoding: gzip")
        return b"\r\n".join(lines)

    def _body(self, data: bytes) -> bytes:
        if not self._streams:
            return data
        if self._habits.compress:
            return self._compressed(data)
        if self._habits.silent_after is not None and self._sent >= self._habits.silent_after:
            return b""
        self._sent += len(data)
        self._held += data
        if len(self._held) < self._habits.whole_after:
            return b""
        held, self._held = self._held, b""
        return held

    def _compressed(self, data: bytes) -> bytes:
        """Compress whole chunks, flushed: what a well-meaning proxy does."""
        self._chunked += data
        out = b""
        while (end := self._chunked.find(b"\r\n")) >= 0:
            size = int(self._chunked[:end], 16)
            if len(self._chunked) < end + size + 4:
                break
            piece = self._chunked[end + 2 : end + 2 + size]
            self._chunked = self._chunked[end + size + 4 :]
            small = self._squeeze.compress(piece) + self._squeeze.flush(zlib.Z_SYNC_FLUSH)
            out += b"%x\r\n%s\r\n" % (len(small), small)
        return out


async def _pass(reader: asyncio.StreamReader, write: Callable[[bytes], Awaitable[None]], idle_s: float | None) -> None:
    with suppress(ConnectionError, TimeoutError):
        while True:
            async with asyncio.timeout(idle_s):
                data = await reader.read(2**16)
            if not data:
                return
            await write(data)


def _writes(writer: asyncio.StreamWriter, change: Callable[[bytes], bytes]) -> Callable[[bytes], Awaitable[None]]:
    async def write(data: bytes) -> None:
        writer.write(change(data))
        await writer.drain()

    return write


class _Proxy:
    def __init__(self, target: int, habits: Habits) -> None:
        self._target, self._habits = target, habits
        self.port = 0

    async def serve(self, ready: threading.Event, stop: asyncio.Event) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._habits.tls)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await stop.wait()
        server.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", self._target)
        asking = asyncio.create_task(_pass(reader, _writes(there[1], lambda data: data), None))
        try:
            await _pass(there[0], _writes(writer, _Answer(self._habits).feed), self._habits.idle_s)
        finally:
            asking.cancel()
            writer.transport.abort()
            there[1].transport.abort()


@contextmanager
def proxied(target: int, habits: Habits) -> Iterator[str]:
    """Run such a proxy before the server on port `target`, in a thread of its own; yields its address."""
    proxy, ready = _Proxy(target, habits), threading.Event()
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(proxy.serve(ready, stop),), name="bad-proxy")
    thread.start()
    try:
        assert ready.wait(10)
        yield f"{'https' if habits.tls else 'http'}://localhost:{proxy.port}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()
