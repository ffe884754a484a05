"""Asking for a look from the event loop itself: one write and one answer, on a connection of its own.

A blocking client in a thread does the same for twenty times the CPU, and the two fight for the interpreter: that was a
quarter of what the API used for an event. `shared/wake.py` has the words of both, and says why in this order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import hiredis
from redis.asyncio.connection import parse_url

from api.resp import RespConnection, command, greeting, opened
from api.tasks import end
from shared.logs import log
from shared.wake import Command, Step, asking, following, nudging

#: An answer that takes longer: Redis stands still, and the connection is given up.
ANSWER_S = 1.0
#: Between two attempts to connect; meanwhile the thread asks.
AGAIN_S = 1.0


def _written(commands: Iterable[Command]) -> bytes:
    return b"".join(command(*(word.encode() for word in each)) for each in commands)


@lru_cache(maxsize=256)
def _ask(database: str) -> bytes:
    return _written([("MULTI",), *asking(database), ("EXEC",)])


@lru_cache(maxsize=256)
def _nudge(database: str) -> bytes:
    return _written(nudging(database))


class _Link(RespConnection):
    """A connection on which what was asked, first to last, is answered in that order."""

    def __init__(self, answered: Callable[[str, Any], bool]) -> None:
        super().__init__()
        self._answered = answered
        self.asked: deque[str] = deque()
        #: When an answer came last, or was awaited anew, by the loop's clock.
        self.heard_at = 0.0

    def data_received(self, data: bytes) -> None:
        self.heard_at = asyncio.get_running_loop().time()
        try:
            self.reader.feed(data)
            while (reply := self.reader.gets()) is not False:
                self._replied(reply)
        except hiredis.ProtocolError:
            self.abort()

    def _replied(self, reply: Any) -> None:
        """Take EXEC's answer, a list or its refusal; what else comes says that a command was taken."""
        refused = isinstance(reply, hiredis.ReplyError)
        if refused and not str(reply).startswith("EXECABORT"):
            log().warning("nudges.refused", reason=str(reply).partition(" ")[0])
        elif (refused or isinstance(reply, list)) and self.asked:
            database = self.asked.popleft()
            if self._answered(database, reply):
                self.write(_nudge(database))

    def ask(self, database: str) -> None:
        """Ask for a look."""
        if not self.asked:
            self.heard_at = asyncio.get_running_loop().time()
        self.asked.append(database)
        self.write(_ask(database))


class Nudges:
    """Asks on the running loop, between `start` and `stop`. `send(database)` is called where a task must be sent.

    That is so where nobody lingers, and where the answer was lost with the connection: then one too many is sent.
    """

    def __init__(self, url: str, send: Callable[[str], None]) -> None:
        self._target = parse_url(url)
        self._send = send
        self._link: _Link | None = None
        #: Databases whose answer is awaited, and since then were asked for again.
        self._again: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Close the connection and end."""
        await end(self._task)

    def ask(self, database: str) -> bool:
        """Ask for a look after what was committed until now; returns False where there is no connection.

        An ask that is not answered yet may be older than the commit: it is repeated once it is.
        """
        link = self._link
        if link is None:
            return False
        if database in link.asked:
            self._again.add(database)
        else:
            link.ask(database)
        return True

    def _answered(self, database: str, reply: Any) -> bool:
        """Return whether somebody lingers who is to be nudged; nobody does: have a task sent."""
        if self._link is not None and database in self._again:
            self._again.discard(database)
            self._link.ask(database)
        if not isinstance(reply, list) or any(isinstance(part, hiredis.ReplyError) for part in reply):
            self._send(database)
            return False
        step = following(reply)
        if step is Step.TASK:
            self._send(database)
        return step is Step.NUDGE

    async def _run(self) -> None:
        """Hold a connection for ever; ends only by cancellation."""
        while True:
            try:
                link = await opened(self._target, lambda: _Link(self._answered))
                link.write(greeting(self._target) + command(b"SELECT", str(self._target.get("db", 0)).encode()))
                self._link = link
                await self._watch(link)
                log().warning("nudges.lost")
            except OSError as error:
                log().warning("nudges.unreachable", reason=type(error).__name__)
            finally:
                self._forget()
            await asyncio.sleep(AGAIN_S)

    @staticmethod
    async def _watch(link: _Link) -> None:
        """Return once the connection is over; one that owes an answer for too long is ended."""
        loop = asyncio.get_running_loop()
        while not link.lost.done():
            await asyncio.wait([link.lost], timeout=ANSWER_S / 2)
            if link.asked and loop.time() - link.heard_at > ANSWER_S:
                link.abort()

    def _forget(self) -> None:
        """Let go of the connection; what was asked on it and not answered is sent for."""
        link, self._link = self._link, None
        if link is not None:
            link.abort()
            for database in {*link.asked, *self._again}:
                self._send(database)
        self._again.clear()
