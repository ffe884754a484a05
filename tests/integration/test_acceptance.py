"""Postings that share transactions: fewer commits, and nobody's answer is another's."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import httpx
import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from api import acceptance
from shared import cloudevent
from shared import db as db_module
from shared.events import Posting, posting_of
from tests.directory import Row
from tests.producers import BATCHED, counted_statements, envelope, make_key, post, stored

INSERT = "WITH known AS"


@pytest.fixture
async def ready(api: httpx.AsyncClient, key: str) -> tuple[httpx.AsyncClient, str]:
    """The API and a key that it has verified already."""
    assert (await post(api, key, envelope("first"))).status_code == 202
    return api, key


async def all_at_once(api: httpx.AsyncClient, key: str, *ids: str, **changes: object) -> list[httpx.Response]:
    return list(await asyncio.gather(*(post(api, key, envelope(id, **changes)) for id in ids)))


async def test_a_hundred_postings_at_once_share_a_few_transactions(
    ready: tuple[httpx.AsyncClient, str], configured: dict[str, str]
) -> None:
    """A hundred would be as many commits; some come before the first has begun, and the rest while it is under way."""
    with counted_statements() as told:
        answers = await all_at_once(*ready, *(f"e{number}" for number in range(100)))
    assert [(each.status_code, each.json()["events"]) for each in answers] == [
        (202, [{"id": f"e{number}", "status": "accepted"}]) for number in range(100)
    ]
    assert stored(configured["CARILLON_DATABASE_URL"]) == 101
    assert all(each.strip().startswith(INSERT) for each in told)
    assert 1 <= len(told) <= 20


async def test_one_that_is_refused_costs_no_other_its_place(
    ready: tuple[httpx.AsyncClient, str], configured: dict[str, str]
) -> None:
    """The conflict rolls their common transaction back; each is stored by itself then."""
    api, key = ready
    changed = envelope("first", data={"student_id": "ann", "achievement_id": "a-1", "title": "Another"})
    answers = await asyncio.gather(
        post(api, key, envelope("e1")), post(api, key, changed), post(api, key, envelope("e2"))
    )
    assert [each.status_code for each in answers] == [202, 409, 202]
    assert stored(configured["CARILLON_DATABASE_URL"]) == 3


async def test_one_of_many_that_is_refused_costs_a_few_transactions_more(ready: tuple[httpx.AsyncClient, str]) -> None:
    """By halves: each by itself would be as many transactions as there are postings, all of them at once."""
    api, key = ready
    changed = envelope("first", data={"student_id": "ann", "achievement_id": "a-1", "title": "Another"})
    with counted_statements() as told:
        answers = await asyncio.gather(
            *(post(api, key, envelope(f"e{number}")) for number in range(60)),
            post(api, key, changed),
            *(post(api, key, envelope(f"f{number}")) for number in range(60)),
        )
    assert Counter(each.status_code for each in answers) == {202: 120, 409: 1}
    assert len([each for each in told if each.strip().startswith(INSERT)]) <= 40


async def test_a_posting_that_does_not_fit_is_passed_by_others_and_keeps_its_turn() -> None:
    door = acceptance._Door()
    loop = asyncio.get_running_loop()
    ids = ("a", "b", "a", "c", "b", "d")
    waiting = [acceptance._Waiting(_posting(id), id == "c", loop.create_future()) for id in ids]
    door._waiting.extend(waiting)
    groups = [[each.posting.events[0].id for each in door._take()] for _ in range(4)]
    assert groups == [["a", "b", "d"], ["a", "b"], ["c"], []]


def _posting(id: str) -> Posting:
    return posting_of([cloudevent.read(envelope(id))])


async def test_an_unknown_tenant_is_the_error_of_its_posting_alone(
    api: httpx.AsyncClient, key: str, configured: dict[str, str]
) -> None:
    anywhere = make_key(tenants=None)
    answers = await asyncio.gather(
        post(api, anywhere, envelope("e1")), post(api, anywhere, envelope("e2", tenant="nowhere"))
    )
    assert [each.status_code for each in answers] == [202, 422]
    assert stored(configured["CARILLON_DATABASE_URL"]) == 1


async def test_the_same_event_from_two_at_once_is_new_to_one_of_them(ready: tuple[httpx.AsyncClient, str]) -> None:
    api, key = ready
    single, batch = await asyncio.gather(
        post(api, key, envelope("e1")), post(api, key, [envelope("e0"), envelope("e1")], BATCHED)
    )
    told = [*single.json()["events"], *batch.json()["events"]]
    assert sorted((each["id"], each["status"]) for each in told) == [
        ("e0", "accepted"), ("e1", "accepted"), ("e1", "duplicate"),
    ]  # fmt: skip


async def test_one_whose_event_somebody_is_storing_waits_alone(
    ready: tuple[httpx.AsyncClient, str], db: psycopg.Connection[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A producer's own transaction holds the key until it ends; those that came with the posting are answered."""
    monkeypatch.setattr(acceptance, "LOCK_TIMEOUT_MS", 20)
    with db.transaction():
        db.execute(
            "INSERT INTO events (tenant, source, id, type, data, occurred_at)"
            " VALUES ('acme', '/tests', 'held', 'achievement.awarded', '{}', now())"
        )
        held = asyncio.create_task(post(*ready, envelope("held")))
        others = await all_at_once(*ready, "e1", "e2", "e3")
        assert [each.status_code for each in others] == [202, 202, 202]
        assert not held.done()
    assert (await held).status_code == 409


