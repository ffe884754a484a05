"""What the jobs put right: counters that drifted, and the places of processes that died."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx
import pytest
import redis
from structlog.testing import capture_logs

import beat_schedule
from shared.tokens import make_token
from tests import directory
from tests.upkeep import Database, fill, job
from workers.counters import audit
from workers.presence import DEAD, EDGES, clear_places


@pytest.fixture
def ada(db: Database) -> int:
    return directory.add_recipients(db, "acme", ["ada"])["ada"]


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
