"""The periodic jobs on a million notifications: how long each takes for a heap of work, and its longest transaction.

Fills a temporary embedded PostgreSQL (which flushes as a real one does) and Redis, as fan-outs leave them, and runs
each job until it leaves nothing, with its rests between batches. No inbox is locked for longer than the transaction
that is told: its locks are taken within it.

    python -m bench.jobs [--inboxes 10000] [--each 100] [--write]

`--write` puts the table into `docs/operations.md`.
"""

from __future__ import annotations

import argparse
import base64
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from unittest.mock import patch

import psycopg
import redis

import beat_schedule
from bench import report
from bench.ending import end_when_told
from bench.stored import fill
from shared import catalog as catalogs
from shared import db, migration
from shared.catalog import Catalog
from shared.embedded import EmbeddedPostgres, EmbeddedRedis
from shared.settings import PROJECT_ROOT
from workers import counters, failed_logins, presence, retention, sweep

Session = psycopg.Connection[Any]
#: Of each inbox's notifications: so many are over its cap, and so many have expired.
SURPLUS, EXPIRED = 10, 10
#: Of a third of the notifications that are of this type, each inbox may show so many.
TYPE, TYPE_CAP = "ticket.assigned", 20
OTHERS = 100_000
FAILURES = 10_000
OPERATIONS = PROJECT_ROOT / "docs" / "operations.md"
HEADER = ("job", "rows", "runs", "time", "longest transaction")


class Measured(NamedTuple):
    """What a job did until nothing was left."""

    rows: int
    runs: int
    seconds: float
    longest_ms: float


@contextmanager
def servers(each: int) -> Iterator[tuple[str, str]]:
    """Run the servers, with the product's settings in this process; give their URLs."""
    with tempfile.TemporaryDirectory(prefix="carillon-bench-") as folder:
        postgres, redis_server = EmbeddedPostgres(Path(folder) / "postgres"), EmbeddedRedis(Path(folder) / "redis")
        postgres.start()
        redis_server.start()
        try:
            migration.migrate(postgres.url(), postgres.application)
            os.environ.update(environment(postgres.url(), redis_server, each - SURPLUS))
            yield postgres.url(), redis_server.url(0)
        finally:
            db.forget_engines()
            redis_server.stop()
            postgres.stop()


def environment(database_url: str, server: EmbeddedRedis, cap: int) -> dict[str, str]:
    """Return the settings of a process that works with these servers."""
    return {
        "CARILLON_DATABASE_URL": database_url,
        "CARILLON_REDIS_URL": server.url(0),
        "CARILLON_BROKER_URL": server.url(1),
        "CARILLON_SECRET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "CARILLON_JWT_SECRET": secrets.token_urlsafe(48),
        "CARILLON_INBOX_CAP": str(cap),
    }


def prepare(session: Session, data: redis.Redis, inboxes: int, each: int) -> None:
    """Fill everything that the jobs look through."""
    fill(session, inboxes, each)
    expired = (
        "UPDATE notifications SET expires_at = now() - interval '1 s' WHERE ordinal > %s AND ordinal <= %s"
    )  # fmt: skip
    session.execute(expired, (SURPLUS, SURPLUS + EXPIRED))
    session.execute(_OLD_EVENTS, (OTHERS,))
    session.execute(_SESSIONS, (OTHERS,))
    session.execute(_FAILURES, (FAILURES,))
    session.execute("VACUUM ANALYZE")
    with data.pipeline(transaction=False) as pipe:
        for number in range(inboxes):
            pipe.sadd(f"carillon:{{t/r{number}}}:streams", "dead/1/", "dead/2/")
        pipe.execute()


_OLD_EVENTS = """
    INSERT INTO events (tenant, source, id, type, data, occurred_at, accepted_at, state, finished_at)
    SELECT 't0', '/bench', g::text, 'grade.posted', '{}', now(), now() - interval '31 days', 'done',
           now() - interval '31 days' FROM generate_series(1, %s) g"""
_SESSIONS = """
    INSERT INTO sessions (name, tenant, recipient, roles, expires_at)
    SELECT g::text, 't0', 'r' || g, '{}', now() - interval '1 h' FROM generate_series(1, %s) g"""
