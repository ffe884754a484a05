"""RabbitMQ as the broker: what Celery is told, and what becomes of a message that cannot be stored yet."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import Ignore, Reject
from celery.utils.quorum_queues import detect_quorum_queues
from celery.worker.consumer import Consumer
from kombu.transport import pyamqp
from kombu.transport import redis as kombu_redis
from redis import Redis

from api import health, measure
from api import wake as api_wake
from shared import broker, overview, parts
from shared.embedded import free_port
from shared.errors import StartError
from shared.settings import load_settings
from shared.wake import ACCEPT_QUEUE, CHUNK_QUEUE, FAN_OUT_QUEUE, MAINTENANCE_QUEUE
from workers import accept
from workers import broker as workers_broker
from workers.app import _of_broker
from workers.quorum import QuorumConsumer

URL = "amqp://carillon:secret@rabbit:5672//"
REDIS = "redis://:secret@redis:6379/1"
QUEUES = (ACCEPT_QUEUE, CHUNK_QUEUE, FAN_OUT_QUEUE, MAINTENANCE_QUEUE)


@pytest.mark.parametrize("url", [URL, "amqps://h", "pyamqp://h"])
def test_rabbitmq_is_known_by_its_url(url: str) -> None:
    assert broker.is_amqp(url)
    assert not any(broker.is_amqp(other) for other in (REDIS, "unix:///run/redis", "sqs://", None))


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        (REDIS, REDIS),
        ("rediss://h?ssl_cert_reqs=required", "rediss://h?ssl_cert_reqs=required"),
        ("redis://one;redis://two", "redis://one"),
        ("redis+socket:///run/redis.sock", "unix:///run/redis.sock?db=0"),
        ("redis+socket://:pw@/run/redis.sock?virtual_host=/3", "unix://:pw@/run/redis.sock?db=3"),
        ("sentinel://:p@one:26379;sentinel://two:26379", None),
        (URL, None),
        ("", None),
    ],
)
def test_a_broker_that_is_a_redis_is_asked_by_the_url_that_its_client_understands(url: str, asked: str | None) -> None:
    assert broker.redis_url(url) == asked
    if asked is not None:
        Redis.from_url(asked).close()


def test_a_redis_behind_a_socket_or_sentinels_that_are_away_break_nothing_that_asks_for_the_broker() -> None:
    for url in ("redis+socket:///nowhere/redis.sock", "sentinel://:p@127.0.0.1:1;sentinel://127.0.0.1:2"):
        assert overview.waiting(url) == {}
        with pytest.raises(StartError, match="CARILLON_BROKER_URL"):
            parts._require_broker("CARILLON_BROKER_URL", url)


async def test_the_api_is_ready_over_a_broker_behind_a_socket_or_sentinels(monkeypatch: pytest.MonkeyPatch) -> None:
    for url, told in (("redis+socket:///nowhere/redis.sock", False), ("sentinel://one:26379", True)):
        made = load_settings(broker_url=url)
        monkeypatch.setattr(health, "settings", lambda made=made: made)
        monkeypatch.setattr(measure, "settings", lambda made=made: made)
        assert await health._brokered(publishing=True) is told
        assert await measure._waiting() is None


def _app(**settings: Any) -> Celery:
    made = Celery("test", set_as_current=False)
    made.conf.update(settings)
    return made


def test_workers_and_the_api_declare_every_queue_alike_as_a_quorum_queue() -> None:
    for told in (_of_broker(URL), {"broker_url": URL, **api_wake._of_broker(URL)}):
        app = _app(task_default_queue=MAINTENANCE_QUEUE, **told)
        declared = {name: app.amqp.queues[name].queue_arguments for name in QUEUES}
        assert declared == {name: {"x-queue-type": "quorum"} for name in QUEUES}
        # Celery then asks for no limit of the whole channel, which such queues refuse.
        assert detect_quorum_queues(app, "amqp")[0]


def test_on_redis_nothing_of_rabbitmq_is_told() -> None:
    for told in (_of_broker(REDIS), api_wake._of_broker(REDIS)):
        assert told.keys() <= {"broker_url", "broker_transport_options"}
        assert "confirm_publish" not in told["broker_transport_options"]


def test_each_kind_of_broker_has_its_transport() -> None:
    connection: Any = workers_broker.Connection
    assert connection(URL).get_transport_cls() is pyamqp.Transport
    for url in (REDIS, "rediss://h", "redis+socket:///run/redis.sock"):
        assert connection(url).get_transport_cls() is workers_broker.Transport
    assert issubclass(workers_broker.Transport, kombu_redis.Transport)


def test_a_worker_on_rabbitmq_declares_nothing_for_delays_and_leaves_out_nothing_else() -> None:
    assert _of_broker(URL)["worker_consumer"] == "workers.quorum:QuorumConsumer"
    left_out = set(Consumer.Blueprint.default_steps) - set(QuorumConsumer.Blueprint.default_steps)
    assert left_out == {"celery.worker.consumer.delayed_delivery:DelayedDelivery"}


def test_a_rabbitmq_that_is_away_takes_nothing_and_is_asked_anew() -> None:
    probe = broker.Probe(f"amqp://guest:guest@127.0.0.1:{free_port()}//", 1.0)
    assert not probe.takes_messages()
    assert not probe.takes_messages()
    with pytest.raises(broker.AWAY):
        probe.waiting(QUEUES)
    assert broker.waiting(f"amqp://127.0.0.1:{free_port()}//", (), 1.0) is None


def test_of_several_servers_the_first_that_lets_one_in_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Target:
        """Stands for a server of kombu's: only the second lets anybody in."""

        def __init__(self, url: str, **_: Any) -> None:
            asked.append(url)
            self.transport = self

        def establish_connection(self) -> str:
            if "two" not in asked[-1]:
                raise ConnectionRefusedError
            return asked[-1]

    monkeypatch.setattr(broker, "Connection", Target)
    assert broker.Probe("amqp://one;amqp://two;amqp://three", 1.0)._connected() == "amqp://two"
    assert asked == ["amqp://one", "amqp://two"]
    with pytest.raises(ConnectionRefusedError):
        broker.Probe("amqp://one;amqp://three", 1.0)._connected()


