"""Events that cannot be fanned out: they fail, with the reason, and block nobody."""

from __future__ import annotations

import time
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any
from unittest.mock import patch

import psycopg
import pytest
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from shared import db as shared_db
from shared.catalog import targets as catalog_targets
from shared.db import LOCK_TIMEOUT_MS, STATEMENT_TIMEOUT_MS
from shared.following import trace_of
from shared.overview import retry_failed
from tests import directory
from tests.directory import Row
from tests.statements import recorded
from workers.fan_out import fan_out_pending, isolate_pending, run_alone, suspect_predecessors
from workers.patience import patience
from workers.sweep import sweep

ISSUED = {"student_id": "ada", "certificate_id": "c1", "badge_title": "Rust"}
POISON = {**ISSUED, "badge_title": "poison"}


@pytest.fixture(autouse=True)
def _not_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test's held inboxes shorten the waits of the next."""
    monkeypatch.setattr("workers.fan_out._busy_until", 0.0)


@pytest.fixture
def db(db: psycopg.Connection[Row]) -> psycopg.Connection[Row]:
    directory.add_recipients(db, "acme", ["ada"])
    return db


@pytest.fixture
def poison() -> Iterator[None]:
    """Make a bug of ours: whatever has the title "poison" raises where its audience is looked up."""

    def broken(event_type: object, tenant: str, data: dict[str, object]) -> object:
        if data["badge_title"] == "poison":
            raise RuntimeError("a bug")
        return catalog_targets(event_type, tenant, data)  # type: ignore[arg-type]

    with patch("workers.prepare.targets", broken):
        yield


def states(db: psycopg.Connection[Row]) -> list[tuple[str, int]]:
    rows = db.execute("SELECT state, attempts FROM events ORDER BY key").fetchall()
    return [(row["state"], row["attempts"]) for row in rows]


def alarms(told: Sequence[MutableMapping[str, Any]]) -> list[MutableMapping[str, Any]]:
    """Return the log's lines that tell of events given up."""
    return [line for line in told if line["event"] == "event.given_up"]


def make_due(db: psycopg.Connection[Row]) -> None:
    """Let the wait of every suspect be over."""
    db.execute("UPDATE events SET tried_at = tried_at - interval '2 min' WHERE tried_at IS NOT NULL")


@pytest.mark.usefixtures("poison")
def test_a_batch_that_fails_is_split_at_once_and_only_the_one_at_fault_waits(db: psycopg.Connection[Row]) -> None:
    for data in (ISSUED, POISON, ISSUED):
        directory.add_event(db, "certificate.issued", data)
    fan_out_pending()
    assert states(db) == [("done", 1), ("accepted", 1), ("done", 1)]
    directory.assert_numbered_without_gaps(db)


@pytest.mark.usefixtures("poison")
def test_an_event_that_waits_alone_does_not_come_back_into_batches(db: psycopg.Connection[Row]) -> None:
    directory.add_event(db, "certificate.issued", POISON)
    fan_out_pending()
    directory.add_event(db, "certificate.issued", ISSUED)
    fan_out_pending()
    assert states(db) == [("accepted", 1), ("done", 0)]


@pytest.mark.usefixtures("poison")
def test_after_five_attempts_an_event_is_failed_says_why_and_is_alarmed_once(db: psycopg.Connection[Row]) -> None:
    event = directory.add_event(db, "certificate.issued", POISON)
    with capture_logs() as told:
        fan_out_pending()
        for _ in range(4):
            make_due(db)
            run_alone(event)
    assert alarms(told) == [directory.alarm(db, event)]
    row = directory.event(db, event)
    assert (row["state"], row["attempts"], row["error"]) == (
        "failed",
        5,
        "Its fan-out failed 5 times, at last with RuntimeError.",
    )
    assert row["finished_at"] is not None


