"""Asking for a look on the event loop: whoever lingers is nudged, else a task is sent, also where Redis goes away."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeVar

import pytest
import redis

from api import nudges
from api.nudges import Nudges
from shared.databases import SHARED
from shared.embedded import EmbeddedRedis
from shared.wake import WAKE_FLAG_MS, lingers_key, nudges_key, wake_flag
from tests.eventually import eventually_async

T = TypeVar("T")


async def until(predicate: Callable[[], T]) -> T:
    """Return the first true value, while the loop runs."""

    async def asked() -> T:
        return predicate()

    return await eventually_async(asked, within=30)


@pytest.fixture
def settings_env(settings_env: dict[str, str], private_redis: EmbeddedRedis) -> dict[str, str]:
    return {**settings_env, "CARILLON_REDIS_URL": private_redis.url(3)}


@pytest.fixture
def client(private_redis: EmbeddedRedis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(private_redis.url(3)) as made:
        yield made


@pytest.fixture
def sent() -> list[str]:
    return []


@pytest.fixture
async def asking(configured: dict[str, str], sent: list[str]) -> AsyncIterator[Nudges]:
    """One that is connected."""
    made = Nudges(configured["CARILLON_REDIS_URL"], sent.append)
    made.start()
    await until(lambda: made.ask("none"))
    await until(lambda: sent == ["none"])
    sent.clear()
    yield made
    await made.stop()


async def test_where_nobody_lingers_one_task_is_sent(asking: Nudges, client: redis.Redis, sent: list[str]) -> None:
    assert asking.ask(SHARED)
    await until(lambda: sent == [SHARED])
    assert 0 < client.pttl(wake_flag(SHARED)) <= WAKE_FLAG_MS
    client.set(wake_flag(SHARED), 1)
    assert asking.ask(SHARED)
    assert asking.ask("another")
    await until(lambda: sent == [SHARED, "another"])


async def test_whoever_lingers_is_nudged_and_no_task_is_sent(
    asking: Nudges, client: redis.Redis, sent: list[str]
) -> None:
    client.set(lingers_key(SHARED), 1)
    assert asking.ask(SHARED)
    assert await until(lambda: client.llen(nudges_key(SHARED))) == 1
    assert client.exists(wake_flag(SHARED)) == 1
    assert sent == []


async def test_what_is_asked_before_the_answer_is_asked_again_after_it(
    asking: Nudges, client: redis.Redis, sent: list[str]
) -> None:
    """The answer may be older than the commit that it is asked for. However many ask meanwhile: once."""
    client.set(lingers_key(SHARED), 1)
    before = client.info("commandstats")["cmdstat_exec"]["calls"]
    assert [asking.ask(SHARED) for _ in range(5)] == [True] * 5
    assert await until(lambda: client.info("commandstats")["cmdstat_exec"]["calls"] - before == 2)
    assert sent == []


async def test_an_answer_that_was_lost_with_redis_is_a_task(
    asking: Nudges, private_redis: EmbeddedRedis, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nudges, "AGAIN_S", 0.05)
    assert private_redis.process is not None
    private_redis.process.send_signal(signal.SIGSTOP)
    assert asking.ask(SHARED)
    await until(lambda: sent == [SHARED])
    private_redis.process.send_signal(signal.SIGCONT)
    await until(lambda: asking.ask(SHARED))


async def test_a_redis_that_refuses_to_write_is_a_task(asking: Nudges, client: redis.Redis, sent: list[str]) -> None:
    client.config_set("maxmemory", 1)
    assert asking.ask(SHARED)
    await until(lambda: sent == [SHARED])
    client.config_set("maxmemory", 0)
    client.delete(wake_flag(SHARED))
    assert asking.ask(SHARED)
    await until(lambda: sent == [SHARED, SHARED])