class _App:
    """Takes what is sent, or is away."""

    def __init__(self, error: Exception | None = None) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self._error = error

    def send_task(self, name: str, **options: Any) -> None:
        if self._error:
            raise self._error
        self.sent.append((name, options))


HEADERS = {"carillon-secret-id": "s", "webhook-id": "e1", "webhook-timestamp": "1", "webhook-signature": "v1,x"}


def _put_back(monkeypatch: pytest.MonkeyPatch, url: str, app: _App) -> None:
    monkeypatch.setattr(accept, "app", app)
    monkeypatch.setattr(overview, "url_of", lambda _settings, _name: url)
    monkeypatch.setattr(accept, "settings", lambda: None)
    task: Any = SimpleNamespace(request=SimpleNamespace(id="task-1"))
    accept._put_back(task, "{}", {**HEADERS, "lang": "py"}, "OperationalError")


def test_on_redis_a_message_that_must_wait_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    app = _App()
    with pytest.raises(Reject) as back:
        _put_back(monkeypatch, REDIS, app)
    assert (back.value.requeue, app.sent) == (True, [])


def test_on_rabbitmq_it_is_sent_anew_with_its_id_since_it_may_come_back_20_times_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = _App()
    with pytest.raises(Ignore):
        _put_back(monkeypatch, URL, app)
    [(name, options)] = app.sent
    assert name == "carillon.accept_event"
    assert (options["args"], options["headers"], options["task_id"]) == (["{}"], HEADERS, "task-1")
    assert options["ignore_result"] is False
    assert options["confirm_timeout"] > 0


def test_where_that_fails_it_goes_back_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Reject) as back:
        _put_back(monkeypatch, URL, _App(ConnectionRefusedError()))
    assert back.value.requeue is True
