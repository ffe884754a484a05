"""What the product does for a pooler of transactions, seen at a PostgreSQL without one (tests/deploy has PgBouncer)."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import text

from shared import db, migration
from shared.roles import WORKER, Scope, begin
from tests.producers import TENANT

ODD = "it's a \\ back"


@pytest.fixture
def settings_env(settings_env: dict[str, str]) -> dict[str, str]:
    return {**settings_env, "CARILLON_DATABASE_POOLED": "true"}


@pytest.fixture
def session(database_url: str) -> Iterator[psycopg.Connection]:
    """A session of PostgreSQL's own settings, as a pooler would hand it out."""
    with psycopg.connect(database_url, autocommit=True) as made:
        yield made


def test_a_transaction_runs_within_its_bounds(configured: dict[str, str]) -> None:
    names = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout", "jit", "TimeZone")
    with db.transaction(TENANT) as connection:
        told = [connection.scalar(text("SELECT current_setting(:name)"), {"name": name}) for name in names]
    assert told == ["2s", "30s", "5s", "off", "UTC"]


def test_nothing_of_a_transaction_stays_in_its_session(session: psycopg.Connection) -> None:
    asked = "SELECT current_setting('lock_timeout'), current_setting('role'), current_setting('app.tenants', true)"
    session.execute(begin(WORKER, Scope((TENANT,)), db.bounds_of("worker")).encode(), prepare=False)
    assert session.execute(asked).fetchone() == ("2s", WORKER, f'{{"{TENANT}"}}')
    session.execute("COMMIT")
    assert session.execute(asked).fetchone() == ("0", "none", "")


def test_no_statement_is_prepared_however_often_it_is_asked(configured: dict[str, str]) -> None:
    for number in range(20):
        with db.transaction("*") as connection:
            assert connection.scalar(text("SELECT CAST(:number AS int)"), {"number": number}) == number
            assert connection.scalar(text("SELECT count(*) FROM pg_prepared_statements")) == 0


@pytest.mark.parametrize("standard", ["on", "off"])
def test_a_scope_means_the_same_in_every_session(session: psycopg.Connection, standard: str) -> None:
    """A pooler may hand out one in which a backslash is an escape in every literal."""
    session.execute(f"SET standard_conforming_strings = {standard}".encode())
    session.execute(begin(WORKER, Scope((ODD, TENANT))).encode(), prepare=False)
    told = session.execute("SELECT current_setting('app.tenants')::text[]").fetchone()
    session.execute("ROLLBACK")
    assert told == ([ODD, TENANT],)


def test_migrations_at_the_same_time_wait_for_each_other_and_leave_no_lock(
    database_url: str, session: psycopg.Connection
) -> None:
    at_once = [threading.Thread(target=migration.migrate, args=(database_url,)) for _ in range(3)]
    for each in at_once:
        each.start()
    for each in at_once:
        each.join()
    here = "(SELECT oid FROM pg_database WHERE datname = current_database())"
    left = session.execute(f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = {here}".encode())
    assert left.fetchone() == (0,)


def test_a_newer_releases_database_is_left_as_it_is(empty_database_url: str) -> None:
    migration.migrate(empty_database_url)
    with psycopg.connect(empty_database_url, autocommit=True) as session:
        session.execute("UPDATE alembic_version SET version_num = '9999'")
    migration.migrate(empty_database_url)
    assert migration.current_revision(empty_database_url) == "9999"
