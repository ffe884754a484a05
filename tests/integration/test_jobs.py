"""What every periodic job does alike: leases, the clock that it goes by, what it tells of itself, and two at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier, Thread
from types import MappingProxyType
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
import redis
from sqlalchemy import TextClause, text
from structlog.testing import capture_logs

import beat_schedule
from shared import catalog as catalogs
from shared import db as database
from shared import deletions
from shared.catalog import Catalog
from shared.tokens import make_token
from tests import directory
from tests.directory import Row, count
from tests.eventually import eventually
from tests.servers import Beat, Worker
from workers import retention
from workers.counters import audit
from workers.deletions import LEASE, WAITING, one_job_at_a_time
from workers.fan_out import fan_out_pending
from workers.jobs import Run, in_batches, next_batch, perform
from workers.presence import DEAD, EDGES, clear_places
from workers.retention import cap, expire, forget, purge, tidy
from workers.sweep import sweep

CAP = 5
ISSUED = {"student_id": "ada", "certificate_id": "c1", "badge_title": "Rust"}
COMPLETED = {"job_id": "j1", "job_name": "Import", "total": 3, "succeeded": 3}
Database = psycopg.Connection[Row]


@pytest.fixture
def settings_env(settings_env: dict[str, str]) -> dict[str, str]:
    return {**settings_env, "CARILLON_INBOX_CAP": str(CAP), "CARILLON_TENANT_INBOX_CAPS": '{"bolt": 2, "core": 7}'}


@pytest.fixture
def ada(db: Database) -> int:
    return directory.add_recipients(db, "acme", ["ada"])["ada"]


@pytest.fixture
def redis_data(configured: dict[str, str]) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(configured["CARILLON_REDIS_URL"]) as client:
        yield client


def fill(db: Database, many: int, tenant: str = "acme") -> None:
    for _ in range(many):
        directory.add_event(db, "certificate.issued", ISSUED, tenant=tenant)
    fan_out_pending()


def shown(db: Database, key: int) -> list[int]:
    return [row["ordinal"] for row in directory.notifications(db, key) if row["deleted_at"] is None]


def job(db: Database, task: str) -> Row:
    row = db.execute("SELECT * FROM job_runs WHERE job = %s", (task,)).fetchone()
    assert row is not None
    return row


# --- leases and reports ---


def lease(db: Database, task: str, seconds: int) -> None:
    db.execute(
        "INSERT INTO job_runs (job, holder, leased_until) VALUES (%s, 'other', now() + make_interval(secs => %s))",
        (task, seconds),
    )


JOBS: dict[str, Callable[[], object]] = {
    beat_schedule.CAP_TASK: cap,
    beat_schedule.EXPIRE_TASK: expire,
    beat_schedule.PURGE_TASK: purge,
    beat_schedule.FORGET_TASK: forget,
    beat_schedule.TIDY_TASK: tidy,
    beat_schedule.COUNTERS_TASK: audit,
    beat_schedule.PRESENCE_TASK: clear_places,
    beat_schedule.SWEEP_TASK: sweep,
}


@pytest.mark.parametrize("task", JOBS)
def test_a_job_whose_lease_another_run_holds_leaves_it_the_work(db: Database, task: str, configured: object) -> None:
    lease(db, task, 60)
    JOBS[task]()
    assert (job(db, task)["holder"], job(db, task)["runs"]) == ("other", 0)


@pytest.mark.parametrize("task", JOBS)
def test_a_lease_of_a_killed_run_ends_and_the_next_run_tells_what_it_did(
    db: Database, task: str, configured: object
) -> None:
    lease(db, task, -1)
    JOBS[task]()
    told = job(db, task)
    assert (told["holder"], told["leased_until"]) == (None, None)
    assert (told["runs"], told["failures"], told["complete"], told["error"]) == (1, 0, True, None)


def test_a_job_counts_what_its_runs_did(db: Database, ada: int) -> None:
    fill(db, CAP + 3)
    for _ in range(2):
        assert cap()
    told = job(db, beat_schedule.CAP_TASK)
    assert (told["runs"], told["done"], told["last_done"]) == (2, 3, 0)
    assert told["last_started_at"] <= told["last_finished_at"]


def test_a_job_that_fails_tells_the_kind_of_its_failure_and_gives_its_lease_back(db: Database, ada: int) -> None:
    def work(run: Run) -> bool:
        with run.transaction():
            run.done += 1
        raise KeyError("a payload that nobody may see")

    with pytest.raises(KeyError):
        perform("carillon.broken", work)
    told = job(db, "carillon.broken")
    assert (told["error"], told["failures"], told["complete"], told["holder"]) == ("KeyError", 1, False, None)


def test_a_job_that_ran_out_of_time_says_that_it_goes_on(db: Database, ada: int) -> None:
    assert not perform("carillon.long", lambda run: in_batches(lambda: True, seconds=0.01))
    assert job(db, "carillon.long")["complete"] is False


def test_a_job_that_came_while_another_worked_is_queued_when_that_one_ends(
    redis_data: redis.Redis, configured: dict[str, str]
) -> None:
    """Fails when it is dropped: beat sends the cap and the expiry in the same moment, and one would always be it."""
    with one_job_at_a_time(beat_schedule.CAP_TASK) as first:
        with one_job_at_a_time(beat_schedule.EXPIRE_TASK) as second:
            assert (first, second) == (True, False)
        assert redis_data.smembers(WAITING) == {beat_schedule.EXPIRE_TASK.encode()}
    assert redis_data.exists(WAITING, LEASE) == 0
    with redis.Redis.from_url(configured["CARILLON_BROKER_URL"]) as broker:
        waiting: list[bytes] = broker.lrange("carillon.maintenance", 0, -1)
    assert [beat_schedule.EXPIRE_TASK.encode() in message for message in waiting] == [True]


@pytest.mark.parametrize(
    ("size", "took_s", "following"),
    [
        (1_000, 0.3, 500),
        (150, 9.0, 100),
        (1_000, 0.125, 800),
        (1_000, 0.1, 1_000),
        (400, 0.0, 800),
        (900, 0.01, 1_000),
    ],
)
def test_a_batch_that_took_long_makes_the_next_one_smaller(size: int, took_s: float, following: int) -> None:
    assert next_batch(size, took_s) == following


def test_no_deleting_statement_reads_the_whole_table(db: Database, configured: object) -> None:
    """Fails when an id is cast in the condition: under row-level security it is then no index's."""
    given = {
        "keys": [1],
        "ids": [],
        "cap": 1,
        "tenants": [],
        "caps": [],
        "types": [],
        "most": 1,
        "now": None,
        "reason": "x",
    }
    statements = (deletions.delete_these(), deletions.cap_these(), deletions.cap_types_of_these())
    with database.transaction(database.EVERY_TENANT) as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        for statement in statements:
            names = {name: given[name] for name in statement.compile().params}
            plan = "\n".join(connection.scalars(text("EXPLAIN " + statement.text), names))
            assert "Index Cond: (id = u" in plan, plan
        names = {"keys": [1], "lows": [str(UUID(int=0))], "highs": [str(UUID(int=1))]}
        plan = "\n".join(connection.scalars(text("EXPLAIN " + deletions.forget_these().text), names))
        assert "SubPlan" in plan
        assert "notifications_pkey" in plan


