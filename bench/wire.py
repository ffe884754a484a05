"""HTTP/1.1 by hand for the measuring process: a client library would cost more of the two cores than the product."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator


class Poster:
    """One kept-open connection that posts JSON, one request at a time."""

    def __init__(self, port: int, path: str, headers: dict[str, str]) -> None:
        self._port = port
        told = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{told}".encode()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, body: bytes) -> tuple[int, bytes]:
        """Return the answer's status and body."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(self._head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        return int(head.split(b" ", 2)[1]), await reader.readexactly(int(length.split(b":")[1]))

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()


async def frames(port: int, token: str, opened: asyncio.Event) -> AsyncIterator[bytes]:
    """Yield the data line of each frame of a recipient's stream; `opened` is set at the first one (`connected`)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"GET /api/notifications/stream HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
    writer.write(f"{head}Authorization: Bearer {token}\r\n\r\n".encode())
    try:
        while line := await reader.readline():
            if line.startswith(b"data: "):
                opened.set()
                yield line
    finally:
        writer.close()
