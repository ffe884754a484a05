"""The connection to Redis: what is subscribed, when it is confirmed, and how a dead connection is found."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import redis
from redis.asyncio import Redis

from api import subscriber as subscriber_module
from api.presence import Presence
from api.subscriber import Heard, RedisSubscriber
from shared.embedded import EmbeddedRedis
from tests.eventually import eventually_async


class Ears:
    """What a subscriber told: messages, ends of reads, and how often it came up."""

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, bytes]] = []
        self.reads: list[int] = []
        self.ups = 0

    @property
    def heard(self) -> Heard:
        """What a subscriber is given."""
        return Heard(self.message, self.read_ended, self.up)

    def message(self, channel: bytes, payload: bytes) -> None:
        self.messages.append((channel, payload))

    def read_ended(self) -> None:
        self.reads.append(len(self.messages))

    def up(self) -> None:
        self.ups += 1


@asynccontextmanager
async def listening(url: str, *channels: bytes) -> AsyncIterator[tuple[RedisSubscriber, Ears]]:
    """Yield a subscriber that is up, with these channels."""
    ears = Ears()
    made = RedisSubscriber(url, ears.heard)
    for channel in channels:
        made.want(channel)
    made.start()
    try:
        await asyncio.wait_for(made.is_up.wait(), 10)
        yield made, ears
    finally:
        await made.stop()


def subscribers(url: str, channel: bytes) -> int:
    """Return how many listen to a channel, as Redis says."""
    with redis.Redis.from_url(url) as client:
        return int(client.pubsub_numsub(channel.decode())[0][1])


async def test_what_is_published_after_the_confirmation_comes_as_bytes(redis_url: str) -> None:
    async with listening(redis_url) as (subscriber, ears):
        subscriber.want(b"one")
        assert await subscriber.confirmed(b"one")
        with redis.Redis.from_url(redis_url) as client:
            client.publish("one", b"\x00\r\n\xff" * 100_000)
        await eventually_async(lambda: asyncio.sleep(0, ears.messages))
        assert ears.messages == [(b"one", b"\x00\r\n\xff" * 100_000)]
        assert ears.reads[-1] == 1


async def test_many_channels_are_subscribed_in_few_commands(redis_url: str) -> None:
    channels = [b"channel:%d" % number for number in range(2_500)]
    async with listening(redis_url) as (subscriber, _):
        with redis.Redis.from_url(redis_url) as client:
            before = client.info("commandstats").get("cmdstat_subscribe", {"calls": 0})["calls"]
            for channel in channels:
                subscriber.want(channel)
            assert all(await asyncio.gather(*map(subscriber.confirmed, channels)))
            assert client.info("commandstats")["cmdstat_subscribe"]["calls"] - before == 3
        assert subscriber.channels == 2_500


async def test_a_channel_is_given_up_some_time_after_its_last_use(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber_module, "LINGER_S", 0.2)
    async with listening(redis_url, b"kept", b"left", b"back") as (subscriber, _):
        subscriber.unwant(b"left")
        subscriber.unwant(b"back")
        subscriber.want(b"back")
        assert [subscribers(redis_url, name) for name in (b"kept", b"left", b"back")] == [1, 1, 1]
        await eventually_async(lambda: asyncio.sleep(0, subscribers(redis_url, b"left") == 0))
        assert [subscribers(redis_url, name) for name in (b"kept", b"back")] == [1, 1]
        subscriber.want(b"left")
        assert await subscriber.confirmed(b"left")


async def test_after_a_restart_every_wanted_channel_is_subscribed_before_it_says_up(
    private_redis: EmbeddedRedis,
) -> None:
    url = private_redis.url()
    async with listening(url, *(b"channel:%d" % number for number in range(1_500))) as (subscriber, ears):
        private_redis.kill()
        await eventually_async(lambda: asyncio.sleep(0, not subscriber.up))
        subscriber.want(b"meanwhile")
        assert not await subscriber.confirmed(b"meanwhile")
        private_redis.start()
        await eventually_async(lambda: asyncio.sleep(0, ears.ups == 2))
        assert subscriber.channels == 1_501
        assert subscribers(url, b"meanwhile") == 1


async def test_a_wrong_password_is_tried_again_and_says_nothing_of_it(
    redis_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    wrong = redis_url.replace("redis://:", "redis://:wrong")
    ears = Ears()
    subscriber = RedisSubscriber(wrong, ears.heard)
    subscriber.want(b"one")
    subscriber.start()
    said: list[str] = []

    async def twice() -> bool:
        said.extend(capfd.readouterr())
        return "".join(said).count("subscriber.refused") >= 2

    await eventually_async(twice)
    await subscriber.stop()
    assert (subscriber.up, ears.ups) == (False, 0)
    assert wrong.split("@")[0].removeprefix("redis://:") not in "".join(said)


async def test_a_connection_that_brings_nothing_any_more_is_replaced(redis_url: str) -> None:
    """The subscriber's own connection is cut between the two, silently: nobody else notices."""
    cut = await Cut(redis_url).start()
    ears = Ears()
    subscriber = RedisSubscriber(cut.url, ears.heard)
    client = Redis.from_url(redis_url)
    presence = Presence(client, "p1", 60)
    subscriber.want(presence.channel)
    subscriber.start()
    presence.start(subscriber, list)
    await eventually_async(lambda: asyncio.sleep(0, ears.messages))
    cut.silent = True
    began = time.monotonic()
    await eventually_async(lambda: asyncio.sleep(0, ears.ups >= 2), within=20)
    assert time.monotonic() - began > 2
    await presence.stop()
    await subscriber.stop()
    await client.aclose()
    await cut.stop()


class Cut:
    """A proxy before Redis that can stop carrying, for the connections of that moment, what Redis says."""

    def __init__(self, redis_url: str) -> None:
        self._password, _, address = redis_url.removeprefix("redis://:").rpartition("@")
        self._target = address.partition("/")[0].split(":")
        self.silent = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> Cut:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"redis://:{self._password}@127.0.0.1:{port}/0"
        return self

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.silent = False
        there, back = await asyncio.open_connection(self._target[0], int(self._target[1]))
        for source, sink, hushed in ((reader, back, False), (there, writer, True)):
            task = asyncio.create_task(self._pump(source, sink, hushed))
            self._tasks.add(task)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, hushed: bool) -> None:
        try:
            while data := await source.read(65536):
                if not (hushed and self.silent):
                    sink.write(data)
        finally:
            sink.close()


async def test_a_stopped_redis_is_away_until_it_goes_on(private_redis: EmbeddedRedis) -> None:
    assert private_redis.process is not None
    client = Redis.from_url(private_redis.url(), socket_timeout=0.3, socket_connect_timeout=0.3)
    presence = Presence(client, "p1", 60)
    async with listening(private_redis.url(), presence.channel) as (subscriber, _):
        presence.start(subscriber, list)
        await eventually_async(lambda: asyncio.sleep(0, presence.up))
        private_redis.process.send_signal(signal.SIGSTOP)
        await eventually_async(lambda: asyncio.sleep(0, not presence.up), within=20)
        private_redis.process.send_signal(signal.SIGCONT)
        await eventually_async(lambda: asyncio.sleep(0, presence.up), within=20)
        await presence.stop()
    await client.aclose()
