"""The cap, expiry, tombstones and old events, run in this process on a real database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread

import orjson
import pytest
import redis

from shared.frames import channel_of
from tests import directory
from tests.directory import count
from tests.eventually import eventually
from tests.statements import recorded
from tests.upkeep import CAP, COMPLETED, ISSUED, Database, fill, shown
from workers import jobs, retention
from workers.fan_out import fan_out_pending
from workers.retention import cap, expire, forget, purge


@pytest.fixture
def settings_env(settings_env: dict[str, str]) -> dict[str, str]:
    return {**settings_env, "CARILLON_INBOX_CAP": str(CAP)}


@pytest.fixture
def ada(db: Database) -> int:
    return directory.add_recipients(db, "acme", ["ada"])["ada"]


def counters(db: Database, key: int) -> tuple[int, ...]:
    row = directory.inbox(db, key)
    return row["seq"], row["created"], row["unread"], row["unseen"], row["total"]


def test_the_last_created_are_kept_and_what_one_run_takes_is_one_change(
    db: Database, ada: int, configured: dict[str, str]
) -> None:
    fill(db, 8)
    with redis.Redis.from_url(configured["CARILLON_REDIS_URL"]) as client, client.pubsub() as heard:
        heard.subscribe(channel_of("acme", "ada"))
        assert heard.get_message(timeout=5)
        assert cap()
        message = heard.get_message(timeout=5)
    assert message is not None
    told = orjson.loads(message["data"].split(b"data: ")[1])
    gone = [str(row["id"]) for row in directory.notifications(db, ada)[:3]]
    assert message["data"].startswith(b"id: 1-9\n")
    assert (told["prev"], told["reason"], told["notificationIds"], told["unreadCount"]) == (
        8,
        "capped",
        sorted(gone),
        5,
    )
    assert shown(db, ada) == [4, 5, 6, 7, 8]
    assert counters(db, ada) == (9, 8, 5, 5, 5)


def test_deleted_ones_count_towards_the_cap(db: Database, ada: int) -> None:
    fill(db, 7)
    db.execute("UPDATE notifications SET deleted_at = now(), seq = 8 WHERE ordinal = 7")
    db.execute("UPDATE inboxes SET seq = 8, unread = 6, unseen = 6, total = 6")
    assert cap()
    assert shown(db, ada) == [3, 4, 5, 6]
    assert counters(db, ada) == (9, 7, 4, 4, 4)


def test_a_surplus_that_its_owner_deleted_is_no_change(db: Database, ada: int) -> None:
    fill(db, 6)
    db.execute("UPDATE notifications SET deleted_at = now(), seq = 7 WHERE ordinal = 1")
    db.execute("UPDATE inboxes SET seq = 7, unread = 5, unseen = 5, total = 5")
    assert cap()
    assert counters(db, ada) == (7, 6, 5, 5, 5)
    assert directory.inbox(db, ada)["capped"] == 1


def test_an_inbox_within_its_cap_is_left_alone_also_the_second_time(db: Database, ada: int) -> None:
    fill(db, 6)
    for _ in range(2):
        assert cap()
    assert counters(db, ada) == (7, 6, 5, 5, 5)


def test_many_inboxes_are_capped_each_with_one_change(db: Database) -> None:
    keys = directory.add_recipients(db, "acme", [f"p{number}" for number in range(40)])
    for _ in range(CAP + 1):
        call = {"title": "t", "message": "m", "audience": {"everyone": True}}
        directory.add_event(db, "system.announcement", call)
    fan_out_pending()
    assert cap()
    assert {counters(db, key) for key in keys.values()} == {(7, 6, 5, 5, 5)}


def test_what_has_expired_goes_and_what_lasts_stays(db: Database) -> None:
    dean = directory.add_recipients(db, "acme", ["dean"], roles=["university_admin"])["dean"]
    directory.add_event(db, "batch_job.completed", COMPLETED)
    directory.add_event(db, "batch_job.completed", COMPLETED)
    directory.add_event(db, "certificate.issued", ISSUED)
    fan_out_pending()
    assert expire()
    assert counters(db, dean) == (3, 3, 3, 3, 3)
    db.execute("UPDATE notifications SET expires_at = now() - interval '1 s' WHERE ordinal <= 2 AND expires_at > now()")
    assert expire()
    assert shown(db, dean) == [3]
    assert counters(db, dean) == (4, 3, 1, 1, 1)
    assert {row["seq"] for row in directory.notifications(db, dean)[:2]} == {4}


@contextmanager
def held_meanwhile(db: Database, job: Callable[[], bool]) -> Iterator[Database]:
    """Hold Ada's inbox, start the job, and give the holder's session once the job waits. It ends after the commit."""
    running = Thread(target=job)
    waiting = "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with directory.connect(db.info.dsn + f" password={db.info.password}") as other:
        with other.transaction():
            other.execute("SELECT 1 FROM inboxes WHERE recipient = 'ada' FOR UPDATE")
            running.start()
            eventually(lambda: count(db, waiting) == 1)
            yield other
        running.join(30)
    assert not running.is_alive()


def test_what_its_owner_deletes_while_the_expiry_waits_is_deleted_once(db: Database, ada: int) -> None:
    """Fails when what was found without a lock is not looked at again under it: counters would go down twice."""
    fill(db, 2)
    db.execute("UPDATE notifications SET expires_at = now() - interval '1 s' WHERE ordinal = 1")
    with held_meanwhile(db, expire) as owner:
        owner.execute("UPDATE notifications SET deleted_at = now(), seq = 3 WHERE ordinal = 1")
        owner.execute("UPDATE inboxes SET seq = 3, unread = 1, unseen = 1, total = 1 WHERE recipient = 'ada'")
    assert counters(db, ada) == (3, 2, 1, 1, 1)
    assert [row["seq"] for row in directory.notifications(db, ada)] == [3, 2]


def test_what_a_second_cap_finds_while_the_first_runs_is_deleted_once(db: Database, ada: int) -> None:
    fill(db, CAP + 1)
    with held_meanwhile(db, cap) as first:
        first.execute("UPDATE notifications SET deleted_at = now(), seq = 7 WHERE ordinal = 1")
        first.execute("UPDATE inboxes SET capped = 1, seq = 7, unread = 5, unseen = 5, total = 5")
    assert counters(db, ada) == (7, CAP + 1, CAP, CAP, CAP)


def test_tombstones_older_than_a_week_go_and_raise_the_floor(db: Database, ada: int) -> None:
    fill(db, 7)
    cap()
    db.execute("UPDATE notifications SET deleted_at = now() - interval '8 days' WHERE ordinal = 1")
    assert purge()
    assert [row["ordinal"] for row in directory.notifications(db, ada)] == [2, 3, 4, 5, 6, 7]
    assert directory.inbox(db, ada)["floor_seq"] == 8
    assert counters(db, ada) == (8, 7, 5, 5, 5)


def test_a_tombstone_of_an_unfinished_event_is_kept_so_that_it_does_not_come_back(db: Database, ada: int) -> None:
    fill(db, 6)
    cap()
    db.execute("UPDATE notifications SET deleted_at = now() - interval '8 days' WHERE ordinal = 1")
    db.execute("UPDATE events SET state = 'fanning_out'")
    assert purge()
    assert len(directory.notifications(db, ada)) == 6
    db.execute("UPDATE events SET state = 'done'")
    assert purge()
    assert len(directory.notifications(db, ada)) == 5


def test_an_inbox_keeps_five_hundred_tombstones_at_most(db: Database, ada: int) -> None:
    fill(db, 510)
    assert cap()
    assert purge()
    rows = directory.notifications(db, ada)
    assert (len(rows), rows[0]["ordinal"], len(shown(db, ada))) == (500, 11, CAP)
    assert directory.inbox(db, ada)["floor_seq"] == 511


@pytest.fixture
def a_batch_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a job's time be over after its first batch, of one inbox or one event."""
    monkeypatch.setattr(retention, "in_batches", lambda batch: not batch())
    monkeypatch.setattr(retention, "INBOXES_PAGE", 1)
    monkeypatch.setattr(retention, "EVENTS_PAGE", 1)
    monkeypatch.setattr(retention, "TOMBSTONES_KEPT", CAP)


