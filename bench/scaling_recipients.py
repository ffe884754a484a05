"""Cost over the recipients of an announcement, 1,000 to 1,000,000: until all is stored and published, and what memory.

The whole product as `carillon up` starts it, one event for everyone of a tenant with so many people. The directory is
prepared in a kept folder, without flushing; the product then runs on it, flushing.
"""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import psutil
import psycopg

from bench.cpu import cpu_seconds
from bench.product import Product, running
from bench.series import Growth, Point, Series, point
from bench.wire import Poster
from shared import keys, migration
from shared.embedded import EmbeddedPostgres

SIZES = (1_000, 10_000, 100_000, 1_000_000)
#: Announcements of each size: the large ones take long, and their times differ by less.
RUNS = {1_000: 5, 10_000: 5, 100_000: 3, 1_000_000: 1}
PATIENCE_S = 150.0
POLL_S = 0.01
SAMPLE_S = 0.1
MEASURED: dict[str, tuple[str, Growth]] = {
    "stored and published": ("s", "linear"),
    "CPU of the whole product": ("s", "linear"),
    "chunks' worker, most memory": ("MiB", "constant"),
    "WAL": ("MiB", "linear"),
}


def tenant_of(people: int) -> str:
    """Return the tenant with so many people."""
    return f"crowd-{people}"


def prepare(folder: Path) -> None:
    """Make the directory, unless it is there."""
    postgres = EmbeddedPostgres(folder / "postgres", fast=True)
    postgres.start()
    try:
        migration.migrate(postgres.url(), postgres.application)
        with psycopg.connect(postgres.url(), autocommit=True) as session:
            known = {row[0] for row in session.execute("SELECT id FROM tenants")}
            for people in SIZES:
                if tenant_of(people) not in known:
                    _add(session, people)
            session.execute("VACUUM ANALYZE")
            session.execute("CHECKPOINT")
    finally:
        postgres.stop()


def _add(session: psycopg.Connection[Any], people: int) -> None:
    with session.transaction():
        session.execute("INSERT INTO tenants (id) VALUES (%s)", (tenant_of(people),))
        session.execute(
            """WITH i AS (INSERT INTO inboxes (tenant, recipient)
                          SELECT %s, 'p' || g FROM generate_series(1, %s) g RETURNING key, tenant, recipient)
               INSERT INTO recipients (key, tenant, id) SELECT key, tenant, recipient FROM i""",
            (tenant_of(people), people),
        )


class Cost(NamedTuple):
    """What one announcement cost, in the units of `MEASURED`."""

    seconds: float
    cpu_s: float
    memory_mib: float
    wal_mib: float


class Meter:
    """Watches the product's processes: their CPU time, and the most memory that one of the chunks' workers has."""

    def __init__(self) -> None:
        found = [each for each in self._family() if "--hostname=fan_out@%h" in each.cmdline()]
        self._chunks = [*found, *(child for each in found for child in each.children())]
        self.most_mib = 0.0

    @staticmethod
    def _family() -> list[psutil.Process]:
        family: list[psutil.Process] = psutil.Process().children(recursive=True)
        return family

    def cpu(self) -> float:
        """Return the CPU seconds so far of all of the product: API, workers, PostgreSQL, Redis."""
        return cpu_seconds(each.pid for each in self._family())

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note the most memory while the block runs: the resident set of the worker's largest process."""
        over = threading.Event()

        def watch() -> None:
            ended = False
            while not ended:
                ended = over.wait(SAMPLE_S)
                self.most_mib = max(self.most_mib, *(each.memory_info().rss / 2**20 for each in self._chunks))

        self.most_mib = 0.0
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()


class Announcer:
    """Posts announcements and waits until they are done."""

    def __init__(self, product: Product, session: psycopg.Connection[Any]) -> None:
        self._product, self._session = product, session
        key, row = keys.make_key(None, ["events:write"])
        names = ", ".join(row)
        values = ", ".join(f"%({name})s" for name in row)
        session.execute(f"INSERT INTO producer_keys ({names}) VALUES ({values})", row)
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/cloudevents+json"}
        self._meter = Meter()

    def announce(self, people: int, number: int) -> Cost:
        """Return what an announcement to so many costs."""
        id = f"{people}-{number}-{time.time_ns()}"
        data = {"title": "Exams", "message": "The exams begin on Monday.", "audience": {"everyone": True}}
        event = {"specversion": "1.0", "id": id, "source": "/bench", "type": "system.announcement",
                 "tenant": tenant_of(people), "data": data}  # fmt: skip
        cpu, wal = self._meter.cpu(), self._wal()
        with self._meter.watching():
            began = time.perf_counter()
            asyncio.run(self._post(orjson.dumps(event)))
            self._wait(id, people)
            took = time.perf_counter() - began
        return Cost(took, self._meter.cpu() - cpu, self._meter.most_mib, self._wal() - wal)

    async def _post(self, body: bytes) -> None:
        poster = Poster(self._product.port, "/api/events", self._headers)
        status, answer = await poster.post(body)
        poster.close()
        assert status == 202, answer

    def _wal(self) -> float:
        row = self._session.execute("SELECT pg_current_wal_lsn() - '0/0'").fetchone()
        assert row is not None
        return float(row[0]) / 2**20

    def _wait(self, id: str, people: int) -> None:
        deadline = time.monotonic() + PATIENCE_S
        row, question = None, "SELECT state, notifications, published FROM events WHERE source = '/bench' AND id = %s"
        while time.monotonic() < deadline:
            row = self._session.execute(question, (id,)).fetchone()
            if row == ("done", people, people):
                return
            time.sleep(POLL_S)
        raise SystemExit(f"The announcement was not done within {PATIENCE_S} s: {row}.")


def measure(folder: Path) -> list[Series]:
    """Announce to each crowd, the small ones first; one to the smallest before, uncounted, warms everything up."""
    prepare(folder)
    found: dict[str, list[Point]] = {name: [] for name in MEASURED}
    with running(folder) as product:
        owner = EmbeddedPostgres(folder / "postgres")
        with psycopg.connect(owner.url(), autocommit=True) as session:
            announcer = Announcer(product, session)
            announcer.announce(SIZES[0], 0)
            for people in SIZES:
                costs = [announcer.announce(people, number) for number in range(RUNS[people])]
                for name, values in zip(MEASURED, zip(*costs, strict=True), strict=True):
                    found[name].append(point(people, values))
                print(f"{people:,}: {statistics.median(cost.seconds for cost in costs):.2f} s", flush=True)
    return [Series(name, *MEASURED[name], tuple(points)) for name, points in found.items()]
