"""The product behind PgBouncer in transaction mode: no session is its own, and nothing is left in one."""

from __future__ import annotations

import psycopg
import pytest
from sqlalchemy import text

from api import listen
from shared import databases, db, migration
from shared.settings import settings
from tests.deploy.servers import PgBouncer
from tests.deploy.whole_way import WITHIN_S, WholeWay
from tests.eventually import eventually_async
from tests.producers import TENANT

BOUNDS = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout", "TimeZone", "app.tenants", "role")


@pytest.fixture
def settings_env(settings_env: dict[str, str], pgbouncer: PgBouncer) -> dict[str, str]:
    direct = settings_env["CARILLON_DATABASE_URL"]
    return {
        **settings_env,
        "CARILLON_DATABASE_URL": pgbouncer.url(direct),
        "CARILLON_DATABASE_OWNER_URL": direct,
        "CARILLON_DATABASE_POOLED": "true",
        "CARILLON_LISTEN_DATABASES": f'{{"shared": "{direct}"}}',
    }


async def test_the_whole_way_goes_through_few_sessions_that_nobody_keeps(way: WholeWay) -> None:
    async with way.listening() as streams:
        await way.require_told(streams, rounds=5)


def test_every_transaction_has_its_bounds_and_leaves_none(configured: dict[str, str]) -> None:
    with db.transaction(TENANT) as connection:
        told = [connection.scalar(text("SELECT current_setting(:name)"), {"name": name}) for name in BOUNDS]
    assert told == ["2s", "30s", "5s", "UTC", f'{{"{TENANT}"}}', "carillon_worker"]
    url = configured["CARILLON_DATABASE_URL"]
    for _ in range(2 * PgBouncer.pool_size):
        with psycopg.connect(url, prepare_threshold=None) as session:
            left = session.execute("SELECT current_setting('lock_timeout'), current_setting('role')").fetchone()
            tenants = session.execute("SELECT coalesce(current_setting('app.tenants', true), '')").fetchone()
        assert (left, tenants) == (("0", "none"), ("",))


def test_statements_asked_again_and_again_are_never_prepared(configured: dict[str, str]) -> None:
    """Beyond the fifth time the driver would prepare them, in a session that the next one is not."""
    for number in range(30):
        with db.transaction("*") as connection:
            assert connection.scalar(text("SELECT CAST(:number AS int)"), {"number": number}) == number
            assert connection.scalar(text("SELECT count(*) FROM pg_prepared_statements")) == 0


def test_migrations_through_the_pooler_leave_no_lock(configured: dict[str, str]) -> None:
    url = configured["CARILLON_DATABASE_URL"]
    for _ in range(2):
        migration.migrate(url)
    with psycopg.connect(configured["CARILLON_DATABASE_OWNER_URL"]) as session:
        assert session.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() == (0,)


async def test_what_is_committed_by_sql_is_heard_past_the_pooler(way: WholeWay) -> None:
    assert listen.addresses().keys() == {databases.SHARED}
    assert settings().database_pooled
    url = way.environment["CARILLON_DATABASE_OWNER_URL"]

    async def listened() -> bool:
        with psycopg.connect(url) as session:
            row = session.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'carillon-listen'"
                " AND datname = current_database()"
            ).fetchone()
        return row == (2,)

    await eventually_async(listened, WITHIN_S)
