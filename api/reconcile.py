"""The reconciler: finds what the fast path lost and has it read; no stream lacks a change for longer than one round.

It needs PostgreSQL alone: with Redis dead it is what feeds the streams. Each database has rounds of its own, so that
one that does not answer keeps no other one's streams waiting.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import NamedTuple, Protocol

from api.order import State
from api.read import Batches, Told, Wanted, fetch_behind, find_home, pieces
from api.sse import Inbox, Stream
from api.tasks import end
from shared import databases
from shared.cursor import Cursor
from shared.databases import SHARED
from shared.logs import log

#: How long a frame beyond the mark may wait for its predecessor: two workers' publishes are some milliseconds apart.
HOLE_WAIT_S = 0.02
#: A stream found behind may just have its frame on the way: it is looked at once more after this.
GRACE_S = 0.1
#: A round begins this share of the interval after the one before: with its queries and the grace it keeps the promise.
INTERVAL_SHARE = 0.9
#: But when they take long, it rests for this share of the interval: the database has other work.
REST_SHARE = 0.5
#: Between two queries of a round others have their turn: of 5,000 streams a round takes 0.1 s.
BREATH_S = 0.005
#: Pieces of a round that fail one after the other before the rest is left to the next round.
FAILURES_IN_A_ROW = 2
#: Inboxes that a round looks at before others have their turn (0.5 ms: most of their memory is in no cache).
INBOXES_AT_ONCE = 250
#: Unknown recipients of tenants with databases of their own whose home is asked for again: a read each.
HOMES_IN_ONE_ROUND = 20
#: Epochs begin at 1: every inbox has news for whoever has this.
_NOTHING = Cursor(0, 0)


class Repaired(Protocol):
    """Who tells a stream what was read for it."""

    def told(self, stream: Stream, told: Told) -> None:
        """The way from the stream's mark to now was read."""

    def learn_key(self, inbox: Inbox, key: int | None) -> None:
        """A read told the inbox's key."""


class Suspect(NamedTuple):
    """A stream that lacked something up to `cursor`; the loop's time at which that is no longer just on its way."""

    stream: Stream
    cursor: Cursor
    due: float


