"""The fan-out of small audiences, run in this process on a real database."""

from __future__ import annotations

from threading import Barrier, Thread
from unittest.mock import patch

import orjson
import psycopg
import pytest
import redis

from shared import db as database
from shared.databases import SHARED
from shared.frames import channel_of
from shared.notification_id import notification_id, notification_id_sql, time_prefix
from shared.settings import settings
from shared.wake import wake_flag
from tests import directory
from tests.directory import Row, count
from tests.statements import recorded
from workers import fan_out
from workers.fan_out import fan_out_pending

ISSUED = {"student_id": "ada", "certificate_id": "c1", "badge_title": "Rust"}
THREAD = {"repository": "acme/app", "thread": "acme/app#1", "thread_name": "acme/app#1", "thread_kind": "issue"}
BATCH = ["WITH claimed AS", "SELECT t.event, t.place,", "SELECT d.epoch, i.key,", "WITH written AS"]
COUNT = ["UPDATE events e", "commit"]


def ended(db: psycopg.Connection[Row], event: int) -> tuple[str, int, int]:
    row = directory.event(db, event)
    return row["state"], row["recipients"], row["notifications"]


def test_an_event_for_one_person_becomes_one_notification_with_the_catalogs_words(db: psycopg.Connection[Row]) -> None:
    keys = directory.add_recipients(db, "acme", ["ada", "bob"])
    event = directory.add_event(db, "certificate.issued", ISSUED)
    fan_out_pending()
    (told,) = directory.notifications(db, keys["ada"])
    assert (told["title"], told["action_url"], told["ordinal"], told["created_seq"], told["seq"]) == (
        "Certificate Issued",
        "/student/certificates/c1",
        1,
        1,
        1,
    )
    assert told["metadata"] == {"certificateId": "c1", "badgeTitle": "Rust"}
    assert directory.notifications(db, keys["bob"]) == []
    assert ended(db, event) == ("done", 1, 1)
    directory.assert_numbered_without_gaps(db)


def test_the_id_is_the_same_in_python_and_in_sql(db: psycopg.Connection[Row]) -> None:
    prefix = time_prefix(directory.event(db, directory.add_event(db, "x.y", {}, tenant="platform"))["accepted_at"])
    for event, inbox in ((1, 1), (7, 123_456_789_012), (2**63 - 1, 2**63 - 1)):
        sql = notification_id_sql("%s::text", "%s::bigint", "%s::bigint")
        row = db.execute(f"SELECT {sql} AS id".encode(), (prefix, event, inbox)).fetchone()
        assert row == {"id": notification_id(prefix, event, inbox)}


def test_a_batch_is_one_transaction_of_four_statements_and_a_count(db: psycopg.Connection[Row]) -> None:
    directory.add_recipients(db, "acme", [f"s{number}" for number in range(10)])
    for number in range(100):
        directory.add_event(db, "certificate.issued", {**ISSUED, "student_id": f"s{number % 10}"})
    with recorded() as told:
        fan_out_pending()
    assert told == [*BATCH, "commit", *COUNT]
    assert db.execute("SELECT count(*) AS many FROM events WHERE state = 'done' AND published = 1").fetchone() == {
        "many": 100
    }
    directory.assert_numbered_without_gaps(db)


