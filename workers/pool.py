"""The processes of a worker: one that dies is noticed, and replaced, at once.

Celery is told of a death by the end of a pipe that closes while the process is still on its way out. Where it looks in
that moment it finds a process that has not ended, forgets the pipe, and notices on its next round 5 s later; until
then the task that died is nobody's, and a pool of one process stands still (celery/celery#9588).
"""

from __future__ import annotations

import time
from typing import Any

from celery.concurrency.asynpool import AsynPool
from celery.concurrency.prefork import TaskPool as Prefork

#: From the closing of its pipe a process needs microseconds to its end. One that closed the pipe and lives on is left
#: to Celery's rounds after this.
ENDING_S = 0.5
LOOK_S = 0.001


class Pool(AsynPool):  # type: ignore[misc]
    """Celery's, but that whoever is dying is dead before it looks."""

    def _event_process_exit(self, hub: Any, proc: Any) -> None:
        deadline = time.monotonic() + ENDING_S
        while proc.exitcode is None and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        super()._event_process_exit(hub, proc)


class TaskPool(Prefork):  # type: ignore[misc]
    """The pool `prefork` with such processes."""

    Pool = Pool
