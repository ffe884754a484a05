"""One stream: who it is for, how far it is, and the sending of its bytes.

While the connection takes bytes, they are written to it right here, without a task or a queue: past `send()` where the
server is known (`api/wire.py`), else by running `send()` until it would wait (docs/decisions/0002-stepping-send.md).
Once the connection's buffer is full, the stream gets a bounded backlog and a task that sends it.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from itertools import takewhile
from types import coroutine
from typing import Any, Protocol

from starlette.types import Send
from uvicorn.protocols.http.flow_control import FlowControl

from api.auth import Subscriber
from api.order import Order
from api.wire import Direct
from shared.databases import SHARED
from shared.frames import FrameEvent, dumps, encode
from shared.logs import log
from shared.metrics import STREAM_ENDS

#: What may wait for a slow reader; beyond either it is told `slow` and closed, and repaired by its cursor.
BACKLOG_FRAMES = 256
BACKLOG_BYTES = 1024 * 1024
#: Bytes given to the server at once: the size of the buffer that it keeps for a connection, so that a reader that takes
#: bytes is seen to.
PIECE_BYTES = 64 * 1024
_FRAME_END = b"\n\n"
#: Tenants whose names are kept as JSON, one for all their inboxes.
TENANTS = 1_000


class Goodbye(StrEnum):
    """Why the server ends a stream."""

    DRAIN = "drain"
    EXPIRED = "expired"
    REVOKED = "revoked"
    SLOW = "slow"
    MAX_AGE = "max_age"
    REPLACED = "replaced"


#: Milliseconds after which a client comes back, drawn between the two. After a drain all come at once, so they are
#: spread over what a new process needs to take them: so many a second (it takes 1,600 and more, bench/herd.py).
RETRY_MS = (1_000, 3_000)
DRAIN_RETRY_MS = (500, 5_000)
RETURNS_PER_S = 1_000


def retry_ms(reason: Goodbye | None = None, returning: int = 0) -> int:
    """Return a random time to wait before the client comes back; `returning` is how many are sent away by a drain."""
    if reason is not Goodbye.DRAIN:
        return random.randint(*RETRY_MS)  # noqa: S311 - jitter, no secret
    first, last = DRAIN_RETRY_MS
    return random.randint(first, max(last, first + 1_000 * returning // RETURNS_PER_S))  # noqa: S311 - jitter, no secret


def goodbye_frame(reason: Goodbye, returning: int = 0) -> bytes:
    """Return the last frame of a stream."""
    wait = retry_ms(reason, returning)
    return encode(FrameEvent.GOODBYE, {"reason": reason.value, "retryMs": wait}, retry_ms=wait)


@coroutine
def _finish(sending: Coroutine[Any, Any, None], waiting: Any) -> Generator[Any, Any, None]:
    """Go on with a coroutine that was begun outside of a task and waits for `waiting`."""
    try:
        while True:
            try:
                value = yield waiting
            except BaseException as error:
                waiting = sending.throw(error)
            else:
                waiting = sending.send(value)
    except StopIteration:
        return


def step(sending: Coroutine[Any, Any, None]) -> Awaitable[None] | None:
    """Run a coroutine until it ends or has to wait; returns None, or what is left of it, to be awaited in a task."""
    try:
        waiting = sending.send(None)
    except StopIteration:
        return None
    return _finish(sending, waiting)


@lru_cache(maxsize=TENANTS)
def _json_of(tenant: str) -> bytes:
    return dumps(tenant)


@dataclass(slots=True)
class Inbox:
    """One inbox that streams of this process follow. `key`: None until a read told it, and for an unknown recipient.

    `database`: where it is; of an unknown recipient where it would be, until somebody registers them.
    """

    tenant: str
    recipient: str
    channel: bytes
    key: int | None = None
    streams: list[Stream] = field(default_factory=list)
    tenant_json: bytes = b""
    database: str = SHARED

    def __post_init__(self) -> None:
        self.tenant_json = _json_of(self.tenant)


class Owner(Protocol):
    """Who is told what becomes of a stream's connection."""

    send_timeout: float

    def overflowed(self, stream: Stream) -> None:
        """The backlog is full: nothing more fits."""

    def stuck(self, stream: Stream) -> None:
        """The reader took nothing for `send_timeout` seconds, or the server failed: the connection was cut."""

    def flowing(self, stream: Stream) -> None:
        """The reader has caught up with its backlog."""


