"""The broker as its URL tells it, and RabbitMQ: what Celery is told of it, and what is asked of it without Celery.

RabbitMQ's queues are quorum queues: what was confirmed is on most of its servers' disks. They know no limit of a
consumer's whole channel and no delays of their own; neither is needed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

from amqp import Message
from amqp.exceptions import AMQPError, NotFound
from kombu.connection import Connection
from kombu.exceptions import KombuError

SCHEMES = ("amqp", "amqps", "pyamqp")
#: What redis-py understands itself, and what Celery calls a Redis behind a socket.
REDIS_SCHEMES = ("redis", "rediss", "unix")
SOCKET_SCHEME = "redis+socket"
#: What a RabbitMQ that is away, or refuses, makes its clients raise.
AWAY = (AMQPError, KombuError, OSError)
QUEUE_TYPE = "quorum"
#: A server that vanished is noticed after two of these; RabbitMQ's own default of 60 s leaves a worker deaf for long.
HEARTBEAT_S = 10
#: A message that nobody ever gets: no queue is called so, and RabbitMQ confirms that it has dropped it.
NOWHERE = "carillon.standby"


def is_amqp(url: str | None) -> bool:
    """Tell whether a broker's URL is RabbitMQ's."""
    return url is not None and urlsplit(url).scheme in SCHEMES


def redis_url(url: str) -> str | None:
    """Return where a broker that is a Redis is asked without Celery, of several the first; None where it cannot be.

    A socket has one name in Celery and another in redis-py. RabbitMQ is asked by `Probe`, sentinels by nobody.
    """
    first = url.partition(";")[0]
    parts = urlsplit(first)
    if parts.scheme in REDIS_SCHEMES:
        return first
    if parts.scheme != SOCKET_SCHEME:
        return None
    number = parse_qs(parts.query).get("virtual_host", [""])[0].strip("/")
    return f"unix://{parts.netloc}{parts.path}?db={number or 0}"


def celery_settings(timeout_s: float) -> dict[str, Any]:
    """Return Celery's settings of RabbitMQ: the same for whoever sends, since who declares a queue must say its type.

    Each message is confirmed; whoever sends must say `sending(timeout_s)` besides, or would wait for ever for a server
    that is short of memory or disk.
    """
    return {
        "task_default_queue_type": QUEUE_TYPE,
        "task_create_missing_queue_type": QUEUE_TYPE,
        "broker_heartbeat": HEARTBEAT_S,
        "broker_connection_timeout": timeout_s,
        "broker_transport_options": {"confirm_publish": True},
    }


def sending(timeout_s: float) -> dict[str, float]:
    """Return the options of a task that is sent: after `timeout_s` it counts as not sent. (Redis has its own.)"""
    return {"timeout": timeout_s, "confirm_timeout": timeout_s}


class Probe:
    """A connection of its own to RabbitMQ, made when it is needed and again after it failed."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url, self._timeout_s = url, timeout_s
        self._connection: Any = None
        self._open: Any = None

    def takes_messages(self) -> bool:
        """Send a message to nobody; tell whether it was confirmed. A server that is short of disk answers, and does not
        take any.
        """
        try:
            channel = self._channel()
            channel.basic_publish(Message(b""), exchange="", routing_key=NOWHERE, **sending(self._timeout_s))
        except AWAY:
            self.close()
            return False
        return True

    def waiting(self, queues: Iterable[str]) -> dict[str, int]:
        """Return how many messages wait in each queue; of one that was never declared: 0. Raises one of `AWAY`."""
        self._channel()
        return {queue: self._waiting(queue) for queue in queues}

    def _waiting(self, queue: str) -> int:
        try:
            return int(self._channel().queue_declare(queue=queue, passive=True).message_count)
        except NotFound:
            # The server has ended the channel; the next question opens another.
            return 0

    def _channel(self) -> Any:
        """Return an open channel, on a connection that is made if need be."""
        if self._connection is None:
            self._connection, self._open = self._connected(), None
        if self._open is None or not self._open.is_open:
            self._open = self._connection.channel()
        return self._open

    def _connected(self) -> Any:
        """Return a connection to the first server that lets one in: a URL may name several, with `;` between."""
        away: Exception | None = None
        for url in self._url.split(";"):
            # Of the socket itself: opening a channel knows no other limit.
            limits = {"read_timeout": self._timeout_s, "write_timeout": self._timeout_s}
            options = {"confirm_publish": True, **limits}
            try:
                target: Any = Connection(  # type: ignore[no-untyped-call]
                    url, connect_timeout=self._timeout_s, transport_options=options
                )
                return target.transport.establish_connection()
            except AWAY as error:
                away = error
        raise away or OSError("no server is named")

    def close(self) -> None:
        """Drop the connection, without a word: a server that takes nothing would not answer to a goodbye."""
        connection, self._connection, self._open = self._connection, None, None
        if connection is not None:
            connection.collect()


@contextmanager
def probing(url: str, timeout_s: float) -> Iterator[Probe]:
    """Give a probe that is closed afterwards."""
    probe = Probe(url, timeout_s)
    try:
        yield probe
    finally:
        probe.close()


def waiting(url: str, queues: Iterable[str], timeout_s: float) -> dict[str, int] | None:
    """Return how many messages wait in each queue of RabbitMQ; None where it is away."""
    try:
        with probing(url, timeout_s) as probe:
            return probe.waiting(queues)
    except AWAY:
        return None
