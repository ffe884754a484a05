"""What workers tell Flower of their tasks: of so many a second everything, of the others nothing.

Celery's own events cost a third of the tasks that a core can run, and Flower switches them on in every worker, whatever
the worker was started with. So the bound is here, where they are sent. Complete numbers are in /metrics.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from celery.app.events import Events
from celery.events.dispatcher import EventDispatcher

from shared.settings import settings
from shared.wake import ACCEPT_TASK

RECEIVED = "task-received"
#: After one of these nothing more comes of a task.
ENDS = ("task-succeeded", "task-failed", "task-rejected", "task-revoked")
#: Told also of tasks that were not chosen, within the same bound: a failure is what an operator looks for.
FAULTS = ("task-failed", "task-rejected", "task-revoked", "task-retried")
#: Tasks that were told to have begun and not to have ended: a worker has a few dozen at most; beyond it the oldest one
#: is forgotten.
MOST_OPEN = 1_000
_TYPE = re.compile(r"\w+")


class Sampler:
    """Chooses tasks, at most `rate` a second on the average and as many at once. Not for several threads."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._left, self._faults_left = rate, rate
        self._filled_at = clock()
        self._open: OrderedDict[str, None] = OrderedDict()

    def wants(self, type: str, uuid: str) -> bool:
        """Tell whether an event of a task is to be sent: all of a chosen one's, and faults as far as the bound goes."""
        if type == RECEIVED:
            return self._choose(uuid)
        known = uuid in self._open
        if type in ENDS:
            self._open.pop(uuid, None)
        return known or (type in FAULTS and self._take_fault())

    def _choose(self, uuid: str) -> bool:
        self._fill()
        if self._left < 1:
            return False
        self._left -= 1
        self._open[uuid] = None
        if len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)
        return True

    def _take_fault(self) -> bool:
        self._fill()
        if self._faults_left < 1:
            return False
        self._faults_left -= 1
        return True

    def _fill(self) -> None:
        now = self._clock()
        grown = (now - self._filled_at) * self._rate
        self._filled_at = now
        self._left = min(self._rate, self._left + grown)
        self._faults_left = min(self._rate, self._faults_left + grown)


def without_texts(type: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Return an event's fields without what may quote a payload: a posted event, an error's message."""
    if type == RECEIVED and fields.get("name") == ACCEPT_TASK:
        return {**fields, "args": "(an event)", "kwargs": "{}"}
    if "exception" in fields:
        named = _TYPE.match(str(fields["exception"]))
        return {**fields, "exception": named[0] if named else "", "traceback": ""}
    return fields


class SampledDispatcher(EventDispatcher):  # type: ignore[misc]
    """Celery's, that leaves out what the sampler does not choose."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._sampler = Sampler(settings().task_events_per_second)
        super().__init__(*args, **kwargs)

    def send(self, type: str, *args: Any, **fields: Any) -> Any:
        """Send an event, if it is a worker's own or of a chosen task."""
        if not type.startswith("task-"):
            return super().send(type, *args, **fields)
        if not self._sampler.wants(type, fields.get("uuid", "")):
            return None
        return super().send(type, *args, **without_texts(type, fields))


class SampledEvents(Events):  # type: ignore[misc]
    """What Celery makes its dispatchers by."""

    dispatcher_cls = SampledDispatcher
