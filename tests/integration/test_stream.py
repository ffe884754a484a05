"""The stream of one process: every frame of the contract, in order, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared.embedded import EmbeddedPostgres, EmbeddedRedis
from tests.edge import Edge, id_of, new_database, running_edge
from tests.listener import Frame
from tests.writer import TENANT


@pytest.fixture(scope="module")
def edge(
    postgres: EmbeddedPostgres, shared_redis: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Edge]:
    """An API process for all tests of this file; a replay carries at most 8 changes."""
    settings = {"CARILLON_REPLAY_MAX_CHANGES": "8", "CARILLON_HEARTBEAT_SECONDS": "0.4"}
    with (
        new_database(postgres) as url,
        running_edge(url, shared_redis.url(), tmp_path_factory.mktemp("edge"), **settings) as running,
    ):
        yield running


@pytest.fixture
def ada(edge: Edge) -> str:
    """A recipient of this test's own."""
    return edge.recipient()


def kinds(frames: list[Frame]) -> list[str]:
    return [frame.kind for frame in frames]


async def test_a_stream_begins_with_connected_at_the_head(edge: Edge, ada: str) -> None:
    edge.writer.create(ada)
    edge.writer.create(ada)
    async with edge.listener(ada) as stream:
        (connected,) = await stream.count(1)
    assert connected.retry is not None
    assert 1_000 <= connected.retry <= 3_000
    assert (connected.event, connected.id) == ("connected", "1-2")
    assert connected.data == {
        "status": "connected", "inbox": f"{TENANT}/{ada}", "cursor": "1-2", "head": "1-2", "unreadCount": 2,
        "unseenCount": 2, "heartbeatSeconds": 0.4,
    }  # fmt: skip


async def test_the_answer_has_the_headers_of_the_contract(edge: Edge, ada: str) -> None:
    async with edge.listener(ada, path="/api/notifications/subscribe") as stream:
        await stream.count(1)
    assert stream.status == 200
    assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert stream.headers["cache-control"] == "no-store, no-transform"
    assert stream.headers["x-accel-buffering"] == "no"


async def test_live_changes_arrive_in_order_with_their_counters(edge: Edge, ada: str) -> None:
    async with edge.listener(ada) as stream:
        await stream.count(1)
        frame = edge.writer.create(ada, "Caf\u00e9 \u2028 new")
        id = id_of(frame)
        edge.writer.read(ada, id)
        edge.writer.delete(ada, id_of(edge.writer.create(ada)))
        frames = (await stream.count(5))[1:]
    assert kinds(frames) == ["created", "read", "created", "deleted"]
    assert [(frame.id, frame.data["prev"]) for frame in frames] == [("1-1", 0), ("1-2", 1), ("1-3", 2), ("1-4", 3)]
    assert [frame.data["unreadCount"] for frame in frames] == [1, 0, 1, 0]
    assert frames[0].data["notification"]["title"] == "Caf\u00e9 \u2028 new"


async def test_two_streams_of_a_recipient_and_one_of_another_get_what_is_theirs(
    edge: Edge, ada: str, settings_env: dict[str, str]
) -> None:
    bob = edge.recipient()
    async with (
        edge.listener(ada) as first,
        edge.listener(ada) as second,
        edge.listener(bob) as third,
    ):
        for stream in (first, second, third):
            await stream.count(1)
        edge.writer.create(bob, "for bob")
        edge.writer.create(ada, "for ada")
        for stream, title in ((first, "for ada"), (second, "for ada"), (third, "for bob")):
            frames = await stream.count(2)
            assert [frame.data["notification"]["title"] for frame in frames[1:]] == [title]


