"""Reading from PostgreSQL for the streams: how one begins, and what one missed.

Questions asked at about the same time are answered by one query, so that a herd of reconnecting clients, or a burst of
holes, costs few. Nothing here holds a database connection for longer than one query.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, Generic, NamedTuple, TypeVar

from api.homes import READ_TIMEOUT_S, home_of
from api.inbox_calls import page_json
from api.sse import Inbox, retry_ms
from api.tasks import apart, end
from shared import db
from shared.arrays import array_of, numbers_of
from shared.cursor import Cursor
from shared.errors import Unavailable
from shared.frames import FrameEvent, Replay, encode, inbox_name
from shared.inbox import (
    MAX_REPLAY_ROWS,
    Head,
    head_of,
    read_behind,
    read_changes,
    read_heads,
    read_page,
    replay_of,
)
from shared.inbox_filter import Filter
from shared.logs import log, place_of
from shared.settings import settings

#: Inboxes whose heads one query reads: fewer cost more transactions (1.3 ms each), more keep PostgreSQL busy for longer
#: (3 µs each). And of how many tenants: PostgreSQL sorts the transaction's tenants anew for each inbox looked up:
#: 2,000 inboxes of as many tenants took 800 ms, and in 40 queries take 40.
HEADS_IN_ONE_QUERY = 500
TENANTS_IN_ONE_QUERY = 50
#: Streams that one query begins, each perhaps of another tenant.
OPENINGS_IN_ONE_QUERY = 200
#: Inboxes whose changes one query reads: each may yield up to `MAX_REPLAY_ROWS` rows, which must fit into memory.
CHANGES_IN_ONE_QUERY = 100
#: After a query the next one waits for so long for whoever asks meanwhile: a transaction costs the edge as much as what
#: else it does for two streams. One that asks longer than this after the last query never waits.
GATHER_S = 0.02
#: First pages are read one by one; so many at once leave connections of the pool to others.
SNAPSHOTS_AT_ONCE = 4
#: Replays of more rows than this give way to other work before the next one is built.
LARGE_REPLAY_ROWS = 50

Question = TypeVar("Question")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Wish:
    """How a client wants its stream to begin. `after` None with `foreign` true: a cursor that is none of ours."""

    after: Cursor | None = None
    foreign: bool = False
    client: str | None = None
    snapshot: int | None = None


@dataclass(frozen=True, slots=True)
class Opening:
    """The first bytes of a stream, which tell everything up to `head`. `key`: the inbox's, None for an unknown one."""

    body: bytes
    head: Cursor
    key: int | None
    reset: bool = False


class Wanted(NamedTuple):
    """An inbox whose changes after a cursor are wanted."""

    tenant: str
    recipient: str
    after: Cursor


class Told(NamedTuple):
    """The answer: the way to now, and the inbox's key (None: the directory does not know the recipient)."""

    key: int | None
    replay: Replay


async def _rows(database: str, statement: Any, parameters: dict[str, Any], tenants: Iterable[str]) -> Sequence[Any]:
    """Return a query's rows, of these tenants in a database; raises `Unavailable` where that is away or stopped."""
    try:
        async with (
            asyncio.timeout(READ_TIMEOUT_S),
            db.async_transaction(*sorted(set(tenants)), database=database) as connection,
        ):
            return (await connection.execute(statement, parameters)).mappings().all()
    except TimeoutError:
        raise Unavailable("The database does not answer; try again.", retry_after=1) from None


async def fetch_heads(database: str, inboxes: Sequence[tuple[str, str]]) -> list[Head]:
    """Return the heads of a database's inboxes (tenant, recipient), in their order, of one snapshot."""
    tenants, recipients = zip(*inboxes, strict=True)
    given = {"tenants": array_of(tenants), "recipients": array_of(recipients)}
    return [head_of(row) for row in await _rows(database, read_heads(), given, tenants)]


