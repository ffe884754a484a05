"""The one place that gives the engine of a tenant, and the transactions on it.

Callers name tenants, not databases: `shared/databases.py` knows where those live.
A transaction sees the rows of the tenants that it names, and of no other (`shared/roles.py`).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import orjson
import psycopg
from sqlalchemy import Connection, Engine, create_engine, make_url
from sqlalchemy.dialects import registry
from sqlalchemy.exc import DBAPIError, OperationalError, TimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from shared import roles
from shared.arrays import array_of
from shared.databases import SHARED, current, home_of_all, placement
from shared.errors import StartError, Unavailable
from shared.roles import APP, EVERY_TENANT, SCOPE, SET_TENANTS, WORKER, Role, Scope
from shared.settings import settings

__all__ = ["EVERY_TENANT"]

#: A stopped client must not keep an inbox locked for longer.
IDLE_IN_TRANSACTION_MS = 5_000
#: Longer than any honest lock of an inbox (100 ms); then the API answers 503 and a worker tries again.
LOCK_TIMEOUT_MS = 2_000
#: No request needs more; a chunk of 5,000 recipients takes 0.2 s.
STATEMENT_TIMEOUT_MS = {"api": 5_000, "worker": 30_000}
#: Unacknowledged bytes on a cut connection are given up after this.
TCP_USER_TIMEOUT_MS = 5_000
#: A server that vanished (its power, the way to it: nothing says so) while its answer is awaited is noticed after the
#: sum of both: the system would wait for two hours. Probes cost a packet each; `TCP_USER_TIMEOUT_MS` ends them.
KEEPALIVE_IDLE_S = 10
KEEPALIVE_INTERVAL_S = 2
CONNECT_TIMEOUT_S = 3
#: A server that starts is ready within half a second.
ASKED_AGAIN_S = 0.2
#: Waiting longer for a free connection only lengthens the queue: 503 tells the client to come back.
POOL_TIMEOUT_S = 2
#: Connections of an API process for /metrics and the operators' page: both look at most every second or two.
WATCHING_POOL = 2
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


#: A worker reads its tables by index. They grow a thousandfold between two looks of PostgreSQL at their sizes, and
#: pending events come and go between them: a plan for "hardly any" reads all that there are, for each batch again.
#: The price, for which `docs/decisions/0009-twenty-places.md` refused it to the API: what only a bitmap serves, such as
#: a condition with OR over two indexes or any GIN index, is no error here but silently a walk through a whole index or
#: table. So workers' statements have no such condition (the OR of their row-level security is a filter of rows that
#: another condition has found), and a new one has its plan looked at, as `tests/integration/test_claim_plans.py` does.
BY_INDEX: roles.Bounds = (("enable_seqscan", "off"), ("enable_bitmapscan", "off"))


def bounds_of(lane: str) -> roles.Bounds:
    """Return what every transaction of a lane runs within."""
    return (
        ("idle_in_transaction_session_timeout", str(IDLE_IN_TRANSACTION_MS)),
        ("lock_timeout", str(LOCK_TIMEOUT_MS)),
        ("statement_timeout", str(STATEMENT_TIMEOUT_MS[lane])),
        ("jit", "off"),
        ("timezone", "UTC"),
        *(BY_INDEX if lane == "worker" else ()),
    )


def _options(lane: str) -> dict[str, Any]:
    return {
        # The dialect sends BEGIN.
        "autocommit": True,
        "application_name": f"carillon-{lane}",
        "connect_timeout": CONNECT_TIMEOUT_S,
        "tcp_user_timeout": TCP_USER_TIMEOUT_MS,
        "keepalives_idle": KEEPALIVE_IDLE_S,
        "keepalives_interval": KEEPALIVE_INTERVAL_S,
        **_of_session(lane),
    }


def _of_session(lane: str) -> dict[str, Any]:
    """Return what a connection asks of its session; of one that a pooler gives to others between transactions: nothing.

    A statement prepared there would be missing in the next session, or be there already.
    """
    if settings().database_pooled:
        return {"prepare_threshold": None}
    asked = (*bounds_of(lane), ("standard_conforming_strings", "on"))
    return {"options": " ".join(f"-c {name}={value}" for name, value in asked)}


def _engine_options(lane: str, pool_size: int) -> dict[str, Any]:
    return {
        "connect_args": _options(lane),
        "role": ROLES[lane],
        # Said with each BEGIN where no session keeps them.
        "bounds": bounds_of(lane) if settings().database_pooled else (),
        "pool_size": pool_size,
        "max_overflow": 0,
        "pool_timeout": POOL_TIMEOUT_S,
        "pool_pre_ping": False,
        # An error that somebody prints must not quote a payload.
        "hide_parameters": True,
        "json_serializer": lambda value: orjson.dumps(value).decode(),
        "json_deserializer": orjson.loads,
    }


def database_url(name: str = SHARED) -> str:
    """Return a database's URL, or raise `StartError` when none is configured or running."""
    return placement().databases[name].url.get_secret_value()