class Reconciler:
    """Finds streams that miss something, and has it read: at once, after a moment's wait, or in its own round.

    A stream with a slow reader waits until that has taken its backlog. With the database away the streams stay open and
    are repaired when it is back.
    """

    def __init__(self, hub: Repaired, changes: Batches[Wanted, Told], interval: float) -> None:
        self._hub, self._changes = hub, changes
        self._period, self._rest = interval * INTERVAL_SHARE, interval * REST_SHARE
        self._holes: dict[Stream, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        #: Those of each database's rounds.
        self._kicks = {name: asyncio.Event() for name in databases.names()}
        self._tasks: list[asyncio.Task[None]] = []
        self.holes = self.reconciled = self.rounds = 0

    def start(self, inboxes: Callable[[], list[Inbox]]) -> None:
        """Begin the rounds over what `inboxes()` gives."""
        self._tasks = [asyncio.create_task(self._run(database, inboxes)) for database in self._kicks]

    async def stop(self) -> None:
        """End the rounds."""
        if self._timer is not None:
            self._timer.cancel()
        await end(*self._tasks)

    def kick(self) -> None:
        """Begin a round everywhere at once: something may have been lost."""
        for kick in self._kicks.values():
            kick.set()

    def hole_soon(self, stream: Stream) -> None:
        """Read the stream's way unless the missing frame comes within `HOLE_WAIT_S`."""
        loop = asyncio.get_running_loop()
        self._holes.setdefault(stream, loop.time() + HOLE_WAIT_S)
        if self._timer is None:
            self._timer = loop.call_later(HOLE_WAIT_S, self._holes_due)

    def _holes_due(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        due = [stream for stream, deadline in self._holes.items() if deadline <= loop.time() + 0.001]
        for stream in due:
            del self._holes[stream]
            if stream.open and stream.order.state is State.HOLDING:
                self.holes += 1
                self.repair(stream)
        if self._holes:
            first = next(iter(self._holes.values()))
            self._timer = loop.call_at(first, self._holes_due)

    def repair(self, stream: Stream) -> None:
        """Have the stream's way read now; while its reader is slow, mark it to be read later."""
        if stream.paused:
            stream.order.fall_behind()
            return
        stream.order.read()
        inbox = stream.inbox
        answer = self._changes.ask(inbox.database, Wanted(inbox.tenant, inbox.recipient, stream.order.cursor))
        answer.add_done_callback(partial(self._repaired, stream))

    def _repaired(self, stream: Stream, answer: asyncio.Future[Told]) -> None:
        if answer.cancelled():
            return
        if answer.exception() is not None:
            stream.order.fall_behind()
        elif stream.open:
            self._hub.told(stream, answer.result())

    async def _run(self, database: str, inboxes: Callable[[], list[Inbox]]) -> None:
        kick, is_away, loop = self._kicks[database], False, asyncio.get_running_loop()
        began = loop.time()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(max(began + self._period, loop.time() + self._rest)):
                    await kick.wait()
            kick.clear()
            began = loop.time()
            try:
                await self._round(database, inboxes())
            except Exception as error:
                # Of a row of failures the first is logged: the next rounds try again.
                if not is_away:
                    log().warning("reconciler.failed", database=database, reason=type(error).__name__)
                is_away = True
            else:
                is_away = False

    async def _round(self, database: str, inboxes: list[Inbox]) -> None:
        if database != SHARED:
            await _find_homes(database, inboxes)
        suspects: deque[Suspect] = deque()
        failure = await self._look(database, await _of_tenants(database, inboxes), suspects)
        while suspects:
            await asyncio.sleep(suspects[0].due - asyncio.get_running_loop().time())
            self._repair_due(suspects)
        if failure is not None:
            raise failure
        self.rounds += 1

    async def _look(
        self, database: str, by_tenant: dict[str, list[Inbox]], suspects: deque[Suspect]
    ) -> Exception | None:
        """Look at all inboxes, piece by piece; returns the error of the last that failed.

        A piece that fails costs its own streams their round; after `FAILURES_IN_A_ROW` the database counts as away.
        """
        failure, failures = None, 0
        for piece in pieces(by_tenant.values()):
            try:
                suspects += await self._suspects(database, piece)
                failures = 0
            except Exception as error:
                failure, failures = error, failures + 1
            self._repair_due(suspects)
            if failures == FAILURES_IN_A_ROW:
                break
            await asyncio.sleep(BREATH_S)
        return failure

    async def _suspects(self, database: str, inboxes: list[Inbox]) -> list[Suspect]:
        """Return the streams of some inboxes that lack something."""
        followed: list[tuple[Inbox, Cursor]] = []
        for number, inbox in enumerate(inboxes, 1):
            if (cursor := _lowest(inbox)) is not None:
                followed.append((inbox, cursor))
            if number % INBOXES_AT_ONCE == 0:
                await asyncio.sleep(0)
        found = await fetch_behind(database, followed) if followed else []
        due = asyncio.get_running_loop().time() + GRACE_S
        for inbox, head in found:
            self._hub.learn_key(inbox, head.key)
        return [Suspect(stream, head.cursor, due) for inbox, head in found for stream in _behind(inbox, head.cursor)]

    def _repair_due(self, suspects: deque[Suspect]) -> None:
        """Have those read that lack it still, after their grace; they leave `suspects`."""
        now = asyncio.get_running_loop().time()
        while suspects and suspects[0].due <= now:
            stream, cursor, _ = suspects.popleft()
            if stream in _behind(stream.inbox, cursor):
                self.reconciled += 1
                self.repair(stream)


async def _find_homes(database: str, inboxes: list[Inbox]) -> None:
    """Ask anew where some inboxes are whose recipients were unknown: somebody may have registered them meanwhile.

    Raises `Unavailable` where the tenants' database is away: the round could not be made anyhow.
    """
    unknown = [inbox for inbox in inboxes if inbox.key is None and inbox.database == database]
    for inbox in random.sample(unknown, min(len(unknown), HOMES_IN_ONE_ROUND)):
        await find_home(inbox)


async def _of_tenants(database: str, inboxes: list[Inbox]) -> dict[str, list[Inbox]]:
    """Return a database's inboxes by their tenants."""
    found: dict[str, list[Inbox]] = {}
    for number, inbox in enumerate(inboxes, 1):
        if inbox.database == database:
            found.setdefault(inbox.tenant, []).append(inbox)
        if number % INBOXES_AT_ONCE == 0:
            await asyncio.sleep(0)
    return found


def _lowest(inbox: Inbox) -> Cursor | None:
    """Return the least that a stream of the inbox has, none of any epoch where one must be read anyway.

    None for an inbox whose streams are all about to be told, or wait for a frame.
    """
    if len(inbox.streams) == 1 and (only := inbox.streams[0].order).state is State.LIVE:
        # Nearly all: a tenth of the time of what follows, which is right for it, too.
        return only.cursor
    states = [(stream.order.state, stream.order.cursor) for stream in inbox.streams]
    if any(state is State.BEHIND for state, _ in states):
        return _NOTHING
    return min((cursor for state, cursor in states if state is State.LIVE), default=None)


def _behind(inbox: Inbox, head: Cursor) -> Iterator[Stream]:
    """Give the inbox's streams that lack something up to `head`, as far as they are not being repaired already."""
    for stream in inbox.streams:
        order = stream.order
        lacks = order.epoch != head.epoch or order.mark < head.seq
        if stream.open and (order.state is State.BEHIND or (order.state is State.LIVE and lacks)):
            yield stream