def pieces(of_tenants: Iterable[Sequence[Inbox]]) -> Iterator[list[Inbox]]:
    """Give the inboxes of some tenants in pieces for one query each: a tenant's together, as far as one takes them."""
    piece: list[Inbox] = []
    tenants = 0
    for found in of_tenants:
        for start in range(0, len(found), HEADS_IN_ONE_QUERY):
            part = found[start : start + HEADS_IN_ONE_QUERY]
            if tenants == TENANTS_IN_ONE_QUERY or len(piece) + len(part) > HEADS_IN_ONE_QUERY:
                yield piece
                piece, tenants = [], 0
            piece += part
            tenants += 1
    if piece:
        yield piece


async def fetch_behind(database: str, followed: Sequence[tuple[Inbox, Cursor]]) -> list[tuple[Inbox, Head]]:
    """Return the heads of a database's inboxes that changed after the cursors given, or whose key was not known."""
    found = await _rows(
        database,
        read_behind(),
        {
            "tenants": array_of([inbox.tenant for inbox, _ in followed]),
            "recipients": array_of([inbox.recipient for inbox, _ in followed]),
            "epochs": numbers_of([cursor.epoch for _, cursor in followed]),
            "seqs": numbers_of([cursor.seq for _, cursor in followed]),
            "keys": numbers_of([inbox.key or 0 for inbox, _ in followed]),
        },
        {inbox.tenant for inbox, _ in followed},
    )
    return [(followed[row["place"] - 1][0], head_of(row)) for row in found]


async def fetch_changes(database: str, wanted: Sequence[Wanted]) -> list[Told]:
    """Return, in their order and of one snapshot, the ways from cursors to now."""
    limit = settings().replay_max_changes
    rows = await _rows(
        database,
        read_changes(),
        {
            "tenants": array_of(each.tenant for each in wanted),
            "recipients": array_of(each.recipient for each in wanted),
            "epochs": numbers_of(each.after.epoch for each in wanted),
            "seqs": numbers_of(each.after.seq for each in wanted),
            "max_changes": limit,
            "max_rows": MAX_REPLAY_ROWS,
        },
        (each.tenant for each in wanted),
    )
    told: list[Told] = []
    for place, group in groupby(rows, key=lambda row: row["place"]):
        found = list(group)
        told.append(Told(found[0]["key"], replay_of(wanted[place - 1].after, found, limit)))
        if len(found) > LARGE_REPLAY_ROWS:
            await asyncio.sleep(0)
    return told


class Batch(Generic[Question, Answer]):
    """Answers questions, as many at once as were asked from the query before until `gather_s` after it, or `size`."""

    def __init__(
        self, fetch: Callable[[Sequence[Question]], Awaitable[list[Answer]]], size: int, gather_s: float = GATHER_S
    ) -> None:
        self._fetch, self._size, self._gather_s = fetch, size, gather_s
        self._asked: list[tuple[Question, asyncio.Future[Answer]]] = []
        self._task: asyncio.Task[None] | None = None
        self.queries = 0

    def ask(self, question: Question) -> asyncio.Future[Answer]:
        """Return the answer to come, or the query's error (`Unavailable`). It was read after this call."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked.append((question, answer))
        if self._task is None:
            self._task = apart(self._run())
        return answer

    async def _run(self) -> None:
        try:
            while self._asked:
                batch, self._asked = self._asked[: self._size], self._asked[self._size :]
                await self._answer([each for each in batch if not each[1].done()])
                if self._gather_s and len(self._asked) < self._size:
                    await asyncio.sleep(self._gather_s)
        finally:
            self._task = None

    async def _answer(self, batch: list[tuple[Question, asyncio.Future[Answer]]]) -> None:
        if not batch:
            return
        self.queries += 1
        try:
            answers = await self._fetch([question for question, _ in batch])
            answered = list(zip(batch, answers, strict=True))
        except asyncio.CancelledError:
            for _, future in batch:
                future.cancel()
            raise
        except Exception as error:
            if not isinstance(error, Unavailable):
                log().error("batch.failed", reason=type(error).__name__, where=place_of(error))
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in answered:
            if not future.done():
                future.set_result(answer)

    async def stop(self) -> None:
        """Give up what is under way; whoever still waits is cancelled."""
        await end(self._task)
        for _, future in self._asked:
            future.cancel()


class Batches(Generic[Question, Answer]):
    """Answers questions about several databases, each in batches of its own: one that is away keeps none waiting."""

    def __init__(self, fetch: Callable[[str, Sequence[Question]], Awaitable[list[Answer]]], size: int) -> None:
        self._fetch, self._size = fetch, size
        self._by_database: dict[str, Batch[Question, Answer]] = {}

    @property
    def queries(self) -> int:
        """How many queries were sent."""
        return sum(each.queries for each in self._by_database.values())

    def ask(self, database: str, question: Question) -> asyncio.Future[Answer]:
        """As `Batch.ask`, of a database."""
        if database not in self._by_database:
            self._by_database[database] = Batch(partial(self._fetch, database), self._size)
        return self._by_database[database].ask(question)

    async def stop(self) -> None:
        """As `Batch.stop`, of all."""
        for each in self._by_database.values():
            await each.stop()


async def find_home(inbox: Inbox) -> None:
    """Learn where an inbox is, until its key is known: then that is known, too. Raises `Unavailable` as `home_of`."""
    home = await home_of(inbox.tenant, inbox.recipient)
    if inbox.key is None:
        inbox.database = home


def connected(inbox: Inbox, head: Head, cursor: Cursor) -> bytes:
    """Return a stream's first frame: whose it is, where it begins, and where the inbox is."""
    seconds = settings().heartbeat_seconds
    data = {
        "status": "connected",
        "inbox": inbox_name(inbox.tenant, inbox.recipient),
        "cursor": str(cursor),
        "head": str(head.cursor),
        **head.counters.as_json(),
        "heartbeatSeconds": int(seconds) if seconds.is_integer() else seconds,
    }
    return encode(FrameEvent.CONNECTED, data, cursor, retry_ms=retry_ms())


