"""PostgreSQL: migrations, durability, what a pooler swallowed, room for connections, roles, and the queue of record."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, OperationalError

from shared import databases, db, migration, overview
from shared.doctor.finding import Finding, graver_in_production, skew_finding
from shared.errors import StartError
from shared.liveness import LANES, QUEUE_AGE_SECONDS, SILENCE_SECONDS
from shared.roles import APP, FAULTS, WORKER, login_fault
from shared.settings import Settings

#: With fewer free than this share, the next process that starts may find none.
CONNECTIONS_SHARE = 0.8
#: What every connection of ours asks for when it begins, as PostgreSQL shows it.
ASKED_FOR = {
    "idle_in_transaction_session_timeout": f"{db.IDLE_IN_TRANSACTION_MS // 1000}s",
    "lock_timeout": f"{db.LOCK_TIMEOUT_MS // 1000}s",
    "statement_timeout": f"{db.STATEMENT_TIMEOUT_MS['worker'] // 1000}s",
    "TimeZone": "UTC",
}
DURABLE = ("fsync", "synchronous_commit", "full_page_writes")
#: Tables with a tenant that a policy does not bind everybody to, their owner included.
_BARE = text("""SELECT c.relname FROM pg_class c
    WHERE c.relnamespace = to_regnamespace('public') AND c.relkind IN ('r', 'p')
      AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
      AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant' AND NOT a.attisdropped)
    ORDER BY 1""")
#: (pg_stat_activity hides other logins' connections from this one.)
_ROOM = text("""SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
    - coalesce(current_setting('reserved_connections', true), '0')::int AS room,
    (SELECT sum(numbackends)::int FROM pg_stat_database) AS used""")


def checks(chosen: Settings) -> Iterator[Finding]:
    """Yield what is wrong with the databases, or that they cannot be asked."""
    try:
        names = databases.names()
    except StartError as problem:
        yield Finding("failure", "database", "no database is known", problem.detail)
        return
    for name in names:
        yield from _checks_of(name, chosen)


def _checks_of(name: str, chosen: Settings) -> Iterator[Finding]:
    called = "the database" if name == databases.SHARED else f"the database {name}"
    try:
        with db.transaction(db.EVERY_TENANT, database=name) as connection:
            yield Finding("ok", "database", f"{called} answers")
            for check in _CHECKS if name == databases.SHARED else _CHECKS_OF_OTHERS:
                yield from check(connection, chosen)
    except OperationalError as problem:
        yield _away(called, db.reason_of(problem.orig))
    except DBAPIError as problem:
        if not db.is_unmigrated(problem):
            raise
        yield Finding("failure", "migrations", f"{called} is not migrated", "run `carillon migrate`")


def _away(called: str, reason: str) -> Finding:
    advice = "start it with `make up`, or correct CARILLON_DATABASE_URL"
    return Finding("failure", "database", f"{called} does not answer ({reason})", advice)


def _migrations(connection: Connection, _: Settings) -> Iterator[Finding]:
    there = connection.scalar(text("SELECT version_num FROM alembic_version"))
    if there == migration.head_revision():
        yield Finding("ok", "migrations", f"every migration is there ({there})")
        return
    what = f"the database is at migration {there}, the program at {migration.head_revision()}"
    if migration.is_migrated(there):
        yield Finding("warning", "migrations", what, "this is an older release: end the upgrade, or the way back")
        return
    yield Finding("failure", "migrations", what, "run `carillon migrate`, with this version of the program")


def _show(connection: Connection, name: str) -> str:
    return str(connection.scalar(text("SELECT current_setting(:name)"), {"name": name}))


def _durability(connection: Connection, _: Settings) -> Iterator[Finding]:
    for name in DURABLE:
        if _show(connection, name) == "off":
            yield Finding(
                "failure",
                "durability",
                f"PostgreSQL runs with {name} = off: an acknowledged event may be lost",
                f"set {name} = on in postgresql.conf",
            )
    if connection.scalar(text("SELECT pg_is_in_recovery()")):
        yield Finding(
            "failure",
            "durability",
            "the database is a standby: it takes no events",
            "have CARILLON_DATABASE_URL name the primary",
        )


def _session(connection: Connection, _: Settings) -> Iterator[Finding]:
    """A pooler in between may drop what a connection asks for when it begins; then nothing bounds a stopped client."""
    wrong = {name: there for name, asked in ASKED_FOR.items() if (there := _show(connection, name)) != asked}
    if not wrong:
        yield Finding("ok", "session_settings", "connections have the time limits that they ask for")
        return
    told = ", ".join(f"{name} is {there}, not {ASKED_FOR[name]}" for name, there in wrong.items())
    yield Finding(
        "failure",
        "session_settings",
        f"a pooler or a role's settings override what connections ask for: {told}",
        "set CARILLON_DATABASE_POOLED=true where PgBouncer stands before PostgreSQL, else correct the login's settings",
    )


def _connections(connection: Connection, chosen: Settings) -> Iterator[Finding]:
    row = connection.execute(_ROOM).one()
    # One API process (its pool and its listener), and of each lane's worker its children and its main process.
    needed = chosen.database_pool_size + 1 + len(LANES) * (chosen.worker_concurrency + 1)
    told = f"{row.used} of {row.room} connections are used; one of each process needs {needed}"
    if needed > row.room or row.used > CONNECTIONS_SHARE * row.room:
        advice = "raise max_connections, lower CARILLON_DATABASE_POOL_SIZE, or put a pooler before PostgreSQL"
        yield Finding("failure" if needed > row.room else "warning", "connections", told, advice)
    else:
        yield Finding("ok", "connections", told)


def _roles(connection: Connection, chosen: Settings) -> Iterator[Finding]:
    """What keeps tenants apart should a query forget to: policies on the tables, and logins that they bind."""
    level = graver_in_production(chosen)
    bare = connection.scalars(_BARE).all()
    if bare:
        advice = (
            "run `carillon migrate`; if that changes nothing, switch on what was switched off, as the owner: "
            "ALTER TABLE … ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"
        )
        what = f"row-level security does not bind everybody on {', '.join(bare)}"
        yield Finding(level, "row_security", what, advice)
    logins = [tuple(row) for role in (APP, WORKER) for row in connection.execute(text(FAULTS.format(role=role)))]
    fault = login_fault(logins)
    if fault:
        what, _, advice = fault.partition(": ")
        yield Finding(level, "row_security", what, advice)
    if not bare and not fault:
        yield Finding("ok", "row_security", "row-level security binds the application's login and roles")


def _clock(connection: Connection, _: Settings) -> Iterator[Finding]:
    before = time.time()
    there = float(connection.scalar(text("SELECT extract(epoch FROM clock_timestamp())::float")) or 0)
    yield skew_finding("database_clock", "the database's", there - (before + time.time()) / 2)


def _work(connection: Connection, _: Settings) -> Iterator[Finding]:
    told = overview.of_database(connection)
    for lane in LANES:
        age = told["lanes"].get(lane)
        if age is None or age > SILENCE_SECONDS:
            heard = "was never heard" if age is None else f"was last heard {age:.0f} s ago"
            advice = "start its worker and beat (`make up` starts all), and look into their log"
            yield Finding("failure", "workers", f"the lane {lane} has no worker: it {heard}", advice)
        else:
            yield Finding("ok", "workers", f"the lane {lane} works ({age:.0f} s ago)")
    yield from _queue(told)


def _queue(told: dict[str, Any]) -> Iterator[Finding]:
    oldest = told["queue"]["oldestSeconds"]
    if told["queue"]["open"] and oldest > QUEUE_AGE_SECONDS:
        what = f"{told['queue']['open']:,} events wait, the oldest for {oldest:.0f} s"
        yield Finding("failure", "queue", what, "look into the workers' log; more workers if they are merely busy")
    else:
        yield Finding("ok", "queue", "no event waits for long")
    failed = told["events"].get("failed", 0)
    if failed:
        advice = "`carillon status` says why, `carillon events retry` tries again"
        yield Finding("warning", "failed_events", f"{failed:,} event{'' if failed == 1 else 's'} failed", advice)


_CHECKS: tuple[Callable[[Connection, Settings], Iterator[Finding]], ...] = (
    _migrations, _durability, _session, _connections, _roles, _clock, _work,
)  # fmt: skip
#: Of a tenant's own database; workers leave their marks in the shared one.
_CHECKS_OF_OTHERS = (_migrations, _durability, _session, _roles, _clock)
