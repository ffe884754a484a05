"""Storing what producers post. Postings that come while others are being committed share the next transaction.

A transaction costs this process and PostgreSQL more than the row in it. Alone, a posting has one to itself at once;
under load the next takes all that wait. Each answer is still of a commit that its events were in.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from api.tasks import apart
from shared import db, events
from shared.databases import home_of_all
from shared.errors import Unavailable
from shared.events import Posting, Status
from shared.logs import log
from shared.statements import arun

#: Transactions of one database under way at a time that postings share. With one, a posting waits for half a commit
#: more and half as many transactions are paid for.
AT_ONCE = 2
#: Events that one transaction takes of several postings; a greater posting has one to itself.
MOST_EVENTS = 200
#: Postings that wait for one database: beyond it the next is answered 503, as it would be after `WAIT_S`.
MOST_WAITING = 5_000
#: Postings that are passed over for others that fit into the same transaction.
MOST_PASSED = 200
#: Transactions of one database at a time, for postings that wait for somebody's lock.
ALONE_AT_ONCE = 5
#: A posting that no transaction has taken by then is answered 503.
WAIT_S = db.POOL_TIMEOUT_S
#: A shared transaction waits no longer for a lock: one posting of them repeats what somebody else is storing just now.
#: Each then waits for itself, and nobody for another.
LOCK_TIMEOUT_MS = 200
#: SQLSTATE of a lock that was not had in time, and of a deadlock.
_BUSY = ("55P03", "40P01")


@dataclass(slots=True, eq=False)
class _Waiting:
    posting: Posting
    registers: bool
    statuses: asyncio.Future[list[Status]]

    def settle(self, statuses: list[Status]) -> None:
        if not self.statuses.done():
            self.statuses.set_result(statuses)

    def fail(self, error: Exception) -> None:
        if not self.statuses.done():
            self.statuses.set_exception(error)


class Acceptance:
    """Stores postings, of each database on its own. For one event loop."""

    def __init__(self) -> None:
        self._doors: dict[str, _Door] = {}

    async def accept(self, posting: Posting, *, registers: bool) -> list[Status]:
        """Store the events, all or none, and return their statuses: then they are durable.

        Raises as `events.accept`, and `Unavailable`.
        """
        home = home_of_all(posting.tenants)
        door = self._doors.get(home)
        if door is None:
            door = self._doors[home] = _Door()
        return await door.accept(posting, registers)


class _Door:
    """The postings of one database."""

    def __init__(self) -> None:
        self._waiting: deque[_Waiting] = deque()
        self._running = 0
        self._alone = asyncio.Semaphore(ALONE_AT_ONCE)
        #: A task that nobody refers to may be collected.
        self._tasks: set[asyncio.Task[None]] = set()

    async def accept(self, posting: Posting, registers: bool) -> list[Status]:
        if len(posting.events) > MOST_EVENTS:
            return await _store(posting, registers)
        if len(self._waiting) >= MOST_WAITING:
            raise db.too_busy()
        loop = asyncio.get_running_loop()
        waiting = _Waiting(posting, registers, loop.create_future())
        self._waiting.append(waiting)
        if self._running < AT_ONCE:
            self._running += 1
            self._start(self._run())
            return await waiting.statuses
        timer = loop.call_later(WAIT_S, self._expire, waiting)
        try:
            return await waiting.statuses
        finally:
            timer.cancel()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = apart(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _expire(self, waiting: _Waiting) -> None:
        """Answer 503 unless a transaction has taken the posting: then its end is the answer."""
        if waiting in self._waiting:
            waiting.fail(db.too_busy())

    async def _run(self) -> None:
        try:
            while group := self._take():
                await self._store_together(group)
        finally:
            self._running -= 1

    def _take(self) -> list[_Waiting]:
        """Return the first postings that wait and that one transaction can take: no event twice.

        What does not fit stays in front, in its order.
        """
        group: list[_Waiting] = []
        passed: list[_Waiting] = []
        keys: set[events.Key] = set()
        size = 0
        while self._waiting and size < MOST_EVENTS and len(passed) < MOST_PASSED:
            each = self._waiting.popleft()
            if each.statuses.done():
                continue
            more = size + len(each.posting.events)
            if group and (more > MOST_EVENTS or each.registers != group[0].registers or keys & each.posting.keys):
                passed.append(each)
                continue
            group.append(each)
            keys |= each.posting.keys
            size = more
        self._waiting.extendleft(reversed(passed))
        return group

    async def _store_together(self, group: Sequence[_Waiting]) -> None:
        """Store postings in one transaction; where one of them cannot be, the others are stored without it.

        By halves: one that is refused costs a few transactions more, one after the other, and not one for each.
        """
        merged = events.merged([each.posting for each in group])
        try:
            statuses = await _store(merged, group[0].registers, LOCK_TIMEOUT_MS)
        except Exception as error:
            await self._divide(group, error)
            return
        except BaseException:
            _fail(group, db.too_busy())
            raise
        for each in group:
            mine, statuses = statuses[: len(each.posting.events)], statuses[len(each.posting.events) :]
            each.settle(mine)

    async def _divide(self, group: Sequence[_Waiting], error: Exception) -> None:
        if _is_busy(error):
            for each in group:
                self._start(self._store_alone(each))
        elif isinstance(error, Unavailable) or len(group) == 1:
            _fail(group, error)
        else:
            middle = len(group) // 2
            await self._store_together(group[:middle])
            await self._store_together(group[middle:])

    async def _store_alone(self, waiting: _Waiting) -> None:
        """Store a posting, which may wait for a lock as long as any transaction does."""
        try:
            async with asyncio.timeout(WAIT_S):
                await self._alone.acquire()
        except TimeoutError:
            waiting.fail(db.too_busy())
            return
        try:
            await _answer(waiting)
        finally:
            self._alone.release()


async def _store(posting: Posting, registers: bool, lock_timeout_ms: int | None = None) -> list[Status]:
    """Store the events; once more, on a new connection, where the one that it had is gone.

    Up to `MOST_EVENTS` postings share it, and one cut would be the 503 of all. Where the cut came after the commit, the
    events are there already: their key lets nothing be stored twice, and the second try finds them as `duplicate`,
    which is what a producer that was answered 503 would have been told. Nothing is counted as repeated in it.
    """
    try:
        return await _store_once(posting, registers, lock_timeout_ms)
    except Unavailable as error:
        if not db.is_cut(error.__cause__):
            raise
        log().warning("accept.tried_again", events=len(posting.events))
        return await _store_once(posting, registers, lock_timeout_ms, again=True)


async def _store_once(
    posting: Posting, registers: bool, lock_timeout_ms: int | None, *, again: bool = False
) -> list[Status]:
    async with db.async_transaction(*posting.tenants, lock_timeout_ms=lock_timeout_ms) as connection:
        return await arun(connection, events.accept(posting, registers, again))


async def _answer(waiting: _Waiting) -> None:
    if waiting.statuses.done():
        return
    try:
        waiting.settle(await _store(waiting.posting, waiting.registers))
    except Exception as error:
        waiting.fail(error)


def _is_busy(error: Exception) -> bool:
    return db.sqlstate_of(error.__cause__) in _BUSY


def _fail(group: Sequence[_Waiting], error: Exception) -> None:
    for each in group:
        each.fail(error)