class Reader:
    """Reads for the streams of one process."""

    def __init__(self) -> None:
        self.heads: Batches[tuple[str, str], Head] = Batches(fetch_heads, OPENINGS_IN_ONE_QUERY)
        self.changes: Batches[Wanted, Told] = Batches(fetch_changes, CHANGES_IN_ONE_QUERY)
        self._snapshots = asyncio.Semaphore(SNAPSHOTS_AT_ONCE)

    async def stop(self) -> None:
        """Give up what is under way."""
        await self.heads.stop()
        await self.changes.stop()

    async def opening(self, inbox: Inbox, wish: Wish) -> Opening:
        """Return how a stream begins, read after this call. Raises `Unavailable` when the database is away.

        A cursor wins over a wish for a snapshot; one that is not ours, or cannot be served whole, is told `reset`.
        """
        await find_home(inbox)
        if wish.after is not None:
            return await self._resumed(inbox, wish.after)
        if wish.snapshot is not None and not wish.foreign:
            return await self._with_page(inbox, wish.snapshot)
        head = await self.heads.ask(inbox.database, (inbox.tenant, inbox.recipient))
        reset = Replay(head.cursor, head.cursor, head.counters, reset=True).encode() if wish.foreign else b""
        return Opening(connected(inbox, head, head.cursor) + reset, head.cursor, head.key, wish.foreign)

    async def _resumed(self, inbox: Inbox, after: Cursor) -> Opening:
        told = await self.changes.ask(inbox.database, Wanted(inbox.tenant, inbox.recipient, after))
        replay = told.replay
        first = connected(inbox, Head(told.key, replay.head, replay.counters), after)
        return Opening(first + replay.encode(), replay.head, told.key, replay.reset)

    async def _with_page(self, inbox: Inbox, limit: int) -> Opening:
        statement, values = read_page(Filter())
        parameters = {"tenant": inbox.tenant, "recipient": inbox.recipient, "before": None, "limit": limit, **values}
        async with self._snapshots:
            rows = await _rows(inbox.database, statement, parameters, [inbox.tenant])
        head = head_of(rows[0])
        page = encode(FrameEvent.SNAPSHOT, page_json(rows, limit), head.cursor)
        return Opening(connected(inbox, head, head.cursor) + page, head.cursor, head.key)
