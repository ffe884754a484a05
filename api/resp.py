"""A bare connection to a Redis server on the event loop: commands out and replies in, in the Redis protocol (RESP2).

Where redis-py's own client costs too much: in hearing for the streams (`api/subscriber.py`), and in asking for a look
after each event (`api/nudges.py`).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import hiredis
from redis.asyncio.connection import SSLConnection

CONNECT_TIMEOUT_S = 2.0


def command(*parts: bytes) -> bytes:
    """Return one command in the Redis protocol."""
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def greeting(target: Mapping[str, Any]) -> bytes:
    """Return what signs in as the user whom a URL names, as redis-py parses it; nothing where it names none."""
    password = target.get("password")
    if password is None:
        return b""
    names = [name.encode() for name in (target.get("username"), password) if name is not None]
    return command(b"AUTH", *names)


class RespConnection(asyncio.Protocol):
    """One connection: its bytes out, and how it ends. `data_received` of what derives from it feeds `reader`."""

    def __init__(self) -> None:
        self.reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        #: Done once the connection is over.
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods of asyncio.Transport without being one.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)

    def write(self, data: bytes) -> None:
        """Send bytes; to a connection that is gone: nothing."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()


R = TypeVar("R", bound=RespConnection)


async def opened(target: Mapping[str, Any], made: Callable[[], R]) -> R:
    """Return a connection to the server that a URL names, as redis-py parses it, made within `CONNECT_TIMEOUT_S`.

    Raises OSError, of which TimeoutError is one.
    """
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        return await _opened(target, made)


async def _opened(target: Mapping[str, Any], made: Callable[[], R]) -> R:
    loop = asyncio.get_running_loop()
    if "path" in target:
        return (await loop.create_unix_connection(made, target["path"]))[1]
    secure = issubclass(target.get("connection_class", object), SSLConnection)
    host, port = target.get("host", "localhost"), target.get("port", 6379)
    authority = target.get("ssl_ca_certs")
    context = ssl.create_default_context(cafile=str(authority) if authority else None) if secure else None
    return (await loop.create_connection(made, host, port, ssl=context))[1]
