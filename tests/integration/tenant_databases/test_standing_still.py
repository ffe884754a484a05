"""A database that stands still, or is away, keeps nobody waiting whose home is another one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from shared import databases
from shared.databases import SHARED, working_in
from shared.tokens import make_token
from tests.eventually import eventually
from tests.listener import Listener
from tests.producers import envelope, post
from tests.servers import ApiServer
from tests.universities import NORTH, PLATFORM, SOUTH, Split, issued, work
from workers import forward as forwarding
from workers.everywhere import in_every_database
from workers.fan_out import fan_out_pending
from workers.forward import forward_pending


async def test_a_database_that_does_not_answer_keeps_no_other_ones_streams_waiting(
    split: Split,
    key: str,
    urls: dict[str, str],
    new_api_server: Callable[..., ApiServer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Reads of the one wait for a lock, and those of homes are many: each streams' recipient is unknown there."""
    server = new_api_server(CARILLON_RECONCILE_SECONDS="0.3")
    monkeypatch.setattr("workers.fan_out.publish", lambda *_: [])
    async with AsyncExitStack() as stack:
        for number in range(20):
            await stack.enter_async_context(Listener(server.url, make_token(NORTH, f"unknown-{number}")))
        cleo = await stack.enter_async_context(Listener(server.url, make_token(SOUTH, "cleo")))
        await cleo.count(1)
        blocking = stack.enter_context(psycopg.connect(urls[NORTH]))
        blocking.execute("LOCK TABLE inboxes, recipients_elsewhere IN ACCESS EXCLUSIVE MODE")
        eventually(lambda: split.rows(NORTH, "SELECT true FROM pg_locks WHERE NOT granted LIMIT 1"))
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
            event = issued("e1", tenant=SOUTH, student_id="cleo")
            assert (await post(client, key, event)).status_code == 202
        with working_in(SOUTH):
            fan_out_pending()
        frames = await cleo.until(lambda told: told[-1].kind == "synced", within=20)
    assert [(frame.kind, frame.seq) for frame in frames] == [("connected", 0), ("changed", 1), ("synced", 1)]


def test_a_database_that_stands_still_keeps_the_jobs_of_no_other_waiting_and_is_worked_in_once_it_goes_on(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is stopped, or whose storage hangs, ends no statement: neither its timeout nor TCP's helps."""
    monkeypatch.setattr("workers.everywhere.STUCK_S", 3.0)
    goes_on, begun, worked = threading.Event(), list[str](), list[str]()

    def work() -> bool:
        begun.append(databases.current())
        if databases.current() == NORTH:
            goes_on.wait()
        worked.append(databases.current())
        return True

    for _ in range(2):
        assert in_every_database("carillon.sweep", work)
    assert worked == [SHARED, SOUTH, SHARED, SOUTH]
    # One thread waits for it, not one for each run.
    assert begun == [SHARED, NORTH, SOUTH, SHARED, SOUTH]
    goes_on.set()
    eventually(lambda: NORTH in worked)
    worked.clear()
    eventually(lambda: in_every_database("carillon.sweep", work) and NORTH in worked)
    assert set(worked) == set(databases.names())


def test_a_failure_of_a_job_in_one_database_is_told_and_one_that_is_away_is_passed_over(split: Split) -> None:
    def broken() -> None:
        if databases.current() == NORTH:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        in_every_database("carillon.sweep", broken)
    worked: list[str] = []

    def away() -> bool:
        if databases.current() == NORTH:
            raise OperationalError("SELECT 1", {}, psycopg.OperationalError())
        worked.append(databases.current())
        return databases.current() != SOUTH

    assert not in_every_database("carillon.sweep", away)
    assert worked == [SHARED, SOUTH]


async def test_a_database_that_stands_still_holds_up_no_forwards_to_others(
    api: httpx.AsyncClient, key: str, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its forwards, which come again every two seconds, take the lane's processes for a minute each."""
    monkeypatch.setattr("workers.everywhere.STUCK_S", 3.0)
    goes_on = threading.Event()

    def tell(target: str, rows: Any) -> None:
        if target == NORTH:
            goes_on.wait()
        tell_really(target, rows)

    tell_really = forwarding._tell
    monkeypatch.setattr("workers.forward._tell", tell)
    data = {"title": "Holidays", "message": "Closed.", "audience": {"everyone": True}}
    await post(api, key, envelope("all", tenant=PLATFORM, type="system.announcement", data=data))
    fan_out_pending()
    for _ in range(2):
        forward_pending()
    assert split.rows(SHARED, "SELECT database, state FROM forwards ORDER BY 1") == [
        (NORTH, "pending"),
        (SOUTH, "done"),
    ]
    goes_on.set()

    def everybody() -> bool:
        work()
        return {name: len(rows) for name, rows in split.told().items()} == {SHARED: 3, NORTH: 2, SOUTH: 1}

    eventually(everybody, within=30)
