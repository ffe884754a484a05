"""The product's applications with faults that a signal from outside cannot hit: between two lines of theirs.

`app` is the workers' and beat's, `create_app` the API's. Without a trigger they are the product's.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

from kombu.transport import redis as broker

import api.nudges
import api.wake
import workers.chunks
import workers.fan_out
import workers.linger
from api.app import create_app
from shared.databases import SHARED
from tests.fault import triggers
from tests.fault.poisoned_worker import app
from workers.publish import Message, publish

__all__ = ["app", "create_app"]

_wake = api.wake.Waker.wake
_nudge: Callable[[str], bytes] = api.nudges._nudge
_wait: Callable[[workers.linger.Linger, float], bool] = workers.linger.Linger._wait
_put: Callable[..., None] = broker.Channel._put


def _publish_unless_told(messages: Sequence[Message], words: Sequence[bytes] = ()) -> Sequence[int]:
    if triggers.take(triggers.DIE_BEFORE_PUBLISH):
        os.kill(os.getpid(), signal.SIGKILL)
    return () if triggers.is_set(triggers.DROP_PUBLISH) else publish(messages, words)


def _wake_unless_told(waker: api.wake.Waker, database: str = SHARED) -> None:
    if triggers.take(triggers.DIE_BEFORE_WAKE):
        os.kill(os.getpid(), signal.SIGKILL)
    if not triggers.is_set(triggers.DROP_WAKE):
        _wake(waker, database)


def _nudge_unless_told(database: str) -> bytes:
    if triggers.take(triggers.DIE_BEFORE_NUDGE):
        os.kill(os.getpid(), signal.SIGKILL)
    return _nudge(database)


def _wait_and_tell(linger: workers.linger.Linger, seconds: float) -> bool:
    with triggers.lingering():
        return _wait(linger, seconds)


def _put_twice_if_told(channel: Any, queue: str, message: Any, **rest: Any) -> None:
    _put(channel, queue, message, **rest)
    if triggers.is_set(triggers.DOUBLE):
        _put(channel, queue, message, **rest)


for place, name, faulty in (
    (workers.fan_out, "publish", _publish_unless_told),
    (workers.chunks, "publish", _publish_unless_told),
    (api.wake.Waker, "wake", _wake_unless_told),
    (api.nudges, "_nudge", _nudge_unless_told),
    (workers.linger.Linger, "_wait", _wait_and_tell),
    (broker.Channel, "_put", _put_twice_if_told),
):
    setattr(place, name, faulty)
