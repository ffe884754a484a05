"""The broker's connections: they come back soon after the broker does, and tell at once while it is away."""

from __future__ import annotations

import threading
from typing import Any

from celery.app.amqp import AMQP
from kombu.connection import Connection as KombuConnection

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


class Connection(KombuConnection):
    """A connection that is tried again every `RECONNECT_S`, unless told otherwise."""

    def ensure_connection(self, *args: Any, **kwargs: Any) -> Connection:
        """Return the connection once it is established; kombu says how it waits and what it raises."""
        super().ensure_connection(*args, **{"interval_max": RECONNECT_S, **kwargs})  # type: ignore[no-untyped-call]
        return self


class Amqp(AMQP):  # type: ignore[misc]
    """What Celery makes its connections by."""

    Connection = Connection
