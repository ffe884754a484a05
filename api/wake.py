"""Telling the workers that events wait, without ever making a request wait for the broker.

A wake-up says only "look"; several asked for in a row are one. It is sent from a thread of its own; when the broker is
away it is dropped: the sweeper finds the events within a second or two of its return.
"""

from __future__ import annotations

import threading
from typing import Any

from celery import Celery

from api.nudges import Nudges
from shared import broker as quorum
from shared.databases import SHARED
from shared.logs import log
from shared.settings import settings
from shared.stream_redis import AWAY, Client, is_cluster, url_of
from shared.wake import FAN_OUT_QUEUE, FAN_OUT_TASK, ask, database_headers

#: A broker that does not answer within this is away.
TIMEOUT_S = 1.0
SENDING = quorum.sending(TIMEOUT_S)


def _of_broker(url: str) -> dict[str, Any]:
    if quorum.is_amqp(url):
        return quorum.celery_settings(TIMEOUT_S)
    return {"broker_transport_options": {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S}}


class Waker:
    """Sends coalesced wake-ups: between `start` and `stop`, every `wake()` is followed by a look of some worker, as
    long as the broker is there. `wake()` never blocks and never raises.

    Between `start_asking` and `stop_asking`, on one event loop, it is asked first whether a worker lingers, on that
    loop; the thread sends what then must be sent. In a cluster of Redis, and without a connection, the thread asks.
    """

    def __init__(self) -> None:
        broker = settings().broker_url
        assert broker is not None
        self._app = Celery("carillon-producer", broker=broker.get_secret_value(), set_as_current=False)
        self._app.conf.update(task_publish_retry=False, **_of_broker(broker.get_secret_value()))
        self._redis = Client(TIMEOUT_S)
        self._asked = threading.Event()
        #: Only ever added to here and popped by the thread: both are single steps of the interpreter.
        self._databases: set[str] = set()
        #: Of which it is known that a task must be sent.
        self._unwoken: set[str] = set()
        self._nudges: Nudges | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="waker", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def start_asking(self) -> None:
        """Ask on the running loop from now on."""
        if not is_cluster():
            self._nudges = Nudges(url_of(settings()), self._send_soon)
            self._nudges.start()

    async def stop_asking(self) -> None:
        """Have the thread ask again."""
        nudges, self._nudges = self._nudges, None
        if nudges is not None:
            await nudges.stop()

    def stop(self) -> None:
        """Send what was asked for and end; returns within a few timeouts even when the broker is away."""
        self._stopping = True
        self._asked.set()
        self._thread.join(timeout=4 * TIMEOUT_S)

    def wake(self, database: str = SHARED) -> None:
        """Ask for a look at a database's queue of record."""
        if self._nudges is None or not self._nudges.ask(database):
            self._databases.add(database)
            self._asked.set()

    def _send_soon(self, database: str) -> None:
        self._unwoken.add(database)
        self._asked.set()

    def _run(self) -> None:
        while True:
            self._asked.wait()
            stopping = self._stopping
            self._asked.clear()
            while self._databases:
                database = self._databases.pop()
                if not self._is_queued(database):
                    self._send(database)
            while self._unwoken:
                self._send(self._unwoken.pop())
            if stopping:
                return

    def _send(self, database: str) -> None:
        headers = database_headers(database)
        try:
            self._app.send_task(
                FAN_OUT_TASK, queue=FAN_OUT_QUEUE, headers=headers, ignore_result=True, retry=False, **SENDING
            )
        except (*AWAY, *quorum.AWAY, *self._app.connection_for_write().connection_errors) as error:
            log().warning("wake.dropped", reason=type(error).__name__)

    def _is_queued(self, database: str) -> bool:
        """Tell whether no wake-up is to be sent. Where Redis cannot tell, the broker may still take one more."""
        try:
            return not ask(self._redis(), database)
        except AWAY as error:
            log().warning("wake.unmarked", reason=type(error).__name__)
            return False
