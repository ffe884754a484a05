"""Questions of many streams are answered by few queries."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.contextvars import bound_contextvars, get_contextvars
from structlog.testing import capture_logs

from api.read import GATHER_S, HEADS_IN_ONE_QUERY, TENANTS_IN_ONE_QUERY, Batch, connected, find_home, pieces
from api.sse import Inbox
from shared.cursor import Cursor
from shared.frames import Counters
from shared.inbox import Head
from shared.settings import settings
from tests.eventually import eventually_async


@pytest.fixture
def fresh_settings() -> Iterator[None]:
    settings.cache_clear()
    yield
    settings.cache_clear()


async def test_questions_asked_at_once_are_one_query_and_those_asked_meanwhile_the_next() -> None:
    queries: list[list[int]] = []
    gate = asyncio.Event()

    async def fetch(questions: Sequence[int]) -> list[int]:
        queries.append(list(questions))
        await gate.wait()
        return [10 * question for question in questions]

    batch: Batch[int, int] = Batch(fetch, 3)
    first = [batch.ask(number) for number in range(2)]
    await asyncio.sleep(0)
    second = [batch.ask(number) for number in range(2, 7)]
    gate.set()
    assert await asyncio.gather(*first, *second) == [0, 10, 20, 30, 40, 50, 60]
    assert queries == [[0, 1], [2, 3, 4], [5, 6]]
    assert batch.queries == 3


@pytest.mark.parametrize("first", [[1], [1, 2]])
async def test_those_that_ask_soon_after_a_query_are_the_next_one_together(
    first: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    queries: list[list[int]] = []
    rests: list[float] = []
    rested = asyncio.Event()

    async def fetch(questions: Sequence[int]) -> list[int]:
        queries.append(list(questions))
        return list(questions)

    async def rest(seconds: float) -> None:
        rests.append(seconds)
        await rested.wait()

    # The rest ends when this test says so, not by the clock.
    monkeypatch.setattr("api.read.asyncio", SimpleNamespace(**{**vars(asyncio), "sleep": rest}))
    batch: Batch[int, int] = Batch(fetch, 3)
    await asyncio.gather(*map(batch.ask, first))
    third = batch.ask(3)
    for _ in range(5):
        await asyncio.sleep(0)
    assert (queries, rests) == ([first], [GATHER_S])
    fourth = batch.ask(4)
    rested.set()
    assert list(await asyncio.gather(third, fourth)) == [3, 4]
    assert queries == [first, [3, 4]]


async def test_one_that_asks_long_after_the_last_query_does_not_wait() -> None:
    async def fetch(questions: Sequence[int]) -> list[int]:
        return list(questions)

    batch: Batch[int, int] = Batch(fetch, 3, gather_s=0.001)

    async def rested() -> bool:
        return batch._task is None

    for number in (1, 2):
        answer = batch.ask(number)
        await asyncio.sleep(0)
        assert (answer.done(), batch.queries) == (True, number)
        await eventually_async(rested)


async def test_a_failing_query_fails_its_own_questions_alone() -> None:
    async def fetch(questions: Sequence[int]) -> list[int]:
        if 0 in questions:
            raise ConnectionError
        return list(questions)

    batch: Batch[int, int] = Batch(fetch, 1)
    bad, good = batch.ask(0), batch.ask(1)
    with pytest.raises(ConnectionError):
        await bad
    assert await good == 1


async def test_a_query_that_answers_too_little_fails_its_questions_and_is_logged() -> None:
    async def fetch(questions: Sequence[int]) -> list[int]:
        return list(questions)[1:]

    batch: Batch[int, int] = Batch(fetch, 10)
    with capture_logs() as told:
        answers = [batch.ask(1), batch.ask(2)]
        async with asyncio.timeout(30):
            results = await asyncio.gather(*answers, return_exceptions=True)
    assert [type(result) for result in results] == [ValueError, ValueError]
    assert [(line["event"], line["reason"]) for line in told] == [("batch.failed", "ValueError")]


async def test_the_next_query_follows_at_once_where_nothing_is_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fetch(questions: Sequence[int]) -> list[int]:
        return list(questions)

    rests: list[float] = []

    async def rest(seconds: float) -> None:
        rests.append(seconds)

    monkeypatch.setattr("api.read.asyncio", SimpleNamespace(**{**vars(asyncio), "sleep": rest}))
    batch: Batch[int, int] = Batch(fetch, 3, gather_s=0)
    assert await batch.ask(1) == 1
    assert await batch.ask(2) == 2
    assert rests == []


async def test_a_home_that_was_learnt_meanwhile_is_not_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    inbox, unknown = Inbox("uni", "ada", b"c"), Inbox("uni", "bob", b"d")

    async def home_of(_tenant: str, recipient: str) -> str:
        if recipient == "ada":
            inbox.database, inbox.key = "newer", 7
        return "older"

    monkeypatch.setattr("api.read.home_of", home_of)
    for each in (inbox, unknown):
        await find_home(each)
    assert (inbox.database, unknown.database) == ("newer", "older")


async def test_questions_that_nobody_waits_for_any_more_are_not_asked() -> None:
    asked: list[int] = []

    async def fetch(questions: Sequence[int]) -> list[int]:
        asked.extend(questions)
        return list(questions)

    batch: Batch[int, int] = Batch(fetch, 10)
    gone, kept = batch.ask(1), batch.ask(2)
    gone.cancel()
    assert await kept == 2
    assert asked == [2]


async def test_what_is_logged_of_a_query_for_several_requests_carries_the_id_of_none() -> None:
    contexts: list[dict[str, Any]] = []

    async def fetch(questions: Sequence[int]) -> list[int]:
        contexts.append(get_contextvars())
        return list(questions)

    batch: Batch[int, int] = Batch(fetch, 10)

    async def request(number: int) -> int:
        with bound_contextvars(request_id=f"r{number}"):
            answer = await batch.ask(number)
            assert get_contextvars()["request_id"] == f"r{number}"
            return answer

    with bound_contextvars(part="api"):
        assert list(await asyncio.gather(request(1), request(2))) == [1, 2]
    assert contexts == [{"part": "api"}]


async def test_stopping_cancels_whoever_waits() -> None:
    async def fetch(_questions: Sequence[int]) -> list[int]:
        await asyncio.Event().wait()
        return []

    batch: Batch[int, int] = Batch(fetch, 1)
    answers = [batch.ask(1), batch.ask(2)]
    await asyncio.sleep(0)
    await batch.stop()
    results = await asyncio.gather(*answers, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError] * 2


@pytest.mark.parametrize(("seconds", "told"), [("30", b'"heartbeatSeconds":30}'), ("0.5", b'"heartbeatSeconds":0.5}')])
@pytest.mark.usefixtures("fresh_settings")
def test_a_stream_is_told_its_heartbeat_as_the_contract_writes_it(
    seconds: str, told: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARILLON_HEARTBEAT_SECONDS", seconds)
    head = Head(1, Cursor(1, 41), Counters(3, 1, 3))
    assert told in connected(Inbox("uni", "ada", b""), head, head.cursor)


def _inboxes(tenants: int, each: int) -> list[Inbox]:
    return [Inbox(f"t{number % tenants}", f"r{number}", b"c%d" % number) for number in range(tenants * each)]


@pytest.mark.parametrize(
    ("tenants", "each", "sizes"),
    [
        (0, 0, []),
        (3, 1, [3]),
        (1, HEADS_IN_ONE_QUERY, [HEADS_IN_ONE_QUERY]),
        (1, HEADS_IN_ONE_QUERY + 1, [HEADS_IN_ONE_QUERY, 1]),
        (3, 200, [400, 200]),
        (2 * TENANTS_IN_ONE_QUERY + 1, 2, [2 * TENANTS_IN_ONE_QUERY, 2 * TENANTS_IN_ONE_QUERY, 2]),
    ],
)
def test_inboxes_go_into_queries_by_tenants_and_all_of_them_once(tenants: int, each: int, sizes: list[int]) -> None:
    inboxes = _inboxes(tenants, each)
    by_tenant = [[inbox for inbox in inboxes if inbox.tenant == f"t{number}"] for number in range(tenants)]
    found = list(pieces(by_tenant))
    assert [len(piece) for piece in found] == sizes
    assert sorted(inbox.channel for piece in found for inbox in piece) == sorted(inbox.channel for inbox in inboxes)
    assert all(len({inbox.tenant for inbox in piece}) <= TENANTS_IN_ONE_QUERY for piece in found)
