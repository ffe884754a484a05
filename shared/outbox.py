"""The outbox of a producer with a database of its own: a table there, which Carillon's relay empties.

The relay takes rows in the order of their positions, stores them as events by their key (tenant, source, id), commits,
and then deletes them: killed between the two commits, the next one finds them stored and deletes them. A row is deleted
by its own position and no position is remembered: a transaction that commits late leaves smaller ones behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

from sqlalchemy import Connection, Engine, TextClause, create_engine, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from shared import db
from shared.errors import CarillonError, NotFound, StartError
from shared.outbox_setting import EVERY_TENANT, Outbox
from shared.settings import PROJECT_ROOT, Settings, settings

#: The relays' lock in a producer's database ("carillon" on a telephone's keys); its second half is the table's schema.
RELAY_LOCK = 22745566
#: Rows that one transaction takes: at most 32 MiB of the largest events in memory, and 20 ms of usual ones.
BATCH = 500
#: A relay that stands still lets go of a producer's rows after this. Longer than storing a batch may wait for locks.
IDLE_IN_TRANSACTION_MS = 15_000
#: `jsonb` as text has a blank after each comma and colon: less than twice the bytes of the compact form.
_BLANKS = 2
#: Refused rows that are shown.
SHOWN = 100
DDL = PROJECT_ROOT / "shared" / "outbox.sql"
#: What a server says to whom it never lets in. (libpq tells no SQLSTATE of a failed connection.)
_NEVER_LETS_IN = ("authentication failed", "does not exist", "no pg_hba.conf entry", "no password supplied")


class OutboxAway(CarillonError):
    """The outbox's database does not answer."""

    status = 503


def ddl(schema: str, producers: Sequence[str] = (), relay: str | None = None) -> str:
    """Return the statements that make an outbox in a producer's database, with the grants that these roles need."""
    written = DDL.read_text().replace("{schema}", quoted(schema))
    table, function = _table(schema), f"{quoted(schema)}.carillon_publish(jsonb)"
    for role in producers:
        written += (
            f"\n-- The producer may publish, and neither read nor change what waits.\n"
            f"GRANT USAGE ON SCHEMA {quoted(schema)} TO {quoted(role)};\n"
            f"GRANT EXECUTE ON FUNCTION {function} TO {quoted(role)};\n"
            f"GRANT INSERT (event) ON {table} TO {quoted(role)};\n"
        )
    if relay is not None:
        written += (
            f"\n-- Whom CARILLON_OUTBOXES logs in as: CREATE ROLE {quoted(relay)} LOGIN PASSWORD '…';\n"
            f"GRANT USAGE ON SCHEMA {quoted(schema)} TO {quoted(relay)};\n"
            f"GRANT SELECT, DELETE, UPDATE (refused_at, reason) ON {table} TO {quoted(relay)};\n"
        )
    return written


def quoted(name: str) -> str:
    """Return an identifier as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def named(name: str) -> Outbox:
    """Return the outbox that the settings call so; raises `NotFound`."""
    if name not in settings().outboxes:
        raise NotFound(f"There is no outbox {name} in CARILLON_OUTBOXES.")
    return settings().outboxes[name]


def engine_of(outbox: Outbox, *, keeps: bool = True) -> Engine:
    """Return a new engine for a producer's database, of one connection; `keeps`: it is kept between transactions.

    It needs nothing of the session, so that a pooler of transactions may stand in between.
    """
    pool = {"pool_size": 1, "max_overflow": 0, "pool_timeout": db.POOL_TIMEOUT_S} if keeps else {"poolclass": NullPool}
    arguments = {
        "application_name": "carillon-relay",
        "connect_timeout": db.CONNECT_TIMEOUT_S,
        "tcp_user_timeout": db.TCP_USER_TIMEOUT_MS,
        "keepalives_idle": db.KEEPALIVE_IDLE_S,
        "keepalives_interval": db.KEEPALIVE_INTERVAL_S,
        "prepare_threshold": None,
    }
    return create_engine(
        db.sqlalchemy_url(outbox.url.get_secret_value()), connect_args=arguments, hide_parameters=True, **pool
    )


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """Run a block in a transaction of a producer's database, which no stopped relay holds open for long."""
    with engine.begin() as connection:
        connection.execute(_BOUNDS)
        yield connection


_BOUNDS = text(f"""
    SELECT set_config('lock_timeout', '{db.LOCK_TIMEOUT_MS}', true),
           set_config('statement_timeout', '{db.STATEMENT_TIMEOUT_MS["worker"]}', true),
           set_config('idle_in_transaction_session_timeout', '{IDLE_IN_TRANSACTION_MS}', true)""")


@contextmanager
def once(name: str) -> Iterator[tuple[Connection, str]]:
    """Run a block in one transaction of an outbox's database; gives the schema, too.

    Raises `NotFound`, `OutboxAway`, and `StartError` where the outbox is not as it must be.
    """
    outbox = named(name)
    engine = engine_of(outbox, keeps=False)
    try:
        with transaction(engine) as connection:
            _require_table(connection, name, outbox)
            yield connection, outbox.schema
    except OperationalError as error:
        raise OutboxAway(f"The database of the outbox {name} does not answer ({db.reason_of(error.orig)}).") from None
    except DBAPIError as error:
        reason = db.reason_of(error.orig)
        raise StartError(f"The outbox {name} cannot be used ({reason}): correct CARILLON_OUTBOXES.") from None
    finally:
        engine.dispose()


