"""A steady load: batches of events to both API processes, posted again with the same ids until they are acknowledged,
and one stream for each recipient.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import psycopg

from shared import keys
from tests import directory
from tests.directory import Row
from tests.eventually import eventually
from tests.fault.cluster import Cluster
from tests.fault.http import Refused, get_json, request
from tests.fault.ledger import EVERYONE, Ledger
from tests.fault.streams import StreamClient, close_all
from tests.listener import token_for

#: Each load has a tenant of its own: what an earlier one left in the cluster is neither seen nor judged.
_tenants = itertools.count(1)
PEOPLE = 200
#: Events a second; what is acknowledged is at least 300 of them while all is well.
RATE = 330.0
BATCH = 20
POSTERS = 6
#: An announcement to all: 200 notifications in four chunks each time.
ANNOUNCE_EVERY_S = 2.0
#: One person marks everything as read this often, so that the badges go down as well.
READ_EVERY_S = 0.2
POST_S = 5.0
#: Between two attempts where the server could not be reached at all.
UNREACHED_S = 0.2
TOKEN_TTL_S = 6 * 3600.0
OPEN_S = 60.0
QUIET_S = 60.0
BATCHED = "application/cloudevents-batch+json"


class Load:
    """Posters and streams on the cluster's loop, from `start()` to `stop()`."""

    def __init__(self, cluster: Cluster, run: str, people: int = PEOPLE) -> None:
        self.cluster, self.run, self.people = cluster, run, people
        self.tenant = f"acme-{next(_tenants)}"
        self.ledger = Ledger(people)
        self.ports = [proxy.port for proxy in cluster.api_proxies]
        self.paused = False
        self._busy = 0
        self.began = 0.0
        self._numbers = itertools.count()
        self._turns = itertools.count()
        self._stopping = False
        self._streams_tasks: list[asyncio.Task[None]] = []
        self._poster_tasks: list[asyncio.Task[None]] = []
        with cluster.connect() as session:
            self.keys = directory.add_recipients(session, self.tenant, [f"s{number}" for number in range(people)])
            self._bearer = {"Authorization": f"Bearer {_producer_key(session)}"}
        self.tokens = [
            token_for(cluster.environment, f"s{number}", TOKEN_TTL_S, self.tenant) for number in range(people)
        ]
        self.streams = [StreamClient(number, self.tokens[number], self.ports, self.ledger) for number in range(people)]

    # Told from the main thread

    def start(self) -> None:
        """Open all streams, then begin to post."""
        self._on_loop(self._open_streams())
        eventually(lambda: all(stream.is_open for stream in self.streams), within=OPEN_S)
        self._on_loop(self._begin_posting())
        self.began = time.monotonic()

    def stop(self) -> None:
        """Post no more once every batch under way is acknowledged; the streams stay."""
        self._stopping = True
        eventually(lambda: all(task.done() for task in self._poster_tasks), within=60)

    def close(self) -> None:
        """End the streams."""
        self._on_loop(close_all(self._streams_tasks))

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Post nothing and read nothing within the block; what was posted before is acknowledged first."""
        self.paused = True
        eventually(lambda: not self._busy, within=QUIET_S)
        try:
            yield
        finally:
            self.paused = False

    def post(self, recipients: list[int], *, owed: bool = True, **data: Any) -> None:
        """Post one event to each of these at once; they are acknowledged afterwards, and owed unless told otherwise."""
        events = [self._certificate(number, **data) for number in recipients]
        self._on_loop(self._post_until_acknowledged(0, events, owed=owed))

    def post_apart(self, recipients: list[int]) -> None:
        """Post one event to each of these, each in a request of its own, all at once to one API process."""
        events = [self._certificate(number) for number in recipients]
        self._on_loop(self._post_apart(next(self._turns), events))

    def insert(self, session: psycopg.Connection[Row], recipients: list[int]) -> list[str]:
        """Publish events within a producer's own transaction; they count once `acknowledge` is called after it."""
        events = [self._certificate(number)[0] for number in recipients]
        for event in events:
            session.execute("SELECT carillon_publish(%s::jsonb)", [orjson.dumps(event).decode()])
        return [event["id"] for event in events]

    def acknowledge(self, ids: list[str], recipients: list[int]) -> None:
        """Count events that `insert` published and that are committed."""
        for id, recipient in zip(ids, recipients, strict=True):
            self.cluster.loop.call(self.ledger.acknowledge, id, recipient)

    def publish(self, session: psycopg.Connection[Row], recipients: list[int]) -> None:
        """Publish events in one transaction of a producer's own."""
        with session.transaction():
            ids = self.insert(session, recipients)
        self.acknowledge(ids, recipients)

    def read_pages(self, readers: int, seconds: float) -> int:
        """Have so many readers fetch pages as fast as they can for a while; return how many were refused."""
        return self.cluster.loop.run(self._read_pages(readers, seconds))

    def forget(self) -> None:
        """A backup was restored: what was before is neither owed nor known. Belongs to the loop's thread."""
        self.ledger.forgive()
        for stream in self.streams:
            stream.forget()

    def owed(self) -> list[set[str]]:
        """Return what is acknowledged and not told at this moment."""
        return self.cluster.loop.call(self.ledger.snapshot)

    def still_owed(self, before: list[set[str]]) -> int:
        """Return how many of these were not told yet."""
        return self.cluster.loop.call(self.ledger.still_owed, before)

    def _on_loop(self, work: Coroutine[Any, Any, None]) -> None:
        self.cluster.loop.run(work)

    # On the loop

    async def _open_streams(self) -> None:
        self._streams_tasks = [asyncio.create_task(stream.run()) for stream in self.streams]

    async def _begin_posting(self) -> None:
        posters = [self._poster(number) for number in range(POSTERS)]
        self._poster_tasks = [asyncio.create_task(one) for one in (*posters, self._announcer(), self._reader())]

    async def _poster(self, number: int) -> None:
        """Post a batch, and the next one a fixed time after this one began, or at once where it took longer."""
        every = BATCH * POSTERS / RATE
        await asyncio.sleep(every * number / POSTERS)
        while not self._stopping:
            due = time.monotonic() + every
            if not self.paused:
                await self._busily(self._post_until_acknowledged(number, [self._certificate() for _ in range(BATCH)]))
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _announcer(self) -> None:
        while not self._stopping:
            await asyncio.sleep(ANNOUNCE_EVERY_S)
            if not self.paused:
                await self._busily(self._post_until_acknowledged(0, [self._announcement()]))

    async def _busily(self, work: Coroutine[Any, Any, None]) -> None:
        self._busy += 1
        try:
            await work
        finally:
            self._busy -= 1

    async def _read_pages(self, readers: int, seconds: float) -> int:
        ends, refused = time.monotonic() + seconds, 0

        async def read(number: int) -> None:
            nonlocal refused
            while time.monotonic() < ends:
                try:
                    await get_json(random.choice(self.ports), "/api/notifications", self.tokens[number], POST_S)
                except Refused as answer:
                    refused += 1
                    if answer.status != 503 or answer.retry_after is None:
                        self.ledger.blame("wrong answer", f"{answer.status} to a reader")
                except (OSError, TimeoutError, asyncio.IncompleteReadError):
                    refused += 1

        await asyncio.gather(*(read(number) for number in range(readers)))
        return refused

    async def _reader(self) -> None:
        """Mark everything as read, here and there; whether it succeeded is seen by the streams."""
        while not self._stopping:
            await asyncio.sleep(READ_EVERY_S)
            if not self.paused:
                await self._busily(self._read_all())

    async def _read_all(self) -> None:
        number = random.randrange(self.people)
        told = {"Authorization": f"Bearer {self.tokens[number]}", "Content-Type": "application/json"}
        try:
            status, _, _ = await request(
                random.choice(self.ports), "PATCH", "/api/notifications", told, b'{"read":true}', within=POST_S
            )
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as problem:
            self.ledger.answers[f"read: {type(problem).__name__}"] += 1
        else:
            self.ledger.answers[f"read: {status}"] += 1

    def _certificate(self, recipient: int | None = None, **data: Any) -> tuple[dict[str, Any], int]:
        """Return a new event, and the number of its recipient."""
        number = next(self._numbers)
        chosen = number * 7 % self.people if recipient is None else recipient
        id = f"{self.run}-{number}"
        named = {"student_id": f"s{chosen}", "certificate_id": id, "badge_title": "Rust", **data}
        return self._envelope(id, "certificate.issued", named), chosen

    def _announcement(self) -> tuple[dict[str, Any], int]:
        id = f"{self.run}-all-{next(self._numbers)}"
        data = {"title": id, "message": "For all of you.", "audience": {"everyone": True}}
        return self._envelope(id, "system.announcement", data), EVERYONE

    def _envelope(self, id: str, type: str, data: dict[str, Any]) -> dict[str, Any]:
        return {"specversion": "1.0", "id": id, "source": "/load", "type": type, "tenant": self.tenant, "data": data}

    async def _post_apart(self, turn: int, events: list[tuple[dict[str, Any], int]]) -> None:
        await asyncio.gather(*(self._post_until_acknowledged(turn, [event]) for event in events))

    async def _post_until_acknowledged(
        self, turn: int, events: list[tuple[dict[str, Any], int]], *, owed: bool = True
    ) -> None:
        """Post the same batch, at one API process after the other, until it is answered with 202."""
        body = orjson.dumps([event for event, _ in events])
        headers = {**self._bearer, "Content-Type": BATCHED}
        while True:
            wait = await self._post_once(self.ports[turn % len(self.ports)], headers, body)
            if wait is None:
                break
            turn += 1
            await asyncio.sleep(wait)
        for event, recipient in events if owed else ():
            self.ledger.acknowledge(event["id"], recipient)

    async def _post_once(self, port: int, headers: dict[str, str], body: bytes) -> float | None:
        """Return None for 202, otherwise how long to wait before posting again."""
        try:
            status, told, _ = await request(port, "POST", "/api/events", headers, body, within=POST_S)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as problem:
            self.ledger.answers[type(problem).__name__] += 1
            return UNREACHED_S
        self.ledger.answers[str(status)] += 1
        if status == 202:
            return None
        if status != 503 or "retry-after" not in told:
            self.ledger.blame("wrong answer", f"{status} to a producer, Retry-After {told.get('retry-after')}")
            return UNREACHED_S
        return float(told["retry-after"])


def _producer_key(session: psycopg.Connection[Row]) -> str:
    key, row = keys.make_key(None, ["events:write"])
    session.execute(
        "INSERT INTO producer_keys (prefix, secret_hash, tenants, scopes)"
        " VALUES (%(prefix)s, %(secret_hash)s, %(tenants)s, %(scopes)s)",
        row,
    )
    return key
