"""A process with 2,000 streams is stopped, and all of them come back to the next one at the same moment."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from api.presence import PLACES_AT_ONCE
from api.read import CHANGES_IN_ONE_QUERY, HEADS_IN_ONE_QUERY
from api.sse import DRAIN_RETRY_MS
from shared.embedded import EmbeddedPostgres, EmbeddedRedis
from tests.edge import environment_of, new_database
from tests.herd import Herd, Visit, change_meanwhile
from tests.listener import Frame, token_for
from tests.servers import ApiServer
from tests.wire import Wire, counted
from tests.writer import Writer

STREAMS = 2_000
#: Two cores carry server, client and the rest of the run.
PATIENCE_S = 60.0
POOL = 5
#: Changes that recipient n misses: n modulo this.
MISSED = 4
#: BEGIN with role and tenants, the query, COMMIT.
STATEMENTS_OF_A_QUERY = 3
RECONCILE_S = 4.0
QUERIES_OF_A_ROUND = STREAMS // HEADS_IN_ONE_QUERY
#: Beside the pool: the connection that hears of events.
LISTENERS = 1
CONNECTED, SYNCED = b"event: connected\n", b"event: synced\n"


@dataclass(slots=True)
class Roll:
    """What was seen of a stop and of the return."""

    before: list[list[Frame]] = field(default_factory=list)
    after: list[list[Frame]] = field(default_factory=list)
    code: int = 0
    told_s: float = 0.0
    opening: Counter[str] = field(default_factory=Counter)
    returning: Counter[str] = field(default_factory=Counter)
    connections: int = 0
    log: str = ""


@contextmanager
def api(environment: dict[str, str], folder: Path, name: str) -> Iterator[ApiServer]:
    server = ApiServer(environment, folder / f"{name}.log")
    server.start()
    try:
        yield server
    finally:
        server.kill()


async def stopped(server: ApiServer, herd: Herd, roll: Roll) -> None:
    """Send SIGTERM and note how streams and process end."""
    server.signal(signal.SIGTERM)
    await herd.all(lambda stream: stream.closed, PATIENCE_S)
    assert server.process is not None
    roll.code = await asyncio.to_thread(server.process.wait, PATIENCE_S)
    roll.before = [stream.frames for stream in herd.streams]
    roll.log = server.output


async def returned(server: ApiServer, visits: list[Visit], wire: Wire, writer: Writer, roll: Roll) -> None:
    """Come back all at once, and have one more change reach everybody live."""
    wire.reset()
    herd = await Herd.open(server.port, visits, SYNCED, PATIENCE_S)
    roll.returning, roll.connections = Counter(wire.statements), wire.most
    roll.told_s = herd.seconds()[-1]
    await asyncio.to_thread(writer.create_chunk, [f"r{number}" for number in range(STREAMS)], "live")
    await herd.all(lambda stream: b'"live"' in stream.received, PATIENCE_S)
    roll.after = [stream.frames for stream in herd.streams]
    herd.close()


async def rolled(wire: Wire, url: str, redis_url: str, folder: Path) -> Roll:
    """Return what was seen while a process with all streams is stopped and the next one takes them."""
    environment = environment_of(wire.url, redis_url, folder, CARILLON_DATABASE_POOL_SIZE=str(POOL))
    roll = Roll()
    recipients = [f"r{number}" for number in range(STREAMS)]
    tokens = [token_for(environment, recipient) for recipient in recipients]
    with Writer(url, redis_url) as writer:
        writer.register(*recipients)
        with api(environment, folder, "first") as server:
            wire.reset()
            herd = await Herd.open(server.port, [Visit(token) for token in tokens], CONNECTED, PATIENCE_S)
            roll.opening = Counter(wire.statements)
            await stopped(server, herd, roll)
        change_meanwhile(url, MISSED)
        visits = [Visit(token, frames[0].id) for token, frames in zip(tokens, roll.before, strict=True)]
        with api(environment, folder, "second") as server:
            await returned(server, visits, wire, writer, roll)
    return roll


@pytest.fixture(scope="module")
def roll(postgres: EmbeddedPostgres, shared_redis: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Roll:
    """The one roll that these tests look at."""
    with new_database(postgres) as url, counted(url) as wire:
        return asyncio.run(rolled(wire, url, shared_redis.url(), tmp_path_factory.mktemp("roll")))


def test_a_stop_tells_every_stream_goodbye_and_ends_with_nothing_cut_or_left(roll: Roll) -> None:
    """How soon the process is gone is measured by `bench/herd.py`, which fails beyond its limit."""
    assert {tuple(frame.event for frame in frames) for frames in roll.before} == {("connected", "goodbye")}
    assert {frames[-1].data["reason"] for frames in roll.before} == {"drain"}
    assert roll.code == -signal.SIGTERM
    assert "Traceback" not in roll.log
    assert "exceeded" not in roll.log
    assert "abandoned" not in roll.log


def test_the_returns_are_spread_evenly_over_the_whole_time(roll: Roll) -> None:
    waits = [frames[-1].data["retryMs"] for frames in roll.before]
    assert [frames[-1].retry for frames in roll.before] == waits
    first, last = DRAIN_RETRY_MS
    assert first <= min(waits) < max(waits) <= last
    ninths = Counter((wait - first) * 9 // (last - first + 1) for wait in waits)
    # 222 on average, with a standard deviation of 14.
    assert set(ninths) == set(range(9))
    assert min(ninths.values()) > 140
    assert max(ninths.values()) < 310


def test_all_come_back_at_once_and_are_told_everything_that_they_missed(roll: Roll) -> None:
    for number, frames in enumerate(roll.after):
        missed = list(range(1, number % MISSED + 1))
        head = len(missed)
        told = [(frame.kind, frame.seq) for frame in frames]
        expected = [("connected", 0), *(("changed", seq) for seq in missed), ("synced", head), ("created", head + 1)]
        assert told == expected, number
        titles = [each["title"] for frame in frames[1:-2] for each in frame.data["notifications"]]
        assert titles == [f"r{number} misses {seq}" for seq in missed]
        assert frames[-2].data["unreadCount"] == head


def queries(statements: Counter[str], words: str) -> int:
    return sum(number for text, number in statements.items() if words in text)


def test_the_herd_costs_the_database_a_query_for_every_hundred_streams_and_one_connection_at_a_time(roll: Roll) -> None:
    """One query runs at a time and answers all that were asked during the one before, 100 at most: 20 if all are full.

    Streams ask as Redis registers their places, at most 200 in a transaction, which is two full queries; where fewer
    come together a query is not full, and three times as many are allowed for that. Each is a transaction of its own.
    """
    full = STREAMS // CHANGES_IN_ONE_QUERY
    replays = queries(roll.returning, "n.seq > a.seq")
    assert full <= replays <= 3 * full
    rounds = queries(roll.returning, "i.key <> a.key")
    assert rounds <= QUERIES_OF_A_ROUND * (1 + roll.told_s / RECONCILE_S)
    assert queries(roll.returning, "COMMIT") <= replays + rounds
    assert sum(roll.returning.values()) <= STATEMENTS_OF_A_QUERY * (replays + rounds)
    assert roll.connections <= POOL + LISTENERS


def test_two_thousand_new_streams_cost_less_still(roll: Roll) -> None:
    """Without a cursor only heads are read, up to 200 in a query; each registration of 200 places may cost one."""
    openings = sum(roll.opening.values()) - STATEMENTS_OF_A_QUERY * queries(roll.opening, "i.key <> a.key")
    assert openings <= STATEMENTS_OF_A_QUERY * 3 * STREAMS // PLACES_AT_ONCE
    others = [text for text in roll.opening if not text.startswith("BEGIN") and "FROM deployment" not in text]
    assert others == ["COMMIT"]
