"""RabbitMQ as the broker: quorum queues, producers over Celery, and going on without it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from celery import Celery
from standardwebhooks import Webhook

from shared import broker, db, directory, signing
from shared.settings import settings
from shared.wake import ACCEPT_QUEUE, ACCEPT_TASK, FAN_OUT_QUEUE, MAINTENANCE_QUEUE
from tests.deploy.servers import ANSWER_S, RabbitMQ
from tests.deploy.whole_way import WITHIN_S, WholeWay
from tests.eventually import eventually
from tests.producers import TENANT, envelope
from tests.servers import Worker

#: A worker that lost its broker tries again every 2 s; on a busy machine its start alone takes many times that.
BACK_WITHIN_S = 90.0


@pytest.fixture
def settings_env(settings_env: dict[str, str], rabbitmq: RabbitMQ) -> dict[str, str]:
    return {**settings_env, "CARILLON_BROKER_URL": rabbitmq.url()}


async def test_the_whole_way_goes_over_quorum_queues_and_nothing_is_declared_for_delays(
    way: WholeWay, rabbitmq: RabbitMQ
) -> None:
    async with way.listening() as streams:
        await way.require_told(streams)
    kinds = rabbitmq.queues()
    ours = {name: kind for name, kind in kinds.items() if name.startswith("carillon.")}
    assert ours.keys() >= {FAN_OUT_QUEUE, ACCEPT_QUEUE, MAINTENANCE_QUEUE}
    assert set(ours.values()) == {"quorum"}
    assert [name for name in kinds if name.startswith("celery_delayed")] == []


async def test_streams_are_told_while_the_broker_is_away_and_after_its_return(
    way: WholeWay, rabbitmq: RabbitMQ
) -> None:
    async with way.listening() as streams:
        rabbitmq.kill()
        await way.award("away", way.people[0])
        frames = await streams[0].count(2, WITHIN_S)
        assert [frame.kind for frame in frames] == ["connected", "created"]
        rabbitmq.start()
        await way.award("back", way.people[0])
        frames = await streams[0].count(3, BACK_WITHIN_S)
        assert [frame.seq for frame in frames] == [0, 1, 2]


@pytest.fixture
def producer(configured: dict[str, str]) -> Iterator[Celery]:
    """A Celery application of somebody else, which declares its queues as ours are."""
    app = Celery("producer", broker=configured["CARILLON_BROKER_URL"], backend=configured["CARILLON_REDIS_URL"],
                 set_as_current=False)  # fmt: skip
    app.conf.task_create_missing_queue_type = broker.QUEUE_TYPE
    yield app
    app.close()


def test_a_producer_posts_over_celery_and_gets_its_answer(
    producer: Celery, configured: dict[str, str], new_worker: Callable[..., Worker]
) -> None:
    with db.transaction("*") as connection:
        directory.ensure_tenant(connection, TENANT)
        secret_id, secret = signing.create_secret(connection, "celery", TENANT)
    new_worker()
    body, moment = json.dumps(envelope("over-celery")), datetime.now(UTC)
    headers = {
        "carillon-secret-id": secret_id, "webhook-id": "m1", "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Webhook(secret).sign("m1", moment, body),
    }  # fmt: skip
    sent = producer.send_task(ACCEPT_TASK, args=[body], queue=ACCEPT_QUEUE, headers=headers)
    assert sent.get(timeout=BACK_WITHIN_S) == {"events": [{"id": "over-celery", "status": "accepted"}]}


def test_waiting_messages_are_counted(configured: dict[str, str], rabbitmq: RabbitMQ) -> None:
    url = configured["CARILLON_BROKER_URL"]
    app = Celery("sender", broker=url, set_as_current=False)
    app.conf.update(broker.celery_settings(ANSWER_S))
    queue = "carillon.test-waiting"
    assert broker.waiting(url, [queue], ANSWER_S) == {queue: 0}
    for _ in range(3):
        app.send_task("nobody", queue=queue, **broker.sending(ANSWER_S))
    eventually(lambda: broker.waiting(url, [queue], ANSWER_S) == {queue: 3}, within=WITHIN_S)
    assert settings().broker_url is not None
    app.close()