@pytest.mark.usefixtures("a_batch_a_run")
def test_a_purge_that_has_no_time_left_goes_on_where_it_was_and_then_from_the_beginning(db: Database, ada: int) -> None:
    bob = directory.add_recipients(db, "acme", ["bob"])["bob"]
    fill(db, 8)
    for _ in range(8):
        directory.add_event(db, "certificate.issued", {**ISSUED, "student_id": "bob"})
    fan_out_pending()
    db.execute("UPDATE notifications SET deleted_at = now(), deleted_for = 'user' WHERE ordinal <= 3")
    kept, done = [], []
    for _ in range(6):
        done.append(purge())
        kept.append([len(directory.notifications(db, key)) for key in (ada, bob)])
    assert kept == [[5, 8], [5, 5], [5, 5], [5, 5], [5, 5], [5, 5]]
    assert done == [False, False, True, False, False, True]


@pytest.mark.usefixtures("a_batch_a_run")
def test_what_must_stay_of_an_inbox_does_not_keep_the_purge_from_what_is_behind_it(
    db: Database, ada: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rows are read at once: what stays is passed, within a run, instead of being read for each that goes."""
    monkeypatch.setattr(jobs, "FIRST_BATCH", 2)
    monkeypatch.setattr(jobs, "next_batch", lambda _size, _took: 2)
    monkeypatch.setattr(retention, "in_batches", jobs.in_batches)
    fill(db, CAP + 6)
    db.execute("UPDATE notifications SET deleted_at = now(), deleted_for = 'user' WHERE ordinal IN (4, 6)")
    with recorded() as told:
        assert purge()
    assert [row["ordinal"] for row in directory.notifications(db, ada)] == [1, 2, 3, 5, 7, 8, 9, 10, 11]
    assert (told.count("SELECT n.* FROM"), told.count("WITH purged AS")) == (4, 2)


@pytest.mark.usefixtures("a_batch_a_run")
def test_a_purge_that_is_cut_off_within_an_inbox_goes_on_there_and_comes_to_those_behind_it(
    db: Database, ada: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when each run begins the inbox anew: more that must stay than a run has time for is never passed then."""
    monkeypatch.setattr(jobs, "FIRST_BATCH", 2)
    monkeypatch.setattr(jobs, "next_batch", lambda _size, _took: 2)
    bob = directory.add_recipients(db, "acme", ["bob"])["bob"]
    fill(db, CAP + 5)
    for _ in range(CAP + 1):
        directory.add_event(db, "certificate.issued", {**ISSUED, "student_id": "bob"})
    fan_out_pending()
    db.execute("UPDATE notifications SET deleted_at = now(), deleted_for = 'user' WHERE ordinal IN (1, 5)")
    gone = []
    for _ in range(5):
        purge()
        gone.append([[row["ordinal"] for row in directory.notifications(db, key)][:4] for key in (ada, bob)])
    begun, amid, done = [2, 3, 4, 5], [2, 3, 4, 6], [1, 2, 3, 4]
    assert gone == [[begun, done], [begun, done], [amid, done], [amid, [2, 3, 4, 5]], [amid, [2, 3, 4, 5]]]


@pytest.mark.usefixtures("a_batch_a_run")
def test_events_that_must_be_kept_do_not_keep_the_forgetting_from_those_behind_them(db: Database, ada: int) -> None:
    """Fails when each run begins with the first event: what has no time left after it is never looked at."""
    fill(db, 3)
    old = "accepted_at = accepted_at - interval '31 days', finished_at = finished_at - interval '31 days'"
    db.execute(f"UPDATE events SET {old} WHERE key <= 2".encode())
    first, second, _third = directory.notifications(db, ada)
    for key, row in ((1, first), (2, second)):
        moved = db.execute("SELECT accepted_at FROM events WHERE key = %s", (key,)).fetchone()
        assert moved is not None
        _place_at(db, row["id"], moved["accepted_at"])
    db.execute("UPDATE notifications SET deleted_at = now(), deleted_for = 'user' WHERE ordinal = 2")
    assert [forget() for _ in range(3)] == [False, False, True]
    assert [row["key"] for row in db.execute("SELECT key FROM events ORDER BY key").fetchall()] == [1, 3]
    assert not forget()


def test_finished_events_are_forgotten_when_no_inbox_shows_them_any_more(db: Database, ada: int) -> None:
    fill(db, 3)
    old = "accepted_at = accepted_at - interval '31 days', finished_at = finished_at - interval '31 days'"
    db.execute(f"UPDATE events SET {old} WHERE key <= 2".encode())
    first, second, _third = directory.notifications(db, ada)
    moved = db.execute("SELECT accepted_at FROM events WHERE key = 2").fetchone()
    assert moved is not None
    _place_at(db, second["id"], moved["accepted_at"])
    assert forget()
    assert [row["key"] for row in db.execute("SELECT key FROM events ORDER BY key").fetchall()] == [2, 3]
    assert first["event_key"] == 1


def test_a_finished_event_is_remembered_for_its_whole_retention(db: Database) -> None:
    """Pins the time for which posting again is safe: an event that is forgotten would be accepted a second time."""
    directory.add_tenant(db, "acme")
    directory.add_event(db, "certificate.issued", ISSUED)
    fan_out_pending()
    older = "UPDATE events SET accepted_at = accepted_at - {0}, finished_at = finished_at - {0}"
    for age, left in (("interval '29 days 23 hours'", 1), ("interval '2 hours'", 0)):
        db.execute(older.format(age).encode())
        assert forget()
        assert count(db, "events") == left


def _place_at(db: Database, id: object, moment: object) -> None:
    """Give a notification the id that its event's new time would have given it."""
    db.execute(
        "UPDATE notifications"
        " SET id = (lpad(to_hex(floor(extract(epoch FROM %s::timestamptz) * 1000)::bigint), 12, '0')"
        " || substr(replace(id::text, '-', ''), 13))::uuid WHERE id = %s",
        (moment, id),
    )


def test_pending_events_are_never_forgotten(db: Database) -> None:
    directory.add_tenant(db, "acme")
    directory.add_event(db, "certificate.issued", ISSUED)
    db.execute("UPDATE events SET accepted_at = accepted_at - interval '90 days'")
    assert forget()
    assert db.execute("SELECT count(*) AS many FROM events").fetchone() == {"many": 1}
