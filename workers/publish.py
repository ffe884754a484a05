"""Publishing after a commit: frames of small audiences on each inbox's channel, one message for each chunk.

At most once by nature: with Redis away a frame is dropped and counted, and the reconciler repairs the streams.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import orjson
from redis import Redis

from shared import metrics
from shared.logs import log
from shared.settings import settings
from shared.stream_redis import AWAY, Client, publisher, url_of
from shared.wake import CONTROL_CHANNEL

#: A fan-out waits no longer than this for Redis; redis-py's own 5 s and 10 retries would hold up a whole lane.
TIMEOUT_S = 1.0
#: After a failure nothing is tried for this long, after each further one twice as long, up to what the reconciler takes
#: anyway: a stopped Redis would cost every batch the timeout.
PAUSE_S = 1.0
MAX_PAUSE_S = 5.0
#: The way from a commit to the sockets is measured at most so often by each process; the stamp is one command more in
#: a pipeline that goes anyway.
STAMP_S = 0.25
#: Commands of one round trip: bounds the buffers on both sides.
PIPELINE = 500

#: A channel and the bytes of one message on it.
Message = tuple[str, bytes]


@dataclass(slots=True)
class _Link:
    """A client, until when nothing is published after Redis failed it, and for how long the next time."""

    client: Callable[[], Redis]
    paused_until: float = 0.0
    pause_s: float = PAUSE_S
    #: When it was last told how long ago something was committed.
    stamped_at: float = 0.0


@lru_cache(maxsize=4)
def _link_to(url: str) -> _Link:
    return _Link(Client(TIMEOUT_S))


def _link() -> _Link:
    return _link_to(url_of(settings()))


def redis_client() -> Redis:
    """Return this process's client of the data Redis: short timeouts, no silent retries."""
    return _link().client()


def forget_connections() -> None:
    """Let a forked process open connections of its own."""
    _link_to.cache_clear()


def publish(messages: Sequence[Message]) -> int:
    """Publish messages in order; returns how many Redis took. Never raises."""
    link = _link()
    if time.monotonic() < link.paused_until:
        metrics.UNPUBLISHED.add(len(messages))
        log().warning("publish.dropped", messages=len(messages), reason="paused")
        return 0
    stamp = _stamp(link)
    taken = 0
    try:
        for start in range(0, len(messages), PIPELINE):
            last = start + PIPELINE >= len(messages)
            taken += _publish_some(messages[start : start + PIPELINE], stamp if last else ())
        link.pause_s = PAUSE_S
    except AWAY as error:
        link.paused_until = time.monotonic() + link.pause_s
        link.pause_s = min(2 * link.pause_s, MAX_PAUSE_S)
        log().warning("publish.dropped", messages=len(messages) - taken, reason=type(error).__name__)
    metrics.PUBLISHED.add(taken)
    metrics.UNPUBLISHED.add(len(messages) - taken)
    return taken


def _stamp(link: _Link) -> Sequence[Message]:
    """Return what tells the edges, behind all messages, that these were committed now: at most every `STAMP_S`."""
    now = time.time()
    if now - link.stamped_at < STAMP_S:
        return ()
    link.stamped_at = now
    return ((CONTROL_CHANNEL, orjson.dumps({"stamp": {"committedAt": now}})),)


def _publish_some(messages: Sequence[Message], stamp: Sequence[Message]) -> int:
    with redis_client().pipeline(transaction=False) as pipeline:
        tell = publisher(pipeline)
        for channel, body in (*messages, *stamp):
            tell(channel, body)
        pipeline.execute()
    return len(messages)
