"""The hub: every open stream of this process, and the way of each frame to those it concerns.

Frames come encoded from Redis and are relayed as bytes; what the hub reads of them is their `id`. A join subscribes
first, then reads, then tells what arrived meanwhile; a loss of any kind is repaired from PostgreSQL
(`api/reconcile.py`).
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson
from starlette.types import Send

from api.auth import Subscriber
from api.followed import FollowedEvents
from api.order import State, Verdict
from api.places import REFUSED_RETRY_S, Counts, Places
from api.presence import Presence
from api.read import Opening, Reader, Told, Wish
from api.reconcile import Reconciler
from api.shards import subscriber_of
from api.sse import Goodbye, Inbox, Stream
from api.subscriber import Heard
from api.tasks import end
from api.wire import Direct
from shared import metrics
from shared.cursor import Cursor
from shared.errors import Unavailable
from shared.following import FOLLOW_ORDER
from shared.frames import FrameEvent, channel_of, created_by, cursor_of, encode
from shared.logs import log
from shared.open_files import room_for
from shared.settings import settings
from shared.stream_redis import async_client
from shared.wake import CHUNK_SHARDS, CONTROL_CHANNEL, chunk_channel

#: A command to Redis that takes longer counts as failed: opening a stream does not wait for it.
REDIS_TIMEOUT_S = 1.0
#: A process takes streams at the latest this long after its start, even when Redis cannot be heard yet.
START_WAIT_S = 2.0
#: Looks at all streams in one heartbeat interval: a stream is silent for at most one interval, and not told needlessly.
TICKS_PER_HEARTBEAT = 4
#: Streams that are written to before other work gets its turn (some 0.5 ms): frames that come meanwhile wait for it.
STREAMS_AT_ONCE = 50
#: A drain takes no longer than this; what is left then is cut.
DRAIN_S = 0.8


class Hub:
    """All streams of this process, between `start` and `stop`. Needs a running event loop from `start` on."""

    def __init__(self) -> None:
        chosen = settings()
        self.redis = async_client(REDIS_TIMEOUT_S)
        self.send_timeout = chosen.stream_send_timeout_seconds
        self.counts = Counts()
        self.draining = False
        self._settings = chosen
        self._room = room_for(chosen.streams_per_process)
        self._streams: dict[Stream, None] = {}
        self._inboxes: dict[bytes, Inbox] = {}
        #: By the database and the key by which chunks name an inbox.
        self._by_key: dict[bytes, dict[bytes, Inbox]] = {}
        self._dirty: dict[Stream, list[bytes]] = {}
        self._number = 0
        self._tick = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self.reader = Reader()
        self.subscriber = subscriber_of(self.redis, Heard(self._on_message, self._flush, self._on_up))
        self.reconciler = Reconciler(self, self.reader.changes, chosen.reconcile_seconds)
        keep = chosen.stream_max_age_seconds + 60
        self.presence = Presence(self.redis, secrets.token_hex(8), keep)
        self.places = Places(self.presence, chosen.streams_per_recipient, self.counts)
        #: Who follows which control message of another process, or of an operator.
        self.orders: dict[str, Callable[[dict[str, Any]], None]] = {"replace": self._replace, "stamp": self._stamp}
        #: When what this read of Redis brought was committed, as far as workers say.
        self._stamps: list[float] = []
        self.followed = FollowedEvents(self._by_key)
        self.orders[FOLLOW_ORDER] = self.followed.hear
        self._chunk_channels = {chunk_channel(shard).encode() for shard in range(CHUNK_SHARDS)}

    async def start(self) -> None:
        """Begin to listen and to reconcile; waits for Redis for a moment, and goes on without it."""
        for channel in (*self._chunk_channels, CONTROL_CHANNEL.encode(), self.presence.channel):
            self.subscriber.want(channel)
        self.subscriber.start()
        self.presence.start(self.subscriber, lambda: [self.places.place_of(stream) for stream in self._streams])
        self.reconciler.start(lambda: list(self._inboxes.values()))
        self._spawn(self._heartbeats())
        with suppress(TimeoutError):
            async with asyncio.timeout(START_WAIT_S):
                await self.subscriber.is_up.wait()

    async def drain(self) -> None:
        """Refuse new streams and end all open ones with `goodbye`; afterwards none is left. Takes at most `DRAIN_S`."""
        if self.draining:
            return
        self.draining = True
        log().info("hub.draining", streams=len(self._streams))
        self._flush()
        streams = list(self._streams)
        for number, stream in enumerate(streams):
            stream.end(Goodbye.DRAIN, returning=len(streams))
            if number % STREAMS_AT_ONCE == STREAMS_AT_ONCE - 1:
                await asyncio.sleep(0)
        deadline = time.monotonic() + DRAIN_S
        while self._streams and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        for stream in list(self._streams):
            stream.cut()

    async def stop(self) -> None:
        """End everything; open streams are drained first."""
        await self.drain()
        await self.reconciler.stop()
        await self.presence.stop()
        await self.subscriber.stop()
        await end(*self._tasks)
        await self.reader.stop()
        await self.redis.aclose()

    def sizes(self) -> tuple[int, int]:
        """Return how many streams and inboxes are open here."""
        return len(self._streams), len(self._inboxes)

    def stats(self) -> dict[str, Any]:
        """Return how many streams and inboxes are open here, and the streams of each recipient."""
        recipients = [
            {"tenant": inbox.tenant, "recipient": inbox.recipient, "streams": len(inbox.streams)}
            for inbox in self._inboxes.values()
        ]
        return {"streams": len(self._streams), "inboxes": len(self._inboxes), "recipients": recipients}

    def streams(self, tenant: str | None = None, recipient: str | None = None) -> list[Stream]:
        """Return this process's open streams: all, those of a tenant, or those of one recipient."""
        if tenant is not None and recipient is not None:
            inbox = self._inboxes.get(channel_of(tenant, recipient).encode())
            return list(inbox.streams) if inbox else []
        return [stream for stream in self._streams if tenant in (None, stream.inbox.tenant)]

    # Opening and closing

    def admit(self, who: Subscriber, client: str | None, send: Send, transport: Any) -> Stream:
        """Return a new stream, which hears its inbox from now on. Raises `Unavailable` or `TooManyRequests`."""
        if self.draining:
            raise Unavailable("The server is stopping.", retry_after=1)
        if len(self._streams) >= self._room:
            self.counts.refused += 1
            raise Unavailable("This server has as many streams as it takes.", retry_after=REFUSED_RETRY_S)
        channel = channel_of(who.tenant, who.recipient).encode()
        inbox = self._inboxes.get(channel)
        if inbox is None:
            inbox = self._inboxes[channel] = Inbox(who.tenant, who.recipient, channel)
            self.subscriber.want(channel)
        self._number += 1
        stream = Stream(self, inbox, self._number, client=client, send=send, transport=transport)
        stream.who = who
        inbox.streams.append(stream)
        self._streams[stream] = None
        return stream

    def leave(self, stream: Stream) -> None:
        """Forget a stream: its connection is over, or was never begun. Again: nothing."""
        if stream not in self._streams:
            return
        del self._streams[stream]
        self._dirty.pop(stream, None)
        stream.close()
        inbox = stream.inbox
        inbox.streams.remove(stream)
        self.places.free(stream)
        if not inbox.streams:
            del self._inboxes[inbox.channel]
            self.subscriber.unwant(inbox.channel)
            if inbox.key is not None:
                self._by_key.get(inbox.database.encode(), {}).pop(b"%d" % inbox.key, None)

    async def join(self, stream: Stream, wish: Wish) -> Opening:
        """Return how the stream begins: everything up to the opening's head is told by it or known to the client.

        Raises `TooManyRequests` over the recipient's limit, `Unavailable` when the database is away.
        """
        await self.places.take(stream)
        inbox = stream.inbox
        await self.subscriber.confirmed(inbox.channel)
        opening = await self.reader.opening(inbox, wish)
        self.learn_key(inbox, opening.key)
        self.counts.resets += opening.reset
        if wish.after is None:
            self.counts.fresh += 1
        else:
            self.counts.replays += not opening.reset
        return opening

    def go_live(self, stream: Stream, opening: Opening, expires_at: float, direct: Direct | None) -> None:
        """Send the opening, then what arrived meanwhile; from now on the stream is live until `expires_at` at most.

        `direct` as `Stream.start` takes it.
        """
        stream.start(direct)
        if not stream.open:
            return
        stream.write(opening.body)
        self._go_on(stream, opening.head)
        left = expires_at - time.time()
        age = self._settings.stream_max_age_seconds * random.uniform(0.8, 1.0)  # noqa: S311 - jitter, no secret
        reason = Goodbye.EXPIRED if left < age else Goodbye.MAX_AGE
        loop = asyncio.get_running_loop()
        stream.timer = loop.call_later(max(0.0, min(left, age)), stream.end, reason)

    # What arrives

    def _on_message(self, channel: bytes, payload: bytes) -> None:
        """Take one message of Redis. One that cannot be read is counted and dropped."""
        inbox = self._inboxes.get(channel)
        try:
            if inbox is not None:
                self._relay(inbox, payload)
            elif channel in self._chunk_channels:
                self._unpack(payload)
            elif channel == self.presence.channel:
                self.presence.heard()
            elif channel == CONTROL_CHANNEL.encode():
                self._obey(payload)
        except Exception as error:
            self.counts.unreadable += 1
            log().error("hub.unreadable_message", reason=type(error).__name__)

    def _relay(self, inbox: Inbox, frame: bytes, epoch: int = 0, seq: int = 0) -> None:
        """Queue a frame for those to whom it is next. Its id costs less where it is known: epochs begin at 1."""
        dirty = self._dirty
        for stream in inbox.streams:
            if not stream.open:
                continue
            if not (stream.order.follows(epoch, seq) if epoch else stream.order.passes(frame)):
                self._decide(stream, frame)
            elif stream in dirty:
                dirty[stream].append(frame)
            else:
                dirty[stream] = [frame]

    def _unpack(self, payload: bytes) -> None:
        """Make the frames of those of a chunk's recipients who have a stream here."""
        header, rest, lines = payload.split(b"\n", 2)
        database, epoch = header.split(b" ")
        by_key, number, rest = self._by_key.get(database, {}), int(epoch), rest + b"\n\n"
        for each in lines.split(b"\n"):
            line = each.split(b" ")
            inbox = by_key.get(line[0])
            if inbox is not None:
                frame = created_by(epoch, line, inbox.tenant_json, rest)
                self._relay(inbox, frame, number, int(line[1]))

    def _decide(self, stream: Stream, frame: bytes) -> None:
        """Hold, drop or repair where a frame is not simply the next one; queue it and what it releases if it is."""
        cursor = cursor_of(frame)
        if cursor is None:
            raise ValueError("no frame")
        verdict = stream.order.take(cursor, frame)
        if verdict is Verdict.NEXT:
            self._dirty.setdefault(stream, []).extend((frame, *stream.order.released()))
        elif verdict is Verdict.LATE:
            self.counts.late += 1
        elif verdict is Verdict.HELD:
            self.counts.held += 1
            if stream.order.state is State.HOLDING:
                self.reconciler.hole_soon(stream)
        elif verdict is Verdict.HOLE:
            self.reconciler.repair(stream)
        else:
            self.counts.untold += 1

    def _flush(self) -> None:
        """Write what one read of Redis brought, joined for each stream."""
        dirty, self._dirty = self._dirty, {}
        tick, delivered = self._tick, 0
        for stream, frames in dirty.items():
            stream.tick = tick
            number = len(frames)
            delivered += number
            stream.write(frames[0] if number == 1 else b"".join(frames), number)
        self.counts.delivered += delivered
        try:
            if self._stamps:
                self._observe()
            self.followed.tell()
        except Exception as error:
            # The frames are out: what tells of them must not end the connection that brings the next ones.
            log().error("hub.not_told", reason=type(error).__name__)

    def _observe(self) -> None:
        """Note how long ago that was committed which was just written; messages of one worker come in order."""
        now, stamps = time.time(), self._stamps
        self._stamps = []
        if self._streams:
            metrics.SOCKET.observe([now - committed for committed in stamps])

    def _stamp(self, order: dict[str, Any]) -> None:
        self._stamps.append(float(order["committedAt"]))

    def _obey(self, payload: bytes) -> None:
        """Follow a control message; one of a kind that is not known here is for others."""
        for name, order in orjson.loads(payload).items():
            if name in self.orders:
                self.orders[name](order)

    def _replace(self, order: dict[str, Any]) -> None:
        """End the streams whose clients have opened another one elsewhere."""
        for stream in self.streams(order["tenant"], order["recipient"]):
            if self.places.place_of(stream).member in order["members"]:
                self.counts.replaced += 1
                stream.end(Goodbye.REPLACED)

    def _on_up(self) -> None:
        """Redis is heard (again): find at once what was published meanwhile."""
        log().info("hub.listening", channels=self.subscriber.channels)
        self.reconciler.kick()

    # What was read

    def learn_key(self, inbox: Inbox, key: int | None) -> None:
        """Remember the inbox's key, by which chunks name it."""
        if key is not None and inbox.key != key and inbox.streams:
            inbox.key = key
            self._by_key.setdefault(inbox.database.encode(), {})[b"%d" % key] = inbox

    def told(self, stream: Stream, told: Told) -> None:
        """Send a repaired stream the way from its mark to now, then go on live."""
        # What passed before the read may not be written yet, and comes first.
        self._flush()
        self.learn_key(stream.inbox, told.key)
        replay = told.replay
        self.counts.resets += replay.reset
        if replay.reset or replay.head != stream.order.cursor:
            stream.tick = self._tick
            stream.write(replay.encode())
        self._go_on(stream, replay.head)

    def _go_on(self, stream: Stream, head: Cursor) -> None:
        frames, again = stream.order.told(head)
        if frames:
            self.counts.delivered += len(frames)
            stream.write(b"".join(frames), len(frames))
        if again:
            self.reconciler.repair(stream)
        elif stream.order.state is State.HOLDING:
            self.reconciler.hole_soon(stream)

    # What becomes of a connection

    def overflowed(self, stream: Stream) -> None:
        """More waits for a slow reader than is kept for one: it comes back with its cursor."""
        self.counts.slow += 1
        stream.end(Goodbye.SLOW)

    def stuck(self, stream: Stream) -> None:
        """The connection of a reader that takes nothing was cut."""
        self.counts.slow += stream.ended is not Goodbye.SLOW

    def flowing(self, stream: Stream) -> None:
        """A slow reader has caught up: tell it what was not kept for it."""
        if stream.order.state is State.BEHIND:
            self.reconciler.repair(stream)

    # Of its own accord

    async def _heartbeats(self) -> None:
        """Tell every stream that got nothing for an interval that the server lives."""
        while True:
            await asyncio.sleep(self._settings.heartbeat_seconds / TICKS_PER_HEARTBEAT)
            self._tick += 1
            frame = encode(FrameEvent.HEARTBEAT, {"timestamp": int(time.time())})
            for number, stream in enumerate(list(self._streams)):
                if stream.started and stream.tick <= self._tick - TICKS_PER_HEARTBEAT:
                    stream.tick = self._tick
                    stream.write_unless_waiting(frame)
                if number % STREAMS_AT_ONCE == STREAMS_AT_ONCE - 1:
                    await asyncio.sleep(0)

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
