"""Listening to a cluster: every channel at the server of its slot, also after the slot has gone to another one.

The servers here speak as much of the protocol as sharded publish and subscribe has; tests/deploy has real ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import hiredis
import pytest

from api.shards import ShardedSubscriber
from api.subscriber import SHARDED, Heard, spelled
from shared.stream_redis import Address
from tests.eventually import eventually_async

WITHIN_S = 20.0


def _reply(*parts: bytes) -> bytes:
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


class Cluster:
    """Some servers, who has which channel, and what a subscriber told."""

    def __init__(self) -> None:
        self.servers: list[Server] = []
        self.places: dict[bytes, Server] = {}
        self.messages: list[tuple[bytes, bytes]] = []
        self.ups = 0
        self.refreshed = 0
        #: How often more the client is told what it knew.
        self.stale = 0
        self._seen: dict[bytes, Server] = {}

    def owner(self, channel: bytes) -> Address | None:
        """Return what a client knows since it was refreshed."""
        return self._seen[channel].address if channel in self._seen else None

    async def refresh(self) -> bool:
        """Tell the client who has what."""
        self.refreshed += 1
        if self.stale:
            self.stale -= 1
            return False
        before, self._seen = self._seen, dict(self.places)
        return before != self._seen

    def heard(self) -> Heard:
        """Return what the subscriber is given."""
        return Heard(lambda *message: self.messages.append(message), lambda: None, self._up)

    def _up(self) -> None:
        self.ups += 1

    def publish(self, channel: bytes, body: bytes) -> None:
        """Have the channel's server tell its subscribers."""
        self.places[channel].tell(channel, body)


class Server:
    """One server: it takes subscriptions of its own channels and refers others elsewhere."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.subscribed: list[bytes] = []
        self.address: Address = ("", 0)

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = self._server.sockets[0].getsockname()[:2]

    async def stop(self) -> None:
        """End every connection, and listen no longer."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        commands = hiredis.Reader()
        while data := await reader.read(65_536):
            commands.feed(data)
            while (asked := commands.gets()) is not False:
                self._answer(writer, asked)
        self._writers.discard(writer)
        self.subscribed.clear()
        writer.close()

    def _answer(self, writer: asyncio.StreamWriter, asked: Any) -> None:
        verb, *channels = asked
        if verb == b"PING":
            writer.write(_reply(b"pong", b""))
        elif verb == b"SSUBSCRIBE" and self._cluster.places.get(channels[0]) is self:
            self.subscribed.append(channels[0])
            writer.write(b"*3\r\n$10\r\nssubscribe\r\n$%d\r\n%s\r\n:1\r\n" % (len(channels[0]), channels[0]))
        elif verb == b"SSUBSCRIBE":
            writer.write(b"-MOVED 1 127.0.0.1:1\r\n")
        elif verb == b"SUNSUBSCRIBE" and channels[0] in self.subscribed:
            self._let_go(writer, channels[0])

    def _let_go(self, writer: asyncio.StreamWriter, channel: bytes) -> None:
        self.subscribed.remove(channel)
        writer.write(b"*3\r\n$12\r\nsunsubscribe\r\n$%d\r\n%s\r\n:0\r\n" % (len(channel), channel))

    def tell(self, channel: bytes, body: bytes) -> None:
        """Tell whoever subscribed to the channel."""
        if channel in self.subscribed:
            for writer in self._writers:
                writer.write(_reply(b"smessage", channel, body))

    def give_away(self, channel: bytes) -> None:
        """End the subscriptions of a channel unasked, as a server does whose slot has gone."""
        for writer in self._writers:
            self._let_go(writer, channel)


@asynccontextmanager
async def _running(**places: int) -> AsyncIterator[tuple[Cluster, ShardedSubscriber]]:
    """Yield two servers with these channels, and a subscriber to them that wants all."""
    cluster = Cluster()
    cluster.servers = [Server(cluster), Server(cluster)]
    for server in cluster.servers:
        await server.start()
    cluster.places = {name.encode(): cluster.servers[at] for name, at in places.items()}
    made = ShardedSubscriber("redis://ignored", cluster.heard(), cluster.owner, cluster.refresh, look_s=0.02)
    for name in places:
        made.want(name.encode())
    made.start()
    try:
        await asyncio.wait_for(made.is_up.wait(), WITHIN_S)
        yield cluster, made
    finally:
        await made.stop()
        for server in cluster.servers:
            await server.stop()


