"""Measure the whole product, everything running: latency, throughput, announcements, beside what is usual.

Servers, workers and this process share the machine's cores: `python -m bench.end_to_end [--runs 5] [--quick]
[--only PART …] [--write]`. Prints a table; `--write` puts it into docs/performance.md and the figures into
bench/results/. Each run is a process with a product of its own; the table has the medians with their range.

Parts: `latency` (single postings at a steady rate, to the frame in the client), `batches` (the batch endpoint, until
all is stored and pushed), `tasks` (one Celery task for each event, a small application of its own), `posts` (single
postings as fast as they are answered, beside a bare FastAPI route with one INSERT), `announcement` and `million` (one
event for everybody, with a worker's memory and one-to-one events meanwhile).
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
import uvloop
from sqlalchemy import Engine, create_engine, text

from bench import reach, usage
from bench.driver import POSTERS, Driver, envelope, issued, quantile
from bench.ending import end_when_told
from bench.plain import run as plain_run
from bench.product import Product, running
from bench.reach import Figures
from bench.wire import Poster
from shared import db, keys
from shared.settings import settings

#: Runs whose median counts. A run takes some two minutes on a quiet machine.
RUNS = 5
STREAMS = 50
#: Students of the tenant that gets single events: as many inboxes as a batch of 1,000 may touch.
STUDENTS = 2_000
RATE = 200.0
#: One-to-one events a second while an announcement runs.
BESIDE_RATE = 50.0
WARM_UP_S = 3.0
#: Postings of batches at once: the API judges one while PostgreSQL stores another.
BATCHERS = 4
BATCH = 1_000
ANNOUNCEMENT_S = 300.0
LOOK_S = 0.25
#: Memory is looked at behind this share of an announcement: before, caches fill.
SETTLED = 0.1
TENANT = "bench"
#: Of each announcement: how many people its tenant has, in full and with `--quick`.
CROWDS = {"announcement": (100_000, 100_000), "million": (1_000_000, 300_000)}
PARTS = ("latency", "batches", "tasks", "posts", *CROWDS)


@lru_cache(maxsize=1)
def _owner() -> Engine:
    """Return the engine of the database's owner, whom row-level security does not concern."""
    url = settings().database_owner_url or settings().database_url
    assert url is not None
    return create_engine(db.sqlalchemy_url(url.get_secret_value()))


def prepare(crowds: Mapping[str, int]) -> str:
    """Fill the directory, with a tenant of so many people for each announcement, and return a producer key."""
    key, row = keys.make_key(None, ["events:write"])
    add = text("""
        WITH i AS (INSERT INTO inboxes (tenant, recipient)
                   SELECT :tenant, 'p' || g FROM generate_series(1, :many) g RETURNING key, tenant, recipient)
        INSERT INTO recipients (key, tenant, id) SELECT key, tenant, recipient FROM i""")
    with _owner().begin() as connection:
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        for tenant, many in {TENANT: STUDENTS, **crowds}.items():
            connection.execute(text("INSERT INTO tenants (id) VALUES (:tenant)"), {"tenant": tenant})
            connection.execute(add, {"tenant": tenant, "many": many})
        connection.execute(
            text("INSERT INTO producer_keys (prefix, secret_hash, tenants, scopes)"
                 " VALUES (:prefix, :secret_hash, :tenants, :scopes)"), row)  # fmt: skip
    with _owner().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    return key


def student(number: int) -> str:
    """Return the recipient of the event of that number: the first ones have streams."""
    return f"p{number % STREAMS + 1}"


def _numbered(id: str, number: int) -> dict[str, Any]:
    return issued(id, TENANT, student(number))


