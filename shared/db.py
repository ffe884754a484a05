"""The one place that gives the engine of a tenant, and the transactions on it.

Every tenant lives in the shared database today; callers ask by tenant so that a tenant may move to one of its own.
A transaction sees the rows of the tenants that it names, and of no other (`shared/roles.py`).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import lru_cache
from typing import Any

import orjson
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, make_url, text
from sqlalchemy.dialects import registry
from sqlalchemy.exc import DBAPIError, OperationalError, TimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from shared import roles
from shared.errors import StartError, Unavailable
from shared.roles import APP, EVERY_TENANT, SCOPE, SET_TENANTS, WORKER, Role, Scope, array_of, ensure_roles
from shared.settings import PROJECT_ROOT, Settings, settings

__all__ = ["EVERY_TENANT"]

#: A stopped client must not keep an inbox locked for longer.
IDLE_IN_TRANSACTION_MS = 5_000
#: Longer than any honest lock of an inbox (100 ms); then the API answers 503 and a worker tries again.
LOCK_TIMEOUT_MS = 2_000
#: No request needs more; a chunk of 5,000 recipients takes 0.2 s.
STATEMENT_TIMEOUT_MS = {"api": 5_000, "worker": 30_000}
#: Unacknowledged bytes on a cut connection are given up after this.
TCP_USER_TIMEOUT_MS = 5_000
CONNECT_TIMEOUT_S = 3
#: Waiting longer for a free connection only lengthens the queue: 503 tells the client to come back.
POOL_TIMEOUT_S = 2
#: Serialises concurrent migrations ("carillon" on a telephone's keys).
MIGRATION_LOCK = 22745566
#: SQLSTATE classes and codes that tell of the moment, not of the statement: connection, resources, intervention by an
#: operator, serialisation and deadlock, lock not available, read-only (a failing-over server), and a transaction that
#: stood still for too long (its process was stopped).
TRANSIENT = ("08", "53", "57", "40001", "40P01", "55P03", "25006", "25P03", "58")


#: What a database says that was not migrated (to this version): no such table, no privilege on it, no such role.
UNMIGRATED = ("42P01", "42501", "22023")


registry.register("postgresql.carillon", "shared.roles", "ScopedDialect")
#: Each lane's role.
ROLES: dict[str, Role] = {"api": APP, "worker": WORKER}


def sqlalchemy_url(url: str) -> Any:
    """Return `url` (postgresql://…) with the driver that this project uses."""
    return make_url(url).set(drivername="postgresql+psycopg")


def _scoped_url(url: str) -> Any:
    return make_url(url).set(drivername="postgresql+carillon")


def _options(lane: str) -> dict[str, Any]:
    return {
        # The dialect sends BEGIN.
        "autocommit": True,
        "application_name": f"carillon-{lane}",
        "connect_timeout": CONNECT_TIMEOUT_S,
        "tcp_user_timeout": TCP_USER_TIMEOUT_MS,
        "options": f"-c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_MS} -c lock_timeout={LOCK_TIMEOUT_MS}"
        f" -c statement_timeout={STATEMENT_TIMEOUT_MS[lane]} -c jit=off -c timezone=UTC"
        " -c standard_conforming_strings=on",
    }


def _engine_options(lane: str, pool_size: int) -> dict[str, Any]:
    return {
        "connect_args": _options(lane),
        "role": ROLES[lane],
        "pool_size": pool_size,
        "max_overflow": 0,
        "pool_timeout": POOL_TIMEOUT_S,
        "pool_pre_ping": False,
        # An error that somebody prints must not quote a payload.
        "hide_parameters": True,
        "json_serializer": lambda value: orjson.dumps(value).decode(),
        "json_deserializer": orjson.loads,
    }


def database_url() -> str:
    """Return the shared database's URL, or raise `StartError` when none is configured or running."""
    url = settings().database_url
    if url is None:
        raise StartError("No database: set CARILLON_DATABASE_URL, or start the embedded servers with `make up`.")
    return url.get_secret_value()


@lru_cache(maxsize=1)
def _shared_engine() -> Engine:
    return create_engine(_scoped_url(database_url()), **_engine_options("worker", 4))


@lru_cache(maxsize=1)
def _shared_async_engine() -> AsyncEngine:
    return create_async_engine(_scoped_url(database_url()), **_engine_options("api", settings().database_pool_size))


def engine_of(tenant: str | None = None) -> Engine:
    """Return the blocking engine of the database where `tenant` lives (None: the shared one)."""
    return _shared_engine()


def async_engine_of(tenant: str | None = None) -> AsyncEngine:
    """Return the asyncio engine of the database where `tenant` lives (None: the shared one)."""
    return _shared_async_engine()


def is_transient(error: BaseException) -> bool:
    """Tell whether the same statement may succeed later: the server was away, busy, or chose a deadlock's victim."""
    if isinstance(error, TimeoutError):
        return True
    if not isinstance(error, DBAPIError):
        return False
    state = getattr(error.orig, "sqlstate", None)
    if state is None:
        return error.connection_invalidated or isinstance(error, OperationalError)
    return bool(state.startswith(TRANSIENT))


def is_unmigrated(error: BaseException) -> bool:
    """Tell whether a migration would help."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in UNMIGRATED


@contextmanager
def transaction(*tenants: str) -> Iterator[Connection]:
    """Run a block in one transaction of a worker: committed at its end, rolled back when it raises.

    It sees all events and chunks, and of everything else the rows of `tenants`; `EVERY_TENANT` alone means all.
    """
    with engine_of(*tenants[:1]).connect() as connection:
        connection.info[SCOPE] = Scope(tenants)
        with connection.begin():
            yield connection


@asynccontextmanager
async def async_transaction(*tenants: str, credentials: Iterable[str] = ()) -> AsyncIterator[AsyncConnection]:
    """Run a block in one transaction of a request. A database that is away or busy raises `Unavailable` (503).

    It sees the rows of `tenants`, and the producer keys (by prefix) and sessions (by name) that are `credentials`.
    """
    try:
        async with async_engine_of(*tenants[:1]).connect() as connection:
            connection.info[SCOPE] = Scope(tenants, tuple(credentials))
            async with connection.begin():
                yield connection
    except (DBAPIError, TimeoutError) as error:
        if not is_transient(error):
            raise
        raise Unavailable("The database is away or busy; try again.", retry_after=1) from error


def set_tenants(connection: Connection, tenants: Iterable[str]) -> None:
    """Let the rest of a worker's transaction see the rows of these tenants instead. One statement more."""
    connection.execute(SET_TENANTS, {"tenants": array_of(tenants)})


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(PROJECT_ROOT / "migrations"))
    return config


