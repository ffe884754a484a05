"""Measure the whole product: from an event's posting to its frame on the stream, and announcements to 100,000 people.

Everything shares this machine's cores, this process included: `python bench/end_to_end.py [--rate 200] [--seconds 20]
[--people 100000]`. Prints a table and one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, create_engine, text

from bench.product import Product, running
from bench.wire import Poster, frames
from shared import db, keys
from shared.settings import settings
from shared.tokens import make_token

STREAMS = 50
POSTERS = 16
#: After the last posting every frame must have come within this.
DRAIN_S = 15.0
ANNOUNCEMENT_S = 300.0
WARM_UP_S = 2.0
TENANT, CROWD = "bench", "crowd"


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from the start of an event's posting to its frame in the reader's hands."""

    events: int
    rate: float
    received: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    accepted_p50_ms: float


@dataclass(frozen=True, slots=True)
class Announcement:
    """One event for everybody: from its posting until it is done, and when the first and last stream heard of it."""

    recipients: int
    seconds: float
    rows_per_second: float
    published: int
    first_frame_ms: float
    last_frame_ms: float


@lru_cache(maxsize=1)
def _owner() -> Engine:
    """Return the engine of the database's owner, whom row-level security does not concern."""
    url = settings().database_owner_url or settings().database_url
    assert url is not None
    return create_engine(db.sqlalchemy_url(url.get_secret_value()))


def prepare(people: int) -> str:
    """Fill the directory and return a producer key."""
    key, row = keys.make_key(None, ["events:write"])
    add = text("""
        WITH i AS (INSERT INTO inboxes (tenant, recipient)
                   SELECT :tenant, 'p' || g FROM generate_series(1, :many) g RETURNING key, tenant, recipient)
        INSERT INTO recipients (key, tenant, id) SELECT key, tenant, recipient FROM i""")
    with _owner().begin() as connection:
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("INSERT INTO tenants (id) VALUES (:a), (:b)"), {"a": TENANT, "b": CROWD})
        connection.execute(add, {"tenant": TENANT, "many": STREAMS})
        connection.execute(add, {"tenant": CROWD, "many": people})
        connection.execute(
            text("INSERT INTO producer_keys (prefix, secret_hash, tenants, scopes)"
                 " VALUES (:prefix, :secret_hash, :tenants, :scopes)"), row)  # fmt: skip
    with _owner().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    return key