async def test_a_chunk_reaches_the_streams_of_its_recipients_alone(
    edge: Edge, ada: str, settings_env: dict[str, str]
) -> None:
    bob, eve = edge.recipient(), edge.recipient()
    async with (
        edge.listener(ada) as first,
        edge.listener(bob, "snapshot=5") as second,
        edge.listener(eve) as third,
    ):
        await first.count(1)
        await second.count(2)
        await third.count(1)
        edge.writer.create_chunk([ada, bob])
        edge.writer.create_chunk([ada])
        edge.writer.create(eve, "last")
        ada_frames, bob_frames, eve_frames = await first.count(3), await second.count(3), await third.count(2)
    assert [(frame.kind, frame.id, frame.data["prev"]) for frame in ada_frames[1:]] == [
        ("created", "1-1", 0), ("created", "1-2", 1)
    ]  # fmt: skip
    assert bob_frames[2].data["notification"]["title"] == "Hello all"
    assert bob_frames[2].data["notification"]["tenant"] == "north"
    assert [frame.id for frame in bob_frames] == ["1-0", "1-0", "1-1"]
    assert [frame.data["notification"]["title"] for frame in eve_frames[1:]] == ["last"]


async def test_heartbeats_come_to_a_quiet_stream(edge: Edge, ada: str) -> None:
    async with edge.listener(ada) as stream:
        await stream.until(lambda _: len(stream.frames) >= 3)
        assert stream.frames[0].data["heartbeatSeconds"] == 0.4
        heartbeats = stream.frames[1:]
    assert {frame.event for frame in heartbeats} == {"heartbeat"}
    assert all(frame.id is None and set(frame.data) == {"timestamp"} for frame in heartbeats)


@pytest.mark.parametrize("header", [True, False])
async def test_a_resume_tells_what_changed_compacted_and_then_synced(edge: Edge, ada: str, header: bool) -> None:
    ids = [id_of(edge.writer.create(ada)) for _ in range(4)]
    edge.writer.read(ada, ids[0])
    edge.writer.delete(ada, ids[1])
    headers = {"Last_Event_ID": "1-1"} if header else {}
    async with edge.listener(ada, "" if header else "lastEventId=1-1", **headers) as stream:
        frames = await stream.until(lambda frames: frames[-1].event == "synced")
        edge.writer.create(ada)
        live = (await stream.count(len(frames) + 1))[-1]
    assert [(frame.kind, frame.id, frame.data.get("prev")) for frame in frames] == [
        ("connected", "1-1", None),
        ("changed", "1-3", 1),
        ("changed", "1-4", 3),
        ("changed", "1-5", 4),
        ("changed", "1-6", 5),
        ("synced", "1-6", 6),
    ]
    assert (frames[0].data["head"], frames[0].data["cursor"]) == ("1-6", "1-1")
    assert frames[3].data["notifications"][0]["read"] is True
    assert frames[4].data["deletedIds"] == [ids[1]]
    assert (live.kind, live.id, live.data["prev"]) == ("created", "1-7", 6)


async def test_a_resume_at_the_head_is_told_synced_alone(edge: Edge, ada: str) -> None:
    edge.writer.create(ada)
    async with edge.listener(ada, Last_Event_ID="1-1") as stream:
        frames = await stream.count(2)
    assert [(frame.event, frame.id) for frame in frames] == [("connected", "1-1"), ("synced", "1-1")]


async def test_the_header_wins_over_the_parameter(edge: Edge, ada: str) -> None:
    edge.writer.create(ada)
    async with edge.listener(ada, "lastEventId=1-0", Last_Event_ID="1-1") as stream:
        assert (await stream.count(2))[1].event == "synced"


@pytest.mark.parametrize(
    ("cursor", "connected"),
    [("7-1", "7-1"), ("1-99", "1-99"), ("somebody else's", "1-3"), ("1-2-3", "1-3"), ("01-1", "1-3")],
)
async def test_a_cursor_that_cannot_be_served_is_told_reset(edge: Edge, ada: str, cursor: str, connected: str) -> None:
    for _ in range(3):
        edge.writer.create(ada)
    async with edge.listener(ada, "snapshot=5", Last_Event_ID=cursor) as stream:
        await stream.count(2)
        edge.writer.create(ada)
        frames = await stream.count(3)
    assert [(frame.kind, frame.id) for frame in frames] == [
        ("connected", connected), ("reset", "1-3"), ("created", "1-4")
    ]  # fmt: skip
    assert frames[1].data == {"head": "1-3", "unreadCount": 3, "unseenCount": 3}


