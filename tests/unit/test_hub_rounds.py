"""A round of the reconciler: frames that come meanwhile wait for a piece of it, never for the whole."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Iterator, Sequence
from types import FrameType
from typing import Any

import pytest

from api import read
from api.order import State
from api.read import HEADS_IN_ONE_QUERY, Batches, Told, Wanted
from api.reconcile import INBOXES_AT_ONCE, Reconciler
from api.sse import Inbox, Stream
from shared.arrays import array_of, numbers_of
from shared.cursor import Cursor
from shared.databases import SHARED
from shared.settings import settings

#: Python calls of a round for each inbox: all are for its mark; a query's five arrays are made without one.
CALLS_FOR_EACH = 3
#: Two sizes of rounds of one query and one piece: what asyncio calls is the same in both, but for a turn or two.
FEW, MANY = 2, INBOXES_AT_ONCE - 1
INTERVAL_S = 60.0


@pytest.fixture(autouse=True)
def configured(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CARILLON_DATABASE_URL", "postgresql://127.0.0.1:1/none")
    settings.cache_clear()
    yield
    settings.cache_clear()


class Repairs:
    """A hub that notes nothing: who is repaired is seen by the questions."""

    def told(self, stream: Stream, told: Told) -> None:
        raise AssertionError("nothing is answered here")

    def learn_key(self, inbox: Inbox, key: int | None) -> None:
        inbox.key = key


class Rounds:
    """A reconciler over live streams, one for each inbox, and every query that it makes."""

    def __init__(self, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[Wanted] = []
        self.reconciler = Reconciler(Repairs(), Batches(self._changes, 1_000), INTERVAL_S)
        self.inboxes = [self._inbox(place) for place in range(number)]
        self.queries: list[dict[str, str]] = []
        #: Which queries fail, counted from 1.
        self.failing: set[int] = set()
        #: The rows that queries find, by the place in the query.
        self.found: list[dict[str, Any]] = []
        monkeypatch.setattr(read, "_rows", self._rows)

    def _inbox(self, place: int) -> Inbox:
        inbox = Inbox("north", f"r{place}", b"c%d" % place, key=place + 1)
        stream = Stream(self, inbox, place, client=None, send=self._send, transport=None)  # type: ignore[arg-type]
        inbox.streams.append(stream)
        stream.order.told(Cursor(1, 7))
        return inbox

    async def _send(self, message: Any) -> None:
        raise AssertionError("nothing is sent here")

    async def _rows(self, _database: str, _statement: Any, parameters: dict[str, str], _tenants: Any) -> Sequence[Any]:
        list(_tenants)
        self.queries.append(parameters)
        await asyncio.sleep(0)
        if len(self.queries) in self.failing:
            raise ConnectionError
        return self.found

    async def _changes(self, _database: str, wanted: Sequence[Wanted]) -> list[Told]:
        self.asked += wanted
        await asyncio.Event().wait()
        return []

    async def round(self) -> None:
        await self.reconciler._round(SHARED, self.inboxes)


async def calls(work: Awaitable[None]) -> int:
    """Return how many Python functions are called until `work` is done."""
    number = 0

    def count(_frame: FrameType, event: str, _: Any) -> None:
        nonlocal number
        number += event == "call"

    sys.setprofile(count)
    try:
        await work
    finally:
        sys.setprofile(None)
    return number


async def test_a_round_asks_of_few_inboxes_at_once_and_of_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = Rounds(3 * HEADS_IN_ONE_QUERY + 1, monkeypatch)
    await rounds.round()
    sizes = [each["keys"].count(",") + 1 for each in rounds.queries]
    assert sizes == [HEADS_IN_ONE_QUERY] * 3 + [1]
    keys = [int(key) for each in rounds.queries for key in each["keys"].strip("{}").split(",")]
    assert keys == list(range(1, len(rounds.inboxes) + 1))
    assert rounds.queries[3] == {
        "tenants": '{"north"}',
        "recipients": f'{{"r{3 * HEADS_IN_ONE_QUERY}"}}',
        "epochs": "{1}",
        "seqs": "{7}",
        "keys": f"{{{3 * HEADS_IN_ONE_QUERY + 1}}}",
    }


async def test_others_have_their_turn_between_two_queries_of_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where a query follows the one before at once: then frames wait for both."""
    rounds = Rounds(4 * HEADS_IN_ONE_QUERY, monkeypatch)
    seen: list[int] = []
    task = asyncio.create_task(rounds.round())
    while not task.done():
        seen.append(len(rounds.queries))
        await asyncio.sleep(0.001)
    await task
    assert sorted(set(seen) | {0, 4}) == [0, 1, 2, 3, 4]


async def test_an_inbox_that_is_not_behind_costs_a_round_a_fixed_number_of_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The first round fills caches.
    _, few, many = [await calls(Rounds(size, monkeypatch).round()) for size in (FEW, FEW, MANY)]
    assert (many - few) / (MANY - FEW) == pytest.approx(CALLS_FOR_EACH, abs=0.5)


async def test_who_is_behind_still_after_the_grace_is_read_and_who_is_not_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rounds = Rounds(3, monkeypatch)
    names = ("key", "epoch", "head_seq", "unread", "unseen", "total", "floor_seq")
    head = dict(zip(names, (1, 1, 9, 0, 0, 0, 0), strict=True))
    rounds.found = [{**head, "place": place, "key": place} for place in (1, 2)]
    task = asyncio.create_task(rounds.round())
    while not rounds.queries:
        await asyncio.sleep(0)
    # The second's frames were on their way.
    rounds.inboxes[1].streams[0].order.mark = 9
    await task
    await asyncio.sleep(0)
    states = [inbox.streams[0].order.state for inbox in rounds.inboxes]
    assert states == [State.READING, State.LIVE, State.LIVE]
    assert rounds.asked == [Wanted("north", "r0", Cursor(1, 7))]
    assert (rounds.reconciler.reconciled, rounds.reconciler.rounds) == (1, 1)
    await rounds.reconciler._changes.stop()


@pytest.mark.parametrize(("failing", "queries"), [({2}, 4), ({1, 3}, 4), ({2, 3}, 3), ({1, 2}, 2)])
async def test_a_piece_that_fails_costs_the_others_of_its_round_nothing_and_two_in_a_row_end_it(
    failing: set[int], queries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = Rounds(4 * HEADS_IN_ONE_QUERY, monkeypatch)
    rounds.failing = failing
    names = ("key", "epoch", "head_seq", "unread", "unseen", "total", "floor_seq")
    head = dict(zip(names, (1, 1, 9, 0, 0, 0, 0), strict=True))
    rounds.found = [{**head, "place": 1, "key": 1}]
    with pytest.raises(ConnectionError):
        await rounds.round()
    assert len(rounds.queries) == queries
    await asyncio.sleep(0)
    done = [number for number in range(queries) if number + 1 not in failing]
    behind = [inbox.recipient for inbox in rounds.inboxes if inbox.streams[0].order.state is State.READING]
    assert behind == [f"r{number * HEADS_IN_ONE_QUERY}" for number in done]
    assert (rounds.reconciler.reconciled, rounds.reconciler.rounds) == (len(done), 0)
    await rounds.reconciler._changes.stop()


def test_arrays_are_written_as_postgresql_reads_them() -> None:
    assert array_of(["a", 'q"', "back\\slash", "{x,y}", ""]) == '{"a","q\\"","back\\\\slash","{x,y}",""}'
    assert (array_of([]), numbers_of([]), numbers_of([1, -2])) == ("", "{}", "{1,-2}")
