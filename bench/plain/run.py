"""Starts what Carillon is compared with, on the servers of the running product, and measures it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psycopg

from shared.embedded import free_port
from shared.settings import PROJECT_ROOT, settings

#: Of the product's embedded Redis: a database that nothing of it uses.
REDIS_DATABASE = 9
START_S = 60.0
STOP_S = 30.0
DONE_S = 300.0
TABLES = """
    CREATE TABLE IF NOT EXISTS plain_events (key bigserial PRIMARY KEY, tenant text NOT NULL, source text NOT NULL,
        id text NOT NULL, type text NOT NULL, data jsonb NOT NULL, UNIQUE (tenant, source, id));
    CREATE TABLE IF NOT EXISTS plain_inboxes (recipient text PRIMARY KEY, unread bigint NOT NULL);
    CREATE TABLE IF NOT EXISTS plain_notifications (key bigserial PRIMARY KEY, event text NOT NULL,
        recipient text NOT NULL, title text NOT NULL, message text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(), UNIQUE (event, recipient))"""


def _addresses() -> dict[str, str]:
    database, broker = settings().database_owner_url or settings().database_url, settings().broker_url
    assert database is not None
    assert broker is not None
    url = broker.get_secret_value()
    return {
        "PLAIN_DATABASE": database.get_secret_value(),
        "PLAIN_BROKER": f"{url.rpartition('/')[0]}/{REDIS_DATABASE}",
    }


@contextmanager
def _process(*command: str) -> Iterator[None]:
    with psycopg.connect(_addresses()["PLAIN_DATABASE"], autocommit=True) as session:
        session.execute(TABLES)
    process = subprocess.Popen(
        [sys.executable, "-m", *command], env={**os.environ, **_addresses()}, cwd=PROJECT_ROOT,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        process.wait(STOP_S)


@contextmanager
def route() -> Iterator[int]:
    """Run the bare route, and give its port."""
    port = free_port()
    command = ("uvicorn", "bench.plain.route:app", f"--port={port}", "--loop=uvloop", "--http=httptools")
    with _process(*command, "--ws=none", "--no-access-log"):
        deadline = time.monotonic() + START_S
        while not _answers(port):
            if time.monotonic() > deadline:
                raise SystemExit("The bare route did not start.")
            time.sleep(0.1)
        yield port


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/openapi.json", timeout=5).is_success
    except httpx.HTTPError:
        return False


def one_task_each(events: int, recipients: int) -> float:
    """Return how many events a second go from `delay()` to the commit and the push, by one task for each.

    The workers are up before the first is sent, and a thread of this process sends while they work.
    """
    os.environ.update(_addresses())
    from bench.plain.tasks import notify

    with _process("celery", "--quiet", "-A", "bench.plain.tasks", "worker", "-c", "2", "--without-gossip",
                  "--without-mingle", "--loglevel=error"):  # fmt: skip
        notify.delay("warm", "p0", "Rust")
        _wait_for(1)
        began = time.perf_counter()
        sender = threading.Thread(target=_send, args=(events, recipients))
        sender.start()
        _wait_for(events + 1)
        took = time.perf_counter() - began
        sender.join()
    return events / took


def _send(events: int, recipients: int) -> None:
    from bench.plain.tasks import notify

    for number in range(events):
        notify.delay(f"e{number}", f"p{number % recipients}", "Rust")


def _wait_for(rows: int) -> None:
    deadline = time.monotonic() + DONE_S
    with psycopg.connect(_addresses()["PLAIN_DATABASE"], autocommit=True) as session:
        while time.monotonic() < deadline:
            # The greatest key says it nearly: counting all rows over and over would take the cores from the workers.
            found = session.execute("SELECT coalesce(max(key), 0) FROM plain_notifications").fetchone()
            if found is not None and found[0] >= rows:
                return
            time.sleep(0.05)
    raise SystemExit(f"The tasks were not done within {DONE_S} s.")