@dataclass(slots=True)
class Bench:
    """The parts, each on a product that runs already."""

    product: Product
    key: str
    crowds: Mapping[str, int]
    quick: bool

    def driver(self) -> Driver:
        """Return a driver without streams."""
        return Driver(self.product.port, self.key)

    async def latency(self) -> Figures:
        """Post single events at a steady rate to people with open streams."""
        driver, seconds = self.driver(), 10.0 if self.quick else 20.0
        await driver.listen(TENANT, [student(number) for number in range(STREAMS)])
        await driver.paced("warm", RATE, WARM_UP_S, _numbered)
        parts = usage.Parts(self.product)
        before = parts.cpu()
        sent = await driver.paced("event", RATE, seconds, _numbered)
        heard = await driver.all_heard(sent)
        after = parts.cpu()
        await driver.close_streams()
        return {
            "rate": RATE, "events": len(sent), "heard": len(heard),
            "posting to frame": _quantiles([driver.heard[id][0] - driver.sent[id] for id in heard]),
            "posting to answer": _quantiles([driver.answered[id] - driver.sent[id] for id in sent]),
            "answer to frame": _quantiles([driver.heard[id][0] - driver.answered[id] for id in heard]),
            "cpu ms an event": usage.by_event(before, after, len(sent)),
        }  # fmt: skip

    async def batches(self) -> Figures:
        """Post batches as fast as they are answered, and wait until all is stored and pushed."""
        driver, many = self.driver(), 20_000 if self.quick else 60_000
        await driver.listen(TENANT, [student(number) for number in range(STREAMS)])
        bodies = [_batch(start) for start in range(0, many, BATCH)]
        expected = [f"b{number}" for number in range(many) if number % STUDENTS < STREAMS]
        parts = usage.Parts(self.product)
        before, began = parts.cpu(), time.perf_counter()
        await asyncio.gather(*(self._post_all(driver, bodies) for _ in range(BATCHERS)))
        accepted = time.perf_counter() - began
        await asyncio.to_thread(_wait_for_stored, many)
        heard = await driver.all_heard(expected)
        took = time.perf_counter() - began
        after = parts.cpu()
        await driver.close_streams()
        return {
            "events": many, "accepted a second": round(many / accepted), "events a second": round(many / took),
            "heard on streams": len(heard), "of": len(expected),
            "cpu ms an event": usage.by_event(before, after, many),
        }  # fmt: skip

    @staticmethod
    async def _post_all(driver: Driver, bodies: list[bytes]) -> None:
        while bodies:
            await driver.post_batch(bodies.pop())

    async def tasks(self) -> Figures:
        """Have another application do it by one Celery task for each event."""
        many = 3_000 if self.quick else 10_000
        rate = await asyncio.to_thread(plain_run.one_task_each, many, STUDENTS)
        return {"events": many, "events a second": round(rate)}

    async def posts(self) -> Figures:
        """Post single events as fast as they are answered: here, and then to a bare route."""
        seconds = 4.0 if self.quick else 8.0
        with plain_run.route() as port:
            ours = await self._closed_loop(self.product.port, "s", seconds)
            await asyncio.to_thread(_wait_for_idle)
            bare = await self._closed_loop(port, "s", seconds)
        return {"ours a second": ours, "bare route a second": bare, "ratio": round(ours / bare, 2)}

    async def _closed_loop(self, port: int, name: str, seconds: float) -> int:
        """Return how many single postings a second are answered, each connection posting the next then."""
        structured = "application/cloudevents+json" if port == self.product.port else "application/json"
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": structured}
        deadline = time.perf_counter() + seconds

        async def post(place: int) -> int:
            poster, done = Poster(port, "/api/events", headers), 0
            while time.perf_counter() < deadline:
                status, body = await poster.post(orjson.dumps(_numbered(f"{name}-{place}-{done}", done)))
                if status != 202:
                    raise SystemExit(f"{status}: {body.decode()}")
                done += 1
            poster.close()
            return done

        return round(sum(await asyncio.gather(*(post(place) for place in range(2 * POSTERS)))) / seconds)

    async def announcement(self) -> Figures:
        """Post one event for 100,000 people, alone."""
        return await self._announce("announcement", beside=False)

    async def million(self) -> Figures:
        """Post one event for a million, with one-to-one events beside it and an eye on the workers' memory."""
        return await self._announce("million", beside=True)

    async def _announce(self, name: str, *, beside: bool) -> Figures:
        """Post one event for everybody of its tenant; wait until it is done and every stream has heard of it."""
        driver, people, over = self.driver(), self.crowds[name], asyncio.Event()
        await driver.listen(name, [f"p{1 + place * (people // STREAMS)}" for place in range(STREAMS)])
        await driver.listen(TENANT, [student(number) for number in range(STREAMS)])
        others = asyncio.create_task(self._others(driver, name, over)) if beside else None
        memory = asyncio.create_task(self._memory(name, over))
        data = {"title": name, "message": "The exams begin on Monday.", "audience": {"everyone": True}}
        parts = usage.Parts(self.product)
        before = parts.cpu()
        await driver.post(envelope(name, "system.announcement", name, data))
        row = await asyncio.to_thread(_wait_for_end, name)
        took = time.perf_counter() - driver.sent[name]
        over.set()
        after = parts.cpu()
        heard = await driver.all_heard([name], times=STREAMS)
        assert heard, "Not every stream heard of the announcement."
        assert row["notifications"] == people, row
        figures: Figures = {
            "recipients": people, "seconds": round(took, 2), "rows a second": round(people / took),
            "published": row["published"],
            "first frame ms": round((driver.heard[name][0] - driver.sent[name]) * 1e3, 1),
            "last frame ms": round((driver.heard[name][-1] - driver.sent[name]) * 1e3, 1),
            "cpu ms for 1,000 of them": usage.by_event(before, after, people // 1_000),
            **await memory,
        }  # fmt: skip
        if others is not None:
            figures["one-to-one beside it"] = await others
        await driver.close_streams()
        return figures

    async def _others(self, driver: Driver, name: str, over: asyncio.Event) -> Figures:
        """Post to single people until it is over; return how late their frames were."""
        sent: list[str] = []
        while not over.is_set():
            sent += await driver.paced(f"{name}-{len(sent)}", BESIDE_RATE, 1.0, _numbered)
        heard = await driver.all_heard(sent)
        taken = _quantiles([driver.heard[id][0] - driver.sent[id] for id in heard])
        return {"rate": BESIDE_RATE, "sent": len(sent), "heard": len(heard), **taken}

    async def _memory(self, name: str, over: asyncio.Event) -> Figures:
        """Look at the chunks' workers until it is over; return by how much the greatest grows with what is written."""
        parts, points = usage.Parts(self.product), []
        while not over.is_set():
            done = await asyncio.to_thread(_written, name)
            if done > SETTLED * self.crowds[name]:
                points.append((done / 100_000, parts.greatest_rss("fan_out")))
            await asyncio.sleep(LOOK_S)
        sizes = [size for _, size in points] or [float("nan")]
        return {"worker MiB, most": round(max(sizes), 1),
                "worker MiB more for each 100,000": round(usage.slope(points), 3)}  # fmt: skip


def _quantiles(seconds: list[float]) -> Figures:
    taken = sorted(each * 1e3 for each in seconds)
    return {name: quantile(taken, part) for name, part in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))}


