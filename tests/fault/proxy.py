"""A TCP proxy that can cut, swallow, delay and half-close what goes through it, told so by the test.

It keeps the back-pressure between both sides: a client that stops reading stops the server's writing, as without it.
All methods but `Proxy.__init__` belong to the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import cast

LOOPBACK = "127.0.0.1"
#: Bytes that one side may be ahead of the other before it is no longer read: little, so that a reader that stands still
#: is felt by the server as it would be without a proxy.
BUFFER_BYTES = 32 * 1024


class Mode(Enum):
    """What becomes of bytes."""

    PASS = auto()
    #: They vanish, connections' ends too, as when a firewall drops packets.
    SWALLOW = auto()


class _Side(asyncio.Protocol):
    """One of a connection's two sockets; what it receives goes to its `peer`."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.peer: _Side | None = None
        self.transport: asyncio.Transport | None = None
        #: What came before the other side was connected.
        self.early = b""
        self._late: deque[tuple[float, bytes]] = deque()
        #: Bytes, or the end, of this side did not reach the other: it cannot go on.
        self.lossy = False
        #: This side has sent everything it had.
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(BUFFER_BYTES)
        self.proxy._made(self)

    def data_received(self, data: bytes) -> None:
        if self.proxy.mode is Mode.SWALLOW:
            self.lossy = True
        elif self.peer is None:
            self.early += data
        elif self.proxy.delay_s or self._late:
            self._send_late(data)
        else:
            self._send(data)

    def _send(self, data: bytes) -> None:
        peer = self.peer
        if peer is not None and peer.transport is not None and not peer.transport.is_closing():
            peer.transport.write(data)

    def _send_late(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + self.proxy.delay_s
        self._late.append((max(due, self._late[-1][0]) if self._late else due, data))
        if len(self._late) == 1:
            loop.call_at(due, self._send_due)

    def _send_due(self) -> None:
        loop = asyncio.get_running_loop()
        while self._late and self._late[0][0] <= loop.time() + 0.0005:
            self._send(self._late.popleft()[1])
        if self._late:
            loop.call_at(self._late[0][0], self._send_due)

    def eof_received(self) -> bool:
        if self.proxy.mode is Mode.SWALLOW:
            self.lossy = True
        elif self.peer is not None and self.peer.transport is not None:
            self.ended = True
            self.peer.write_eof()
            if self.peer.ended:
                # Nothing comes either way any more: the loop would keep both sockets for ever.
                self.peer.transport.close()
                return False
        return True

    def write_eof(self) -> None:
        """Tell this side's program that nothing more comes; it may still send."""
        if self.transport is not None and not self.transport.is_closing() and self.transport.can_write_eof():
            self.transport.write_eof()

    def pause_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.proxy._lost(self)
        if self.proxy.mode is Mode.SWALLOW:
            self.lossy = True
        elif self.peer is not None and self.peer.transport is not None:
            self.peer.transport.close()

    def abort(self) -> None:
        """Reset this side's connection."""
        if self.transport is not None:
            self.transport.abort()


class Proxy:
    """One listening port before one server. `port` is kept for the proxy's life; at first everything passes."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.mode = Mode.PASS
        self.delay_s = 0.0
        self._server: asyncio.Server | None = None
        #: Clients' sides; each has its server's side as peer.
        self._clients: set[_Side] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Side(self), LOOPBACK, self.port, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Reset every connection and refuse new ones, until `heal()`."""
        self._stop_listening()
        self._reset(lambda side: True)

    async def swallow(self) -> None:
        """From now on nothing reaches anybody and nobody is told: bytes and ends of connections vanish."""
        self.mode = Mode.SWALLOW

    async def slow_down(self, seconds: float) -> None:
        """Hold what passes, either way, for so long each time; 0 is none."""
        self.delay_s = seconds

    async def half_close(self) -> None:
        """Tell the server's side of every connection that its client sends nothing more; the client is told nothing."""
        for client in list(self._clients):
            if client.peer is not None:
                client.peer.write_eof()

    async def heal(self) -> None:
        """Let everything pass again. Connections that lost bytes meanwhile are reset."""
        self.mode, self.delay_s = Mode.PASS, 0.0
        self._reset(lambda side: side.lossy or side.peer is None or side.peer.lossy)
        if self._server is None:
            await self.start()

    async def stop(self) -> None:
        """End everything."""
        self.mode = Mode.PASS
        await self.cut()
        for task in self._tasks:
            task.cancel()

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._clients)

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _reset(self, chosen: Callable[[_Side], bool]) -> None:
        for client in [client for client in self._clients if chosen(client)]:
            self._clients.discard(client)
            client.abort()
            if client.peer is not None:
                client.peer.abort()

    def _made(self, side: _Side) -> None:
        if side.peer is not None:
            return
        self._clients.add(side)
        if self.mode is Mode.SWALLOW:
            side.lossy = True
            return
        task = asyncio.create_task(self._connect(side))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, client: _Side) -> None:
        loop = asyncio.get_running_loop()
        server = _Side(self)
        server.peer = client
        try:
            await loop.create_connection(lambda: server, LOOPBACK, self.target)
        except OSError:
            client.abort()
            return
        client.peer = server
        if client.transport is None or client.transport.is_closing():
            server.abort()
        elif client.early:
            client.data_received(client.early)

    def _lost(self, side: _Side) -> None:
        if self.mode is not Mode.SWALLOW:
            self._clients.discard(side)
