"""The two database roles that the product runs as, and how a transaction takes one on, with its tenants.

A process logs in as whoever its URL names and becomes `carillon_app` (the API) or `carillon_worker` (workers, command
line) for each transaction. Role and tenants travel with BEGIN, in one message, and end with the transaction: no
additional round trip, and nothing that a pooler between transactions could lose or hand to somebody else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

import psycopg
from psycopg import sql
from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg, PGDialectAsync_psycopg
from sqlalchemy.exc import DBAPIError

from shared.arrays import array_of
from shared.errors import StartError
from shared.logs import log

APP: Final = "carillon_app"
WORKER: Final = "carillon_worker"
Role = Literal["carillon_app", "carillon_worker"]
#: What a transaction of the workers' role names instead of tenants to work on all of them. No tenant is called that.
EVERY_TENANT = "*"
#: Where a pooled connection keeps the scope of the transaction that is about to begin.
SCOPE = "carillon.scope"
#: Transactions' first messages that are kept: as many tenants or sets of tenants as are busy at a time.
SCOPES_KEPT = 4_096
#: Sets of more tenants than this hardly come again: shared postings name as many as have just been busy.
FEW_TENANTS = 2
#: Starts do not wait longer for a database that is away: whoever serves requests says so in /readyz.
CHECK_TIMEOUT_S = 3


@dataclass(frozen=True, slots=True)
class Scope:
    """What a transaction may see: the rows of some tenants, and the presented producer keys and sessions, by name.

    None of either unless said.
    """

    tenants: tuple[str, ...] = ()
    credentials: tuple[str, ...] = ()
    #: How long it waits for a lock; None: as its connection does.
    lock_timeout_ms: int | None = None


NOTHING = Scope()


def _literal(value: str) -> str:
    """Return a value as PostgreSQL reads it whatever `standard_conforming_strings` says."""
    quoted = "'" + value.replace("'", "''") + "'"
    return f"E{quoted}".replace("\\", r"\\") if "\\" in value else quoted


#: What a transaction sets for itself, by name; empty where the connection has said it for all of its transactions.
Bounds = tuple[tuple[str, str], ...]


def begin(role: str, scope: Scope, bounds: Bounds = ()) -> str:
    """Return the message that begins a transaction as `role` within `scope`, and within `bounds`."""
    make = _begin if len(scope.tenants) <= FEW_TENANTS else _begin.__wrapped__
    return make(role, scope, bounds)


@lru_cache(maxsize=SCOPES_KEPT)
def _begin(role: str, scope: Scope, bounds: Bounds) -> str:
    tenants = _literal(array_of(scope.tenants))
    parts = ["BEGIN", *(f"SET LOCAL {name} = {_literal(value)}" for name, value in bounds)]
    parts += [f"SET LOCAL ROLE {role}", f"SET LOCAL app.tenants = {tenants}"]
    if scope.credentials:
        parts.append(f"SET LOCAL app.credentials = {_literal(array_of(scope.credentials))}")
    if scope.lock_timeout_ms is not None:
        parts.append(f"SET LOCAL lock_timeout = {scope.lock_timeout_ms}")
    return "; ".join(parts)


SET_TENANTS = text("SELECT set_config('app.tenants', :tenants, true)")


class ScopedDialect(PGDialect_psycopg):
    """PostgreSQL through psycopg, whose transactions begin as `role` within the scope left in the connection's `info`.

    The driver is in its autocommit mode: it would otherwise send a BEGIN of its own. A scope serves one transaction:
    whoever begins one without saying a scope sees no tenant's rows.
    """

    supports_statement_cache = True

    def __init__(self, role: Role = APP, bounds: Bounds = (), **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._role, self._bounds = role, bounds

    def _first(self, connection: Any) -> str:
        return begin(self._role, connection.info.pop(SCOPE, NOTHING), self._bounds)

    def do_begin(self, dbapi_connection: Any) -> None:
        """Send BEGIN, the role and the scope in one message (never prepared: that holds one statement only)."""
        dbapi_connection.driver_connection.execute(self._first(dbapi_connection), prepare=False)

    @classmethod
    def get_async_dialect_cls(cls, url: Any) -> type[ScopedAsyncDialect]:
        """Return the asyncio form of this dialect."""
        return ScopedAsyncDialect


class ScopedAsyncDialect(PGDialectAsync_psycopg, ScopedDialect):
    """The same for asyncio."""

    supports_statement_cache = True

    def do_begin(self, dbapi_connection: Any) -> None:
        """Send BEGIN, the role and the scope in one message."""
        first = self._first(dbapi_connection)
        dbapi_connection.run_async(lambda connection: connection.execute(first, prepare=False))


_MISSING = text(
    "SELECT r FROM unnest(CAST(:roles AS text[])) r WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r)"
)
_UNABLE = text("""
    SELECT r.rolname AS role, m.rolname AS login FROM pg_roles r CROSS JOIN pg_roles m
    WHERE r.rolname = ANY(CAST(:roles AS text[])) AND m.rolname = ANY(CAST(:logins AS text[]))
      AND NOT pg_has_role(m.oid, r.oid, 'SET') ORDER BY 1, 2""")


def ensure_roles(connection: Connection, application: str | None) -> None:
    """Make the two roles, and let this login and the application's (None: the same) take them on. Repeatable.

    Raises `StartError`, with the statements that somebody else must run, where this login may not.
    """
    (me,) = connection.execute(text("SELECT current_user")).one()
    logins = [me, *([application] if application else [])]
    given = {"roles": [APP, WORKER], "logins": logins}
    for role in connection.scalars(_MISSING, given):
        _administer(connection, f"CREATE ROLE {role} NOLOGIN", logins)
    for role, login in connection.execute(_UNABLE, given):
        name = sql.Identifier(login).as_string(None)
        _administer(connection, f"GRANT {role} TO {name} WITH INHERIT FALSE, SET TRUE", logins)


def _administer(connection: Connection, statement: str, logins: Iterable[str]) -> None:
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(statement)
    except DBAPIError as error:
        if isinstance(error.orig, psycopg.errors.DuplicateObject | psycopg.errors.UniqueViolation):
            return  # Roles are the whole server's: the migration of another of its databases was faster.
        if not isinstance(error.orig, psycopg.errors.InsufficientPrivilege):
            raise
        whom = ", ".join(sql.Identifier(each).as_string(None) for each in logins)
        raise StartError(
            f"The migrating login may not manage roles. Have an administrator run once: CREATE ROLE {APP} NOLOGIN; "
            f"CREATE ROLE {WORKER} NOLOGIN; GRANT {APP}, {WORKER} TO {whom} WITH INHERIT FALSE, SET TRUE;"
        ) from None


#: Of the login and of the role that it takes on: whether row-level security binds it. A table's owner could switch it
#: off, and so could whoever may become the owner.
FAULTS = """
    SELECT r.rolname AS name, r.rolsuper AS superuser, r.rolbypassrls AS bypassing,
           EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = to_regnamespace('public') AND c.relkind IN ('r', 'p')
                   AND pg_has_role(r.oid, c.relowner, 'MEMBER')) AS owner
    FROM pg_roles r WHERE r.rolname IN (session_user, '{role}') ORDER BY r.rolname <> session_user"""
_WORDS = ("a superuser", "allowed to bypass row-level security", "the owner of the tables")


def login_fault(rows: Iterable[Sequence[Any]]) -> str | None:
    """Return in one sentence why row-level security would not bind a login, from rows of `FAULTS`; None: it does."""
    for name, *faults in rows:
        if any(faults):
            return (
                f"The database login {name} is {_WORDS[faults.index(True)]}, so nothing would keep tenants apart: name "
                "another login in CARILLON_DATABASE_URL, and the owner in CARILLON_DATABASE_OWNER_URL for migrations."
            )
    return None


def require_bound_login(url: str, role: Role) -> None:
    """Raise `StartError` unless row-level security binds whoever logs in at `url` and becomes `role`.

    A database that is away is not waited for: /readyz asks again, and every transaction takes the role on anyway.
    """
    try:
        with psycopg.connect(url, connect_timeout=CHECK_TIMEOUT_S) as session:
            fault = login_fault(session.execute(FAULTS.format(role=role).encode()).fetchall())
    except psycopg.OperationalError as error:
        log().warning("roles.unchecked", reason=type(error).__name__)
        return
    if fault:
        raise StartError(fault)