async def test_more_changes_behind_than_a_replay_carries_is_reset(edge: Edge, ada: str) -> None:
    for _ in range(9):
        edge.writer.create(ada)
    async with (
        edge.listener(ada, Last_Event_ID="1-0") as far,
        edge.listener(ada, Last_Event_ID="1-1") as near,
    ):
        assert kinds(await far.count(2)) == ["connected", "reset"]
        assert kinds(await near.count(10)) == ["connected", *["changed"] * 8, "synced"]


async def test_a_snapshot_is_the_first_page_and_its_id_the_seq_it_was_read_at(edge: Edge, ada: str) -> None:
    for number in range(3):
        edge.writer.create(ada, f"number {number}")
    async with edge.listener(ada, "snapshot=2") as stream:
        connected, snapshot = await stream.count(2)
        edge.writer.create(ada)
        assert (await stream.count(3))[2].data["prev"] == 3
    assert (connected.event, connected.id) == ("connected", "1-3")
    assert (snapshot.event, snapshot.id, snapshot.data["cursor"]) == ("snapshot", "1-3", "1-3")
    assert [node["title"] for node in snapshot.data["nodes"]] == ["number 2", "number 1"]
    assert snapshot.data["pageInfo"]["hasNextPage"] is True
    assert (snapshot.data["totalCount"], snapshot.data["unreadCount"]) == (3, 3)


async def test_a_snapshot_is_ignored_with_a_valid_cursor(edge: Edge, ada: str) -> None:
    edge.writer.create(ada)
    async with edge.listener(ada, "snapshot=20", Last_Event_ID="1-0") as stream:
        assert kinds(await stream.count(3)) == ["connected", "changed", "synced"]


async def test_a_recipient_unknown_to_the_directory_sees_an_empty_inbox_and_what_comes_later(edge: Edge) -> None:
    async with edge.listener("newcomer", "snapshot=20") as stream:
        frames = await stream.count(2)
        assert frames[1].data["nodes"] == []
        edge.writer.register("newcomer")
        edge.writer.create("newcomer")
        assert (await stream.count(3))[2].id == "1-1"


async def test_a_replay_cut_anywhere_and_resumed_ends_in_the_same_state(edge: Edge, ada: str) -> None:
    ids = [id_of(edge.writer.create(ada)) for _ in range(5)]
    edge.writer.read(ada, ids[3])
    edge.writer.delete(ada, ids[0])
    async with edge.listener(ada, Last_Event_ID="1-0") as stream:
        whole = await stream.until(lambda frames: frames[-1].event == "synced")
    for cut in range(1, len(whole)):
        async with edge.listener(ada, Last_Event_ID=str(whole[cut - 1].id)) as stream:
            rest = await stream.until(lambda frames: frames[-1].event == "synced")
        assert state_after([*whole[:cut], *rest]) == state_after(whole)
        assert rest[0].id == whole[cut - 1].id


def state_after(frames: list[Frame]) -> tuple[dict[str, object], str | None, int]:
    """Return the notifications, the last id and the badge that a client has which follows the rule."""
    items: dict[str, object] = {}
    mark = frames[0].seq
    for frame in frames:
        if frame.kind == "changed" and frame.seq > mark:
            assert frame.data["prev"] == mark
            items |= {node["id"]: node for node in frame.data["notifications"]}
            for id in frame.data["deletedIds"]:
                items.pop(id, None)
            mark = frame.seq
    return items, frames[-1].id, frames[-1].data["unreadCount"]