_MANY = """
    INSERT INTO notifications
        (id, key, tenant, event_key, ordinal, created_seq, seq, type, priority, title, message, metadata, created_at)
    SELECT gen_random_uuid(), %s, 'acme', n, n, n, n, 'grade.posted', 1, '', '', '{}', now()
    FROM generate_series(1, 2000) n"""


def test_no_purging_statement_reads_all_tombstones(db: Database, ada: int) -> None:
    """Fails when a condition implies that of their index, which statistics from before they came call empty."""
    db.execute(_MANY, (ada,))
    db.execute("UPDATE inboxes SET created = 2000")
    db.execute("ANALYZE notifications")
    db.execute("UPDATE notifications SET deleted_at = now(), deleted_for = 'user'")
    ids = [row["id"] for row in db.execute("SELECT id FROM notifications LIMIT 100").fetchall()]
    page = {"after": 0, "up_to": ada, "partly": 0, "ordinal": 0, "limit": 100}
    some = {"keep": 1_900, "tenants": [], "caps": [], **page}
    expected: dict[TextClause, tuple[dict[str, Any], str]] = {
        deletions.purge_these(): ({"ids": ids}, "(id = ANY"),
        deletions.beyond_kept(): (some, "Index Cond: ((key = i.key) AND (ordinal <="),
    }
    with database.transaction(database.EVERY_TENANT) as connection:
        for statement, (given, condition) in expected.items():
            plan = "\n".join(connection.scalars(text("EXPLAIN " + statement.text), given))
            assert condition in plan, plan
            assert "notifications_tombstones" not in plan


# --- the clock ---


def test_what_a_type_lets_live_for_so_long_is_there_until_then_and_gone_after(db: Database) -> None:
    dean = directory.add_recipients(db, "acme", ["dean"], roles=["university_admin"])["dean"]
    directory.add_event(db, "batch_job.completed", COMPLETED)
    fan_out_pending()
    (row,) = directory.notifications(db, dean)
    lives = catalogs.catalog().types["batch_job.completed"].time_to_live
    assert lives is not None
    assert row["expires_at"] - row["created_at"] == lives
    assert expire(row["expires_at"] - timedelta(seconds=1))
    assert shown(db, dean) == [1]
    end = row["expires_at"] + timedelta(seconds=1)
    assert expire(end)
    (gone,) = directory.notifications(db, dean)
    assert (gone["deleted_at"], gone["deleted_for"], gone["title"]) == (end, "expired", "")
    _purged_after_a_week(db, dean, end)
    _forgotten_after_its_retention(db)


