"""Ends the streams whose sign-in has ended: at once where Redis tells it, otherwise at the next look at PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

import orjson

from api.auth import Subscriber
from api.hub import START_WAIT_S, STREAMS_AT_ONCE, Hub
from api.sign_in import SignIn
from api.sse import Goodbye, Stream
from api.tasks import pause
from shared import db, revocations, sessions
from shared.logs import log
from shared.revocations import EVERYONE, Revocation
from shared.settings import settings
from shared.statements import arun
from shared.stream_redis import AWAY, publisher
from shared.wake import CONTROL_CHANNEL


class Watch:
    """Follows revocations and logouts for the streams of one hub, between `start` and `stop`."""

    def __init__(self, hub: Hub, sign_in: SignIn) -> None:
        self._hub, self._sign_in = hub, sign_in
        self._task: asyncio.Task[None] | None = None
        self._stopping, self._looked = asyncio.Event(), asyncio.Event()
        self.ended = 0
        hub.orders |= {"revoke": self._heard_of_revocation, "logout": self._heard_of_logout}

    async def start(self) -> None:
        """Look for the first time, then every `recheck_seconds`. Without a database, go on after a moment."""
        self._task = asyncio.create_task(self._run())
        await pause(self._looked, START_WAIT_S)

    async def stop(self) -> None:
        """End, after the look that is under way: a connection whose making is cancelled stays half open."""
        self._stopping.set()
        if self._task is not None:
            await self._task

    async def revoked(self, revocation: Revocation) -> None:
        """End what a committed revocation ends, here now and in other processes as soon as Redis tells them."""
        self._revoke(revocation)
        await self._tell(revocations.order(revocation))

    async def logged_out(self, tenant: str, recipient: str, session: str) -> None:
        """End the streams of a session that was deleted, here now and elsewhere as soon as Redis tells it."""
        order = {"tenant": tenant, "recipient": recipient, "session": session}
        self._heard_of_logout(order)
        await self._tell(orjson.dumps({"logout": order}))

    async def _tell(self, order: bytes) -> None:
        try:
            await publisher(self._hub.redis)(CONTROL_CHANNEL, order)
        except AWAY as error:
            log().warning("watch.not_told", reason=type(error).__name__)

    def _heard_of_revocation(self, order: dict[str, Any]) -> None:
        self._revoke(Revocation(order["tenant"], order["recipient"], float(order.get("at", time.time()))))

    def _revoke(self, revocation: Revocation) -> None:
        self._sign_in.revoked.note(revocation)
        recipient = None if revocation.recipient == EVERYONE else revocation.recipient
        self._end(each for each in self._hub.streams(revocation.tenant, recipient) if self._is_void(each))

    def _heard_of_logout(self, order: dict[str, Any]) -> None:
        session = str(order["session"])
        self._sign_in.sessions.end(session)
        streams = self._hub.streams(order["tenant"], order["recipient"])
        self._end(each for each in streams if each.who is not None and each.who.session == session)

    def _is_void(self, stream: Stream) -> bool:
        return stream.who is not None and self._sign_in.revoked.is_void(stream.who)

    def _end(self, streams: Iterable[Stream]) -> None:
        for stream in streams:
            self.ended += stream.open
            stream.end(Goodbye.REVOKED)

    async def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._look()
            except Exception as error:
                # The database is away: whoever asks is refused by that; streams stay until it is back.
                log().warning("watch.failed", reason=type(error).__name__)
            self._looked.set()
            await pause(self._stopping, settings().recheck_seconds)

    async def _look(self) -> None:
        """Read what was revoked and which of the streams' sessions live no longer, and end those streams."""
        await self._sign_in.revoked.load()
        self._sign_in.revoked.forget_old()
        gone = await self._gone([each.who for each in self._hub.streams() if each.who is not None and each.who.session])
        for number, stream in enumerate(self._hub.streams()):
            if self._is_void(stream) or (stream.who is not None and stream.who.session in gone):
                self._end((stream,))
            if number % STREAMS_AT_ONCE == STREAMS_AT_ONCE - 1:
                await asyncio.sleep(0)

    async def _gone(self, whose: list[Subscriber]) -> set[str]:
        """Return which of these sessions live no longer: ours by one statement, the host's by asking the host."""
        ours = {who.session for who in whose if not who.secret}
        gone = set(await self._ended(list(ours))) if ours else set()
        for name in gone:
            self._sign_in.sessions.end(name)
        host = self._sign_in.host
        return gone | (await host.ended(whose) if host is not None else set())

    @staticmethod
    async def _ended(names: list[str]) -> list[str]:
        async with db.async_transaction(credentials=names) as connection:
            return await arun(connection, sessions.ended(names))
