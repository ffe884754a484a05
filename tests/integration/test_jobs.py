"""What every periodic job does alike: leases, what it tells of itself, and two at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Barrier, Thread
from typing import Any
from uuid import UUID

import orjson
import pytest
import redis
from sqlalchemy import TextClause, text

import beat_schedule
from shared import db as database
from shared import deletions
from tests import directory
from tests.directory import count
from tests.eventually import eventually
from tests.servers import Beat, Worker
from tests.upkeep import CAP, CAPS, ISSUED, Database, fill, job, shown
from workers import retention
from workers.counters import audit
from workers.deletions import LEASE, WAITING, one_job_at_a_time
from workers.fan_out import fan_out_pending
from workers.jobs import Run, in_batches, next_batch, perform
from workers.presence import clear_places
from workers.retention import cap, cap_types, expire, forget, purge, tidy
from workers.sweep import sweep


@pytest.fixture
def settings_env(settings_env: dict[str, str]) -> dict[str, str]:
    return {**settings_env, **CAPS}


@pytest.fixture
def ada(db: Database) -> int:
    return directory.add_recipients(db, "acme", ["ada"])["ada"]


# --- leases and reports ---


def lease(db: Database, task: str, seconds: int) -> None:
    db.execute(
        "INSERT INTO job_runs (job, holder, leased_until) VALUES (%s, 'other', now() + make_interval(secs => %s))",
        (task, seconds),
    )


JOBS: dict[str, Callable[[], object]] = {
    beat_schedule.CAP_TASK: cap,
    beat_schedule.CAP_TYPES_TASK: cap_types,
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


def test_a_job_with_more_to_do_goes_on_after_those_that_waited_for_it(
    redis_data: redis.Redis, configured: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when it queues itself first: in a lane of two the other one finds it at work again, each time."""

    def work() -> bool:
        with one_job_at_a_time(beat_schedule.CAP_TASK) as other:
            assert not other
        return False

    monkeypatch.setattr(retention, "cap_types", work)
    retention.cap_types_task()
    with redis.Redis.from_url(configured["CARILLON_BROKER_URL"]) as broker:
        waiting: list[bytes] = broker.lrange("carillon.maintenance", 0, -1)
    tasks = [orjson.loads(message)["headers"]["task"] for message in reversed(waiting)]
    assert tasks == [beat_schedule.CAP_TASK, beat_schedule.CAP_TYPES_TASK]


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


@pytest.fixture
def two_beats(worker: Worker, settings_env: dict[str, str], tmp_path: Path) -> Iterator[None]:
    """Both send every job each second."""
    beats = [Beat(settings_env, tmp_path / f"beat-{number}.log", hasty=True) for number in range(2)]
    try:
        for beat in beats:
            beat.start()
        yield
    finally:
        for beat in beats:
            beat.kill()


@pytest.mark.usefixtures("two_beats")
def test_two_beats_keep_everything_within_bounds_once(db: Database, ada: int) -> None:
    """What both beats' jobs find is done once, and each inbox has one change for each run's part."""
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