def _purged_after_a_week(db: Database, key: int, deleted_at: datetime) -> None:
    assert purge(deleted_at + timedelta(days=7))
    assert len(directory.notifications(db, key)) == 1
    assert purge(deleted_at + timedelta(days=7, seconds=1))
    assert directory.notifications(db, key) == []
    assert directory.inbox(db, key)["floor_seq"] == directory.inbox(db, key)["seq"] == 2


def _forgotten_after_its_retention(db: Database) -> None:
    row = db.execute("SELECT finished_at FROM events").fetchone()
    assert row is not None
    assert forget(row["finished_at"] + timedelta(days=30))
    assert count(db, "events") == 1
    assert forget(row["finished_at"] + timedelta(days=30, seconds=1))
    assert count(db, "events") == 0


# --- caps of tenants and types ---


def test_a_tenant_may_have_a_cap_of_its_own(db: Database, ada: int) -> None:
    bolt = directory.add_recipients(db, "bolt", ["ada"])["ada"]
    core = directory.add_recipients(db, "core", ["ada"])["ada"]
    for tenant in ("acme", "bolt", "core"):
        fill(db, 8, tenant)
    assert cap()
    assert [shown(db, key) for key in (ada, bolt, core)] == [[4, 5, 6, 7, 8], [7, 8], [2, 3, 4, 5, 6, 7, 8]]
    assert [directory.inbox(db, key)["seq"] for key in (ada, bolt, core)] == [9, 9, 9]


@pytest.fixture
def two_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an inbox show two certificates and no more."""
    types = catalogs.catalog().types
    capped = {**types, "certificate.issued": replace(types["certificate.issued"], cap=2)}
    monkeypatch.setattr(retention, "catalog", lambda: Catalog(MappingProxyType(capped)))


@pytest.mark.usefixtures("two_certificates")
def test_a_type_may_have_a_cap_of_its_own_and_others_stay(db: Database, ada: int) -> None:
    grade = {"student_id": "ada", "course_id": "c1", "course_title": "Algebra", "grade": "A"}
    directory.add_event(db, "grade.posted", grade)
    fill(db, 3)
    db.execute("UPDATE notifications SET read_at = now(), seen_at = now() WHERE ordinal = 2")
    db.execute("UPDATE inboxes SET unread = 3, unseen = 3")
    assert cap()
    assert shown(db, ada) == [1, 3, 4]
    told = directory.inbox(db, ada)
    assert (told["seq"], told["unread"], told["unseen"], told["total"], told["type_capped"]) == (5, 3, 3, 3, 4)
    assert directory.notifications(db, ada)[1]["deleted_for"] == "capped"
    assert cap()
    assert directory.inbox(db, ada)["seq"] == 5


@pytest.mark.usefixtures("two_certificates")
def test_an_inbox_with_more_of_a_type_than_one_change_may_take_is_looked_at_again(
    db: Database, ada: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "CAPPED_AT_ONCE", 2)
    fill(db, CAP)
    assert cap()
    assert (shown(db, ada), directory.inbox(db, ada)["type_capped"]) == ([3, 4, 5], 0)
    assert cap()
    assert (shown(db, ada), directory.inbox(db, ada)["type_capped"]) == ([4, 5], 5)


# --- the audit ---


@pytest.fixture
def drifted(db: Database, ada: int) -> int:
    """Ada's inbox, whose counters are not what its three rows say."""
    fill(db, 3)
    db.execute("UPDATE notifications SET read_at = now(), seen_at = now() WHERE ordinal = 1")
    db.execute("UPDATE inboxes SET unread = 7, unseen = 1, total = 4")
    return ada


def counters(db: Database, key: int) -> tuple[int, ...]:
    row = directory.inbox(db, key)
    return row["seq"], row["unread"], row["unseen"], row["total"]


def test_counters_that_drifted_are_put_right_and_said_so(db: Database, drifted: int) -> None:
    with capture_logs() as logs:
        assert audit()
        assert audit()
    assert counters(db, drifted) == (4, 2, 2, 3)
    told = [{name: each[name] for name in ("inbox", "unread", "unseen", "total")} for each in logs
            if each["event"] == "counters.drift"]  # fmt: skip
    assert told == [{"inbox": drifted, "unread": 5, "unseen": -1, "total": 1}]
    assert (job(db, beat_schedule.COUNTERS_TASK)["faults"], job(db, beat_schedule.COUNTERS_TASK)["done"]) == (1, 2)


