"""Jobs and explanations where a tenant has a database of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import orjson
import psycopg
import pytest

import beat_schedule
from shared import databases, homes
from shared.databases import working_in
from shared.directory import Recipient
from shared.plans import run_plan
from tests import directory
from tests.directory import Row, count
from tests.producers import bearer, envelope, make_key, post
from workers import counters, failed_logins, retention, sweep
from workers.fan_out import fan_out_pending
from workers.forward import forward_pending

NORTH = "uni-north"
ISSUED = {"student_id": "ada", "certificate_id": "c1", "badge_title": "Rust"}
Database = psycopg.Connection[Row]

TASKS: dict[str, Callable[[], None]] = {
    beat_schedule.SWEEP_TASK: sweep.sweep_task,
    beat_schedule.FAILED_LOGINS_TASK: failed_logins.failed_logins_task,
    beat_schedule.CAP_TASK: retention.cap_task,
    beat_schedule.CAP_TYPES_TASK: retention.cap_types_task,
    beat_schedule.EXPIRE_TASK: retention.expire_task,
    beat_schedule.PURGE_TASK: retention.purge_task,
    beat_schedule.FORGET_TASK: retention.forget_task,
    beat_schedule.TIDY_TASK: retention.tidy_task,
    beat_schedule.COUNTERS_TASK: counters.audit_task,
}


@pytest.fixture
def north_url(new_database: Callable[[], str]) -> str:
    return new_database()


@pytest.fixture
def settings_env(settings_env: dict[str, str], north_url: str) -> dict[str, str]:
    own = {"CARILLON_TENANT_DATABASES": orjson.dumps({NORTH: north_url}).decode(), "CARILLON_INBOX_CAP": "2"}
    return {**settings_env, **own}


@pytest.fixture
def north(db: Database, north_url: str) -> Iterator[Database]:
    """The university's own database, with Ada in it; its admin is in the shared one."""
    run_plan(homes.make_tenant(NORTH, "test"))
    run_plan(homes.put_recipient(Recipient(NORTH, "ada", ("student",))))
    run_plan(homes.put_recipient(Recipient(NORTH, "dean", ("university_admin",))))
    with directory.connect(north_url) as session:
        yield session


def work() -> None:
    for name in (*databases.names(), *databases.names()):
        with working_in(name):
            fan_out_pending()
            forward_pending()


async def explained(api: httpx.AsyncClient, key: str, who: str) -> Any:
    query = {"source": "/tests", "tenant": NORTH}
    answer = await api.get(f"/api/events/e1/recipients/{who}", params=query, headers=bearer(key))
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_every_job_works_in_every_database_and_tells_of_it_there(db: Database, north: Database) -> None:
    for _ in range(4):
        directory.add_event(north, "certificate.issued", ISSUED, tenant=NORTH)
    work()
    for task in TASKS.values():
        task()
    for session in (db, north):
        ran = {row["job"]: row["complete"] for row in session.execute("SELECT job, complete FROM job_runs")}
        assert ran == dict.fromkeys(TASKS, True)
    assert count(north, "notifications WHERE deleted_for = 'capped'") == 2
    assert count(db, "notifications WHERE deleted_for = 'capped'") == 2


async def test_an_event_is_explained_for_people_of_either_database(
    db: Database, north: Database, api: httpx.AsyncClient
) -> None:
    key = make_key([NORTH])
    event = envelope("e1", tenant=NORTH, type="certificate.issued", data=ISSUED)
    assert (await post(api, key, event)).status_code == 202
    with working_in(NORTH):
        fan_out_pending()
    assert [(await explained(api, key, who))["outcome"] for who in ("ada", "dean")] == ["published", "waiting"]
    work()
    told = await explained(api, key, "dean")
    assert (told["outcome"], told["rule"]["name"]) == ("published", "university_admin")
