"""PostgreSQL that is slow, busy, full, or refuses: timeouts, deadlocks, locks held, pools and disks exhausted."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psycopg

from tests.directory import Row
from tests.eventually import eventually
from tests.fault.cluster import Shape
from tests.fault.trial import Fault, Trial

#: How long statements are cancelled, each as `statement_timeout` would (SQLSTATE 57014), and how often.
CANCEL_S = (1.0, 3.0)
CANCEL_EVERY_S = 0.03
_CANCEL = """
    SELECT pg_cancel_backend(pid) FROM pg_stat_activity
    WHERE application_name IN ('carillon-api', 'carillon-worker') AND state = 'active'"""
_END = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name IN ('carillon-api', 'carillon-worker') AND state <> 'idle'"""
_DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
DEADLOCK_S = 20.0
WRITERS = 8
#: Two connections for each API process, the way to PostgreSQL this slow, and so many readers at once.
SMALL_POOL = Shape(environment={"CARILLON_DATABASE_POOL_SIZE": "2"})
SLOW_S = 0.05
READERS = 60
FULL_DISK = Shape(disk_mib=400)
BLOCK = bytes(1024 * 1024)


def statements_time_out(trial: Trial) -> None:
    """Cancel whatever API and workers run, again and again for a while."""
    ends = time.monotonic() + trial.random.uniform(*CANCEL_S)
    with trial.connect() as session:
        while time.monotonic() < ends:
            trial.notes["cancelled"] += len(session.execute(_CANCEL).fetchall())
            trial.hold(CANCEL_EVERY_S)


def sessions_ended(trial: Trial) -> None:
    """End the sessions of API and workers that are at work, as an operator would (57P01), again and again."""
    ends = time.monotonic() + trial.random.uniform(*CANCEL_S)
    with trial.connect() as session:
        while time.monotonic() < ends:
            trial.notes["sessions ended"] += len(session.execute(_END).fetchall())
            trial.hold(CANCEL_EVERY_S)


def deadlock(trial: Trial) -> None:
    """Lock inboxes against everybody's order until PostgreSQL had to choose a victim."""
    keys = sorted(trial.load.keys.values(), reverse=True)
    with trial.connect() as session, trial.connect() as watcher:
        before = _deadlocks(watcher)
        ends = time.monotonic() + DEADLOCK_S
        while _deadlocks(watcher) == before and time.monotonic() < ends:
            first = trial.random.randrange(len(keys) // 2)
            with suppress(psycopg.errors.DeadlockDetected), session.transaction():
                _lock(session, keys[first : first + 5])
                trial.hold(0.3)
                _lock(session, keys[first + 5 : first + 20])
        trial.notes["deadlocks"] += _deadlocks(watcher) - before


def _deadlocks(session: psycopg.Connection[Row]) -> int:
    row = session.execute(_DEADLOCKS).fetchone()
    assert row is not None
    many: int = row["deadlocks"]
    return many


def _lock(session: psycopg.Connection[Row], keys: list[int]) -> None:
    for key in keys:
        session.execute("SELECT FROM inboxes WHERE key = %s FOR UPDATE", [key])


def inboxes_locked(trial: Trial) -> None:
    """Hold the locks of some inboxes for longer than anybody waits for them (2 s), then let go."""
    with trial.connect() as session, session.transaction():
        chosen = trial.random.sample(sorted(trial.load.keys.values()), 10)
        _lock(session, sorted(chosen))
        trial.hold(2.5, 4.0)


def slow_commit(trial: Trial) -> None:
    """Insert events long before many others, and commit them after those."""
    recipients = [trial.random.randrange(trial.load.people) for _ in range(20)]
    with trial.connect() as session:
        with session.transaction():
            ids = trial.load.insert(session, recipients)
            trial.hold(2.0, 5.0)
        trial.load.acknowledge(ids, recipients)


def writers_reversed(trial: Trial) -> None:
    """Have eight producers commit events to the same people at once, half of them in the reversed order."""
    people = list(range(trial.load.people))
    if trial.number == 1:
        with trial.connect() as session:
            trial.notes["deadlocks before"] = _deadlocks(session)
    barrier = threading.Barrier(WRITERS)

    def write(number: int) -> None:
        order = people if number % 2 else people[::-1]
        with trial.connect() as session:
            with session.transaction():
                ids = trial.load.insert(session, order)
                barrier.wait(30)
            trial.load.acknowledge(ids, order)

    with ThreadPoolExecutor(WRITERS) as pool:
        for written in [pool.submit(write, number) for number in range(WRITERS)]:
            written.result()


def no_deadlock(trial: Trial) -> list[str]:
    """Tell of deadlocks: everybody locks in one order, so there is none."""
    with trial.connect() as session:
        many = _deadlocks(session) - trial.notes["deadlocks before"]
    return [f"{many} deadlocks"] if many else []


def pool_exhausted(trial: Trial) -> None:
    """Have more readers at once than connections, on a slow way to PostgreSQL."""
    loop = trial.cluster.loop
    loop.run(trial.cluster.postgres_proxy.slow_down(SLOW_S))
    trial.notes["pages refused"] += trial.load.read_pages(READERS, trial.random.uniform(2.0, 4.0))
    loop.run(trial.cluster.postgres_proxy.heal())


def disk_full(trial: Trial) -> None:
    """Fill PostgreSQL's file system to the last byte for a while; a server that gave up is started again."""
    server = trial.cluster.postgres
    filler = server.home / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(BLOCK)
    trial.hold(3.0, 6.0)
    filler.unlink()
    if server.process is None or server.process.poll() is not None:
        trial.notes["PostgreSQL ended"] += 1
        server.kill()
        server.start()
    eventually(server.is_ready, within=30)


FAULTS = [
    Fault(name="statements time out (57014) for 1 to 3 s", inject=statements_time_out),
    Fault(name="deadlocks", inject=deadlock),
    Fault(name="inboxes locked by a slow transaction", inject=inboxes_locked),
    Fault(name="events committed out of order by a slow transaction", inject=slow_commit),
    Fault(name="8 writers to the same people in reversed order", inject=writers_reversed, finish=no_deadlock),
    Fault(name="connection pool exhausted", inject=pool_exhausted, shape=SMALL_POOL),
    Fault(name="PostgreSQL's disk full", inject=disk_full, shape=FULL_DISK),
]
