"""Counting failed logins, run in this process on a real database with a clock of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Barrier, Thread
from unittest.mock import patch

import httpx
import psycopg
import pytest

from shared import db as database
from shared import failed_logins
from shared.cloudevent import RESERVED_SOURCE
from tests import directory
from tests.directory import Row
from tests.failed_logins import TENANT, admins, fail, moment, settle, told, windows
from tests.producers import envelope, errors_of, post
from tests.statements import recorded
from workers.failed_logins import count_some, run
from workers.fan_out import fan_out_pending, run_alone
from workers.retention import forget


def made(db: psycopg.Connection[Row]) -> list[str]:
    """Return the ids of the events that the counting made."""
    rows = db.execute("SELECT id FROM events WHERE source = %s ORDER BY id", (RESERVED_SOURCE,)).fetchall()
    return [row["id"] for row in rows]


def test_two_are_counted_and_the_third_is_told_once_to_the_admins_concerned(db: psycopg.Connection[Row]) -> None:
    keys = admins(db)
    fail(db, 0, ip="198.51.100.7")
    fail(db, 3)
    settle(3)
    assert (made(db), windows(db)) == ([], [])
    fail(db, 4.5)
    for _ in range(2):
        settle(4.5)
    assert made(db) == ["ada:2026-03-01T09:00:00Z"]
    assert {name: len(told(db, key)) for name, key in keys.items()} == {"root": 1, "dean": 1, "rival": 0, "ada": 0}
    (row,) = directory.notifications(db, keys["dean"])
    assert (row["type"], row["title"], row["message"], row["action_url"]) == (
        "security.login_failed",
        "Repeated Failed Logins",
        "3 failed logins for the account ada between 2026-03-01 09:00 UTC and 2026-03-01 09:04 UTC, from 2 addresses,"
        " last from 203.0.113.9.",
        "/university/security/accounts/ada",
    )
    assert row["metadata"] == {
        "accountId": "ada",
        "failures": 3,
        "windowStart": "2026-03-01T09:00:00Z",
        "firstFailure": "2026-03-01T09:00:00Z",
        "lastFailure": "2026-03-01T09:04:30Z",
        "ip": "203.0.113.9",
        "addresses": ["203.0.113.9", "198.51.100.7"],
        "addressCount": 2,
    }
    assert "in acme" in directory.notifications(db, keys["root"])[0]["message"]
    directory.assert_numbered_without_gaps(db)


def test_the_event_that_is_made_is_one_like_every_other(db: psycopg.Connection[Row]) -> None:
    admins(db)
    fail(db, 0, 1, 2)
    settle(2)
    row = db.execute("SELECT * FROM events WHERE source = %s", (RESERVED_SOURCE,)).fetchone()
    assert row is not None
    names = ("tenant", "type", "subject", "time", "state", "recipients", "notifications")
    assert [row[name] for name in names] == [
        TENANT, "security.login_failed", "ada", "2026-03-01T09:02:00Z", "done", 2, 2]  # fmt: skip
    assert row["data"]["failures"] == 3


@pytest.mark.parametrize(
    ("order", "start"),
    [((0, 1, 2, 3), "00"), ((3, 2, 1, 0), "01"), ((2, 0, 3, 1), "00"), ((1, 3, 0, 2), "00")],
)
def test_late_ones_are_counted_in_the_same_window_and_ring_no_second_time(
    db: psycopg.Connection[Row], order: tuple[int, ...], start: str
) -> None:
    keys = admins(db)
    for minute in order:
        fail(db, minute, accepted=4)
        settle(4)
    settle(6)
    assert made(db) == [f"ada:2026-03-01T09:{start}:00Z"]
    assert [(each["failures"], each["firstFailure"]) for each in told(db, keys["root"])] == [
        (4, "2026-03-01T09:00:00Z")
    ]


def test_a_time_that_the_door_cannot_believe_is_taken_as_five_minutes_off(db: psycopg.Connection[Row]) -> None:
    fail(db, -600, accepted=30)
    fail(db, 600, accepted=30)
    fail(db, 31)
    settle(31)
    assert windows(db) == [(TENANT, "ada", 25, 3)]
    (row,) = db.execute("SELECT first_at, last_at FROM failed_login_windows").fetchall()
    assert (row["first_at"], row["last_at"]) == (moment(25), moment(35))


def test_accounts_of_one_name_in_two_tenants_are_two(db: psycopg.Connection[Row]) -> None:
    fail(db, 0, 1)
    fail(db, 0, 1, tenant="other")
    settle(2)
    assert windows(db) == []
    fail(db, 2, tenant="other")
    settle(2)
    assert windows(db) == [("other", "ada", 0, 3)]


def test_each_window_is_an_event_of_its_own(db: psycopg.Connection[Row]) -> None:
    keys = admins(db)
    fail(db, 0, 1, 2, 14.99, 15, 16, 17)
    settle(17)
    assert windows(db) == [(TENANT, "ada", 0, 4), (TENANT, "ada", 15, 3)]
    assert [each["failures"] for each in told(db, keys["dean"])] == [4, 3]


def test_failures_too_far_apart_are_forgotten_without_a_word(db: psycopg.Connection[Row]) -> None:
    fail(db, 0, 14, 28, 42)
    settle(42)
    assert (windows(db), directory.count(db, "failed_logins")) == ([], 4)
    assert run(moment(42 + 15 + 60))
    assert directory.count(db, "failed_logins") == 4
    assert run(moment(42 + 15 + 60.1))
    assert directory.count(db, "failed_logins") == 0


def test_workers_that_were_away_for_hours_lose_nothing(db: psycopg.Connection[Row]) -> None:
    """Pins that what is kept ages from when it was counted, not from when it happened."""
    keys = admins(db)
    fail(db, 0, 1)
    settle(300)
    fail(db, 2, accepted=2)
    settle(301)
    assert [each["failures"] for each in told(db, keys["root"])] == [3]


def test_an_event_that_is_delivered_again_is_counted_once(db: psycopg.Connection[Row]) -> None:
    (first, *_) = fail(db, 0, 1)
    fan_out_pending()
    db.execute("UPDATE events SET state = 'accepted', tried_at = clock_timestamp() WHERE key = %s", (first,))
    run_alone(first)
    settle(2)
    assert (windows(db), directory.count(db, "failed_logins")) == ([], 2)
    fail(db, 2)
    settle(2)
    settle(2)
    assert windows(db) == [(TENANT, "ada", 0, 3)]


async def test_a_producers_repetition_is_a_duplicate_and_counts_once(
    api: httpx.AsyncClient, key: str, db: psycopg.Connection[Row]
) -> None:
    failure = envelope("f1", type="auth.login_failed", data={"account_id": "ada"})
    answers = [(await post(api, key, failure)).json()["events"][0]["status"] for _ in range(3)]
    fan_out_pending()
    assert run()
    assert answers == ["accepted", "duplicate", "duplicate"]
    assert (windows(db), directory.count(db, "failed_logins")) == ([], 1)


async def test_nobody_else_may_take_the_ids_of_the_events_that_are_made(api: httpx.AsyncClient, key: str) -> None:
    answer = await post(api, key, envelope(source=RESERVED_SOURCE))
    assert (answer.status_code, errors_of(answer)) == (422, [("source", "is reserved")])


def test_a_failure_that_was_cancelled_before_is_not_counted(db: psycopg.Connection[Row]) -> None:
    fail(db, 0, 1, 2)
    fan_out_pending()
    db.execute("UPDATE events SET state = 'cancelling' WHERE key = (SELECT min(key) FROM events)")
    settle(2)
    assert (windows(db), directory.count(db, "failed_logins")) == ([], 2)


class TestSettings:
    """The threshold and the window are the operator's."""

    @pytest.fixture
    def settings_env(self, settings_env: dict[str, str]) -> dict[str, str]:
        return {
            **settings_env,
            "CARILLON_FAILED_LOGIN_THRESHOLD": "2",
            "CARILLON_FAILED_LOGIN_WINDOW_MINUTES": "1",
        }

    def test_fewer_within_a_shorter_time(self, db: psycopg.Connection[Row]) -> None:
        fail(db, 0, 1, 5, 5.5)
        settle(6)
        assert windows(db) == [(TENANT, "ada", 5, 2)]


