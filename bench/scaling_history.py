"""Cost over an inbox's history, 10 to 1,000 notifications: what its owner asks, and what a producer sends there.

The product's own functions in this process, as the API and a worker call them, with their transactions, row-level
security and publishing, without HTTP and Celery. The cap is 100 by default; a tenant may be given up to 10,000.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import uvloop
from psycopg.types.json import Jsonb

from api import inbox_calls
from api.auth import Subscriber
from api.publish import Publisher
from bench.jobs import environment
from bench.series import Growth, Series, point
from bench.stored import fill
from shared import db, migration
from shared.cursor import Cursor
from shared.embedded import EmbeddedPostgres, EmbeddedRedis
from shared.inbox import Wish
from shared.inbox_filter import Filter
from shared.settings import settings
from workers.fan_out import fan_out_pending

SIZES = (10, 30, 100, 300, 1_000)
#: Inboxes of each length: each is asked once for everything that is measured, the first ones uncounted.
INBOXES = 200
FIRST_RUNS = 20
#: Times that all inboxes of a length get an event at once, one event each.
BATCHES = 5
#: Changes that a client lacks.
MISSED = 5
MEASURED: dict[str, Growth] = {
    "page of 20": "constant",
    "unread count": "constant",
    f"changes after a cursor ({MISSED})": "constant",
    "PATCH: one marked as unread": "constant",
    "fan-out of one event": "constant",
    "fan-out of many, for each": "constant",
    "counts by category": "linear",
    "all marked as read": "linear",
}


class Inboxes(NamedTuple):
    """The inboxes with one length of history, by their owners, and an id of each."""

    history: int
    owners: list[Subscriber]
    ids: list[str]


@contextmanager
def servers(folder: Path) -> Iterator[str]:
    """Run PostgreSQL and Redis with the product's settings in this process; give the owner's URL."""
    postgres, redis_server = EmbeddedPostgres(folder / "postgres"), EmbeddedRedis(folder / "redis")
    postgres.start()
    redis_server.start()
    try:
        migration.migrate(postgres.url(), postgres.application)
        os.environ.update(environment(postgres.application_url(), redis_server, SIZES[-1]))
        settings.cache_clear()
        yield postgres.url()
    finally:
        db.forget_engines()
        redis_server.stop()
        postgres.stop()


def prepare(url: str) -> list[Inboxes]:
    """Fill inboxes of each length and register their owners."""
    made = []
    with psycopg.connect(url, autocommit=True) as session:
        for history in SIZES:
            tenant = f"h{history}"
            fill(session, INBOXES, history, tenants=[tenant])
            session.execute(
                "INSERT INTO recipients (key, tenant, id) SELECT key, tenant, recipient FROM inboxes WHERE tenant = %s",
                (tenant,),
            )
            rows = session.execute(_IDS, (tenant,)).fetchall()
            later = time.time() + 3_600
            owners = [Subscriber(tenant, recipient, (), later, later) for recipient, _ in rows]
            made.append(Inboxes(history, owners, [str(id) for _, id in rows]))
        session.execute("VACUUM ANALYZE")
    return made


#: Each inbox with its oldest notification, which is read.
_IDS = """
    SELECT i.recipient, n.id FROM inboxes i JOIN notifications n ON n.key = i.key AND n.ordinal = 1
    WHERE i.tenant = %s ORDER BY i.key"""


class Caller:
    """Calls what is measured, for the inboxes of one length."""

    def __init__(self, inboxes: Inboxes, publisher: Publisher, session: psycopg.Connection[Any]) -> None:
        self._inboxes, self._publisher, self._session = inboxes, publisher, session
        self._posted = 0

    async def page(self, owner: Subscriber, _id: str) -> None:
        await inbox_calls.page(owner, Filter(), None, 20)

    async def counts(self, owner: Subscriber, _id: str) -> None:
        await inbox_calls.counts(owner)

    async def changes(self, owner: Subscriber, _id: str) -> None:
        told = await inbox_calls.changes(owner, Cursor(1, self._inboxes.history - MISSED))
        assert not told["reset"], told

    async def patch(self, owner: Subscriber, id: str) -> None:
        await inbox_calls.mark_one(owner, self._publisher, id, Wish(read=False))

    async def categories(self, owner: Subscriber, _id: str) -> None:
        await inbox_calls.counts_by_category(owner)

    async def read_all(self, owner: Subscriber, _id: str) -> None:
        told = await inbox_calls.change_many(owner, self._publisher, "read", None)
        assert told["changed"], told

    async def timed(self, name: str, place: int) -> float:
        """Return the milliseconds of one call for the inbox in that place."""
        owner, id = self._inboxes.owners[place], self._inboxes.ids[place]
        began = time.perf_counter()
        await getattr(self, name)(owner, id)
        return 1e3 * (time.perf_counter() - began)

    def fan_out(self, owners: Sequence[Subscriber]) -> float:
        """Store an event for each of them, and return the milliseconds from the claims to the publishing, for each."""
        for owner in owners:
            self._store(owner)
        began = time.perf_counter()
        fan_out_pending()
        return 1e3 * (time.perf_counter() - began) / len(owners)

    def fan_out_one(self, place: int) -> float:
        """As `fan_out`, for the inbox in that place alone."""
        return self.fan_out([self._inboxes.owners[place]])

    def fan_out_all(self) -> float:
        """As `fan_out`, for all."""
        return self.fan_out(self._inboxes.owners)

    def _store(self, owner: Subscriber) -> None:
        self._posted += 1
        data = {"student_id": owner.recipient, "certificate_id": "c", "badge_title": "Rust"}
        event = {"specversion": "1.0", "id": f"{owner.tenant}-{self._posted}", "source": "/bench",
                 "type": "certificate.issued", "tenant": owner.tenant, "data": data}  # fmt: skip
        self._session.execute("SELECT carillon_publish(%s)", (Jsonb(event),))


#: What is measured of each length, by the length's place; every length in turn, so that what else the machine does at a
#: moment is in all of them.
Found = list[list[float]]


async def _called(callers: Sequence[Caller], name: str) -> Found:
    rounds = [[await caller.timed(name, place) for caller in callers] for place in range(INBOXES)]
    return [list(values) for values in zip(*rounds[FIRST_RUNS:], strict=True)]


async def measure_all(callers: Sequence[Caller]) -> list[Found]:
    """Return the milliseconds of everything that is measured, in the order of `MEASURED`."""
    before = [await _called(callers, name) for name in ("page", "counts", "changes", "patch")]
    ones = [[caller.fan_out_one(place) for caller in callers] for place in range(INBOXES)]
    many = [[caller.fan_out_all() for caller in callers] for _ in range(BATCHES)]
    fanned_out = [[list(values) for values in zip(*rounds, strict=True)] for rounds in (ones[FIRST_RUNS:], many)]
    return [*before, *fanned_out, *[await _called(callers, name) for name in ("categories", "read_all")]]


async def _measure(made: list[Inboxes], url: str) -> list[Found]:
    publisher = Publisher()
    try:
        with psycopg.connect(url, autocommit=True) as session:
            return await measure_all([Caller(inboxes, publisher, session) for inboxes in made])
    finally:
        await publisher.close()
        await db.close_async_engines()


def measure(folder: Path) -> list[Series]:
    """Measure inboxes of every length."""
    with servers(folder) as url, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(_measure(prepare(url), url))
    return [
        Series(name, "ms", growth, tuple(point(size, taken) for size, taken in zip(SIZES, values, strict=True)))
        for (name, growth), values in zip(MEASURED.items(), found, strict=True)
    ]
