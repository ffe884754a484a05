"""The broker's connections: they come back soon after it does, and no failed acknowledgement blocks a worker."""

from __future__ import annotations

import threading
from typing import Any

from celery.app.amqp import AMQP
from kombu.connection import Connection as KombuConnection
from kombu.transport import redis, virtual

#: Between two attempts to reach a broker that is away. Kombu's default grows to 30 s, which a worker that lost its
#: broker for ten minutes would sleep on after the broker's return.
RECONNECT_S = 2.0

#: Set by `workers.standby` while the broker does not take anything from this process.
away = threading.Event()
_thread = threading.local()


def stand_in() -> None:
    """Have this thread run by itself, while the broker is away, what it would have sent."""
    _thread.stands_in = True


def stands_in() -> bool:
    """Tell whether this thread does."""
    return getattr(_thread, "stands_in", False)


class QoS(redis.QoS):
    """Kombu's, but that a message whose acknowledgement fails leaves its place.

    In kombu 5.7 it keeps it for ever: a worker that takes one message at a time, and whose broker stood still when it
    had done that one, took none again. The message comes again after the visibility timeout, and finds nothing to do.
    """

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message; raises what the broker's client does."""
        try:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]
        except Exception:
            virtual.QoS.ack(self, delivery_tag)  # type: ignore[no-untyped-call]
            raise

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Give a message back, or up; raises what the broker's client does."""
        try:
            super().reject(delivery_tag, requeue)  # type: ignore[no-untyped-call]
        except Exception:
            virtual.QoS.ack(self, delivery_tag)  # type: ignore[no-untyped-call]
            raise


class Channel(redis.Channel):
    """A channel with that quality of service."""

    QoS = QoS


class Transport(redis.Transport):
    """Redis as the transport, with such channels."""

    Channel = Channel


class Connection(KombuConnection):
    """A connection that is tried again every `RECONNECT_S`, unless told otherwise."""

    def get_transport_cls(self) -> Any:
        """Return the class of the transport: of Redis ours, of others kombu's."""
        found = super().get_transport_cls()  # type: ignore[no-untyped-call]
        return Transport if found is redis.Transport else found

    def ensure_connection(self, *args: Any, **kwargs: Any) -> Connection:
        """Return the connection once it is established; kombu says how it waits and what it raises."""
        super().ensure_connection(*args, **{"interval_max": RECONNECT_S, **kwargs})  # type: ignore[no-untyped-call]
        return self


class Amqp(AMQP):  # type: ignore[misc]
    """What Celery makes its connections by."""

    Connection = Connection
