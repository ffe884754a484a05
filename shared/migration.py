"""Bringing databases to the newest revision, and the epoch of what they hold."""

from __future__ import annotations

import time
from functools import lru_cache

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError

from shared.databases import placement_of
from shared.db import sqlalchemy_url, sqlstate_of
from shared.errors import StartError
from shared.roles import ensure_roles
from shared.settings import PROJECT_ROOT, Settings

#: Serialises concurrent migrations ("carillon" on a telephone's keys).
MIGRATION_LOCK = 22745566
#: By which a migration's connections are told from others'.
APPLICATION = "carillon-migrate"
#: How long a lock is waited for. Everybody who comes later waits behind it, the API for two seconds at most; and only a
#: wait of more than a second (`deadlock_timeout`) lets PostgreSQL send an autovacuum away.
LOCK_TIMEOUT_MS = 1_200
#: Until a lock is tried for again: whoever waited behind the last try goes first.
PAUSE_S = 2.0
#: How long somebody's transaction or another migration is waited for. An index on a hundred million events takes less.
PATIENCE_S = 600.0
#: Between two looks at whose turn it is.
TURN_S = 0.2
#: Without parameters, and never prepared (`_engine`): so it goes as a simple query, which ends with its snapshot. One
#: in the extended protocol keeps it until the transaction's next statement.
TRY_TURN = text(f"SELECT pg_try_advisory_xact_lock({MIGRATION_LOCK})")
_LOCK_NOT_AVAILABLE = "55P03"
#: What else is under way, the oldest first. Of others' transactions a login may see no times: those are left out.
OLDEST_OTHER = text("""
    SELECT coalesce(nullif(application_name, ''), 'nameless') || ', process ' || pid || ', for '
           || extract(epoch FROM clock_timestamp() - xact_start)::int || ' s'
    FROM pg_stat_activity
    WHERE datname = current_database() AND xact_start IS NOT NULL AND application_name <> :ours
    ORDER BY xact_start LIMIT 1
""")
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
RAISE_EPOCH = text("UPDATE deployment SET epoch = :epoch WHERE epoch < :epoch")


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(PROJECT_ROOT / "migrations"))
    return config


@lru_cache(maxsize=1)
def head_revision() -> str | None:
    """Return the newest migration that this code knows."""
    return ScriptDirectory.from_config(_alembic()).get_current_head()


def is_migrated(revision: str | None) -> bool:
    """Tell whether a database at this revision has all that this code needs: its newest migration or a newer release's.

    Newer ones only add while this release may still run (docs/deployment.md). Revisions are numbers of four digits.
    """
    return revision is not None and revision >= (head_revision() or "")


def migrate(url: str, application: str | None = None) -> None:
    """Bring the database to the newest revision; safe to call at any time, by several processes and releases at once.

    Afterwards the `deployment` row names this server's epoch: a new one if the database was copied to another server;
    and the login `application` may take on the product's roles. A lock that somebody holds is tried for again and
    again, each time so shortly that nobody fails behind it. Raises `StartError` where `url`'s login may not make those
    roles, or where a lock or another migration's end was waited for in vain, for `PATIENCE_S`.
    """
    engine = _engine(url)
    deadline = time.monotonic() + PATIENCE_S
    try:
        with engine.connect() as turn, engine.connect() as connection:
            _take_turn(turn, deadline)
            while not _is_brought_up(connection, url, application):
                if time.monotonic() > deadline:
                    raise StartError(_in_the_way(connection))
                time.sleep(PAUSE_S)
    finally:
        engine.dispose()


def _engine(url: str) -> Engine:
    words = {"application_name": APPLICATION, "prepare_threshold": None}
    engine = create_engine(sqlalchemy_url(url), isolation_level="READ COMMITTED", connect_args=words)
    event.listen(engine, "begin", _bound)
    return engine


def _bound(connection: Connection) -> None:
    """Bound the transaction that begins, and not the session, which a pooler gives to others afterwards.

    What runs without a transaction, as an index that is built concurrently, has no bound, and stops nobody.
    """
    if connection.get_isolation_level() != "AUTOCOMMIT":
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}; SET LOCAL statement_timeout = 0")


def _is_brought_up(connection: Connection, url: str, application: str | None) -> bool:
    """Do all of a migration's work that is left; return whether that went without meeting another's lock."""
    try:
        ensure_roles(connection, application)
        connection.commit()
        # A newer release's database stays as it is: alembic would not know its revision.
        if not is_migrated(current_revision(url)):
            config = _alembic()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        connection.execute(RECORD_DEPLOYMENT)
        connection.commit()
    except DBAPIError as error:
        if sqlstate_of(error) != _LOCK_NOT_AVAILABLE:
            raise
        connection.rollback()
        return False
    return True


def _in_the_way(connection: Connection) -> str:
    oldest = connection.scalar(OLDEST_OTHER, {"ours": APPLICATION})
    named = f"the oldest: {oldest}" if oldest else "of another login"
    return f"Another transaction holds what the migration changes ({named}; a dump?): let it end, then migrate again."


def _take_turn(connection: Connection, deadline: float) -> None:
    """Wait until no other migration runs; until this transaction ends, none begins.

    A transaction's lock: a session's would stay behind in a pooler's connection, and no migration would run again.
    It is asked for anew instead of waited for: a statement that waits has a snapshot, and an index that is built
    concurrently waits for every snapshot's end. Idle this transaction must have none either (`TRY_TURN`).
    """
    connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
    while not connection.scalar(TRY_TURN):
        if time.monotonic() > deadline:
            raise StartError("Another migration of this database is still running: let it end, then migrate again.")
        time.sleep(TURN_S)


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


def migrate_configured(chosen: Settings) -> None:
    """Migrate every database as the owner whom the settings name, and let the application's login take on the roles.

    Afterwards all of them have the same epoch.
    """
    databases = placement_of(chosen).databases.values()
    for each in databases:
        migrate(each.owner.get_secret_value(), make_url(each.url.get_secret_value()).username)
    if len(databases) > 1:
        _agree_on_epoch([each.owner.get_secret_value() for each in databases])


def _agree_on_epoch(urls: list[str]) -> None:
    """Bring all databases to the greatest of their epochs: it is one number for the installation."""
    engines = [create_engine(sqlalchemy_url(url)) for url in urls]
    try:
        epochs = []
        for engine in engines:
            with engine.connect() as connection:
                epochs.append(connection.scalar(text("SELECT epoch FROM deployment")))
        for engine in engines:
            with engine.begin() as connection:
                connection.execute(RAISE_EPOCH, {"epoch": max(epochs)})
    finally:
        for engine in engines:
            engine.dispose()