async def _heard(cluster: Cluster, channel: bytes) -> bool:
    """Publish until something arrives: a message to a channel that is changing hands may be lost."""
    before = len(cluster.messages)

    async def came() -> bool:
        cluster.publish(channel, b"x")
        return len(cluster.messages) > before

    return await eventually_async(came, WITHIN_S)


def test_a_cluster_is_asked_for_each_channel_by_a_command_of_its_own() -> None:
    told = spelled(SHARDED, SHARDED.subscribe, [b"a", b"b"])
    assert told == b"*2\r\n$10\r\nSSUBSCRIBE\r\n$1\r\na\r\n*2\r\n$10\r\nSSUBSCRIBE\r\n$1\r\nb\r\n"


async def test_every_channel_is_subscribed_at_its_own_server() -> None:
    async with _running(a=0, b=1, c=1) as (cluster, subscriber):
        assert [sorted(server.subscribed) for server in cluster.servers] == [[b"a"], [b"b", b"c"]]
        assert (subscriber.up, subscriber.channels, cluster.ups) == (True, 3, 2)
        for channel in (b"a", b"b", b"c"):
            assert await subscriber.confirmed(channel)
            assert await _heard(cluster, channel)
        assert {channel for channel, _ in cluster.messages} == {b"a", b"b", b"c"}


async def test_a_channel_whose_slot_goes_is_followed_when_its_server_says_so() -> None:
    async with _running(a=0, b=1) as (cluster, subscriber):
        first, before = cluster.refreshed, subscriber.channels
        cluster.places[b"a"] = cluster.servers[1]
        cluster.servers[0].give_away(b"a")
        assert await _heard(cluster, b"a")
        assert sorted(cluster.servers[1].subscribed) == [b"a", b"b"]
        assert cluster.refreshed > first
        assert subscriber.channels == before == 2


async def test_a_channel_whose_slot_goes_is_followed_also_where_the_first_server_asked_does_not_know_it_yet() -> None:
    async with _running(a=0, b=1) as (cluster, subscriber):
        cluster.stale, cluster.places[b"a"] = 1, cluster.servers[1]
        cluster.servers[0].give_away(b"a")
        assert await _heard(cluster, b"a")
        assert sorted(cluster.servers[1].subscribed) == [b"a", b"b"]
        assert (subscriber.channels, cluster.ups) == (2, 2)


async def test_a_channel_that_a_server_ends_and_keeps_is_subscribed_anew() -> None:
    async with _running(a=0, b=1) as (cluster, subscriber):
        cluster.servers[0].give_away(b"a")
        assert await _heard(cluster, b"a")
        assert (cluster.servers[0].subscribed, subscriber.channels, cluster.ups) == ([b"a"], 2, 2)


async def test_a_server_that_refers_elsewhere_is_believed() -> None:
    async with _running(a=0, b=1) as (cluster, subscriber):
        # The client still believes that c is at the first.
        cluster.places[b"c"] = cluster.servers[0]
        await cluster.refresh()
        cluster.places[b"c"] = cluster.servers[1]
        subscriber.want(b"c")
        assert await _heard(cluster, b"c")
        assert b"c" in cluster.servers[1].subscribed
        assert b"c" not in cluster.servers[0].subscribed


async def test_channels_of_a_server_that_is_gone_are_heard_where_another_has_taken_its_slots() -> None:
    async with _running(a=0, b=1) as (cluster, subscriber):
        await cluster.servers[0].stop()
        cluster.places[b"a"] = cluster.servers[1]
        assert await _heard(cluster, b"a")
        await asyncio.wait_for(subscriber.is_up.wait(), WITHIN_S)
        assert sorted(cluster.servers[1].subscribed) == [b"a", b"b"]


async def test_a_channel_that_nobody_has_is_subscribed_as_soon_as_somebody_has_it() -> None:
    async with _running(a=0) as (cluster, subscriber):
        subscriber.want(b"d")
        assert not await subscriber.confirmed(b"d")
        assert not subscriber.up
        cluster.places[b"d"] = cluster.servers[1]
        assert await _heard(cluster, b"d")
        assert subscriber.channels == 2


async def test_a_channel_that_is_given_up_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.subscriber.LINGER_S", 0.02)
    async with _running(a=0, b=1) as (cluster, subscriber):
        subscriber.unwant(b"b")

        async def gone() -> bool:
            return cluster.servers[1].subscribed == [] and b"b" not in subscriber._places

        assert await eventually_async(gone, WITHIN_S)
        assert cluster.servers[0].subscribed == [b"a"]