async def test_whoever_follows_hears_of_the_counters_that_were_put_right(
    db: Database, drifted: int, api: httpx.AsyncClient
) -> None:
    audit()
    headers = {"authorization": f"Bearer {make_token('acme', 'ada')}"}
    answer = await api.get("/api/notifications/changes", params={"since": "1-3"}, headers=headers)
    told = answer.json()
    assert (told["cursor"], told["unreadCount"], told["unseenCount"], told["reset"]) == ("1-4", 2, 2, False)


def test_the_audit_goes_through_all_inboxes_in_turn(
    db: Database, configured: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.counters.SAMPLE", 2)
    keys = sorted(directory.add_recipients(db, "acme", ["a", "b", "c"]).values())
    positions = []
    for _ in range(3):
        assert audit()
        positions.append(job(db, beat_schedule.COUNTERS_TASK)["position"])
    assert positions == [keys[1], 0, keys[1]]


# --- places ---


def test_places_of_a_process_that_is_long_dead_are_freed_and_others_stay(
    redis_data: redis.Redis, configured: object
) -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
    places = "carillon:{acme/ada}:streams"
    redis_data.zadd(EDGES, {"alive": now + 1_000})
    redis_data.sadd(places, "alive/1/", "dead/1/", "dead/2/x")
    assert clear_places(now)
    assert redis_data.scard(places) == 3
    assert redis_data.smembers(DEAD) == {b"dead"}
    assert clear_places(now + 300)
    assert redis_data.smembers(places) == {b"alive/1/"}
    assert clear_places(now + 600)
    assert redis_data.exists(DEAD) == 0


def test_a_process_that_only_stood_still_keeps_its_places(redis_data: redis.Redis, configured: object) -> None:
    redis_data.sadd("carillon:{acme/ada}:streams", "still/1/")
    assert clear_places(1_000.0)
    redis_data.zadd(EDGES, {"still": 2_000.0})
    assert clear_places(1_300.0)
    assert redis_data.scard("carillon:{acme/ada}:streams") == 1


# --- two at once ---


def at_once(work: Callable[[], object]) -> None:
    """Do the work in two threads that begin together."""
    start = Barrier(2)

    def run() -> None:
        start.wait()
        work()

    threads = [Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)


def test_two_runs_at_once_delete_everything_once(db: Database, configured: object) -> None:
    people = directory.add_recipients(db, "acme", [f"p{number}" for number in range(60)])
    call = {"title": "t", "message": "m", "audience": {"everyone": True}}
    for _ in range(CAP + 3):
        directory.add_event(db, "system.announcement", call)
    fan_out_pending()
    db.execute("UPDATE notifications SET expires_at = now() - interval '1 s' WHERE ordinal = 8")
    at_once(lambda: (cap(), expire(), cap(), expire()))
    rows = [directory.inbox(db, key) for key in people.values()]
    assert {(row["seq"], row["unread"], row["unseen"], row["total"]) for row in rows} == {(10, 4, 4, 4)}
    assert job(db, beat_schedule.CAP_TASK)["done"] == 3 * 60
    assert job(db, beat_schedule.EXPIRE_TASK)["done"] == 60


def test_two_beats_keep_everything_within_bounds_once(
    db: Database, beat: Beat, worker: Worker, settings_env: dict[str, str], ada: int
) -> None:
    """Both beats send every job; what they find is done once, and each inbox has one change for each run's part."""
    second = Beat(settings_env, beat.log.with_name("second.log"))
    try:
        second.start()
        for _ in range(CAP + 3):
            directory.add_event(db, "certificate.issued", ISSUED)
        eventually(lambda: count(db, "events WHERE state = 'done'") == CAP + 3, within=60)
        eventually(lambda: shown(db, ada) == [4, 5, 6, 7, 8], within=90)
        db.execute("UPDATE notifications SET expires_at = now() - interval '1 s' WHERE ordinal = 8")
        eventually(lambda: shown(db, ada) == [4, 5, 6, 7], within=90)
        started = job(db, beat_schedule.CAP_TASK)["runs"]
        eventually(lambda: job(db, beat_schedule.CAP_TASK)["runs"] > started + 1, within=90)
        told = directory.inbox(db, ada)
        rows = directory.notifications(db, ada)
        taken = len({row["seq"] for row in rows if row["deleted_at"] is not None})
        assert (told["seq"], told["total"], told["unread"]) == (CAP + 3 + taken, 4, 4)
        assert job(db, beat_schedule.CAP_TASK)["done"] == 3
        assert job(db, beat_schedule.EXPIRE_TASK)["done"] == 1
    finally:
        second.kill()
