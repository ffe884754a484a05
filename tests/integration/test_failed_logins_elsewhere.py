"""A window of a tenant with a database of its own is told anew to admins who are at home in the shared one, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import psycopg
import pytest
import redis

from shared import databases, forwards, homes
from shared.databases import SHARED, working_in
from shared.directory import Recipient
from shared.frames import channel_of
from shared.plans import run_plan
from tests import directory
from tests.directory import Row
from tests.failed_logins import fail, moment, told
from tests.servers import die_forwarding
from workers.cancel import withdraw
from workers.failed_logins import run
from workers.fan_out import fan_out_pending
from workers.forward import forward_pending

NORTH, PLATFORM = "uni-north", "platform"


@dataclass
class Places:
    """Both databases as their owner sees them, and the admins' inboxes: prof's in the north, the others' shared."""

    north: psycopg.Connection[Row]
    shared: psycopg.Connection[Row]

    def inbox(self, who: str) -> tuple[psycopg.Connection[Row], int]:
        """Return where somebody's inbox is, and its key."""
        place = self.north if who == "prof" else self.shared
        row = place.execute("SELECT key FROM inboxes WHERE recipient = %s", (who,)).fetchone()
        assert row is not None
        return place, row["key"]

    def told(self, who: str) -> tuple[list[int], int, int]:
        """Return the failures that somebody's notifications tell, the inbox's seq, and how many are unread."""
        place, key = self.inbox(who)
        inbox = directory.inbox(place, key)
        return [each["failures"] for each in told(place, key)], inbox["seq"], inbox["unread"]

    def all_told(self, *names: str) -> set[tuple[tuple[int, ...], int, int]]:
        """Return what these people were told, each different one once."""
        return {(tuple(failures), seq, unread) for failures, seq, unread in map(self.told, names)}


@pytest.fixture
def split_env(settings_env: dict[str, str], new_database: Callable[[], str]) -> dict[str, str]:
    """The settings of an installation where a university has a database of its own."""
    settings_env["CARILLON_TENANT_DATABASES"] = orjson.dumps({NORTH: new_database()}).decode()
    return settings_env


@pytest.fixture
def places(split_env: dict[str, str], configured: dict[str, str]) -> Iterator[Places]:
    """Both databases, the university's admins and the platform's; whoever became an admin later stays in the north."""
    run_plan(homes.make_tenant(NORTH, "test"))
    run_plan(homes.put_recipient(Recipient(NORTH, "prof")))
    for who, tenant, role in (("prof", NORTH, "university_admin"), ("dean", NORTH, "university_admin"),
                              ("root", PLATFORM, "super_admin")):  # fmt: skip
        run_plan(homes.put_recipient(Recipient(tenant, who, (role,))))
    urls = [orjson.loads(split_env["CARILLON_TENANT_DATABASES"])[NORTH], split_env["CARILLON_DATABASE_URL"]]
    with directory.connect(urls[0]) as north, directory.connect(urls[1]) as shared:
        yield Places(north, shared)


def settle(minute: float, *, forwards: bool = True) -> None:
    """Do what is due at that minute, in the north first, as often as it takes to come through both databases."""
    for _ in range(2):
        for name in (NORTH, SHARED):
            with working_in(name):
                fan_out_pending()
                assert run(moment(minute))
                fan_out_pending()
                if forwards:
                    forward_pending()


def failing(places: Places, *minutes: float) -> None:
    fail(places.north, *minutes, tenant=NORTH)


def test_admins_of_both_homes_are_told_the_same_each_once(places: Places) -> None:
    failing(places, 0, 1, 2)
    settle(2)
    assert places.all_told("prof", "dean", "root") == {((3,), 1, 1)}
    failing(places, 3, 3.5)
    settle(4)
    assert places.all_told("prof", "dean", "root") == {((5,), 2, 1)}
    for minute in (5, 6, 7):
        settle(minute)
    assert places.all_told("prof", "dean", "root") == {((5,), 2, 1)}
    failing(places, 8)
    settle(8)
    assert places.all_told("prof", "dean", "root") == {((6,), 3, 1)}
    assert places.shared.execute("SELECT count(*) AS n FROM failed_login_windows").fetchone() == {"n": 0}


def test_it_is_an_updated_frame_with_everything_that_the_window_has(places: Places, configured: dict[str, str]) -> None:
    failing(places, 0, 1, 2)
    settle(2)
    fail(places.north, 3, tenant=NORTH, ip="198.51.100.7")
    with redis.Redis.from_url(configured["CARILLON_REDIS_URL"]) as client, client.pubsub() as heard:
        heard.subscribe(channel_of(NORTH, "dean"))
        assert heard.get_message(timeout=15)
        settle(4)
        message = heard.get_message(timeout=15)
        assert message is not None
        assert heard.get_message(timeout=0.5) is None
    head, data = message["data"].split(b"data: ")
    frame = orjson.loads(data)
    assert head.startswith(b"id: 1-2\n")
    assert (frame["prev"], frame["type"], frame["unreadCount"]) == (1, "updated", 1)
    assert frame["notification"]["metadata"]["addresses"] == ["198.51.100.7", "203.0.113.9"]
    assert "4 failed logins for the account ada" in frame["notification"]["message"]


