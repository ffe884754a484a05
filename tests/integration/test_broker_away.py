"""A broker or Redis that is away costs a wake-up, never the one who sends them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from celery import Celery

from api.wake import Waker
from shared.embedded import EmbeddedRedis, free_port
from shared.wake import FAN_OUT_QUEUE, MAINTENANCE_QUEUE
from tests.eventually import eventually
from workers import app as workers_app
from workers.beat import BoundedScheduler


@pytest.fixture
def settings_env(settings_env: dict[str, str], private_redis: EmbeddedRedis) -> dict[str, str]:
    return {
        **settings_env,
        "CARILLON_REDIS_URL": private_redis.url(0),
        "CARILLON_BROKER_URL": private_redis.url(1),
    }


@pytest.fixture
def waker(configured: dict[str, str]) -> Iterator[Waker]:
    made = Waker()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def nobody() -> Celery:
    """A Celery application whose broker is a port where nobody listens."""
    return Celery("test", broker=f"redis://127.0.0.1:{free_port()}/0", set_as_current=False)


def test_the_api_wakes_the_workers_again_once_redis_is_back(
    waker: Waker, private_redis: EmbeddedRedis, capsys: pytest.CaptureFixture[str]
) -> None:
    """The thread that sends wake-ups must outlive the outage: nothing would start it again."""
    private_redis.kill()
    waker.wake()
    eventually(lambda: "wake.dropped" in capsys.readouterr().out)
    private_redis.start()

    waker.wake()
    with redis.Redis.from_url(private_redis.url(1)) as broker:
        eventually(lambda: broker.llen(FAN_OUT_QUEUE) == 1)


def test_a_wake_up_is_dropped_where_the_broker_alone_is_away(
    nobody: Celery, configured: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers_app, "app", nobody)
    assert workers_app.wake() is False


def test_beat_goes_on_where_the_broker_is_away(nobody: Celery) -> None:
    assert BoundedScheduler(app=nobody, lazy=True)._waiting(MAINTENANCE_QUEUE) == 0
