"""Telling a window anew while it grows: `updated`, in its place, at most once a minute, for an hour."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import orjson
import psycopg
import pytest
import redis

from shared import db as database
from shared import failed_logins
from shared.frames import channel_of
from tests import directory
from tests.directory import Row
from tests.failed_logins import TENANT, admins, fail, moment, settle, told, windows
from tests.listener import Listener, token_for
from tests.servers import ApiServer
from workers.chunks import plan, run_chunk
from workers.failed_logins import count_some, run, tell_some
from workers.fan_out import fan_out_pending
from workers.retention import purge

MARKS = ("ordinal", "created_seq", "created_at", "expires_at", "seen_at", "read_at", "archived_at", "deleted_at")


@pytest.fixture
def keys(db: psycopg.Connection[Row]) -> dict[str, int]:
    """Admins who were told of a window of three, from 9:00, at 9:02."""
    keys = admins(db)
    fail(db, 0, 1, 2)
    settle(2)
    return keys


def counters(db: psycopg.Connection[Row], key: int) -> tuple[int, ...]:
    row = directory.inbox(db, key)
    return row["seq"], row["created"], row["unread"], row["unseen"], row["total"]


def failures(db: psycopg.Connection[Row], key: int) -> list[int]:
    return [each["failures"] for each in told(db, key)]


@contextmanager
def hearing(configured: dict[str, str], tenant: str, recipient: str) -> Iterator[Callable[[], list[tuple[str, Any]]]]:
    """Listen on an inbox's channel; the result gives what came: id and data of each frame."""
    with redis.Redis.from_url(configured["CARILLON_REDIS_URL"]) as client, client.pubsub() as heard:
        heard.subscribe(channel_of(tenant, recipient))
        assert heard.get_message(timeout=5)

        def frames() -> list[tuple[str, Any]]:
            found = []
            while (message := heard.get_message(timeout=0.5)) is not None:
                head, data = message["data"].split(b"data: ")
                found.append((head.split(b"\n")[0].decode(), orjson.loads(data)))
            return found

        yield frames


def test_a_later_failure_changes_the_notification_in_its_place(
    db: psycopg.Connection[Row], keys: dict[str, int], configured: dict[str, str]
) -> None:
    (before,) = directory.notifications(db, keys["dean"])
    fail(db, 3, ip="198.51.100.7")
    with hearing(configured, TENANT, "dean") as heard:
        settle(4)
        ((id, frame),) = heard()
    (row,) = directory.notifications(db, keys["dean"])
    assert row["message"] == (
        "4 failed logins for the account ada between 2026-03-01 09:00 UTC and 2026-03-01 09:03 UTC, from 2 addresses,"
        " last from 198.51.100.7."
    )
    assert {name: row[name] for name in ("id", *MARKS)} == {name: before[name] for name in ("id", *MARKS)}
    assert (row["seq"], counters(db, keys["dean"])) == (2, (2, 1, 1, 1, 1))
    told_whole = frame.pop("notification")
    assert (id, frame) == ("id: 1-2", {"prev": 1, "type": "updated", "unreadCount": 1, "unseenCount": 1})
    assert told_whole == {
        "id": str(row["id"]),
        "createdSeq": 1,
        "seq": 2,
        "tenant": TENANT,
        "type": "SECURITY_LOGIN_FAILED",
        "category": "security",
        "title": "Repeated Failed Logins",
        "message": row["message"],
        "priority": "HIGH",
        "metadata": row["metadata"],
        "actionUrl": "/university/security/accounts/ada",
        "read": False,
        "readAt": None,
        "seenAt": None,
        "archivedAt": None,
        "createdAt": told_whole["createdAt"],
        "expiresAt": told_whole["expiresAt"],
    }
    assert failures(db, keys["root"]) == [4]
    assert counters(db, keys["rival"]) == counters(db, keys["ada"]) == (0, 0, 0, 0, 0)


def test_it_changes_at_most_once_a_minute_and_then_tells_all_that_came(
    db: psycopg.Connection[Row], keys: dict[str, int]
) -> None:
    seen = []
    for second in range(0, 240, 10):
        fail(db, 2 + second / 60)
        settle(2 + second / 60)
        seen.append((directory.inbox(db, keys["dean"])["seq"], failures(db, keys["dean"])[0]))
    assert list(dict.fromkeys(seen)) == [(1, 3), (2, 10), (3, 16), (4, 22)]
    settle(6)
    settle(7)
    assert (directory.inbox(db, keys["dean"])["seq"], failures(db, keys["dean"])) == (5, [27])


def test_without_another_failure_nothing_changes(db: psycopg.Connection[Row], keys: dict[str, int]) -> None:
    for minute in range(3, 10):
        settle(minute)
    assert counters(db, keys["dean"]) == (1, 1, 1, 1, 1)


