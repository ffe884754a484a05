"""Staying for the next events after the last ones: under steady load one task looks many times, woken without another.

A task costs its worker 0.7 to 1 ms, its sender 0.4 ms, and the way through the broker and two processes; a nudge at a
list of Redis a tenth of that. At most one process of a worker's pool lingers, so that the lane's other work (a suspect,
a message of `accept`) finds one free; a pool of one never does.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from billiard import current_process

from shared import databases
from shared.logs import log
from shared.settings import settings
from shared.stream_redis import AWAY
from shared.wake import LINGER_MS, WORK_MS, lingers_key, nudges_key, wake_flag
from workers import measure
from workers.publish import redis_client

#: A process lingers for no longer in one task, however much comes: stops stay short, and so do tasks in their list.
MOST_S = 2.0
#: Events that come more often than this leave no time for what can wait.
QUIET_S = 0.02


def may_linger() -> bool:
    """Tell whether this process is the one of its pool that may: the first of several."""
    return settings().worker_concurrency > 1 and getattr(current_process(), "index", None) == 0


def clear_flag() -> None:
    """Say that a look begins: whoever commits later finds the flag unset, and asks anew."""
    database = databases.current()
    try:
        redis_client().delete(wake_flag(database))
    except AWAY as error:
        log().warning("wake.flag_kept", reason=type(error).__name__)


class Linger:
    """Waits for the next events in a task that has found no more, until `MOST_S` after its beginning."""

    def __init__(self) -> None:
        self._until = time.monotonic() + MOST_S
        self._database = databases.current()
        #: When it was said last that this process lingers.
        self._said = 0.0
        self._has_left = False

    def more(self, quiet: Callable[[], None]) -> bool:
        """Wait for `LINGER_MS` at most; returns whether somebody asked for a look. The flag is cleared then.

        Whoever has left stays away: each who asks after that sends a task, and with it somebody who looks.
        `quiet` is called where nothing has come for `QUIET_S`. Without Redis: False; what was asked for meanwhile is
        found by the sweeper.
        """
        if self._has_left:
            return False
        try:
            if time.monotonic() < self._until:
                if self._wait(QUIET_S):
                    return True
                quiet()
                if self._wait(LINGER_MS / 1000 - QUIET_S):
                    return True
            return self._leave()
        except AWAY as error:
            log().warning("wake.not_awaited", reason=type(error).__name__)
            return False

    def _wait(self, seconds: float) -> bool:
        client, began = redis_client(), time.monotonic()
        if began - self._said > QUIET_S:
            self._said = began
            client.set(lingers_key(self._database), 1, px=LINGER_MS + WORK_MS)
        asked = client.blpop([nudges_key(self._database)], seconds) is not None
        measure.rest(time.monotonic() - began)
        if asked:
            self._begin()
        return asked

    def _begin(self) -> None:
        """Say that a look begins; whoever asks while it takes longer than `WORK_MS` asks somebody else.

        All at once, and the flag last: whoever found it unset before that would have its nudge taken away unheard.
        """
        with redis_client().pipeline(transaction=True) as pipe:
            pipe.delete(nudges_key(self._database))
            pipe.delete(wake_flag(self._database))
            pipe.pexpire(lingers_key(self._database), WORK_MS)
            pipe.execute()

    def _leave(self) -> bool:
        """Say that nobody lingers, then look whether somebody asked before that."""
        self._has_left = True
        with redis_client().pipeline(transaction=True) as pipe:
            # One key at a time: a cluster's pipeline takes no more.
            pipe.delete(lingers_key(self._database))
            pipe.delete(wake_flag(self._database))
            pipe.delete(nudges_key(self._database))
            return bool(pipe.execute()[1])
