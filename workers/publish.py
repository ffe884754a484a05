"""Publishing after a commit: frames of small audiences on each inbox's channel, one message for each chunk.

At most once by nature: with Redis away a frame is dropped and counted, and the reconciler repairs the streams.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from shared.errors import StartError
from shared.logs import log
from shared.settings import settings

#: A fan-out waits no longer than this for Redis; redis-py's own 5 s and 10 retries would hold up a whole lane.
TIMEOUT_S = 1.0
#: After a failure nothing is tried for this long: a stopped Redis would cost every batch the timeout.
PAUSE_S = 1.0
#: Commands of one round trip: bounds the buffers on both sides.
PIPELINE = 500

#: A channel and the bytes of one message on it.
Message = tuple[str, bytes]


class _Pause:
    """Until when nothing is tried after Redis failed."""

    until = 0.0


@lru_cache(maxsize=1)
def redis_client() -> Redis:
    """Return this process's client of the data Redis: short timeouts, no silent retries."""
    url = settings().redis_url
    if url is None:
        raise StartError("No Redis: set CARILLON_REDIS_URL, or start with `make up`.")
    return Redis.from_url(
        url.get_secret_value(),
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )


def publish(messages: Sequence[Message]) -> int:
    """Publish messages in order; returns how many Redis took. Never raises."""
    if time.monotonic() < _Pause.until:
        log().warning("publish.dropped", messages=len(messages), reason="paused")
        return 0
    taken = 0
    try:
        for start in range(0, len(messages), PIPELINE):
            taken += _publish_some(messages[start : start + PIPELINE])
    except (RedisError, OSError) as error:
        _Pause.until = time.monotonic() + PAUSE_S
        log().warning("publish.dropped", messages=len(messages) - taken, reason=type(error).__name__)
    return taken


def _publish_some(messages: Sequence[Message]) -> int:
    with redis_client().pipeline(transaction=False) as pipeline:
        for channel, body in messages:
            pipeline.publish(channel, body)
        pipeline.execute()
    return len(messages)