def test_a_failed_event_that_is_put_back_is_told_once_its_fault_is_gone(db: psycopg.Connection[Row]) -> None:
    event = directory.add_event(db, "certificate.issued", ISSUED)
    with patch("workers.fan_out.deliver", side_effect=RuntimeError("a bug")):
        fan_out_pending()
        for _ in range(4):
            make_due(db)
            run_alone(event)
    assert states(db) == [("failed", 5)]
    with shared_db.transaction("*") as connection:
        assert retry_failed(connection, None, None, None) == 1
    fan_out_pending()
    row = directory.event(db, event)
    assert (row["state"], row["attempts"], row["error"], row["notifications"]) == ("done", 0, None, 1)
    directory.assert_numbered_without_gaps(db)


def test_a_text_that_cannot_be_made_fails_its_event_at_once_and_alone(db: psycopg.Connection[Row]) -> None:
    good = directory.add_event(db, "certificate.issued", ISSUED)
    bad = directory.add_event(
        db,
        "system.announcement",
        {"title": "x", "message": "x", "action_url": "javascript:alert(1)", "audience": {"everyone": True}},
    )
    fan_out_pending()
    row = directory.event(db, bad)
    assert (directory.event(db, good)["state"], row["state"], row["attempts"]) == ("done", "failed", 0)
    assert row["error"].startswith("The action URL must be a path")