def test_the_fan_out_of_failures_costs_one_statement_a_batch_and_locks_no_inbox(db: psycopg.Connection[Row]) -> None:
    admins(db)
    fail(db, *range(100))
    with recorded() as statements:
        fan_out_pending()
    assert statements == ["WITH claimed AS", "WITH written AS", "INSERT INTO failed_logins", "commit"]


@contextmanager
def killed_before_commit(statement: str) -> Iterator[None]:
    """Let the worker die right after this statement of the module: its transaction never ends."""
    name = f"shared.failed_logins.{statement}"
    with patch(name, side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        yield


def test_a_worker_killed_before_its_commit_has_neither_ended_nor_staged_an_event(db: psycopg.Connection[Row]) -> None:
    fail(db, 0, 1, 2)
    with killed_before_commit("stage"):
        fan_out_pending()
    assert directory.count(db, "events WHERE state = 'accepted'") == 3
    settle(2)
    assert windows(db) == [(TENANT, "ada", 0, 3)]


@pytest.mark.parametrize("statement", ["unstage", "make_events", "open_windows"])
def test_a_worker_killed_while_it_counts_has_counted_nothing_and_the_next_one_counts_all(
    db: psycopg.Connection[Row], statement: str
) -> None:
    keys = admins(db)
    fail(db, 0, 1, 2)
    fan_out_pending()
    with killed_before_commit(statement):
        run(moment(2))
    assert (windows(db), made(db), directory.count(db, "failed_logins")) == ([], [], 3)
    settle(2)
    assert (windows(db), directory.count(db, "failed_logins")) == ([(TENANT, "ada", 0, 3)], 0)
    assert [each["failures"] for each in told(db, keys["root"])] == [3]


def test_a_worker_killed_after_its_commit_leaves_an_event_that_is_pending(db: psycopg.Connection[Row]) -> None:
    """Its wake-up is lost; the sweeper finds a pending event within two seconds (test_sweep.py)."""
    keys = admins(db)
    fail(db, 0, 1, 2)
    fan_out_pending()
    with patch("workers.failed_logins.wake", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        run(moment(2))
    assert directory.count(db, "events WHERE state = 'accepted'") == 1
    settle(2)
    assert [each["failures"] for each in told(db, keys["root"])] == [3]


def test_only_one_run_at_a_time_counts_and_a_second_one_leaves_it_the_work(db: psycopg.Connection[Row]) -> None:
    fail(db, 0, 1, 2)
    fan_out_pending()
    with database.transaction() as holder:
        assert holder.execute(failed_logins.take_turn(), {"now": None}).one()
        assert not count_some(moment(2))
        assert run(moment(2))
    assert windows(db) == []
    assert run(moment(2))
    assert windows(db) == [(TENANT, "ada", 0, 3)]


def test_four_runs_at_once_count_everything_exactly_once(db: psycopg.Connection[Row]) -> None:
    for account in range(20):
        fail(db, *(minute / 2 for minute in range(25)), account=f"a{account}")
    fan_out_pending()
    barrier = Barrier(4)

    def work() -> None:
        barrier.wait()
        for _ in range(40):
            count_some(moment(15))

    with patch("workers.failed_logins.BATCH", 17):
        threads = [Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert run(moment(15))
    assert sorted(windows(db)) == sorted((TENANT, f"a{account}", 0, 25) for account in range(20))
    assert len(made(db)) == 20


def test_a_window_is_forgotten_with_its_event(db: psycopg.Connection[Row]) -> None:
    fail(db, 0, 1, 2)
    settle(2)
    old = "now() - interval '31 days'"
    db.execute(f"UPDATE events SET accepted_at = {old}, finished_at = {old}".encode())
    assert forget()
    assert (windows(db), directory.count(db, "events")) == ([], 0)


@pytest.mark.parametrize(
    ("type", "reached"),
    [
        ("security.account_locked", {"root", "dean"}),
        ("security.new_device", {"dean", "ada"}),
    ],
)
def test_what_is_known_of_an_account_is_told_by_its_own_event(
    db: psycopg.Connection[Row], type: str, reached: set[str]
) -> None:
    keys = admins(db)
    event = directory.add_event(db, type, {"account_id": "ada", "ip": "203.0.113.9", "device": "Firefox on Linux"})
    fan_out_pending()
    assert {name for name, key in keys.items() if directory.notifications(db, key)} == reached
    assert directory.event(db, event)["notifications"] == 2
    assert timedelta(days=90) == next(
        row["expires_at"] - row["created_at"] for row in directory.notifications(db, keys["dean"])
    )