_FAILURES = """
    WITH made AS (
        INSERT INTO events (tenant, source, id, type, data, occurred_at, state, finished_at)
        SELECT 't0', '/bench', 'f' || g, 'auth.login_failed', jsonb_build_object('account_id', 'a' || g %% 1000), now(),
               'done', now() FROM generate_series(1, %s) g RETURNING key, data)
    INSERT INTO failed_logins (event_key, tenant, account, at)
    SELECT key, 't0', data ->> 'account_id', now() FROM made"""


def measure(session: Session, task: str, job: Callable[[], bool | None]) -> Measured:
    """Run a job until it leaves nothing."""
    session.execute("DELETE FROM job_runs WHERE job = %s", (task,))
    longest, started = 0.0, time.monotonic()
    while job() is False:
        longest = max(longest, _longest(session, task))
    seconds = time.monotonic() - started
    row = session.execute("SELECT done, runs FROM job_runs WHERE job = %s", (task,)).fetchone()
    assert row is not None
    return Measured(row[0], row[1], seconds, 1_000 * max(longest, _longest(session, task)))


def _longest(session: Session, task: str) -> float:
    row = session.execute("SELECT longest_transaction FROM job_runs WHERE job = %s", (task,)).fetchone()
    return float(row[0]) if row else 0.0


def jobs(inboxes: int) -> Iterator[tuple[str, str, Callable[[], bool | None]]]:
    """Yield each job: what is told of it, its task, and what runs it."""
    later = datetime.now(UTC) + timedelta(days=8)
    yield "cap", beat_schedule.CAP_TASK, retention.cap
    yield "cap, nothing to do", beat_schedule.CAP_TASK, retention.cap
    yield "cap_types, for a new cap", beat_schedule.CAP_TYPES_TASK, _with_a_type_cap
    yield "expire", beat_schedule.EXPIRE_TASK, retention.expire
    yield "expire, nothing to do", beat_schedule.EXPIRE_TASK, retention.expire
    yield "audit of the counters, all inboxes", beat_schedule.COUNTERS_TASK, _audits(inboxes)
    yield "purge", beat_schedule.PURGE_TASK, lambda: retention.purge(later)
    yield "purge, nothing to do", beat_schedule.PURGE_TASK, lambda: retention.purge(later)
    yield "forget", beat_schedule.FORGET_TASK, retention.forget
    yield "tidy", beat_schedule.TIDY_TASK, retention.tidy
    yield "failed logins", beat_schedule.FAILED_LOGINS_TASK, failed_logins.run
    yield "sweep", beat_schedule.SWEEP_TASK, sweep.sweep
    yield "places, a first look", beat_schedule.PRESENCE_TASK, presence.clear_places
    yield "places, freed", beat_schedule.PRESENCE_TASK, presence.clear_places


def _with_a_type_cap() -> bool:
    types = catalogs.catalog().types
    capped = Catalog(MappingProxyType({**types, TYPE: replace(types[TYPE], cap=TYPE_CAP)}))
    with patch.object(retention, "catalog", lambda: capped):
        return retention.cap_types()


def _audits(inboxes: int) -> Callable[[], bool]:
    left = -(-inboxes // counters.SAMPLE)

    def run() -> bool:
        nonlocal left
        left -= 1
        return counters.audit() and left <= 0

    return run


def main() -> None:
    """Fill, run every job, print the table, and write it where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--inboxes", type=int, default=10_000)
    parser.add_argument("--each", type=int, default=100)
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    end_when_told()
    rows = run(chosen.inboxes, chosen.each)
    if chosen.write:
        report.write("jobs", report.table(HEADER, rows), OPERATIONS)


def run(inboxes: int, each: int) -> list[tuple[str, ...]]:
    """Fill, run every job, print each as it ends; return the table's rows."""
    with (
        servers(each) as (database_url, redis_url),
        psycopg.connect(database_url, autocommit=True) as session,
        redis.Redis.from_url(redis_url) as data,
    ):
        prepare(session, data, inboxes, each)
        catalogs.catalog()
        print(f"{inboxes * each:,} notifications in {inboxes:,} inboxes\n\n{report.table(HEADER, [])}", flush=True)
        rows = []
        for name, task, job in jobs(inboxes):
            rows.append(_row(name, measure(session, task, job)))
            print(f"| {' | '.join(rows[-1])} |", flush=True)
        return rows


def _row(name: str, told: Measured) -> tuple[str, ...]:
    return name, f"{told.rows:,}", str(told.runs), f"{told.seconds:.2f} s", f"{told.longest_ms:.0f} ms"


if __name__ == "__main__":
    main()