def test_a_worker_killed_between_the_two_commits_loses_and_doubles_nothing(
    places: Places, configured: dict[str, str]
) -> None:
    failing(places, 0, 1, 2)
    settle(2)
    failing(places, 3)
    settle(4, forwards=False)
    assert (places.told("prof"), places.told("dean")) == (([4], 2, 1), ([3], 1, 1))
    die_forwarding(NORTH, configured)
    assert places.north.execute("SELECT state FROM forwards").fetchall() == [{"state": "pending"}]
    settle(4, forwards=False)
    assert places.told("dean") == ([4], 2, 1)
    settle(4.5)
    assert places.north.execute("SELECT state, data FROM forwards").fetchall() == [{"state": "done", "data": None}]
    assert places.all_told("prof", "dean", "root") == {((4,), 2, 1)}


def test_whoever_was_away_is_told_the_latest_once_and_an_older_one_never(places: Places) -> None:
    failing(places, 0, 1, 2)
    settle(2)
    old = None
    for minute in (3, 5, 7):
        failing(places, minute)
        settle(minute + 1, forwards=False)
        old = old or places.north.execute("SELECT revision, data::text AS data FROM forwards").fetchone()
    assert (places.told("prof"), places.told("dean")) == (([6], 4, 1), ([3], 1, 1))
    settle(9)
    assert places.told("dean") == ([6], 2, 1)
    assert old is not None
    places.north.execute(
        "UPDATE forwards SET state = 'pending', revision = %s, data = %s::jsonb", (old["revision"], old["data"])
    )
    settle(10)
    assert places.told("dean") == ([6], 2, 1)


def test_what_is_forwarded_together_is_told_in_order(places: Places) -> None:
    """The event and its first update come at once: the fan-out writes the old text, then the update the new one."""
    failing(places, 0, 1, 2)
    settle(2, forwards=False)
    failing(places, 3)
    settle(4, forwards=False)
    assert places.told("prof") == ([4], 2, 1)
    with working_in(NORTH):
        forward_pending()
    assert run(moment(4))
    assert places.told("dean") == ([], 0, 0)
    settle(4.5)
    assert places.all_told("prof", "dean", "root") == {((4,), 2, 1)}


def test_what_the_north_tells_within_the_hour_is_told_however_late_it_comes(places: Places) -> None:
    failing(places, 0, 1, 2)
    settle(2)
    failing(places, 3)
    settle(4, forwards=False)
    failing(places, 5)
    settle(600)
    assert places.all_told("prof", "dean", "root") == {((4,), 2, 1)}


def test_a_cancelled_one_is_not_told_anew(places: Places) -> None:
    failing(places, 0, 1, 2)
    settle(2)
    failing(places, 3)
    settle(4, forwards=False)
    row = places.north.execute("SELECT id, source FROM events WHERE type = 'security.login_failed'").fetchone()
    assert row is not None
    assert run_plan(forwards.cancel(NORTH, row["source"], row["id"], "test"))
    for _ in range(2):
        for name in databases.names():
            with working_in(name):
                forward_pending()
                _withdraw_all(places, name)
    settle(6)
    left = [directory.inbox(*places.inbox(who)) for who in ("prof", "dean", "root")]
    assert [(inbox["seq"], inbox["total"]) for inbox in left] == [(3, 0), (2, 0), (2, 0)]
    assert places.shared.execute("SELECT count(*) AS n FROM event_updates").fetchone() == {"n": 0}


def _withdraw_all(places: Places, name: str) -> None:
    place = places.north if name == NORTH else places.shared
    for row in place.execute("SELECT key FROM events WHERE state = 'cancelling'").fetchall():
        withdraw(row["key"])


def test_a_large_audience_is_told_in_ranges_each_once(
    split_env: dict[str, str], request: pytest.FixtureRequest
) -> None:
    split_env["CARILLON_CHUNK_SIZE"] = "2"
    places: Any = request.getfixturevalue("places")
    names = [f"admin-{number}" for number in range(5)]
    for name in names:
        run_plan(homes.put_recipient(Recipient(NORTH, name, ("university_admin",))))
    failing(places, 0, 1, 2)
    settle_large(places, 2)
    failing(places, 3)
    settle_large(places, 4)
    assert places.all_told("dean", "root", "prof", *names) == {((4,), 2, 1)}
    row = places.shared.execute("SELECT revision, told, telling, told_up_to FROM event_updates").fetchone()
    assert row == {"revision": 4, "told": 4, "telling": None, "told_up_to": 0}


def settle_large(places: Places, minute: float) -> None:
    """As `settle`, and plan and run the chunks of large events."""
    from workers.chunks import plan, run_chunk

    settle(minute)
    for name, place in ((NORTH, places.north), (SHARED, places.shared)):
        with working_in(name):
            for row in place.execute("SELECT key FROM events WHERE state = 'fanning_out'").fetchall():
                plan(row["key"])
                for chunk in place.execute("SELECT number FROM fan_out_chunks WHERE event_key = %s", (row["key"],)):
                    run_chunk(row["key"], chunk["number"])
    settle(minute)
