"""A mutation's frame is published soon, or given up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from api import publish
from shared import stream_redis
from shared.settings import load_settings
from tests.eventually import eventually_async

COMMANDS = b"*1\r\n*6\r\n$8\r\nspublish\r\n:3\r\n*1\r\n$6\r\npubsub\r\n:1\r\n:1\r\n:1\r\n"


@pytest.fixture
async def publisher(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[publish.Publisher]:
    """A publisher to a cluster whose servers never answer, in a hundredth of the patience."""
    cluster = {"redis_cluster_nodes": "127.0.0.1:2", "result_url": "redis://127.0.0.1:1/0"}
    made = load_settings(redis_url="redis://127.0.0.1:1", **cluster)
    monkeypatch.setattr(stream_redis, "settings", lambda: made)
    monkeypatch.setattr(publish, "TIMEOUT_S", 0.005)

    async def silent(*_command: Any, **_options: Any) -> None:
        await asyncio.Event().wait()

    found = publish.Publisher()
    monkeypatch.setattr(found, "_publish", silent)
    monkeypatch.setattr(found._redis, "ping", silent)
    yield found
    await found.close()


async def test_a_cluster_that_looks_for_a_servers_slots_holds_no_answer_up(publisher: publish.Publisher) -> None:
    async with asyncio.timeout(30):
        assert not await publisher.publish("uni", "ada", b"frame")
        assert not await publisher.ping()


async def test_where_the_time_was_not_enough_the_slots_are_asked_for_in_the_background_once_at_a_time(
    publisher: publish.Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    answered = asyncio.Event()

    async def known() -> None:
        asked.append("client")

    async def ask() -> None:
        asked.append("slots")
        await answered.wait()

    monkeypatch.setattr(publisher._redis, "initialize", known)
    monkeypatch.setattr(publisher._redis, "nodes_manager", SimpleNamespace(initialize=ask))
    for _ in range(3):
        assert not await publisher.publish("uni", "ada", b"frame")
    assert asked == ["client", "slots"]
    answered.set()

    async def asked_again() -> bool:
        return not await publisher.ping() and asked == ["client", "slots"] * 2

    await eventually_async(asked_again, within=30)


class _Servers:
    """Servers of a cluster that all say who has every slot; one that has vanished takes bytes, and never answers."""

    def __init__(self) -> None:
        self.owner = self.vanished = 0
        self.published: list[tuple[int, bytes]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = writer.get_extra_info("sockname")[1]
        try:
            while head := await reader.readline():
                words = []
                for _ in range(int(head[1:])):
                    words.append((await reader.readexactly(int((await reader.readline())[1:]) + 2))[:-2])
                if port != self.vanished:
                    writer.write(self._answer(port, words))
        finally:
            writer.close()

    def _answer(self, port: int, words: list[bytes]) -> bytes:
        if words[0] == b"HELLO":
            return b"%1\r\n$5\r\nproto\r\n:3\r\n"
        if words[0] == b"CLUSTER":
            node = b"*3\r\n$9\r\n127.0.0.1\r\n:%d\r\n$1\r\nn\r\n" % self.owner
            return b"*1\r\n*3\r\n:0\r\n:16383\r\n" + node
        if words[0] == b"COMMAND":
            return COMMANDS
        if words[0] == b"SPUBLISH":
            self.published.append((port, words[2]))
            return b":0\r\n"
        return b"+OK\r\n"


async def test_after_a_failover_from_a_server_that_vanished_frames_go_to_the_new_owner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Pins that a step gives up before the whole is cancelled: a cancelled client never asks who has the slots now."""
    servers = _Servers()
    async with AsyncExitStack() as stack:
        made = [
            await stack.enter_async_context(await asyncio.start_server(servers.serve, "127.0.0.1", 0)) for _ in range(2)
        ]
        first, second = (each.sockets[0].getsockname()[1] for each in made)
        nodes = {"redis_cluster_nodes": f"127.0.0.1:{second}", "result_url": "redis://127.0.0.1:1/0"}
        chosen = load_settings(redis_url=f"redis://127.0.0.1:{first}", **nodes)
        monkeypatch.setattr(stream_redis, "settings", lambda: chosen)
        found = publish.Publisher()
        stack.push_async_callback(found.close)
        # The step's own end is what is tested: not the question in the background.
        monkeypatch.setattr(found, "_failed", lambda _error: None)

        async def is_published() -> bool:
            return await found.publish("uni", "ada", b"frame")

        servers.owner = second
        await eventually_async(is_published, within=30)
        servers.owner, servers.vanished = first, second
        assert not await is_published()
        await eventually_async(is_published, within=30)
        assert servers.published[0] == (second, b"frame")
        assert servers.published[-1] == (first, b"frame")