#: This process's engines by their databases' names, made when they are first needed.
_engines: dict[str, Engine] = {}
_async_engines: dict[str, AsyncEngine] = {}
_watching_engines: dict[str, AsyncEngine] = {}


def engine_of(name: str = SHARED) -> Engine:
    """Return the blocking engine of a database."""
    if name not in _engines:
        _engines[name] = create_engine(_scoped_url(database_url(name)), **_engine_options("worker", 4))
    return _engines[name]


def async_engine_of(name: str = SHARED) -> AsyncEngine:
    """Return the asyncio engine of a database."""
    if name not in _async_engines:
        options = _engine_options("api", settings().database_pool_size)
        _async_engines[name] = create_async_engine(_scoped_url(database_url(name)), **options)
    return _async_engines[name]


def watching_engine_of(name: str = SHARED) -> AsyncEngine:
    """Return the asyncio engine of a database for those who look after the whole, as the workers' role."""
    if name not in _watching_engines:
        options = {**_engine_options("api", WATCHING_POOL), "role": WORKER}
        _watching_engines[name] = create_async_engine(_scoped_url(database_url(name)), **options)
    return _watching_engines[name]


def leave_to_parent() -> None:
    """Let a forked process open connections of its own, and leave its parent's alone."""
    for engine in _engines.values():
        engine.dispose(close=False)


def forget_engines() -> None:
    """Close this process's blocking connections and forget what the settings said of databases."""
    for engine in _engines.values():
        engine.dispose()
    _engines.clear()
    _async_engines.clear()
    _watching_engines.clear()
    placement.cache_clear()


async def close_async_engines() -> None:
    """Close the asyncio connections."""
    for engine in (*_async_engines.values(), *_watching_engines.values()):
        await engine.dispose()


def _home(tenants: tuple[str, ...], database: str | None) -> str:
    """Return where a transaction runs: as told, else at the tenants' home, else where this task works."""
    if database is not None:
        return database
    return current() if tenants in ((), (EVERY_TENANT,)) else home_of_all(tenants)


def sqlstate_of(error: BaseException | None) -> str | None:
    """Return the SQLSTATE of a database error that has one: SQLAlchemy's, or psycopg's own (of a COPY)."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    return origin.sqlstate if isinstance(origin, psycopg.Error) else None


def too_busy() -> Unavailable:
    """Return what a request is answered that the database could not serve in time."""
    return Unavailable("The database is away or busy; try again.", retry_after=1)


def is_transient(error: BaseException) -> bool:
    """Tell whether the same statement may succeed later: the server was away, busy, or chose a deadlock's victim."""
    if isinstance(error, TimeoutError):
        return True
    state = sqlstate_of(error)
    if state is not None:
        return state.startswith(TRANSIENT)
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    return isinstance(error, (OperationalError, psycopg.OperationalError))


def is_cut(error: BaseException | None) -> bool:
    """Tell whether the connection is gone on which it happened: the next one is made anew, as are all of the pool."""
    return isinstance(error, DBAPIError) and error.connection_invalidated


