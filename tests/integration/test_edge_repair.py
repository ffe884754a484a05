"""What the fast path loses, doubles or mixes up: every stream still tells each change once, in order."""

from __future__ import annotations

import asyncio
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from itertools import count

import httpx
import psycopg
import pytest
from redis.asyncio import Redis

from shared.embedded import EmbeddedPostgres, EmbeddedRedis
from shared.frames import channel_of
from tests.edge import Edge, id_of, new_database, running_edge
from tests.eventually import eventually_async
from tests.listener import Frame
from tests.writer import TENANT, Writer

#: Seconds between two rounds of the reconciler here, and what a loaded machine may add.
INTERVAL = 1.0
SLACK = 4.0
#: A read that waits for a lock is given up, and the stream refused, after 2 s (`db.LOCK_TIMEOUT_MS`).
BEFORE_REFUSAL = 1.5
_redis_numbers = count()


@pytest.fixture(scope="module")
def redis_server(shared_redis: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """A Redis of this file's own, to kill and to stop."""
    server = EmbeddedRedis(shared_redis.home.parent / f"redis-edge-{next(_redis_numbers)}", fast=True)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def edge(
    postgres: EmbeddedPostgres, redis_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Edge]:
    """An API process for all tests of this file."""
    settings = {"CARILLON_RECONCILE_SECONDS": str(INTERVAL)}
    with (
        new_database(postgres) as url,
        running_edge(url, redis_server.url(), tmp_path_factory.mktemp("edge"), **settings) as running,
    ):
        yield running


@pytest.fixture
def ada(edge: Edge) -> str:
    """A recipient of this test's own."""
    return edge.recipient()


def chain(frames: list[Frame]) -> list[tuple[str, int]]:
    """Return each frame's kind and seq, after checking that `prev` links it to the one before."""
    mark = frames[0].seq
    for frame in frames[1:]:
        assert frame.data["prev"] == mark, (frame, mark)
        mark = frame.seq
    return [(frame.kind, frame.seq) for frame in frames]


async def test_a_lost_publish_is_repaired_within_one_interval(edge: Edge, ada: str) -> None:
    async with edge.listener(ada) as stream:
        await stream.count(1)
        edge.writer.create(ada, "lost", lose=True)
        frames = await stream.count(3, within=INTERVAL + SLACK)
        assert frames[1].data["notifications"][0]["title"] == "lost"
        edge.writer.create(ada)
        assert chain(await stream.count(4)) == [("connected", 0), ("changed", 1), ("synced", 1), ("created", 2)]


async def test_a_hole_is_read_at_once_when_the_next_frame_shows_it(edge: Edge, ada: str) -> None:
    async with edge.listener(ada) as stream:
        await stream.count(1)
        edge.writer.create(ada)
        edge.writer.create(ada, lose=True)
        edge.writer.create(ada, lose=True)
        edge.writer.create(ada)
        frames = await stream.until(lambda frames: frames[-1].seq == 4 and frames[-1].event == "synced")
    assert chain(frames) == [
        ("connected", 0), ("created", 1), ("changed", 2), ("changed", 3), ("changed", 4), ("synced", 4)
    ]  # fmt: skip


async def test_frames_published_out_of_order_are_told_in_order(edge: Edge, ada: str) -> None:
    async with edge.listener(ada) as stream:
        await stream.count(1)
        frames = [edge.writer.create(ada, lose=True) for _ in range(5)]
        for place in (1, 2, 0, 4, 3):
            edge.writer.publish(ada, frames[place])
        told = await stream.until(lambda frames: frames[-1].seq == 5)
    assert [seq for _, seq in chain(told)][-1] == 5
    assert {kind for kind, _ in chain(told)[1:]} <= {"created", "changed", "synced"}


async def test_a_frame_published_twice_is_told_once(edge: Edge, ada: str) -> None:
    async with edge.listener(ada) as stream:
        await stream.count(1)
        first = edge.writer.create(ada)
        edge.writer.publish(ada, first)
        edge.writer.create(ada)
        edge.writer.publish(ada, first)
        edge.writer.create(ada)
        assert chain(await stream.count(4)) == [("connected", 0), ("created", 1), ("created", 2), ("created", 3)]


async def test_a_chunk_that_overtakes_a_single_frame_is_told_after_it(edge: Edge, ada: str) -> None:
    async with edge.listener(ada, "snapshot=5") as stream:
        await stream.count(2)
        single = edge.writer.create(ada, lose=True)
        edge.writer.create_chunk([ada])
        edge.writer.publish(ada, single)
        frames = await stream.until(lambda frames: frames[-1].seq == 2)
    assert [seq for _, seq in chain(frames[1:])][-1] == 2


@pytest.mark.parametrize(
    "bogus", [b"", b"nonsense", b"id: 1-99999\nevent: x\ndata: {}\n\n", b"id: 1-\n", b"\xff" * 100]
)
async def test_a_message_that_is_no_frame_of_the_inbox_disturbs_nothing(edge: Edge, ada: str, bogus: bytes) -> None:
    async with edge.listener(ada) as stream:
        await stream.count(1)
        edge.writer.publish(ada, bogus)
        edge.writer.create(ada)
        frames = await stream.until(lambda frames: frames[-1].seq == 1)
    assert chain(frames)[-1][1] == 1


async def test_a_new_epoch_is_told_reset_and_the_stream_goes_on(
    postgres: EmbeddedPostgres, redis_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with ExitStack() as stack:
        url = stack.enter_context(new_database(postgres))
        folder = tmp_path_factory.mktemp("edge")
        settings = {"CARILLON_RECONCILE_SECONDS": str(INTERVAL)}
        edge = stack.enter_context(running_edge(url, redis_server.url(), folder, **settings))
        ada, bob = edge.recipient(), edge.recipient()
        edge.writer.create(ada)
        async with edge.listener(ada) as busy, edge.listener(bob) as quiet:
            await busy.count(1)
            await quiet.count(1)
            edge.writer.set_epoch(7)
            edge.writer.create(ada)
            frames = await busy.until(lambda frames: frames[-1].id == "7-2")
            edge.writer.create(ada)
            assert [(frame.kind, frame.id) for frame in (await busy.count(len(frames) + 1))] == [
                ("connected", "1-1"), ("reset", "7-2"), ("created", "7-3")
            ]  # fmt: skip
            assert (await quiet.count(2, within=INTERVAL + SLACK))[1].kind == "reset"


async def test_a_deleted_recipients_stream_is_told_reset_within_one_interval(edge: Edge, ada: str) -> None:
    edge.writer.create(ada)
    async with edge.listener(ada) as stream:
        await stream.count(1)
        edge.writer.delete_recipient(ada)
        frames = await stream.count(2, within=INTERVAL + SLACK)
        assert [(frame.kind, frame.seq, frame.data["unreadCount"]) for frame in frames] == [
            ("connected", 1, 1), ("reset", 2, 0)
        ]  # fmt: skip
    async with edge.listener(ada, Last_Event_ID="1-1") as resumed:
        assert [frame.kind for frame in await resumed.count(2)] == ["connected", "reset"]


async def test_a_stream_listens_before_it_reads(edge: Edge, ada: str, redis_server: EmbeddedRedis) -> None:
    """Fails when the page is read first: what is published between the two would wait for the reconciler (I4)."""
    async with await psycopg.AsyncConnection.connect(edge.environment["CARILLON_DATABASE_URL"]) as holder:
        await holder.execute("LOCK TABLE inboxes IN ACCESS EXCLUSIVE MODE")
        stream = edge.listener(ada)
        opening = asyncio.create_task(stream.open())
        try:
            await live_again(edge, ada, redis_server, within=BEFORE_REFUSAL)
            assert not opening.done()
        finally:
            await holder.rollback()
    async with await opening:
        assert chain(await stream.count(1)) == [("connected", 0)]


async def test_a_killed_redis_costs_one_interval_and_no_change(
    edge: Edge, ada: str, redis_server: EmbeddedRedis
) -> None:
    async with edge.listener(ada) as stream:
        await stream.count(1)
        redis_server.kill()
        edge.writer.create(ada, lose=True)
        frames = await stream.until(lambda frames: frames[-1].kind == "synced", within=INTERVAL + SLACK)
        assert chain(frames) == [("connected", 0), ("changed", 1), ("synced", 1)]
        async with edge.listener(ada, Last_Event_ID="1-0") as opened_without_redis:
            assert chain((await opened_without_redis.count(3))[:1]) == [("connected", 0)]
            redis_server.start()
            edge.writer.create(ada, lose=True)
            for each in (stream, opened_without_redis):
                await each.until(lambda frames: frames[-1].seq == 2, within=INTERVAL + SLACK)
            await live_again(edge, ada, redis_server)
            edge.writer.create(ada)
            for each in (stream, opened_without_redis):
                last = (await each.until(lambda frames: frames[-1].kind == "created"))[-1]
                assert last.data["prev"] == last.seq - 1
                chain(each.told())


async def live_again(edge: Edge, recipient: str, server: EmbeddedRedis, within: float = 10.0) -> None:
    """Return once the process listens to the recipient's channel on that Redis."""
    async with Redis.from_url(server.url()) as client:

        async def listens() -> bool:
            return bool((await client.pubsub_numsub(channel_of(TENANT, recipient)))[0][1])

        await eventually_async(listens, within)


async def test_a_stopped_redis_neither_closes_streams_nor_keeps_new_ones_out(
    edge: Edge, ada: str, redis_server: EmbeddedRedis
) -> None:
    assert redis_server.process is not None
    async with edge.listener(ada) as stream:
        await stream.count(1)
        redis_server.process.send_signal(signal.SIGSTOP)
        try:
            edge.writer.create(ada, lose=True)
            assert len(await stream.count(3, within=INTERVAL + SLACK)) == 3
            async with edge.listener(ada) as other:
                assert chain(await other.count(1)) == [("connected", 1)]
        finally:
            redis_server.process.send_signal(signal.SIGCONT)
        edge.writer.create(ada)
        frames = await stream.until(lambda frames: frames[-1].seq == 2)
        chain(frames)


async def test_with_the_database_away_streams_stay_and_are_repaired_when_it_is_back(
    private_postgres: EmbeddedPostgres, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = {"CARILLON_RECONCILE_SECONDS": str(INTERVAL)}
    folder = tmp_path_factory.mktemp("edge")
    with running_edge(private_postgres.url(), redis_url, folder, **settings) as edge:
        ada = edge.recipient()
        async with edge.listener(ada) as stream:
            await stream.count(1)
            private_postgres.kill()
            edge.writer.publish(ada, b'id: 1-5\nevent: notification\ndata: {"prev":4}\n\n')
            refused = await edge.listener(ada).open()
            assert (refused.status, refused.headers["retry-after"]) == (503, "1")
            await refused.close()
            private_postgres.start()
            with Writer(private_postgres.url(), redis_url) as writer:
                writer.create(ada, lose=True)
                frames = await stream.until(lambda frames: frames[-1].kind == "synced", within=INTERVAL + 15)
                writer.create(ada)
                frames = await stream.until(lambda frames: frames[-1].kind == "created")
    assert chain(frames) == [("connected", 0), ("changed", 1), ("synced", 1), ("created", 2)]


async def test_clients_that_come_and_go_at_random_during_writes_miss_nothing_and_hear_nothing_twice(edge: Edge) -> None:
    recipients = [edge.recipient() for _ in range(6)]
    done = threading.Event()
    dice = random.Random(20)

    def write() -> None:
        with Writer(edge.environment["CARILLON_DATABASE_URL"], edge.environment["CARILLON_REDIS_URL"]) as writer:
            for number in range(600):
                recipient = dice.choice(recipients)
                if number % 10 == 0:
                    writer.create_chunk(sorted(dice.sample(recipients, 3)))
                elif number % 7 == 0:
                    frames = [writer.create(recipient, lose=True), writer.create(recipient, lose=True)]
                    for frame in reversed(frames):
                        writer.publish(recipient, frame)
                else:
                    fresh = id_of(writer.create(recipient, lose=number % 23 == 0))
                    if number % 3 == 0:
                        writer.read(recipient, fresh)
        done.set()

    writing = asyncio.create_task(asyncio.to_thread(write))
    ends = await asyncio.gather(*(follow(edge, recipient, done, seed) for seed, recipient in enumerate(recipients)))
    await writing
    for recipient, (mark, items) in zip(recipients, ends, strict=True):
        assert (mark, items) == await page_of(edge, recipient)


async def follow(edge: Edge, recipient: str, done: threading.Event, seed: int) -> tuple[int, dict[str, bool]]:
    """Follow an inbox by the rule of the contract over connections cut at random; returns the mark and id → read."""
    dice = random.Random(seed)
    mark, items = 0, dict[str, bool]()
    while True:
        last = done.is_set()
        async with edge.listener(recipient, Last_Event_ID=f"1-{mark}") as stream:
            if last:
                await stream.until(lambda frames: frames[-1].kind == "synced", within=30)
            else:
                await stream.until(partial(enough, dice.randint(1, 12), done), within=30)
            for frame in stream.told():
                mark = apply(frame, mark, items)
        if last:
            return mark, items


def enough(wanted: int, done: threading.Event, frames: list[Frame]) -> bool:
    return len(frames) >= wanted or done.is_set()


def apply(frame: Frame, mark: int, items: dict[str, bool]) -> int:
    """Apply one frame as a client does; returns the new mark. A frame that does not follow fails the test."""
    if frame.event == "connected":
        assert frame.seq == mark
        return mark
    assert frame.data["prev"] == mark, (frame, mark)
    if frame.kind == "created":
        items[frame.data["notification"]["id"]] = False
    elif frame.kind == "read":
        items[frame.data["notificationId"]] = True
    elif frame.kind == "changed":
        items |= {node["id"]: node["read"] for node in frame.data["notifications"]}
    else:
        assert frame.kind == "synced"
    return frame.seq


async def page_of(edge: Edge, recipient: str) -> tuple[int, dict[str, bool]]:
    """Return the inbox's seq and its notifications, as a fresh page and its successors show them."""
    items: dict[str, bool] = {}
    after = ""
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {edge.token(recipient)}"}) as client:
        while True:
            page = (await client.get(f"{edge.server.url}/api/notifications?first=100{after}")).json()
            items |= {node["id"]: node["read"] for node in page["nodes"]}
            if not page["pageInfo"]["hasNextPage"]:
                return int(page["cursor"].split("-")[1]), items
            after = f"&after={page['pageInfo']['endCursor']}"