# --- is it as it must be? ---

_LOOK = text("""
    SELECT to_regclass(:table) IS NOT NULL AS there, current_user AS login,
           CASE WHEN to_regclass(:table) IS NOT NULL THEN array_remove(ARRAY[
               CASE WHEN NOT has_table_privilege(to_regclass(:table), 'SELECT') THEN 'SELECT' END,
               CASE WHEN NOT has_table_privilege(to_regclass(:table), 'DELETE') THEN 'DELETE' END,
               CASE WHEN NOT has_any_column_privilege(to_regclass(:table), 'UPDATE') THEN 'UPDATE' END], NULL)
           END AS missing""")


def _require_table(connection: Connection, name: str, outbox: Outbox) -> None:
    advice = f"run there what `carillon outbox sql --schema {outbox.schema}"
    row = connection.execute(_LOOK, {"table": _table(outbox.schema)}).one()
    if not row.there:
        raise StartError(f"The outbox {name} has no table {outbox.schema}.carillon_outbox: {advice}` prints.")
    if row.missing:
        told = f"The login {row.login} of the outbox {name} may not {' or '.join(row.missing)}"
        raise StartError(f"{told}: {advice} --relay {row.login}` prints.")


def require_usable(name: str) -> None:
    """Raise `StartError` where an outbox will never do as it is, and `OutboxAway` where its database is away."""
    try:
        with once(name):
            return
    except OutboxAway as away:
        if any(words in away.detail for words in _NEVER_LETS_IN):
            raise StartError(f"{away.detail[:-1]}: correct CARILLON_OUTBOXES.") from None
        raise


def require_all_usable(chosen: Settings) -> dict[str, str]:
    """Raise `StartError` where an outbox will never do; return why those cannot be asked whose databases are away."""
    away: dict[str, str] = {}
    for name in chosen.outboxes:
        try:
            require_usable(name)
        except OutboxAway as problem:
            away[name] = problem.detail
    return away


def may_post_for(outbox: Outbox, tenant: str) -> bool:
    """Tell whether what stands in this outbox may be an event of that tenant."""
    return tenant in outbox.tenants or EVERY_TENANT in outbox.tenants


# --- statements ---


@cache
def take_turn() -> TextClause:
    """Tell whether this transaction alone empties the outbox until its end. Parameters: schema."""
    return text(f"SELECT pg_try_advisory_xact_lock({RELAY_LOCK}, hashtext(:schema))")


def _table(schema: str) -> str:
    return f"{quoted(schema)}.carillon_outbox"


@cache
def take(schema: str) -> TextClause:
    """Select the first waiting rows: position, written_at, event as text (null: larger than `most` bytes; bigger than
    any event that is). Parameters: limit, most.
    """
    return text(f"""
        SELECT t.position, t.written_at, CASE WHEN octet_length(t.event) <= {_BLANKS} * :most THEN t.event END AS event
        FROM (SELECT o.position, o.written_at, CAST(o.event AS text) AS event FROM {_table(schema)} o
              WHERE o.refused_at IS NULL ORDER BY o.position LIMIT :limit) t ORDER BY t.position""")


@cache
def remove(schema: str) -> TextClause:
    """Delete rows that are stored. Parameters: positions."""
    return text(f"DELETE FROM {_table(schema)} WHERE position = ANY(CAST(:positions AS bigint[]))")


@cache
def set_aside(schema: str) -> TextClause:
    """Set refused rows aside, with why. Array parameters: positions, reasons."""
    return text(f"""
        UPDATE {_table(schema)} o SET refused_at = clock_timestamp(), reason = r.reason
        FROM unnest(CAST(:positions AS bigint[]), CAST(:reasons AS text[])) AS r(position, reason)
        WHERE o.position = r.position AND o.refused_at IS NULL""")


@cache
def numbers(schema: str) -> TextClause:
    """Select how many rows wait, for how many seconds the first of them, and how many are refused."""
    return text(f"""
        SELECT count(*) FILTER (WHERE refused_at IS NULL) AS waiting, count(refused_at) AS refused,
               coalesce(extract(epoch FROM clock_timestamp() - min(written_at) FILTER (WHERE refused_at IS NULL)), 0)
               ::float AS oldest_s FROM {_table(schema)}""")


@cache
def refused(schema: str) -> TextClause:
    """Select the first refused rows: position, refused_at, reason, type, tenant, id."""
    return text(f"""
        SELECT position, refused_at, reason,
               event ->> 'type' AS type, event ->> 'tenant' AS tenant, event ->> 'id' AS id
        FROM {_table(schema)} WHERE refused_at IS NOT NULL ORDER BY position LIMIT {SHOWN}""")


@cache
def put_back(schema: str) -> TextClause:
    """Let refused rows wait again. Parameters: positions (null: all)."""
    return text(f"""
        UPDATE {_table(schema)} SET refused_at = NULL, reason = NULL
        WHERE refused_at IS NOT NULL AND (CAST(:positions AS bigint[]) IS NULL OR position = ANY(:positions))""")
