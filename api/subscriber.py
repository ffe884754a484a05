"""One connection to a Redis server that listens: a bare RESP2 reader that hands messages on as bytes.

At most once by nature: what is published while the connection is down is gone, and the reconciler repairs the streams.
After a reconnect every channel is subscribed again before `on_up` is called.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, Protocol

import hiredis
from redis.asyncio.connection import parse_url

from api.resp import CONNECT_TIMEOUT_S, RespConnection, command, greeting, opened
from api.tasks import end
from shared.logs import log
from shared.stream_redis import Address

#: A stream that opens waits no longer than this for its channel; without an answer it opens all the same and the
#: reconciler feeds it.
ACK_TIMEOUT_S = 1.0
#: After a lost connection the next attempt comes at once, then after twice as long each time up to the second number:
#: the streams are only as current as the reconciler makes them until then.
BACKOFF_S = (0.05, 1.0)
#: A channel that nobody needs is kept for this long: most streams that end come back.
LINGER_S = 5.0
#: After a read of so many bytes the next one brings more at once: the loop is busy. Then the end of the read is told
#: after that one, and frames for one stream are joined: each write saved is three quarters of a frame's cost. A read is
#: 256,000 bytes at most; at half of what a core can do it is a few thousand.
LARGE_READ = 64 * 1024
#: But no longer than this after the first of them: what came is written for some 30 ms then.
HOLD_S = 0.025
#: Channels that are asked for at once: keeps a command below a few hundred kilobytes.
CHANNELS_AT_ONCE = 1_000


class Words(NamedTuple):
    """The protocol's words of one kind of publish and subscribe; `sharded`: a command names channels of one slot."""

    subscribe: bytes
    unsubscribe: bytes
    message: bytes
    subscribed: bytes
    unsubscribed: bytes
    sharded: bool


ORDINARY = Words(b"SUBSCRIBE", b"UNSUBSCRIBE", b"message", b"subscribe", b"unsubscribe", False)
#: Of a Redis Cluster, since Redis 7.
SHARDED = Words(b"SSUBSCRIBE", b"SUNSUBSCRIBE", b"smessage", b"ssubscribe", b"sunsubscribe", True)


class Heard(NamedTuple):
    """Whom a subscriber calls. `on_message(channel, payload)` for each message, in order, must not raise;
    `on_read_end()` after the last message that one read of the socket brought, or several reads in a row while the loop
    is busy; `on_up()` once every wanted channel is subscribed, at first and after each reconnect.
    """

    on_message: Callable[[bytes, bytes], None]
    on_read_end: Callable[[], None]
    on_up: Callable[[], None]


class Subscription(Protocol):
    """What a hub listens by: one server's channels, or those of a cluster. `RedisSubscriber` says what each does."""

    is_up: asyncio.Event

    @property
    def up(self) -> bool: ...
    @property
    def channels(self) -> int: ...
    @property
    def heard_at(self) -> float: ...
    def start(self) -> None: ...
    async def stop(self) -> None: ...
    def drop_connection(self) -> None: ...
    def want(self, channel: bytes) -> None: ...
    def unwant(self, channel: bytes) -> None: ...
    async def confirmed(self, channel: bytes) -> bool: ...


def _pieces(channels: Iterable[bytes]) -> Iterable[list[bytes]]:
    rest = iter(channels)
    while piece := list(islice(rest, CHANNELS_AT_ONCE)):
        yield piece


def spelled(words: Words, verb: bytes, channels: list[bytes]) -> bytes:
    """Return the command that has these channels (un)subscribed; of a cluster one for each: their slots differ."""
    return b"".join(command(verb, each) for each in channels) if words.sharded else command(verb, *channels)


def _give_up(answer: asyncio.Future[bool], _lost: asyncio.Future[None]) -> None:
    if not answer.done():
        answer.set_result(False)


