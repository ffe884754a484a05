"""A worker that stays for the next events: it is told without a task, and nothing that it is told of is lost."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from threading import Thread
from typing import Any

import psycopg
import pytest
import redis

from shared.databases import SHARED
from shared.wake import WAKE_FLAG_MS, WORK_MS, ask, lingers_key, nudges_key, wake_flag
from tests import directory
from tests.directory import Row
from tests.eventually import eventually
from workers import app, linger
from workers.fan_out import fan_out_pending
from workers.linger import Linger

ISSUED = {"student_id": "ada", "certificate_id": "c1", "badge_title": "Rust"}


@pytest.fixture
def client(configured: dict[str, str]) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(configured["CARILLON_REDIS_URL"]) as made:
        made.delete(wake_flag(SHARED), lingers_key(SHARED), nudges_key(SHARED))
        yield made


def is_done(db: psycopg.Connection[Row], event: int) -> bool:
    return bool(directory.event(db, event)["state"] == "done")


def nothing() -> None:
    """Nothing waits for a quiet moment."""


def test_where_nobody_lingers_the_first_who_asks_sends_a_task_and_the_next_does_not(client: redis.Redis) -> None:
    assert [ask(client, SHARED) for _ in range(3)] == [True, False, False]
    assert 0 < client.pttl(wake_flag(SHARED)) <= WAKE_FLAG_MS
    assert client.llen(nudges_key(SHARED)) == 0


def test_whoever_lingers_is_told_and_no_task_is_sent(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linger, "LINGER_MS", 20_000)
    monkeypatch.setattr(linger, "QUIET_S", 0.9)
    told: list[bool] = []
    waiting = Thread(target=lambda: told.append(Linger().more(nothing)))
    waiting.start()
    eventually(lambda: client.exists(lingers_key(SHARED)), within=30)
    assert ask(client, SHARED) is False
    waiting.join(30)
    assert told == [True]
    assert client.exists(wake_flag(SHARED), nudges_key(SHARED)) == 0


def test_a_look_begins_at_once_so_that_no_nudge_of_the_next_is_taken_for_one_of_its_own(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pins that nobody asks between the two: the flag would stay and its nudge would not."""
    begun: list[tuple[bool, list[tuple[str, str]]]] = []
    execute = redis.client.Pipeline.execute

    def noted(pipe: Any, *given: Any, **named: Any) -> Any:
        begun.append((pipe.transaction, [words[:2] for words, _ in pipe.command_stack]))
        return execute(pipe, *given, **named)

    client.rpush(nudges_key(SHARED), 1)
    monkeypatch.setattr(redis.client.Pipeline, "execute", noted)
    assert Linger().more(nothing) is True
    expected = [("DEL", nudges_key(SHARED)), ("DEL", wake_flag(SHARED)), ("PEXPIRE", lingers_key(SHARED))]
    assert begun == [(True, expected)]


def test_what_is_asked_of_one_who_is_leaving_is_looked_for(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked after its last wait and before it said that it leaves: the flag is what tells it."""
    monkeypatch.setattr(linger, "MOST_S", -1.0)
    leaving = Linger()
    client.set(lingers_key(SHARED), 1)
    assert ask(client, SHARED) is False
    assert leaving.more(nothing) is True
    assert leaving.more(nothing) is False
    assert client.exists(lingers_key(SHARED)) == 0
    assert ask(client, SHARED) is True


def test_whoever_has_left_stays_away_however_much_is_asked(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would look for as long as somebody asks, and each who asks sends a task beside it."""
    monkeypatch.setattr(linger, "MOST_S", -1.0)
    leaving = Linger()
    assert leaving.more(nothing) is False
    assert ask(client, SHARED) is True
    assert leaving.more(nothing) is False
    assert client.exists(wake_flag(SHARED)) == 1


def test_what_is_asked_during_a_long_look_is_asked_of_somebody_else(client: redis.Redis) -> None:
    """The one who lingers may wait for a lock meanwhile: its key ends `WORK_MS` after its look began."""
    client.rpush(nudges_key(SHARED), 1)
    assert Linger().more(nothing) is True
    assert client.pttl(lingers_key(SHARED)) <= WORK_MS


def test_one_that_was_killed_while_it_lingered_is_not_waited_for_for_long(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its key ends by itself: then whoever asks sends a task."""
    assert Linger().more(nothing) is False
    client.set(lingers_key(SHARED), 1, px=1)
    eventually(lambda: ask(client, SHARED), within=30)


def test_a_nudge_that_came_too_late_costs_the_next_one_who_lingers_a_look(client: redis.Redis) -> None:
    client.rpush(nudges_key(SHARED), 1)
    assert [Linger().more(nothing), Linger().more(nothing)] == [True, False]


def test_what_can_wait_is_done_where_nothing_comes(client: redis.Redis) -> None:
    done: list[str] = []
    assert Linger().more(lambda: done.append("counted")) is False
    assert done == ["counted"]


def test_one_task_fans_out_what_comes_while_it_lingers(
    client: redis.Redis, db: psycopg.Connection[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linger, "LINGER_MS", 900)
    monkeypatch.setattr(linger, "MOST_S", 30.0)
    sent: list[tuple[str, ...]] = []

    def send(*told: str) -> bool:
        sent.append(told)
        return True

    monkeypatch.setattr(app, "send", send)
    directory.add_recipients(db, "acme", ["ada"])
    task = Thread(target=fan_out_pending, args=(Linger(),))
    task.start()
    for _ in range(5):
        eventually(lambda: client.exists(lingers_key(SHARED)), within=30)
        event = directory.add_event(db, "certificate.issued", ISSUED)
        assert app.wake() is True
        eventually(partial(is_done, db, event), within=30)
    task.join(60)
    assert sent == []
    assert db.execute("SELECT sum(published) AS published FROM events").fetchone() == {"published": 5}


def test_a_pool_of_one_process_never_lingers(settings_env: dict[str, str], request: pytest.FixtureRequest) -> None:
    settings_env["CARILLON_WORKER_CONCURRENCY"] = "1"
    request.getfixturevalue("configured")
    assert linger.may_linger() is False