@lru_cache(maxsize=1)
def head_revision() -> str | None:
    """Return the newest migration that this code knows."""
    return ScriptDirectory.from_config(_alembic()).get_current_head()


def migrate(url: str, application: str | None = None) -> None:
    """Bring the database to the newest revision; safe to call at any time, by several processes at once.

    Afterwards the `deployment` row names this server's epoch: a new one if the database was copied to another server;
    and the login `application` may take on the product's roles. Raises `StartError` where `url`'s login may not make
    those.
    """
    config = _alembic()
    engine = create_engine(sqlalchemy_url(url))
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": MIGRATION_LOCK})
            connection.commit()
            ensure_roles(connection, application)
            connection.commit()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.execute(RECORD_DEPLOYMENT)
            connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": MIGRATION_LOCK})
            connection.commit()
    finally:
        engine.dispose()


#: A new epoch is the clock's seconds, so that it differs from every earlier one without anybody remembering them.
NEW_EPOCH = "greatest(deployment.epoch + 1, extract(epoch FROM clock_timestamp())::bigint)"
RECORD_DEPLOYMENT = text(f"""
    INSERT INTO deployment (epoch, system_identifier, timeline)
    SELECT 1, s.system_identifier::text, c.timeline_id FROM pg_control_system() s, pg_control_checkpoint() c
    ON CONFLICT (id) DO UPDATE SET epoch = {NEW_EPOCH},
        system_identifier = excluded.system_identifier, timeline = excluded.timeline
    WHERE (deployment.system_identifier, deployment.timeline) <> (excluded.system_identifier, excluded.timeline)
""")
RENEW_EPOCH = text(f"UPDATE deployment SET epoch = {NEW_EPOCH} RETURNING epoch")


def migrate_configured(chosen: Settings) -> None:
    """Migrate as the owner whom the settings name, and let the application's login take on the product's roles."""
    application = chosen.database_url
    owner = chosen.database_owner_url or application
    if owner is None or application is None:
        raise StartError("No database: set CARILLON_DATABASE_URL, or start the embedded servers with `make up`.")
    migrate(owner.get_secret_value(), make_url(application.get_secret_value()).username)


def require_bound_login(lane: str) -> None:
    """In production, raise `StartError` where row-level security would not bind this process's login."""
    if not settings().development:
        roles.require_bound_login(database_url(), ROLES[lane])


def reason_of(error: BaseException | None) -> str:
    """Return what psycopg says of a failed connection, without the hints that it sets in below."""
    told = [line for line in str(error).splitlines() if line and not line[0].isspace()]
    return told[-1].strip() if told else "no answer"


def wait_for_database(url: str, within: float) -> None:
    """Return once the server answers, or raise `StartError` after `within` seconds."""
    engine = create_engine(sqlalchemy_url(url), connect_args={"connect_timeout": CONNECT_TIMEOUT_S})
    deadline = time.monotonic() + within
    try:
        while True:
            try:
                with engine.connect():
                    return
            except OperationalError as error:
                if time.monotonic() > deadline:
                    where = make_url(url).render_as_string(hide_password=True)
                    reason = reason_of(error.orig)
                    raise StartError(
                        f"The database at {where} does not answer ({reason}): start it, or correct "
                        f"CARILLON_DATABASE_URL."
                    ) from None
                time.sleep(0.2)
    finally:
        engine.dispose()


def current_revision(url: str) -> str | None:
    """Return the newest migration that the database has, None for an empty one."""
    engine = create_engine(sqlalchemy_url(url))
    try:
        with engine.connect() as connection:
            if connection.scalar(text("SELECT to_regclass('alembic_version')")) is None:
                return None
            revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
            return revision
    finally:
        engine.dispose()