def test_a_killed_workers_attempts_count_and_the_last_one_fails_the_event(db: psycopg.Connection[Row]) -> None:
    """Pins that an attempt is counted by a commit of its own: a counter in the killed transaction rolls back."""
    event = directory.add_event(db, "certificate.issued", ISSUED)
    isolate_nothing_but_mark(db)
    for attempt in range(1, 6):
        make_due(db)
        with patch("workers.fan_out._deliver_one", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
            run_alone(event)
        assert states(db) == [("accepted", attempt)]
    make_due(db)
    with capture_logs() as told:
        sweep()
    assert alarms(told) == [directory.alarm(db, event)]
    row = directory.event(db, event)
    assert (row["state"], row["attempts"], row["error"]) == (
        "failed",
        5,
        "Its fan-out ended with its worker process 5 times.",
    )


def isolate_nothing_but_mark(db: psycopg.Connection[Row]) -> None:
    """Make suspects of all pending events, and try none."""
    db.execute("UPDATE events SET tried_at = clock_timestamp()")
    assert db.execute("SELECT count(*) AS many FROM events WHERE tried_at IS NULL").fetchone() == {"many": 0}


def test_a_redelivered_wake_up_tries_what_the_dead_worker_may_have_held_in_groups_of_twenty(
    db: psycopg.Connection[Row],
) -> None:
    """Pins the number of transactions: for each group one that counts its attempts, one that writes, one count."""
    for _ in range(45):
        directory.add_event(db, "certificate.issued", ISSUED)
    with recorded() as told:
        isolate_pending(time.monotonic() + 10)
    assert states(db) == [("done", 1)] * 45
    assert told.count("commit") == 3 * 4 + 1
    directory.assert_numbered_without_gaps(db)


@pytest.mark.parametrize(("timeout_ms", "attempts"), [(30_000, 0), (0, 1)], ids=["before its time", "over its time"])
def test_a_statement_that_was_cancelled_costs_an_attempt_only_where_it_was_over_its_time(
    db: psycopg.Connection[Row], monkeypatch: pytest.MonkeyPatch, timeout_ms: int, attempts: int
) -> None:
    """Pins that an event is not failed because an operator, or a failing server, cancels five statements."""
    monkeypatch.setitem(STATEMENT_TIMEOUT_MS, "worker", timeout_ms)
    event = directory.add_event(db, "certificate.issued", ISSUED)
    isolate_nothing_but_mark(db)
    cancelled = OperationalError("", {}, psycopg.errors.QueryCanceled())
    with patch("workers.fan_out._deliver_one", side_effect=cancelled):
        run_alone(event)
    assert states(db) == [("accepted", attempts)]


@pytest.mark.usefixtures("poison")
def test_a_group_that_fails_is_tried_one_by_one_and_costs_the_innocent_no_attempt(db: psycopg.Connection[Row]) -> None:
    for data in (ISSUED, POISON, ISSUED):
        directory.add_event(db, "certificate.issued", data)
    isolate_pending(time.monotonic() + 10)
    assert states(db) == [("done", 1), ("accepted", 1), ("done", 1)]


def test_a_group_that_kills_its_worker_leaves_its_events_to_the_sweeper_each_with_an_attempt(
    db: psycopg.Connection[Row],
) -> None:
    """Pins that nothing of it is pending any more: the next batch would die of it again."""
    for _ in range(3):
        directory.add_event(db, "certificate.issued", ISSUED)
    with patch("workers.fan_out.deliver", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        isolate_pending(time.monotonic() + 10)
    fan_out_pending()
    assert states(db) == [("accepted", 1)] * 3


def test_an_event_that_killed_its_group_clears_the_others_of_it_and_nobody_else(db: psycopg.Connection[Row]) -> None:
    """Pins that they do not wait to be tried one by one, behind the wake-ups, for the sake of one that is known."""
    other = directory.add_event(db, "certificate.issued", ISSUED)
    with patch("workers.fan_out.deliver", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        isolate_pending(time.monotonic() + 10)
    deadly, *_ = (directory.add_event(db, "certificate.issued", ISSUED) for _ in range(3))
    with patch("workers.fan_out.deliver", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        isolate_pending(time.monotonic() + 10)
    with patch("workers.at_work.predecessors", return_value=("shared", deadly)), capture_logs() as told:
        assert suspect_predecessors()
    line = {"event": "fan_out.died_at", "log_level": "warning", "event_key": deadly}
    assert told == [{**line, "trace_id": trace_of(directory.event(db, deadly))}]
    assert states(db) == [("accepted", 1), ("accepted", 1), ("accepted", 0), ("accepted", 0)]
    fan_out_pending()
    assert states(db) == [("accepted", 1), ("accepted", 1), ("done", 0), ("done", 0)]
    assert directory.event(db, other)["tried_at"] < directory.event(db, deadly)["tried_at"]


def test_an_attempt_that_was_asked_for_once_is_made_once_however_often_its_message_comes(
    db: psycopg.Connection[Row],
) -> None:
    """Pins the back-off: a message whose worker died comes again at once, and took the next worker with it."""
    event = directory.add_event(db, "certificate.issued", ISSUED)
    isolate_nothing_but_mark(db)
    for asked, made in ((0, 1), (0, 1), (1, 2), (0, 2), (1, 2)):
        with patch("workers.fan_out._deliver_one", side_effect=RuntimeError("a bug")):
            run_alone(event, asked)
        assert states(db) == [("accepted", made)]


def test_a_suspect_whose_work_was_committed_after_all_is_not_told_twice(db: psycopg.Connection[Row]) -> None:
    """Pins the second net of I2: an event that is done again, as after a restored state, finds its notification."""
    event = directory.add_event(db, "certificate.issued", ISSUED)
    fan_out_pending()
    db.execute("UPDATE events SET state = 'accepted', tried_at = clock_timestamp() WHERE key = %s", (event,))
    run_alone(event)
    row = directory.event(db, event)
    assert (row["state"], row["recipients"], row["notifications"]) == ("done", 1, 1)
    directory.assert_numbered_without_gaps(db)


def test_a_second_net_conflict_in_a_batch_harms_only_its_own_event(db: psycopg.Connection[Row]) -> None:
    first = directory.add_event(db, "certificate.issued", ISSUED)
    fan_out_pending()
    db.execute("UPDATE events SET state = 'accepted' WHERE key = %s", (first,))
    directory.add_event(db, "certificate.issued", ISSUED)
    fan_out_pending()
    assert states(db) == [("done", 1), ("done", 1)]
    directory.assert_numbered_without_gaps(db)


def test_an_inbox_that_somebody_holds_costs_no_attempt_and_delays_nobody_else(db: psycopg.Connection[Row]) -> None:
    """Pins that a lock's timeout is not the event's fault: it waits as a suspect, without an attempt."""
    keys = directory.add_recipients(db, "acme", ["bob"])
    held = directory.add_event(db, "certificate.issued", ISSUED)
    free = directory.add_event(db, "certificate.issued", {**ISSUED, "student_id": "bob"})
    with directory.connect(db.info.dsn + f" password={db.info.password}") as other, other.transaction():
        other.execute("SELECT 1 FROM inboxes WHERE recipient = 'ada' FOR UPDATE")
        fan_out_pending()
        assert states(db) == [("accepted", 0), ("done", 0)]
        make_due(db)
        run_alone(held)
        assert states(db) == [("accepted", 0), ("done", 0)]
    assert len(directory.notifications(db, keys["bob"])) == 1
    make_due(db)
    run_alone(held)
    assert directory.event(db, held)["state"] == "done"
    assert directory.event(db, free)["state"] == "done"


def test_inboxes_that_somebody_holds_delay_the_others_by_one_lock_timeout_however_many_they_are(
    db: psycopg.Connection[Row],
) -> None:
    """Pins that a batch goes around them, and that they come back in a batch.

    One by one each event for them waited for 2 s, and the lane with it; hundreds alone never caught up with the load.
    """
    people = directory.add_recipients(db, "acme", [f"h{number}" for number in range(10)])
    free = directory.add_recipients(db, "acme", [f"f{number}" for number in range(10)])
    for name in (*people, *free):
        directory.add_event(db, "certificate.issued", {**ISSUED, "student_id": name})
    with directory.connect(db.info.dsn + f" password={db.info.password}") as other, other.transaction():
        other.execute("SELECT 1 FROM inboxes WHERE key = ANY(%s) FOR UPDATE", [list(people.values())])
        began = time.monotonic()
        fan_out_pending()
        took = time.monotonic() - began
        assert states(db) == [("accepted", 0)] * 10 + [("done", 0)] * 10
        assert took < 2 * LOCK_TIMEOUT_MS / 1000
        # The next batch does not wait that long again.
        for name in (*people, *free):
            directory.add_event(db, "certificate.issued", {**ISSUED, "student_id": name})
        began = time.monotonic()
        fan_out_pending()
        assert time.monotonic() - began < LOCK_TIMEOUT_MS / 1000
        assert states(db)[20:] == [("accepted", 0)] * 10 + [("done", 0)] * 10
    make_due(db)
    sweep()
    with recorded() as told:
        fan_out_pending()
    assert states(db) == [("done", 0)] * 40
    assert told.count("WITH written AS") == 1
    directory.assert_numbered_without_gaps(db)


def test_a_database_that_is_away_burns_no_attempt(db: psycopg.Connection[Row]) -> None:
    directory.add_event(db, "certificate.issued", ISSUED)
    away = OperationalError("SELECT 1", {}, psycopg.errors.CannotConnectNow("it starts"))
    with patch("workers.fan_out.deliver", side_effect=away), patience("test"):
        fan_out_pending()
    row = db.execute("SELECT state, attempts, tried_at FROM events").fetchone()
    assert row == {"state": "accepted", "attempts": 0, "tried_at": None}
    fan_out_pending()
    assert states(db) == [("done", 0)]


def test_an_event_that_cuts_its_connection_is_set_aside_and_the_others_of_its_batch_are_told(
    db: psycopg.Connection[Row],
) -> None:
    """Its backend's end is no database that is away: others go on, and it waits longer and longer, never failed."""
    db.execute("""
        CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
        BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$""")
    db.execute("""
        CREATE TRIGGER cut BEFORE UPDATE ON events FOR EACH ROW
        WHEN (NEW.state = 'done' AND NEW.data ->> 'badge_title' = 'poison') EXECUTE FUNCTION cut()""")
    try:
        bad = directory.add_event(db, "certificate.issued", POISON)
        directory.add_event(db, "certificate.issued", ISSUED)
        fan_out_pending()
        assert states(db) == [("accepted", 1), ("done", 1)]
        for attempts in (2, 3, 4, 4, 4):
            make_due(db)
            run_alone(bad)
            assert states(db)[0] == ("accepted", attempts)
        directory.add_event(db, "certificate.issued", ISSUED)
        fan_out_pending()
        assert states(db) == [("accepted", 4), ("done", 1), ("done", 0)]
    finally:
        db.execute("DROP FUNCTION cut() CASCADE")
    run_alone(bad)
    assert states(db)[0] == ("done", 5)
    directory.assert_numbered_without_gaps(db)