def test_a_thousand_events_are_five_transactions_and_one_count_in_one_task(
    db: psycopg.Connection[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction for each batch's count would be as costly as the batch's own."""
    monkeypatch.setattr(fan_out, "COUNTS_S", 600.0)
    sent: list[tuple[str, ...]] = []

    def send(*told: str) -> bool:
        sent.append(told)
        return True

    monkeypatch.setattr(fan_out, "send", send)
    directory.add_recipients(db, "acme", [f"s{number}" for number in range(100)])
    for number in range(1_000):
        directory.add_event(db, "certificate.issued", {**ISSUED, "student_id": f"s{number % 100}"})
    with recorded() as told:
        fan_out_pending()
    assert told == [*5 * [*BATCH, "commit"], BATCH[0], "commit", *COUNT]
    assert sent == []
    assert db.execute("SELECT sum(published) AS published FROM events").fetchone() == {"published": 1_000}


def test_a_person_whom_several_targets_match_is_told_once_in_the_words_of_the_first(
    db: psycopg.Connection[Row],
) -> None:
    keys = directory.add_recipients(db, "acme", ["ada", "dean"], roles=["university_admin"])
    event = directory.add_event(db, "certificate.issued", ISSUED)
    fan_out_pending()
    told = {name: [row["title"] for row in directory.notifications(db, key)] for name, key in keys.items()}
    assert told["ada"] == ["Certificate Issued"]
    assert len(told["dean"]) == 1
    assert (
        directory.notifications(db, keys["dean"])[0]["message"]
        != directory.notifications(db, keys["ada"])[0]["message"]
    )
    assert ended(db, event) == ("done", 2, 2)


def test_own_roles_are_the_tenants_and_super_admins_the_platforms(db: psycopg.Connection[Row]) -> None:
    dean = directory.add_recipients(db, "acme", ["dean"], roles=["university_admin"])["dean"]
    other = directory.add_recipients(db, "other", ["dean"], roles=["university_admin"])["dean"]
    root = directory.add_recipients(db, "platform", ["root"], roles=["super_admin"])["root"]
    event = directory.add_event(db, "university.approved", {"university_id": "acme", "university_name": "Acme"})
    fan_out_pending()
    assert [len(directory.notifications(db, key)) for key in (dean, other, root)] == [1, 0, 1]
    assert directory.notifications(db, root)[0]["tenant"] == "platform"
    assert ended(db, event) == ("done", 2, 2)


def test_followers_are_told_and_the_actor_is_not(db: psycopg.Connection[Row]) -> None:
    keys = directory.add_recipients(db, "acme", ["ada", "bob", "cleo"], topics=["ticket:t1"])
    data = {"ticket_id": "t1", "ticket_title": "Printer", "comment_id": "c1", "excerpt": "On fire", "actor_id": "bob"}
    event = directory.add_event(db, "comment.added", data)
    fan_out_pending()
    assert [len(directory.notifications(db, keys[name])) for name in ("ada", "bob", "cleo")] == [1, 0, 1]
    assert ended(db, event) == ("done", 2, 2)


def test_a_named_stranger_is_registered_where_the_producer_may_and_skipped_otherwise(
    db: psycopg.Connection[Row],
) -> None:
    directory.add_tenant(db, "acme")
    skipped = directory.add_event(db, "certificate.issued", ISSUED)
    fan_out_pending()
    assert ended(db, skipped) == ("done", 0, 0)
    registered = directory.add_event(db, "certificate.issued", ISSUED, registers=True)
    fan_out_pending()
    assert ended(db, registered) == ("done", 1, 1)
    assert db.execute("SELECT tenant, id FROM recipients").fetchall() == [{"tenant": "acme", "id": "ada"}]
    assert db.execute("SELECT count(*) AS roles FROM recipient_roles").fetchone() == {"roles": 0}
    directory.assert_numbered_without_gaps(db)


def test_a_removed_recipient_who_is_registered_again_goes_on_with_the_old_numbers(db: psycopg.Connection[Row]) -> None:
    key = directory.add_recipients(db, "acme", ["ada"])["ada"]
    directory.add_event(db, "certificate.issued", ISSUED)
    fan_out_pending()
    db.execute("DELETE FROM recipients")
    directory.add_event(db, "certificate.issued", ISSUED, registers=True)
    fan_out_pending()
    assert [row["created_seq"] for row in directory.notifications(db, key)] == [1, 2]


def test_an_event_that_is_counted_only_ends_without_recipients(db: psycopg.Connection[Row]) -> None:
    directory.add_recipients(db, "acme", ["ada"], roles=["university_admin"])
    event = directory.add_event(db, "auth.login_failed", {"account_id": "ada"})
    fan_out_pending()
    assert ended(db, event) == ("done", 0, 0)


def test_an_event_published_by_sql_is_checked_and_hashed_when_it_is_claimed(db: psycopg.Connection[Row]) -> None:
    directory.add_recipients(db, "acme", ["ada"])
    envelope = {"specversion": "1.0", "source": "/sql", "tenant": "acme", "type": "certificate.issued"}
    wrong = {**ISSUED, "badge_title": 7}
    for id, data in (("good", ISSUED), ("wrong", wrong)):
        told = orjson.dumps({**envelope, "id": id, "data": data}).decode()
        db.execute("SELECT carillon_publish(%s::jsonb)", (told,))
    told = orjson.dumps({**envelope, "id": "unknown", "type": "no.such", "data": {}}).decode()
    db.execute("SELECT carillon_publish(%s::jsonb)", (told,))
    fan_out_pending()
    rows = db.execute("SELECT id, state, error, content_hash IS NULL AS bare FROM events ORDER BY key").fetchall()
    assert [(row["id"], row["state"], row["bare"]) for row in rows] == [
        ("good", "done", False),
        ("wrong", "failed", True),
        ("unknown", "failed", True),
    ]
    assert "data.badge_title must be a string" in rows[1]["error"]
    assert "type is not an event type" in rows[2]["error"]


def test_a_batch_stops_at_a_chunks_worth_of_inboxes_and_leaves_the_rest_for_the_next(
    settings_env: dict[str, str], request: pytest.FixtureRequest
) -> None:
    settings_env["CARILLON_CHUNK_SIZE"] = "10"
    db: psycopg.Connection[Row] = request.getfixturevalue("db")
    directory.add_recipients(db, "acme", [f"p{number}" for number in range(8)], roles=["sales_manager"])
    for number in range(3):
        directory.add_event(db, "lead.created", {"lead_id": str(number), "lead_name": "Lead"})
    with recorded() as told:
        fan_out_pending()
    assert told.count(BATCH[3]) == 3
    assert db.execute("SELECT DISTINCT state, notifications FROM events").fetchall() == [
        {"state": "done", "notifications": 8}
    ]
    directory.assert_numbered_without_gaps(db)


def test_a_backlog_beyond_a_chunks_worth_is_halved_until_it_fits(
    settings_env: dict[str, str], request: pytest.FixtureRequest
) -> None:
    """Pins the number of questions: left out one by one, events of a backlog took 40 for each batch and never ended."""
    settings_env["CARILLON_CHUNK_SIZE"] = "60"
    db: psycopg.Connection[Row] = request.getfixturevalue("db")
    directory.add_recipients(db, "acme", [f"s{number}" for number in range(200)])
    for number in range(200):
        directory.add_event(db, "certificate.issued", {**ISSUED, "student_id": f"s{number * 7 % 200}"})
    # The planner knows the sizes now, and answers by a hash join: in no order.
    db.execute("ANALYZE")
    with recorded() as told:
        fan_out_pending()
    assert count(db, "events WHERE state = 'done'") == 200
    assert told.count(BATCH[1]) <= 3 * told.count(BATCH[3])


def test_eight_fan_outs_of_the_same_inboxes_in_opposite_orders_number_them_without_gaps_or_deadlocks(
    settings_env: dict[str, str], request: pytest.FixtureRequest
) -> None:
    """Fails with deadlocks when inboxes are locked in the order in which events name them, not by key (I3)."""
    settings_env["CARILLON_CLAIM_BATCH"] = "3"
    db: psycopg.Connection[Row] = request.getfixturevalue("db")
    people = [f"p{number:02}" for number in range(20)]
    keys = directory.add_recipients(db, "acme", people)
    for number in range(120):
        named = people if number % 2 else people[::-1]
        directory.add_event(db, "github.mentioned", {**THREAD, "actor_id": "x", "mentioned_ids": named})
    original = database._engine_options
    with patch.object(database, "_engine_options", lambda lane, _size: original(lane, 8)):
        together(8)
    deadlocks = db.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").fetchone()
    # A deadlock shows in its count, which may come late, or in the events of its victim.
    ended = db.execute("SELECT DISTINCT state, attempts, notifications FROM events").fetchall()
    assert (deadlocks, ended) == ({"deadlocks": 0}, [{"state": "done", "attempts": 0, "notifications": 20}])
    assert all(directory.inbox(db, key)["seq"] == 120 for key in keys.values())
    directory.assert_numbered_without_gaps(db)


def together(many: int) -> None:
    start = Barrier(many)

    def work() -> None:
        start.wait()
        fan_out_pending()

    threads = [Thread(target=work) for _ in range(many)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_the_same_task_twice_at_once_tells_everything_once(db: psycopg.Connection[Row]) -> None:
    key = directory.add_recipients(db, "acme", ["ada"])["ada"]
    for _ in range(300):
        directory.add_event(db, "certificate.issued", ISSUED)
    together(2)
    assert directory.inbox(db, key)["seq"] == 300
    assert len(directory.notifications(db, key)) == 300
    directory.assert_numbered_without_gaps(db)


def test_frames_are_published_in_the_order_of_their_numbers_after_the_commit(
    db: psycopg.Connection[Row], configured: dict[str, str]
) -> None:
    directory.add_recipients(db, "acme", ["ada"])
    for number in range(3):
        directory.add_event(db, "certificate.issued", {**ISSUED, "certificate_id": f"c{number}"})
    with redis.Redis.from_url(configured["CARILLON_REDIS_URL"]) as client, client.pubsub() as heard:
        heard.subscribe(channel_of("acme", "ada"))
        assert heard.get_message(timeout=5)
        fan_out_pending()
        frames = [heard.get_message(timeout=5) for _ in range(3)]
    told = [orjson.loads(frame["data"].split(b"data: ")[1]) for frame in frames if frame]
    assert [(one["prev"], one["unreadCount"], one["notification"]["seq"]) for one in told] == [
        (0, 1, 1),
        (1, 2, 2),
        (2, 3, 3),
    ]
    assert [one["notification"]["metadata"]["certificateId"] for one in told] == ["c0", "c1", "c2"]


def test_with_redis_away_everything_is_stored_and_nothing_counts_as_published(
    settings_env: dict[str, str], request: pytest.FixtureRequest
) -> None:
    settings_env["CARILLON_REDIS_URL"] = "redis://127.0.0.1:1/0"
    db: psycopg.Connection[Row] = request.getfixturevalue("db")
    directory.add_recipients(db, "acme", ["ada"])
    event = directory.add_event(db, "certificate.issued", ISSUED)
    fan_out_pending()
    row = directory.event(db, event)
    assert (row["state"], row["notifications"], row["published"]) == ("done", 1, 0)


def test_the_wake_flag_is_cleared_before_the_claim(db: psycopg.Connection[Row], configured: dict[str, str]) -> None:
    """Pins that an event committed during a claim gets a wake-up of its own: cleared afterwards, it would be lost."""
    seen: list[bytes | None] = []

    def look(*_: object) -> bool:
        seen.append(client.get(wake_flag(SHARED)))
        return False

    with redis.Redis.from_url(configured["CARILLON_REDIS_URL"]) as client:
        client.set(wake_flag(SHARED), 1)
        with patch("workers.fan_out.run_batch", look):
            fan_out_pending()
    assert seen == [None]


def test_settings_bound_how_many_events_one_claim_takes(
    settings_env: dict[str, str], request: pytest.FixtureRequest
) -> None:
    settings_env["CARILLON_CLAIM_BATCH"] = "4"
    db: psycopg.Connection[Row] = request.getfixturevalue("db")
    directory.add_recipients(db, "acme", ["ada"])
    for _ in range(10):
        directory.add_event(db, "certificate.issued", ISSUED)
    with recorded() as told:
        fan_out_pending()
    assert settings().claim_batch == 4
    assert told.count(BATCH[3]) == 3
