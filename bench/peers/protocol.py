"""As near to the sockets as Python comes: asyncio protocols on uvloop, no HTTP server.

`python -m bench.peers.protocol PORT`

`GET /<channel>` follows a Redis channel, whose messages are whole frames; each is one write. No authentication, no
order, no bounds, no metrics.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import cast

import hiredis
import uvloop
from redis.asyncio.connection import parse_url

from bench.peers.apps import REDIS_URL, tune_gc

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
BACKLOG = 4_096


class Relay(asyncio.Protocol):
    """The connection to Redis, and who follows which channel."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._followers: dict[bytes, list[asyncio.Transport]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        # uvloop's transports are of no class of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def tell(self, word: bytes, what: bytes) -> None:
        """Send a command of two words."""
        assert self._transport is not None
        self._transport.write(b"*2\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(word), word, len(what), what))

    def data_received(self, data: bytes) -> None:
        """Write each message to whoever follows its channel."""
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            if isinstance(reply, list) and reply[0] == b"message":
                for transport in self._followers[reply[1]]:
                    transport.write(reply[2])

    def follow(self, channel: bytes, transport: asyncio.Transport) -> None:
        """Add a stream to its channel, of which Redis is told once."""
        followers = self._followers.setdefault(channel, [])
        followers.append(transport)
        if len(followers) == 1:
            self.tell(b"SUBSCRIBE", channel)

    def leave(self, channel: bytes, transport: asyncio.Transport) -> None:
        """Take a stream from its channel."""
        self._followers[channel].remove(transport)


class Stream(asyncio.Protocol):
    """One stream: the request's path is its channel."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._channel: bytes | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        # uvloop's transports are of no class of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer the request, which comes in one piece."""
        assert self._transport is not None
        if self._channel is None:
            self._channel = data.split(b" ", 2)[1][1:]
            self._relay.follow(self._channel, self._transport)
            self._transport.write(HEAD)

    def connection_lost(self, error: Exception | None) -> None:
        """Leave the channel."""
        del error
        if self._channel is not None and self._transport is not None:
            self._relay.leave(self._channel, self._transport)


async def serve(port: int) -> None:
    """Serve until the process is ended."""
    loop, target = asyncio.get_running_loop(), parse_url(os.environ[REDIS_URL])
    _, relay = await loop.create_connection(Relay, target["host"], target["port"])
    relay.tell(b"AUTH", target["password"].encode())
    server = await loop.create_server(lambda: Stream(relay), "127.0.0.1", port, backlog=BACKLOG)
    tune_gc()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
