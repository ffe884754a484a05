"""Publishing after a commit: frames of small audiences on each inbox's channel, one message for each chunk.

At most once by nature: with Redis away a frame is dropped and counted, and the reconciler repairs the streams.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import orjson
from redis import Redis

from shared import metrics
from shared.logs import log
from shared.settings import settings
from shared.stream_redis import AWAY, Client, Share, by_server, is_cluster, publisher, refresh, url_of
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
    #: When a cluster's servers were last asked who has which slots.
    refreshed_at: float = 0.0


@lru_cache(maxsize=4)
def _link_to(url: str) -> _Link:
    return _Link(Client(TIMEOUT_S))


def _link() -> _Link:
    return _link_to(url_of(settings()))


@lru_cache(maxsize=64)
def _link_within(_url: str, _server: str, client: Redis) -> _Link:
    """Return the link to one server of a cluster: one that is away holds up no other."""
    return _Link(lambda: client)


def redis_client() -> Redis:
    """Return this process's client of the data Redis: short timeouts, no silent retries."""
    return _link().client()


def forget_connections() -> None:
    """Let a forked process open connections of its own."""
    _link_to.cache_clear()
    _link_within.cache_clear()


def publish(messages: Sequence[Message], words: Sequence[bytes] = ()) -> Sequence[int]:
    """Publish messages, those of one channel in order; returns the places of those that Redis took. Never raises.

    `words` are control messages about them, sent behind them in the same round trip (of a cluster: in the last one).
    """
    if not messages:
        return ()
    link, told = _link(), [(CONTROL_CHANNEL, word) for word in words]
    if is_cluster():
        return _publish_to_cluster(link, messages, told)
    return range(_publish_by(link, messages, lambda: (*_stamp(link), *told)))


def _publish_to_cluster(whole: _Link, messages: Sequence[Message], told: Sequence[Message]) -> list[int]:
    """Publish each channel's messages to the server that has its slot, one server after the other."""
    if _is_paused(whole, messages):
        return []
    try:
        cluster = whole.client()
    except AWAY as error:
        _failed(whole, messages, 0, error)
        return []
    shares = by_server(cluster, messages)
    behind = by_server(cluster, (*_stamp(whole), *told))
    taken = _publish_shares(shares, behind, _in_order(shares, behind if told else ()))
    metrics.UNPUBLISHED.add(len(messages) - sum(len(share.messages) for share in shares.values()))
    if len(taken) < len(messages) and time.monotonic() - whole.refreshed_at > PAUSE_S:
        whole.refreshed_at = time.monotonic()
        refresh(cluster)
    return taken


def _publish_shares(shares: Mapping[str, Share], behind: Mapping[str, Share], order: Iterable[str]) -> list[int]:
    """Publish each server's messages and what it is told behind them; return the places of those that were taken."""
    url, taken = url_of(settings()), []
    for server in order:
        last = behind[server].messages if server in behind else ()
        share = shares.get(server) or Share(behind[server].client, [], [])
        many = _publish_by(_link_within(url, server, share.client), share.messages, partial(tuple, last))
        taken += share.places[:many]
    return taken


def _in_order(servers: Iterable[str], last: Iterable[str]) -> list[str]:
    """Return all the servers, those at the end that are told what is behind the messages."""
    ending = [*last]
    return [*(server for server in servers if server not in ending), *ending]


def _publish_by(link: _Link, messages: Sequence[Message], behind_of: Callable[[], Sequence[Message]]) -> int:
    if _is_paused(link, messages):
        return 0
    behind, taken = behind_of(), 0
    try:
        for start in range(0, len(messages) or 1, PIPELINE):
            last = start + PIPELINE >= len(messages)
            taken += _publish_some(link, messages[start : start + PIPELINE], behind if last else ())
        link.pause_s = PAUSE_S
    except AWAY as error:
        return _failed(link, messages, taken, error)
    metrics.PUBLISHED.add(taken)
    return taken


def _is_paused(link: _Link, messages: Sequence[Message]) -> bool:
    """Tell whether nothing is tried just now; then the messages are dropped."""
    if time.monotonic() >= link.paused_until:
        return False
    metrics.UNPUBLISHED.add(len(messages))
    log().warning("publish.dropped", messages=len(messages), reason="paused")
    return True


def _failed(link: _Link, messages: Sequence[Message], taken: int, error: Exception) -> int:
    """Pause after a failure, for longer each time; returns how many were taken before it."""
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


def _publish_some(link: _Link, messages: Sequence[Message], behind: Sequence[Message]) -> int:
    with link.client().pipeline(transaction=False) as pipeline:
        tell = publisher(pipeline)
        for channel, body in (*messages, *behind):
            tell(channel, body)
        pipeline.execute()
    return len(messages)