def _batch(start: int) -> bytes:
    numbers = range(start, start + BATCH)
    return orjson.dumps([issued(f"b{number}", TENANT, f"p{number % STUDENTS + 1}") for number in numbers])


def _one(statement: str, **given: Any) -> dict[str, Any]:
    with _owner().begin() as connection:
        return dict(connection.execute(text(statement), given).mappings().one())


def _wait(condition: Callable[[], bool], what: str, pause_s: float = 0.02) -> None:
    deadline = time.perf_counter() + ANNOUNCEMENT_S
    while not condition():
        if time.perf_counter() > deadline:
            raise SystemExit(f"{what} within {ANNOUNCEMENT_S} s.")
        time.sleep(pause_s)


def _wait_for_idle() -> None:
    """Return once no event is pending: what was posted before must not use the cores of what is measured next."""
    # The first entry of a small index says it: counting a backlog over and over takes a core from whoever works it off.
    pending = "SELECT EXISTS (SELECT FROM events WHERE state IN ('accepted', 'fanning_out')) AS any"
    _wait(lambda: not _one(pending)["any"], "The events were not fanned out")


def _wait_for_stored(many: int) -> None:
    """Return once the batches' events are done, and published as counted in their rows."""
    _wait_for_idle()
    untold = "SELECT count(*) AS many FROM events WHERE id LIKE 'b%' AND (state <> 'done' OR published <> 1)"
    _wait(lambda: _one(untold)["many"] == 0, "The events were not published", LOOK_S)
    stored = _one("SELECT count(*) AS many FROM events WHERE id LIKE 'b%'")["many"]
    assert stored == many, stored