class _Connection(RespConnection):
    """A connection that listens: hands messages to the subscriber, and what else is told."""

    def __init__(self, owner: RedisSubscriber) -> None:
        super().__init__()
        self._owner = owner
        #: When the first message came that was not followed by `on_read_end` yet; None where there is none.
        self._held_since: float | None = None

    def data_received(self, data: bytes) -> None:
        now = self._owner.heard_at = time.monotonic()
        reader, handle, message = self.reader, self._owner._on_message, self._owner._words.message
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not False:
                if type(reply) is list and reply[0] == message:
                    handle(reply[1], reply[2])
                else:
                    self._owner._replied(reply)
        except hiredis.ProtocolError:
            log().error("subscriber.protocol_error")
            self.abort()
        if len(data) < LARGE_READ or now - (self._held_since or now) > HOLD_S:
            self._end_read()
        elif self._held_since is None:
            self._held_since = now
            self._look_again()

    def _look_again(self) -> None:
        """End the read two turns from now: in the next one the socket is read, if anything came."""
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, self._end_read)

    def _end_read(self) -> None:
        self._held_since = None
        self._owner._read_ended()


class RedisSubscriber:
    """Listens to channels of one server. Between `start` and `stop` it holds one connection, or tries to get one.

    `address` stands in for the URL's host and port. `on_ended(channel)` is called when the server ends a wanted
    channel's subscription unasked: its slot has gone to another one.
    """

    def __init__(
        self,
        url: str,
        heard: Heard,
        *,
        words: Words = ORDINARY,
        address: Address | None = None,
        on_ended: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        self._target = parse_url(url)
        if address is not None:
            self._target["host"], self._target["port"] = address
        self._on_message, self._read_ended, self._on_up = heard
        self._words, self._on_ended = words, on_ended
        self._wanted: set[bytes] = set()
        self._unneeded: dict[bytes, float] = {}
        self._confirmed: set[bytes] = set()
        self._waiting: dict[bytes, list[asyncio.Future[bool]]] = {}
        self._to_ask: list[bytes] = []
        #: The connection in use, and the one that is not yet subscribed to everything.
        self._connection: _Connection | None = None
        self._connecting: _Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        #: Set while `up`.
        self.is_up = asyncio.Event()
        #: The monotonic time of the last bytes that came.
        self.heard_at = 0.0

    @property
    def up(self) -> bool:
        """True while a connection is there on which every wanted channel was subscribed."""
        return self._connection is not None

    @property
    def channels(self) -> int:
        """How many channels are subscribed now."""
        return len(self._confirmed)

    def start(self) -> None:
        """Begin to connect; returns at once, whether Redis is there or not."""
        self._task = asyncio.create_task(self._run())
        self._sweep()

    async def stop(self) -> None:
        """Close the connection and end."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        await end(self._task)

    def drop_connection(self) -> None:
        """End the present connection, if there is one; a new one follows."""
        if self._connection is not None:
            self._connection.abort()

    def ping(self) -> None:
        """Have the server answer something, so that `heard_at` tells whether it can."""
        if self._connection is not None:
            self._connection.write(command(b"PING"))

    def forget(self, channel: bytes) -> None:
        """Give `channel` up at once: another server has it now."""
        self._unneeded.pop(channel, None)
        self._wanted.discard(channel)
        self._confirmed.discard(channel)
        if self._connection is not None:
            self._connection.write(command(self._words.unsubscribe, channel))

    def wants(self, channel: bytes) -> bool:
        """Tell whether `channel` is wanted, or was until some seconds ago."""
        return channel in self._wanted

    def want(self, channel: bytes) -> None:
        """Have `channel` subscribed from now on, also after every reconnect. Again: nothing."""
        self._unneeded.pop(channel, None)
        if channel not in self._wanted:
            self._wanted.add(channel)
            self._ask_soon(channel)

    def renew(self, channel: bytes) -> None:
        """Subscribe a wanted channel anew whose subscription the server has ended."""
        if channel in self._wanted and channel not in self._confirmed:
            self._ask_soon(channel)

    def unwant(self, channel: bytes) -> None:
        """Give `channel` up, some seconds from now unless it is wanted again."""
        self._unneeded[channel] = asyncio.get_running_loop().time()

    async def confirmed(self, channel: bytes) -> bool:
        """Wait until Redis confirmed that a wanted channel is subscribed: what is published after that comes.

        Returns False when Redis is away or does not answer in time: then it is subscribed when Redis is back.
        """
        if channel in self._confirmed:
            return True
        if self._connection is None:
            return False
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(channel, []).append(answer)
        try:
            async with asyncio.timeout(ACK_TIMEOUT_S):
                return await answer
        except TimeoutError:
            return False

    def _ask_soon(self, channel: bytes) -> None:
        """Subscribe at the end of this turn of the loop, together with all that are asked for in it."""
        if not self._to_ask:
            asyncio.get_running_loop().call_soon(self._ask)
        self._to_ask.append(channel)

    def _ask(self) -> None:
        channels, self._to_ask = self._to_ask, []
        if self._connection is not None:
            for piece in _pieces(channels):
                self._connection.write(spelled(self._words, self._words.subscribe, piece))

    def _sweep(self) -> None:
        """Give up channels that nobody needed for a while, and come back."""
        loop = asyncio.get_running_loop()
        old = [channel for channel, since in self._unneeded.items() if since <= loop.time() - LINGER_S]
        for channel in old:
            del self._unneeded[channel]
            self._wanted.discard(channel)
            self._confirmed.discard(channel)
        if self._connection is not None:
            for piece in _pieces(old):
                self._connection.write(spelled(self._words, self._words.unsubscribe, piece))
        self._sweeper = loop.call_later(LINGER_S, self._sweep)

    def _replied(self, reply: Any) -> None:
        """Take a reply that is no message: a confirmation, or an error, which ends the connection."""
        if isinstance(reply, hiredis.ReplyError):
            self._refused(str(reply))
        elif isinstance(reply, list) and reply[0] == self._words.subscribed:
            self._confirm(reply[1])
        elif isinstance(reply, list) and reply[0] == self._words.unsubscribed and reply[1] in self._wanted:
            self._confirmed.discard(reply[1])
            self._on_ended(reply[1])

    def _refused(self, reason: str) -> None:
        if self._words.sharded and reason.startswith(("MOVED", "CLUSTERDOWN")):
            # Whoever looks after the cluster sees a connection that is down, and asks who has its slots.
            log().info("subscriber.moved", reason=reason.partition(" ")[0])
        else:
            log().error("subscriber.refused", reason=reason)
        if self._connecting is not None:
            self._connecting.abort()
        self.drop_connection()

    def _confirm(self, channel: bytes) -> None:
        if channel in self._wanted:
            self._confirmed.add(channel)
        for waiting in self._waiting.pop(channel, ()):
            if not waiting.done():
                waiting.set_result(True)

    async def _run(self) -> None:
        """Hold a connection for ever; ends only by cancellation."""
        pause = BACKOFF_S[0]
        while True:
            try:
                connection = await self._connect()
                pause = BACKOFF_S[0]
                await connection.lost
                log().warning("subscriber.lost")
            except OSError as error:
                log().warning("subscriber.unreachable", reason=type(error).__name__)
            finally:
                self._forget()
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret
            pause = min(2 * pause, BACKOFF_S[1])

    def _forget(self) -> None:
        """Drop what belonged to the connection that is over; whoever waits for a confirmation goes on without."""
        for connection in (self._connection, self._connecting):
            if connection is not None:
                connection.abort()
        self._connection = self._connecting = None
        self.is_up.clear()
        self._confirmed.clear()
        waiting, self._waiting = self._waiting, {}
        for future in (future for futures in waiting.values() for future in futures):
            if not future.done():
                future.set_result(False)

    async def _connect(self) -> _Connection:
        """Return a connection on which every wanted channel is confirmed. Raises OSError or TimeoutError."""
        connection = await opened(self._target, lambda: _Connection(self))
        self._connecting = connection
        connection.write(greeting(self._target))
        await self._resubscribe(connection, list(self._wanted))
        self._connection, self._connecting = connection, None
        # What was wanted meanwhile, while this connection was not yet to be used.
        for channel in self._wanted - self._confirmed:
            self._ask_soon(channel)
        self.is_up.set()
        self._on_up()
        return connection

    async def _resubscribe(self, connection: _Connection, wanted: list[bytes]) -> None:
        """Subscribe all, a command after the other, each confirmed; raises ConnectionError when the connection ends."""
        for piece in _pieces(wanted):
            last: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(piece[-1], []).append(last)
            connection.write(spelled(self._words, self._words.subscribe, piece))
            connection.lost.add_done_callback(partial(_give_up, last))
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                if not await last:
                    raise ConnectionError