def test_what_comes_later_than_an_hour_is_counted_only(db: psycopg.Connection[Row], keys: dict[str, int]) -> None:
    fail(db, 5)
    settle(61.9)
    assert (failures(db, keys["dean"]), windows(db)) == ([4], [(TENANT, "ada", 0, 4)])
    fail(db, 6)
    settle(63)
    settle(600)
    assert (failures(db, keys["dean"]), windows(db)) == ([4], [(TENANT, "ada", 0, 5)])
    assert counters(db, keys["dean"]) == (2, 1, 1, 1, 1)


def test_a_read_one_stays_read_and_an_archived_one_archived(db: psycopg.Connection[Row], keys: dict[str, int]) -> None:
    """Archived is put away, not gone: a page of the archive shows it, so it is told, and takes a seq."""
    db.execute("UPDATE notifications SET seen_at = now(), read_at = now(), seq = 2 WHERE key = %s", (keys["root"],))
    db.execute("UPDATE inboxes SET seq = 2, unread = 0, unseen = 0 WHERE key = %s", (keys["root"],))
    db.execute(
        "UPDATE notifications SET seen_at = now(), read_at = now(), archived_at = now(), seq = 2 WHERE key = %s",
        (keys["dean"],),
    )
    db.execute("UPDATE inboxes SET seq = 2, unread = 0, unseen = 0, total = 0 WHERE key = %s", (keys["dean"],))
    before = {name: directory.notifications(db, keys[name])[0] for name in ("root", "dean")}
    fail(db, 3)
    settle(4)
    for name, row in before.items():
        (after,) = directory.notifications(db, keys[name])
        assert {mark: after[mark] for mark in MARKS} == {mark: row[mark] for mark in MARKS}
        assert (after["metadata"]["failures"], after["seq"]) == (4, 3)
    assert counters(db, keys["root"]) == (3, 1, 0, 0, 1)
    assert counters(db, keys["dean"]) == (3, 1, 0, 0, 0)


@pytest.mark.parametrize("purged", [False, True])
def test_a_deleted_one_does_not_come_back(db: psycopg.Connection[Row], keys: dict[str, int], purged: bool) -> None:
    db.execute(
        "UPDATE notifications SET deleted_at = now() - interval '8 days', seq = 2 WHERE key = %s", (keys["dean"],)
    )
    db.execute("UPDATE inboxes SET seq = 2, unread = 0, unseen = 0, total = 0 WHERE key = %s", (keys["dean"],))
    if purged:
        assert purge()
    fail(db, 3)
    settle(4)
    assert counters(db, keys["dean"]) == (2, 1, 0, 0, 0)
    assert len(directory.notifications(db, keys["dean"])) == (0 if purged else 1)
    assert failures(db, keys["root"]) == [4]


def test_who_is_an_admin_no_more_keeps_what_was_told_and_who_has_become_one_gets_nothing_old(
    db: psycopg.Connection[Row], keys: dict[str, int]
) -> None:
    db.execute("DELETE FROM recipient_roles WHERE key = %s", (keys["dean"],))
    new = directory.add_recipients(db, TENANT, ["successor"], roles=["university_admin"])["successor"]
    fail(db, 3)
    settle(4)
    assert (failures(db, keys["dean"]), failures(db, new), failures(db, keys["root"])) == ([3], [], [4])
    assert counters(db, keys["dean"]) == (1, 1, 1, 1, 1)


@pytest.mark.parametrize("state", ["cancelling", "cancelled", "failed", "fanning_out"])
def test_only_an_event_that_is_done_is_told_anew(db: psycopg.Connection[Row], keys: dict[str, int], state: str) -> None:
    db.execute("UPDATE events SET state = %s WHERE type = 'security.login_failed'", (state,))
    fail(db, 3)
    settle(4)
    assert (failures(db, keys["dean"]), windows(db)) == ([3], [(TENANT, "ada", 0, 4)])
    db.execute("UPDATE events SET state = 'done' WHERE type = 'security.login_failed'")
    settle(4)
    assert failures(db, keys["dean"]) == [4]


def test_several_windows_of_one_inbox_are_a_change_each(
    db: psycopg.Connection[Row], keys: dict[str, int], configured: dict[str, str]
) -> None:
    for account in ("bob", "cleo"):
        fail(db, 0, 1, 2, account=account)
    settle(2)
    for account in ("ada", "bob", "cleo"):
        fail(db, 3, account=account)
    with hearing(configured, "platform", "root") as heard:
        settle(4)
        frames = heard()
    assert [(id, frame["prev"], frame["notification"]["metadata"]["accountId"]) for id, frame in frames] == [
        ("id: 1-4", 3, "ada"),
        ("id: 1-5", 4, "bob"),
        ("id: 1-6", 5, "cleo"),
    ]
    assert counters(db, keys["root"]) == (6, 3, 3, 3, 3)
    assert [row["seq"] for row in directory.notifications(db, keys["root"])] == [4, 5, 6]


def test_a_text_that_cannot_be_made_leaves_the_notification_as_it_is_and_harms_nobody_else(
    db: psycopg.Connection[Row], keys: dict[str, int]
) -> None:
    fail(db, 0, 1, 2, account="bob")
    settle(2)
    fail(db, 3)
    fail(db, 3, account="bob")
    with patch("shared.templates.MAX_OUTPUT_BYTES", 10):
        settle(4)
    assert failures(db, keys["dean"]) == [3, 3]
    fail(db, 4)
    settle(6)
    assert failures(db, keys["dean"]) == [5, 3]