def _wait_for_end(id: str) -> dict[str, Any]:
    # By its whole key: it is asked fifty times a second, beside whoever is measured.
    statement = """
        SELECT state, notifications, published FROM events WHERE tenant = :id AND source = '/bench' AND id = :id"""
    _wait(lambda: _one(statement, id=id)["state"] not in ("accepted", "fanning_out"), "The announcement was not done")
    return _one(statement, id=id)


def _written(id: str) -> int:
    written = """
        SELECT coalesce(sum(c.notifications), 0)::bigint AS many FROM events e
        JOIN fan_out_chunks c ON c.event_key = e.key WHERE e.tenant = :id AND e.source = '/bench' AND e.id = :id"""
    return int(_one(written, id=id)["many"])


async def _measured(bench: Bench, parts: Sequence[str]) -> Figures:
    """Return the figures of each part, run one after the other."""
    figures: Figures = {}
    for name in parts:
        await asyncio.to_thread(_wait_for_idle)
        figures[name] = await getattr(bench, name)()
        print(f"{name}: {orjson.dumps(figures[name]).decode()}", flush=True)
    return figures


def _once(options: argparse.Namespace) -> Figures:
    """Measure the chosen parts on a product of their own."""
    crowds = {name: CROWDS[name][options.quick] for name in options.only if name in CROWDS}
    with running() as product:
        bench = Bench(product, prepare(crowds), crowds, options.quick)
        return uvloop.run(_measured(bench, options.only))


def _run(command: Sequence[str]) -> None:
    """Run a command; where this one is ended meanwhile, the product that it started goes first.

    It has a session of its own: Ctrl-C reaches this process alone, which tells it once, and waits while it cleans up.
    """
    process = subprocess.Popen(command, start_new_session=True)
    try:
        if process.wait():
            raise SystemExit(f"A run ended with {process.returncode}.")
    finally:
        process.terminate()
        process.wait()


def _in_processes(options: argparse.Namespace) -> list[Figures]:
    """Measure as often as asked, each time in a new process: nothing of one run is left in the next."""
    command = [sys.executable, "-m", "bench.end_to_end", "--only", *options.only, *["--quick"] * options.quick]
    runs: list[Figures] = []
    with tempfile.TemporaryDirectory(prefix="carillon-bench-") as name:
        into = Path(name, "figures.json")
        for number in range(options.runs):
            print(f"run {number + 1} of {options.runs}, {time.strftime('%H:%M:%S')}", flush=True)
            _run([*command, "--into", str(into)])
            runs.append(orjson.loads(into.read_bytes()))
    return runs


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=RUNS, help=f"how often (default {RUNS}, some ten minutes in all)")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="parts, instead of all")
    parser.add_argument("--quick", action="store_true", help="fewer events and people: about a minute for a run")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md and bench/results/")
    parser.add_argument("--into", type=Path, help="measure once and write nothing but the figures, into this file")
    options = parser.parse_args()
    if options.write and options.only:
        parser.error("--write is for all parts: leave --only out.")
    options.only = options.only or list(PARTS)
    end_when_told()
    if options.into is not None:
        options.into.write_bytes(orjson.dumps(_once(options)))
        return
    runs = _in_processes(options)
    reach.show(runs)
    if options.write:
        reach.write(runs, f"python -m bench.end_to_end {' '.join(sys.argv[1:])}", quick=options.quick)


if __name__ == "__main__":
    main()