def is_unmigrated(error: BaseException) -> bool:
    """Tell whether a migration would help."""
    return sqlstate_of(error) in UNMIGRATED


@contextmanager
def transaction(*tenants: str, database: str | None = None) -> Iterator[Connection]:
    """Run a block in one transaction of a worker: committed at its end, rolled back when it raises.

    It sees all events and chunks, and of everything else the rows of `tenants`; `EVERY_TENANT` alone means all. It runs
    in `database`; unset: where the tenants live, or, without any, where this task works.
    """
    with engine_of(_home(tenants, database)).connect() as connection:
        connection.info[SCOPE] = Scope(tenants)
        with connection.begin():
            yield connection


@asynccontextmanager
async def async_transaction(
    *tenants: str,
    credentials: Iterable[str] = (),
    database: str | None = None,
    lock_timeout_ms: int | None = None,
) -> AsyncIterator[AsyncConnection]:
    """Run a block in one transaction of a request. A database that is away or busy raises `Unavailable` (503).

    It sees the rows of `tenants`, and the producer keys (by prefix) and sessions (by name) that are `credentials`. It
    runs in `database`; unset: where the tenants live, or, without any, in the shared one. It waits for a lock for
    `lock_timeout_ms`; None: `LOCK_TIMEOUT_MS`.
    """
    scope = Scope(tenants, tuple(credentials), lock_timeout_ms)
    async with _begun(async_engine_of(_home(tenants, database)), scope) as connection:
        yield connection


@asynccontextmanager
async def watching_transaction(*tenants: str, database: str = SHARED) -> AsyncIterator[AsyncConnection]:
    """Run a block in one transaction of an operator's request, in `database`, as a worker sees it.

    All events and chunks; of everything else the rows of `tenants`. Raises `Unavailable` as `async_transaction`.
    """
    async with _begun(watching_engine_of(database), Scope(tenants)) as connection:
        yield connection


@asynccontextmanager
async def _begun(engine: AsyncEngine, scope: Scope) -> AsyncIterator[AsyncConnection]:
    try:
        async with engine.connect() as connection:
            connection.info[SCOPE] = scope
            async with connection.begin():
                yield connection
    except (DBAPIError, TimeoutError) as error:
        if not is_transient(error):
            raise
        raise too_busy() from error


def set_tenants(connection: Connection, tenants: Iterable[str]) -> None:
    """Let the rest of a worker's transaction see the rows of these tenants instead. One statement more."""
    connection.execute(SET_TENANTS, {"tenants": array_of(tenants)})


def require_bound_login(lane: str) -> None:
    """In production, raise `StartError` where row-level security would not bind this process's login."""
    if not settings().development:
        for each in placement().databases.values():
            roles.require_bound_login(each.url.get_secret_value(), ROLES[lane])


def reason_of(error: BaseException | None) -> str:
    """Return what psycopg says of a failed connection, without the hints that it sets in below."""
    told = [line for line in str(error).splitlines() if line and not line[0].isspace()]
    return told[-1].strip() if told else "no answer"


def wait_for_database(url: str, within: float) -> None:
    """Return once the server answers, or raise `StartError` after `within` seconds."""
    engine = create_engine(sqlalchemy_url(url), connect_args={"connect_timeout": CONNECT_TIMEOUT_S})
    deadline = time.monotonic() + within
    try:
        while (refusal := _refusal_of(engine)) is not None:
            if time.monotonic() > deadline:
                where = make_url(url).render_as_string(hide_password=True)
                raise StartError(
                    f"The database at {where} does not answer ({refusal}): start it, or correct CARILLON_DATABASE_URL."
                )
            time.sleep(ASKED_AGAIN_S)
    finally:
        engine.dispose()


def _refusal_of(engine: Engine) -> str | None:
    """Return why there is no connection to be had; None where there is."""
    try:
        with engine.connect():
            return None
    except OperationalError as error:
        return reason_of(error.orig)