def test_a_worker_killed_before_its_commit_has_told_nobody(db: psycopg.Connection[Row], keys: dict[str, int]) -> None:
    fail(db, 3)
    with patch("shared.updates.write", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        settle(4)
    assert (failures(db, keys["dean"]), counters(db, keys["dean"])) == ([3], (1, 1, 1, 1, 1))
    settle(4)
    assert (failures(db, keys["dean"]), counters(db, keys["dean"])) == ([4], (2, 1, 1, 1, 1))


async def test_a_stream_is_repaired_when_the_publish_is_lost(
    db: psycopg.Connection[Row], keys: dict[str, int], api_server: ApiServer, configured: dict[str, str]
) -> None:
    fail(db, 3)
    async with Listener(api_server.url, token_for(configured, "dean", tenant=TENANT)) as stream:
        await stream.count(1)
        with patch("workers.failed_logins.publish", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
            run_all(4)
        _, changed, synced = await stream.count(3)
    assert (changed.id, changed.kind, changed.data["prev"], synced.id) == ("1-2", "changed", 1, "1-2")
    assert [row["metadata"]["failures"] for row in changed.data["notifications"]] == [4]
    assert synced.data["unreadCount"] == 1


def run_all(minute: float) -> None:
    fan_out_pending()
    run(moment(minute))


class TestLargeAudiences:
    """More admins than one transaction takes are told in ranges of keys, each with its own commit."""

    SIZE = 4
    PEOPLE = 11

    @pytest.fixture
    def settings_env(self, settings_env: dict[str, str]) -> dict[str, str]:
        return {**settings_env, "CARILLON_CHUNK_SIZE": str(self.SIZE)}

    @pytest.fixture
    def many(self, db: psycopg.Connection[Row]) -> list[int]:
        """Admins with a notification each, some made by chunks as the product does."""
        keys = directory.add_recipients(
            db, TENANT, [f"dean{number:02}" for number in range(self.PEOPLE)], roles=["university_admin"]
        )
        fail(db, 0, 1, 2)
        settle(2)
        self.run_chunks(db)
        assert [failures(db, key) for key in keys.values()] == [[3]] * self.PEOPLE
        return list(keys.values())

    @staticmethod
    def run_chunks(db: psycopg.Connection[Row]) -> None:
        (event,) = db.execute("SELECT key FROM events WHERE state = 'fanning_out'").fetchall()
        plan(event["key"])
        for row in db.execute("SELECT number FROM fan_out_chunks ORDER BY number").fetchall():
            run_chunk(event["key"], row["number"])

    def test_everybody_is_told_once(self, db: psycopg.Connection[Row], many: list[int]) -> None:
        fail(db, 3)
        settle(4)
        settle(4)
        assert [failures(db, key) for key in many] == [[4]] * self.PEOPLE
        assert {counters(db, key) for key in many} == {(2, 1, 1, 1, 1)}

    def test_a_round_that_was_broken_off_goes_on_where_it_was(
        self, db: psycopg.Connection[Row], many: list[int]
    ) -> None:
        """Also beyond the hour; what came meanwhile waits for the next round, a minute after this one."""
        fail(db, 3)
        fan_out_pending()
        count_some(moment(4))
        assert tell_some(moment(4))
        assert [failures(db, key)[0] for key in many] == [4] * 4 + [3] * 7
        with patch("shared.updates.write", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
            tell_some(moment(4))
        fail(db, 3.5)
        fan_out_pending()
        count_some(moment(63))
        assert [tell_some(moment(63)) for _ in range(3)] == [True, True, False]
        assert [failures(db, key)[0] for key in many] == [4] * 4 + [5] * 7
        assert {counters(db, key) for key in many} == {(2, 1, 1, 1, 1)}

    def test_the_next_round_tells_everybody_what_came_during_the_last_one(
        self, db: psycopg.Connection[Row], many: list[int]
    ) -> None:
        fail(db, 3)
        fan_out_pending()
        count_some(moment(4))
        assert tell_some(moment(4))
        fail(db, 3.5)
        settle(4.5)
        settle(5.4)
        assert [failures(db, key)[0] for key in many] == [4] * 4 + [5] * 7
        settle(5.5)
        assert [failures(db, key)[0] for key in many] == [5] * 11
        assert [directory.inbox(db, key)["seq"] for key in many] == [3] * 4 + [2] * 7


def test_two_tellings_at_once_are_one_change(db: psycopg.Connection[Row], keys: dict[str, int]) -> None:
    fail(db, 3)
    fan_out_pending()
    count_some(moment(4))
    with database.transaction("*") as connection:
        assert connection.execute(failed_logins.take_turn(), {"now": None}).one()
        assert not tell_some(moment(4))
    assert tell_some(moment(4))
    assert not tell_some(moment(4))
    assert counters(db, keys["dean"]) == (2, 1, 1, 1, 1)