class _Backlog:
    """The bytes that wait for a slow reader, in order. Only live frames count against the bounds: a replay is whole."""

    __slots__ = ("bytes", "frames", "pieces")

    def __init__(self) -> None:
        #: Bytes, the live frames that they count as, whether more comes, whether they begin inside of a frame.
        self.pieces: deque[tuple[bytes, int, bool, bool]] = deque()
        self.frames = self.bytes = 0

    def fits(self, body: bytes, frames: int) -> bool:
        return self.frames + frames <= BACKLOG_FRAMES and self.bytes + len(body) <= BACKLOG_BYTES

    def add(self, piece: bytes, frames: int, more: bool, within: bool = False) -> None:
        self.pieces.append((piece, frames, more, within))
        self.frames += frames
        self.bytes += len(piece) if frames else 0

    def pop(self) -> tuple[bytes, bool]:
        piece, frames, more, _ = self.pieces.popleft()
        self.frames -= frames
        self.bytes -= len(piece) if frames else 0
        return piece, more

    def clear(self) -> None:
        """Drop what waits, but for the rest of a frame that was begun: a client would take what follows for that."""
        self.pieces = deque((piece, 0, more, True) for piece, _, more, _ in takewhile(_is_within, self.pieces))
        self.frames = self.bytes = 0


def _is_within(waiting: tuple[bytes, int, bool, bool]) -> bool:
    return waiting[3]


def _pieces(body: bytes) -> Iterator[tuple[bytes, bool]]:
    """Cut whole frames into pieces at frames' ends; gives with each whether it begins inside of a frame.

    Only a frame that is longer than a piece is cut itself.
    """
    start, within = 0, False
    while start < len(body):
        end, is_cut = start + PIECE_BYTES, False
        if end < len(body):
            found = body.rfind(_FRAME_END, start, end)
            end, is_cut = (end, True) if found < 0 else (found + len(_FRAME_END), False)
        yield body[start:end], within
        start, within = end, is_cut


