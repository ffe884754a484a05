"""What an event tells people who are at home in another database: once, whatever is killed, and cancelled there too."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from shared import databases
from shared.databases import SHARED, working_in
from shared.tokens import make_token
from tests import directory
from tests.producers import BATCHED, bearer, envelope, errors_of, post
from tests.servers import die_forwarding
from tests.universities import GRADE, NORTH, PLATFORM, SOUTH, Split, issued, state, work
from workers import cancel as cancelling
from workers.chunks import plan, run_chunk
from workers.fan_out import fan_out_pending
from workers.forward import forward_pending


async def test_an_event_tells_both_homes_and_its_counts_are_the_sum(
    api: httpx.AsyncClient, key: str, split: Split
) -> None:
    assert (await post(api, key, issued("e1"))).status_code == 202
    told = await state(api, key, "e1")
    assert (told["state"], told["counts"]["notifications"]) == ("accepted", 0)
    with working_in(NORTH):
        fan_out_pending()
    told = await state(api, key, "e1")
    assert (told["state"], told["counts"]["notifications"], told["finishedAt"]) == ("fanning_out", 1, None)
    work()
    told = await state(api, key, "e1")
    assert (told["state"], told["counts"]["recipients"], told["counts"]["notifications"]) == ("done", 2, 2)
    assert split.told() == {
        SHARED: [(NORTH, "grace", "certificate.issued")],
        NORTH: [(NORTH, "ada", "certificate.issued")],
        SOUTH: [],
    }
    assert (await post(api, key, issued("e1"))).json()["events"][0]["status"] == "duplicate"
    headers = {"authorization": f"Bearer {make_token(NORTH, 'grace')}"}
    assert (await api.post("/api/notifications/read-all", headers=headers)).json()["changed"] == 1
    assert (await state(api, key, "e1"))["counts"]["read"] == 1
    times = {name: split.rows(name, "SELECT accepted_at, derived FROM events") for name in (SHARED, NORTH)}
    assert times == {SHARED: [(times[NORTH][0][0], True)], NORTH: [(times[NORTH][0][0], False)]}


async def test_an_event_for_one_at_home_leaves_no_forward(api: httpx.AsyncClient, key: str, split: Split) -> None:
    await post(api, key, envelope("a", tenant=NORTH, type="grade.posted", data=GRADE))
    work()
    assert split.rows(NORTH, "SELECT count(*) FROM forwards") == [(0,)]
    assert (await state(api, key, "a"))["state"] == "done"


@pytest.mark.parametrize("killed", [True, False])
async def test_a_worker_killed_between_the_two_commits_loses_and_doubles_nothing(
    api: httpx.AsyncClient, key: str, split: Split, configured: dict[str, str], killed: bool
) -> None:
    """Pins the order of the commits: there first, then here. The other way round, the killed one's event is lost."""
    await post(api, key, issued("e1"))
    with working_in(NORTH):
        fan_out_pending()
    if killed:
        die_forwarding(NORTH, configured)
        assert split.rows(NORTH, "SELECT state FROM forwards") == [("pending",)]
        assert split.rows(SHARED, "SELECT id, derived FROM events") == [("e1", True)]
    work()
    work()
    assert split.rows(NORTH, "SELECT state FROM forwards") == [("done",)]
    assert split.told()[SHARED] == [(NORTH, "grace", "certificate.issued")]
    assert (await state(api, key, "e1"))["counts"]["notifications"] == 2


async def _cancel(api: httpx.AsyncClient, key: str, id: str) -> httpx.Response:
    return await api.delete(f"/api/events/{id}", params={"source": "/tests", "tenant": NORTH}, headers=bearer(key))


def withdraw(split: Split) -> None:
    """Withdraw what is being cancelled, as workers would."""
    for name in databases.names():
        with working_in(name):
            forward_pending()
            for (event,) in split.rows(name, "SELECT key FROM events WHERE state = 'cancelling'"):
                assert cancelling.withdraw(event)


@pytest.mark.parametrize("forwarded", [True, False])
async def test_a_cancel_withdraws_in_every_database(
    api: httpx.AsyncClient, key: str, split: Split, forwarded: bool
) -> None:
    await post(api, key, issued("e1"))
    with working_in(NORTH):
        fan_out_pending()
    if forwarded:
        work()
    answer = await _cancel(api, key, "e1")
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelling")
    for _ in range(2):
        withdraw(split)
    assert split.told() == {SHARED: [], NORTH: [], SOUTH: []}
    assert split.rows(NORTH, "SELECT state FROM forwards") == [("done",)]
    assert (await state(api, key, "e1"))["state"] == "cancelled"
    assert (await _cancel(api, key, "e1")).status_code == 200
    work()
    assert split.told()[SHARED] == []


async def test_an_announcement_of_the_platform_reaches_everybody_everywhere(
    api: httpx.AsyncClient, key: str, split: Split
) -> None:
    data = {"title": "Holidays", "message": "Closed.", "audience": {"everyone": True}}
    await post(api, key, envelope("all", tenant=PLATFORM, type="system.announcement", data=data))
    await post(api, key, envelope("south", tenant=PLATFORM, type="system.announcement",
                                  data={**data, "audience": {"tenant": SOUTH}}))  # fmt: skip
    work()
    told = await state(api, key, "all", PLATFORM)
    assert (told["state"], told["counts"]["notifications"]) == ("done", 6)
    told = await state(api, key, "south", PLATFORM)
    assert (told["state"], told["counts"]["notifications"]) == ("done", 2)
    assert {name: len(rows) for name, rows in split.told().items()} == {SHARED: 4, NORTH: 2, SOUTH: 2}
    for name in databases.names():
        directory.assert_numbered_without_gaps(split.sessions[name])


async def test_a_batch_is_stored_in_one_database_or_refused(api: httpx.AsyncClient, key: str, split: Split) -> None:
    answer = await post(api, key, [issued("1"), issued("2", SOUTH), issued("3")], BATCHED)
    assert answer.status_code == 422
    assert errors_of(answer) == [(1, "tenant", "lives in another database than the first one's")]
    for name in databases.names():
        assert split.rows(name, "SELECT count(*) FROM events") == [(0,)]


async def test_a_large_audience_is_chunked_in_its_own_database(
    api: httpx.AsyncClient, key: str, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[str, tuple[Any, ...]]] = []
    monkeypatch.setattr("workers.chunks.send", lambda name, *args, **_: sent.append((name, args)))
    directory.add_recipients(split.sessions[NORTH], NORTH, [f"s{number}" for number in range(2_500)], roles=["student"])
    data = {"title": "Exams", "message": "Monday.", "audience": {"everyone": True}}
    await post(api, key, envelope("exams", tenant=NORTH, type="system.announcement", data=data))
    work()
    with working_in(NORTH):
        ((event, state_there),) = split.rows(NORTH, "SELECT key, state FROM events")
        assert state_there == "fanning_out"
        plan(event)
        for _, args in sent:
            run_chunk(*args)
    assert len(sent) == 2
    told = await state(api, key, "exams")
    assert (told["state"], told["counts"]["notifications"]) == ("done", 2_503)
    assert split.told()[SHARED] == [(NORTH, "grace", "system.announcement")]
