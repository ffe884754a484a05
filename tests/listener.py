"""A client of the stream for the tests: a plain socket, so that it can stop reading and sees every byte."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import jwt
import orjson

from tests.eventually import eventually_async
from tests.writer import TENANT

STREAM = "/api/notifications/stream"


def token_for(environment: dict[str, str], recipient: str, ttl: float = 3600, tenant: str = TENANT) -> str:
    """Return a recipient's token that ends in `ttl` seconds."""
    now = int(time.time())
    claims = {"sub": recipient, "tenant": tenant, "iat": now, "exp": int(now + ttl), "iss": "carillon",
              "aud": "carillon"}  # fmt: skip
    return jwt.encode(claims, environment["CARILLON_JWT_SECRET"], algorithm="HS256")


@dataclass(frozen=True, slots=True)
class Frame:
    """One event of the stream, as sent."""

    event: str
    data: dict[str, Any]
    id: str | None
    retry: int | None

    @property
    def seq(self) -> int:
        """The seq of its id."""
        assert self.id is not None
        return int(self.id.split("-")[1])

    @property
    def kind(self) -> str:
        """The change's kind, the event's name for others."""
        return str(self.data.get("type", self.event))


def parse(text: bytes) -> list[Frame]:
    """Return the whole frames of a stream's bytes; an unfinished one at the end is left out, as a browser does."""
    frames = []
    for block in text.split(b"\n\n")[:-1]:
        fields = dict(line.split(b": ", 1) for line in block.split(b"\n"))
        known = set(fields) <= {b"id", b"event", b"data", b"retry"}
        assert known, block
        id = fields[b"id"].decode() if b"id" in fields else None
        retry = int(fields[b"retry"]) if b"retry" in fields else None
        frames.append(Frame(fields[b"event"].decode(), orjson.loads(fields[b"data"]), id, retry))
    return frames


class Listener:
    """One connection to the stream. `await listener.open()` returns once the answer's head was read."""

    def __init__(self, url: str, token: str | None, query: str = "", path: str = STREAM, **headers: str) -> None:
        self._address = urlsplit(url)
        self._target = path + (f"?{query}" if query else "")
        self._headers = {"Host": self._address.netloc, **{k.replace("_", "-"): v for k, v in headers.items()}}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.closed = False
        self._task: asyncio.Task[None] | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Listener:
        return self if self.status else await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self, method: str = "GET", read: bool = True, receive_buffer: int | None = None) -> Listener:
        """Send the request. Without `read`, nothing after the answer's head is taken from the socket.

        Where no answer comes, nothing is left open.
        """
        try:
            await self._connect(receive_buffer, limit=2**16 if read else 4096)
            await self._ask(method)
        except BaseException:
            await self.close()
            raise
        if read:
            self.read_on()
        return self

    async def _connect(self, receive_buffer: int | None, limit: int) -> None:
        plain = socket.socket()
        if receive_buffer is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        plain.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(plain, (self._address.hostname, self._address.port))
        except BaseException:
            plain.close()
            raise
        self._reader, self._writer = await asyncio.open_connection(sock=plain, limit=limit)

    async def _ask(self, method: str) -> None:
        assert self._reader is not None
        assert self._writer is not None
        lines = [f"{method} {self._target} HTTP/1.1", *(f"{name}: {value}" for name, value in self._headers.items())]
        self._writer.write("\r\n".join([*lines, "", ""]).encode())
        head = (await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 30)).decode().split("\r\n")
        self.status = int(head[0].split()[1])
        self.headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in head[1:] if line)}

    def read_on(self) -> None:
        """Begin to take what comes."""
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._reader is not None
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            if "content-length" in self.headers:
                self.body = await self._reader.readexactly(int(self.headers["content-length"]))
            else:
                while (size := int(await self._reader.readuntil(b"\r\n"), 16)) > 0:
                    self.body += (await self._reader.readexactly(size + 2))[:-2]
        self.closed = True

    @property
    def frames(self) -> list[Frame]:
        """What came so far, heartbeats included."""
        return parse(self.body)

    def told(self) -> list[Frame]:
        """What came so far, without heartbeats."""
        return [frame for frame in self.frames if frame.event != "heartbeat"]

    async def until(self, predicate: Callable[[list[Frame]], object], within: float = 15.0) -> list[Frame]:
        """Return the frames (without heartbeats) as soon as they satisfy `predicate`."""

        async def satisfied() -> list[Frame]:
            frames = self.told()
            assert frames, self.body
            assert predicate(frames), [(frame.event, frame.id, frame.kind) for frame in frames][-30:]
            return frames

        return await eventually_async(satisfied, within)

    async def count(self, number: int, within: float = 15.0) -> list[Frame]:
        """Return the frames (without heartbeats) once there are `number` of them."""
        return await self.until(lambda frames: len(frames) >= number, within)

    async def until_closed(self, within: float = 15.0) -> list[Frame]:
        """Return all frames once the server has ended the stream."""

        async def is_closed() -> bool:
            return self.closed

        await eventually_async(is_closed, within)
        return self.told()

    async def close(self) -> None:
        """Cut the connection; it is gone afterwards."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._writer is not None:
            self._writer.transport.abort()
            with suppress(ConnectionError):
                await self._writer.wait_closed()