async def test_what_no_transaction_takes_in_time_is_answered_503(
    ready: tuple[httpx.AsyncClient, str], db: psycopg.Connection[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptance, "AT_ONCE", 1)
    monkeypatch.setattr(acceptance, "WAIT_S", 0.05)
    monkeypatch.setattr(acceptance, "LOCK_TIMEOUT_MS", 4_000)
    api, key = ready
    with db.transaction():
        db.execute("LOCK TABLE events IN EXCLUSIVE MODE")
        taken = asyncio.create_task(post(api, key, envelope("taken")))
        async with asyncio.timeout(30):
            while not await asyncio.to_thread(_waiting, db):
                await asyncio.sleep(0.01)
        late = await post(api, key, envelope("late"))
        assert (late.status_code, late.headers["retry-after"]) == (503, "1")
    assert (await taken).status_code == 202


def _waiting(db: psycopg.Connection[Row]) -> list[Row]:
    return db.execute("SELECT pid FROM pg_locks WHERE NOT granted AND relation = 'events'::regclass").fetchall()


def _end(db: psycopg.Connection[Row], which: str) -> int:
    """End the API's connections that `which` holds for, as a failing-over server does; return how many those were."""
    ended = db.execute(
        "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity"
        f" WHERE datname = current_database() AND application_name = 'carillon-api' AND {which}"
    )
    return len(ended.fetchall())


async def test_postings_whose_connection_dies_are_stored_on_another_one(
    ready: tuple[httpx.AsyncClient, str],
    db: psycopg.Connection[Row],
    configured: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fails with a single try: one cut is the 503 of all that share the transaction."""
    monkeypatch.setattr(acceptance, "LOCK_TIMEOUT_MS", 60_000)
    with db.transaction():
        db.execute("LOCK TABLE events IN EXCLUSIVE MODE")
        posted = asyncio.create_task(all_at_once(*ready, *(f"e{number}" for number in range(40))))
        async with asyncio.timeout(30):
            while not await asyncio.to_thread(_waiting, db):
                await asyncio.sleep(0.01)
        assert await asyncio.to_thread(_end, db, "wait_event_type = 'Lock'") >= 1
    answers = await posted
    assert [(each.status_code, each.json()["events"]) for each in answers] == [
        (202, [{"id": f"e{number}", "status": "accepted"}]) for number in range(40)
    ]
    assert stored(configured["CARILLON_DATABASE_URL"]) == 41


def repeats(url: str, event: str) -> int:
    with psycopg.connect(url) as db:
        row = db.execute("SELECT repeats FROM events WHERE id = %s", (event,)).fetchone()
    assert row is not None
    return int(row[0])


async def test_a_cut_after_the_commit_stores_nothing_twice(
    ready: tuple[httpx.AsyncClient, str], configured: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever lost the answer to its COMMIT cannot know of it: the second try finds the events there."""
    once, cuts = acceptance._store_once, [DBAPIError("COMMIT", {}, Exception(), connection_invalidated=True)]

    async def cut_behind(*given: Any, **named: Any) -> Any:
        told = await once(*given, **named)
        if cuts:
            raise db_module.too_busy() from cuts.pop()
        return told

    monkeypatch.setattr(acceptance, "_store_once", cut_behind)
    answer = await post(*ready, envelope("e1"))
    assert (answer.status_code, answer.json()["events"]) == (202, [{"id": "e1", "status": "duplicate"}])
    assert stored(configured["CARILLON_DATABASE_URL"]) == 2
    assert repeats(configured["CARILLON_DATABASE_URL"], "e1") == 0
    assert (await post(*ready, envelope("e1"))).json()["events"] == [{"id": "e1", "status": "duplicate"}]
    assert repeats(configured["CARILLON_DATABASE_URL"], "e1") == 1


async def test_one_cut_more_is_answered_503(
    ready: tuple[httpx.AsyncClient, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that fails over is not asked for ever: the producer comes back."""
    tries: list[object] = []

    async def cut(*given: object, **_named: object) -> Any:
        tries.append(given)
        raise db_module.too_busy() from DBAPIError("COMMIT", {}, Exception(), connection_invalidated=True)

    monkeypatch.setattr(acceptance, "_store_once", cut)
    assert ((await post(*ready, envelope("e1"))).status_code, len(tries)) == (503, 2)
