"""A migration of a database in use: it stops nobody, and waits for those who hold what it changes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest
from alembic import command
from sqlalchemy import create_engine

from shared import migration
from shared.db import sqlalchemy_url
from shared.errors import StartError
from shared.roles import ensure_roles
from tests.eventually import eventually

#: For a machine that is busy with other things.
WITHIN_S = 60.0
WAITING = """
    SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query LIKE %s AND wait_event_type = 'Lock'
"""
OURS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s"
CUT_ALL = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@pytest.fixture
def at() -> Callable[[str, str], None]:
    """Return what brings an empty database to a revision."""

    def bring(url: str, revision: str) -> None:
        config = migration._alembic()
        engine = create_engine(sqlalchemy_url(url))
        with engine.connect() as connection:
            ensure_roles(connection, None)
            connection.commit()
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
        engine.dispose()

    return bring


@pytest.fixture
def session(empty_database_url: str) -> Iterator[psycopg.Connection]:
    """Someone who looks on, each statement by itself; at the end all others' connections are cut."""
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        yield connection
        connection.execute(CUT_ALL)


@pytest.fixture
def migrating(empty_database_url: str) -> Callable[[], threading.Thread]:
    """Return what starts a migration beside the test."""

    def start() -> threading.Thread:
        thread = threading.Thread(target=migration.migrate, args=[empty_database_url], daemon=True)
        thread.start()
        return thread

    return start


def _ends(*threads: threading.Thread) -> bool:
    for thread in threads:
        thread.join(WITHIN_S)
    return not any(thread.is_alive() for thread in threads)


def test_two_migrations_at_once_build_an_index_on_a_table_in_use_and_stop_nobody(
    at: Callable[[str, str], None],
    empty_database_url: str,
    session: psycopg.Connection,
    migrating: Callable[[], threading.Thread],
) -> None:
    """The second one waits for the first, which waits for whoever has a snapshot: not for each other."""
    at(empty_database_url, "0011")
    # As a try leaves it that broke off.
    session.execute("CREATE INDEX events_pending ON events (key)")
    with psycopg.connect(empty_database_url) as writer:
        writer.execute("LOCK TABLE events IN ROW EXCLUSIVE MODE")
        first = migrating()
        eventually(lambda: session.execute(WAITING, ["%INDEX CONCURRENTLY%"]).fetchone(), WITHIN_S)
        second = migrating()
        eventually(lambda: session.execute(OURS, [migration.APPLICATION]).fetchone() == (4,), WITHIN_S)
        with session.transaction():
            session.execute("SET LOCAL lock_timeout = '20s'")
            session.execute("LOCK TABLE events IN ROW EXCLUSIVE MODE")
        writer.commit()
        assert _ends(first, second)
    found = session.execute(
        "SELECT indisvalid, pg_get_expr(indpred, indrelid) LIKE '%tried_at IS NULL%' FROM pg_index"
        " WHERE indexrelid = 'events_pending'::regclass"
    ).fetchone()
    assert found == (True, True)
    assert migration.current_revision(empty_database_url) == migration.head_revision()


def test_a_migration_behind_a_dump_lets_readers_through_and_goes_on_after_it(
    at: Callable[[str, str], None],
    empty_database_url: str,
    session: psycopg.Connection,
    migrating: Callable[[], threading.Thread],
) -> None:
    at(empty_database_url, "0010")
    with psycopg.connect(empty_database_url) as dump:
        dump.execute("LOCK TABLE notifications IN ACCESS SHARE MODE")
        thread = migrating()
        eventually(lambda: session.execute(WAITING, ["ALTER POLICY%"]).fetchone(), WITHIN_S)
        session.execute("SET statement_timeout = '30s'")
        assert session.execute("SELECT count(*) FROM notifications").fetchone() == (0,)
        dump.commit()
        assert _ends(thread)
    assert migration.current_revision(empty_database_url) == migration.head_revision()


def test_a_migration_that_waited_in_vain_says_for_whom(
    at: Callable[[str, str], None], empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(empty_database_url, "0010")
    monkeypatch.setattr(migration, "PATIENCE_S", 1.0)
    with psycopg.connect(empty_database_url, application_name="pg_dump") as dump:
        dump.execute("LOCK TABLE notifications IN ACCESS SHARE MODE")
        with pytest.raises(StartError, match=r"\(the oldest: pg_dump, process \d+, for \d+ s; a dump\?\)"):
            migration.migrate(empty_database_url)
        assert migration.current_revision(empty_database_url) == "0010"


def test_a_migration_says_that_another_is_still_running(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "PATIENCE_S", 0.5)
    with psycopg.connect(empty_database_url) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [migration.MIGRATION_LOCK])
        with pytest.raises(StartError, match="Another migration of this database is still running"):
            migration.migrate(empty_database_url)