def _message(body: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


class Stream:
    """One stream. `open` is true until either side ends it; `ended` is why the server did, None while it did not."""

    __slots__ = (
        "_backlog",
        "_flow",
        "_owner",
        "_push",
        "_returning",
        "_send",
        "_task",
        "_transport",
        "client",
        "ended",
        "endpoint",
        "inbox",
        "is_cut",
        "number",
        "open",
        "order",
        "started",
        "tick",
        "timer",
        "who",
    )

    def __init__(
        self, owner: Owner, inbox: Inbox, number: int, *, client: str | None, send: Send, transport: Any
    ) -> None:
        self._owner, self._send, self._transport = owner, send, transport
        #: The way past `send`, in two parts: for each frame it is looked at.
        self._flow: FlowControl | None = None
        self._push: Callable[[bytes], None] | None = None
        self._backlog: _Backlog | None = None
        self._task: asyncio.Task[None] | None = None
        #: The server's task, which waits for the client to go away.
        self.endpoint = asyncio.current_task()
        self.inbox, self.number, self.client = inbox, number, client
        #: Who opened it, by what proof; None outside of a hub.
        self.who: Subscriber | None = None
        self.order = Order()
        self.started = False
        self.open = True
        #: Whether its endpoint was ended by `cut`, as nobody else would.
        self.is_cut = False
        self.ended: Goodbye | None = None
        self._returning = 0
        #: The heartbeat's tick in which the last bytes were written.
        self.tick = 0
        self.timer: asyncio.TimerHandle | None = None

    @property
    def paused(self) -> bool:
        """True while the reader is slow and bytes wait for it."""
        return self._backlog is not None

    def write(self, body: bytes, frames: int = 0) -> None:
        """Send bytes after all earlier ones, now or as soon as the reader takes them. Never waits, never raises.

        `frames` is how many live frames the bytes are; 0 for what is not counted against the backlog (a replay).
        A stream that is not open sends nothing more.
        """
        if not self.open or not body:
            # As a chunk nothing would be the response's end.
            return
        if self._backlog is None and len(body) <= PIECE_BYTES:
            self._write_now(body)
        elif self._backlog is not None and frames and not self._backlog.fits(body, frames):
            self._owner.overflowed(self)
        else:
            self._write_pieces(body, frames)

    def _write_now(self, body: bytes) -> None:
        flow, push = self._flow, self._push
        if push is None or flow is None or flow.write_paused:
            self._step(_message(body))
            return
        try:
            push(b"%x\r\n%b\r\n" % (len(body), body))
        except RuntimeError:
            # The connection is over, and the endpoint does not know it yet; `send` does.
            self._step(_message(body))

    def _write_pieces(self, body: bytes, frames: int) -> None:
        for number, (piece, within) in enumerate(_pieces(body)):
            # Every piece of live frames counts as at least one, so that its bytes are counted.
            counted = min(frames, 1) if number else frames
            if self._backlog is None:
                self._step(_message(piece))
            elif counted and not within and not self._backlog.fits(piece, counted):
                self._owner.overflowed(self)
                return
            else:
                self._backlog.add(piece, counted, True, within)

    def write_unless_waiting(self, body: bytes) -> None:
        """Send bytes that fit into one piece; nothing if bytes wait already: the reader has enough."""
        if self.open and self._backlog is None:
            self._write_now(body)

    def start(self, direct: Direct | None = None) -> None:
        """The response has begun: bytes can be sent. If the stream was ended meanwhile, that is all that is told.

        `direct`: the connection, where it takes chunks past `send` (`api.wire.direct`).
        """
        self.started = True
        if direct is not None:
            self._flow, self._push = direct
        if self.ended is not None:
            self._step(_message(goodbye_frame(self.ended, self._returning), more=False))

    def end(self, reason: Goodbye, returning: int = 0) -> None:
        """Say goodbye and end the response; whole frames that wait for a slow reader are dropped. Again: nothing.

        `returning`: how many streams end with this one and come back.
        """
        if not self.open:
            return
        self.ended, self._returning, self.open = reason, returning, False
        STREAM_ENDS.add(1, reason.value)
        if self._backlog is not None:
            self._backlog.clear()
            self._backlog.add(goodbye_frame(reason, returning), 0, False)
        elif self.started:
            self._step(_message(goodbye_frame(reason, returning), more=False))

    def cut(self) -> None:
        """End the connection at once, with whatever the server still has for it.

        Of one that is over already the server tells its last request alone: a stream that another request follows on
        its connection would wait for its client for ever.
        """
        if self._transport is not None and not self._transport.is_closing():
            self._transport.abort()
        elif self.endpoint is not None:
            self.is_cut = True
            self.endpoint.cancel()

    def close(self) -> None:
        """Let go of what belongs to the stream: the connection is over."""
        self.open = False
        if self.timer is not None:
            self.timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _step(self, message: dict[str, Any]) -> None:
        try:
            rest = step(self._send(message))  # type: ignore[arg-type]
        except Exception as error:
            self._fail(error)
            return
        if rest is not None:
            self._backlog = _Backlog()
            self._task = asyncio.create_task(self._drain(rest, self._backlog))

    async def _drain(self, rest: Awaitable[None], backlog: _Backlog) -> None:
        """Send what waits, as fast as the reader takes it, until nothing is left."""
        try:
            async with asyncio.timeout(self._owner.send_timeout):
                await rest
            while backlog.pieces:
                async with asyncio.timeout(self._owner.send_timeout):
                    await self._send(_message(*backlog.pop()))
        except Exception as error:
            self._fail(error)
            return
        self._backlog = self._task = None
        if self.open:
            self._owner.flowing(self)

    def _fail(self, error: Exception) -> None:
        if not isinstance(error, TimeoutError):
            log().error("stream.send_failed", reason=type(error).__name__)
        self.open = False
        self.cut()
        self._owner.stuck(self)