class Bench:
    """The measuring side: posters and streams on one event loop."""

    def __init__(self, product: Product, key: str) -> None:
        self._port = product.port
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/cloudevents+json"}
        self._posters: asyncio.Queue[Poster] = asyncio.Queue()
        for _ in range(POSTERS):
            self._posters.put_nowait(Poster(product.port, "/api/events", headers))
        self._sent: dict[str, float] = {}
        self._accepted: list[float] = []
        self._heard: dict[str, list[float]] = {}

    async def _post(self, id: str, type: str, tenant: str, data: dict[str, Any]) -> None:
        event = {"specversion": "1.0", "id": id, "source": "/bench", "type": type, "tenant": tenant, "data": data}
        self._sent[id] = time.perf_counter()
        poster = await self._posters.get()
        try:
            status, body = await poster.post(orjson.dumps(event))
        finally:
            self._posters.put_nowait(poster)
        self._accepted.append(time.perf_counter() - self._sent[id])
        if status != 202:
            raise SystemExit(f"{status}: {body.decode()}")

    async def _listen(self, tenant: str, recipient: str, opened: asyncio.Event) -> None:
        async for line in frames(self._port, make_token(tenant, recipient), opened):
            now = time.perf_counter()
            told = orjson.loads(line[len(b"data: ") :])
            if told.get("type") == "created":
                shown = told["notification"]
                self._heard.setdefault(shown["metadata"].get("certificateId", shown["title"]), []).append(now)

    async def _streams(self, tenant: str, recipients: list[str]) -> list[asyncio.Task[None]]:
        opened = [asyncio.Event() for _ in recipients]
        tasks = [
            asyncio.create_task(self._listen(tenant, recipient, event))
            for recipient, event in zip(recipients, opened, strict=True)
        ]
        await asyncio.gather(*(event.wait() for event in opened))
        return tasks

    async def latency(self, rate: float, seconds: float) -> Latency:
        """Post single events at a steady rate to people with open streams."""
        streams = await self._streams(TENANT, [f"p{number}" for number in range(1, STREAMS + 1)])
        await self._paced("warm", rate, WARM_UP_S)
        self._accepted.clear()
        sent = await self._paced("event", rate, seconds)
        await self._until(lambda: all(id in self._heard for id in sent), DRAIN_S)
        _cancel(streams)
        taken = sorted((self._heard[id][0] - self._sent[id]) * 1e3 for id in sent if id in self._heard)
        accepted = sorted(took * 1e3 for took in self._accepted)
        return Latency(
            events=len(sent),
            rate=rate,
            received=len(taken),
            p50_ms=_at(taken, 0.5),
            p90_ms=_at(taken, 0.9),
            p99_ms=_at(taken, 0.99),
            max_ms=_at(taken, 1.0),
            accepted_p50_ms=_at(accepted, 0.5),
        )

    async def _paced(self, name: str, rate: float, seconds: float) -> list[str]:
        posts, ids, start = [], [], time.perf_counter()
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, start + number / rate - time.perf_counter()))
            id = f"{name}-{number}"
            data = {"student_id": f"p{number % STREAMS + 1}", "certificate_id": id, "badge_title": "Rust"}
            posts.append(asyncio.create_task(self._post(id, "certificate.issued", TENANT, data)))
            ids.append(id)
        await asyncio.gather(*posts)
        return ids

    async def announcement(self, number: int, people: int) -> Announcement:
        """Post one event for everybody and wait until it is done."""
        listeners = [f"p{1 + place * (people // STREAMS)}" for place in range(STREAMS)]
        streams = await self._streams(CROWD, listeners)
        name = f"announcement-{number}"
        data = {"title": name, "message": "The exams begin on Monday.", "audience": {"everyone": True}}
        start = time.perf_counter()
        await self._post(name, "system.announcement", CROWD, data)
        row = await asyncio.to_thread(_wait_for_end, name)
        took = time.perf_counter() - start
        await self._until(lambda: len(self._heard.get(name, ())) == len(listeners), DRAIN_S)
        _cancel(streams)
        heard = [(moment - start) * 1e3 for moment in self._heard.get(name, [float("nan")])]
        assert row["notifications"] == people, row
        return Announcement(people, round(took, 2), round(people / took), row["published"],
                            round(min(heard), 1), round(max(heard), 1))  # fmt: skip

    @staticmethod
    async def _until(condition: Any, within: float) -> None:
        deadline = time.perf_counter() + within
        while not condition() and time.perf_counter() < deadline:
            await asyncio.sleep(0.05)


def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()


def _at(ascending: list[float], part: float) -> float:
    return round(ascending[min(len(ascending) - 1, int(part * len(ascending)))], 1) if ascending else float("nan")


def _wait_for_end(id: str) -> dict[str, Any]:
    deadline = time.perf_counter() + ANNOUNCEMENT_S
    statement = text("SELECT state, notifications, published FROM events WHERE source = '/bench' AND id = :id")
    while time.perf_counter() < deadline:
        with db.transaction() as connection:
            row = dict(connection.execute(statement, {"id": id}).mappings().one())
        if row["state"] not in ("accepted", "fanning_out"):
            return row
        time.sleep(0.02)
    raise SystemExit(f"The announcement was not done within {ANNOUNCEMENT_S} s.")


def show(latency: Latency, announcements: list[Announcement]) -> None:
    """Print the table and the line of JSON."""
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    table = Table("measured", "value", title=f"Carillon end to end ({machine})")
    for name, value in asdict(latency).items():
        table.add_row(f"latency: {name}", f"{value:,}")
    for number, one in enumerate(announcements, 1):
        for name, value in asdict(one).items():
            table.add_row(f"announcement {number}: {name}", f"{value:,}")
    Console(width=100).print(table)
    print(
        json.dumps(
            {"machine": machine, "latency": asdict(latency), "announcements": [asdict(a) for a in announcements]}
        )
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=200.0, help="events a second")
    parser.add_argument("--seconds", type=float, default=20.0, help="for how long")
    parser.add_argument("--people", type=int, default=100_000, help="recipients of an announcement")
    parser.add_argument("--announcements", type=int, default=2)
    options = parser.parse_args()
    with running() as product:
        bench = Bench(product, prepare(options.people))

        async def measure() -> tuple[Latency, list[Announcement]]:
            latency = await bench.latency(options.rate, options.seconds)
            return latency, [await bench.announcement(n, options.people) for n in range(options.announcements)]

        show(*asyncio.run(measure()))


if __name__ == "__main__":
    main()
