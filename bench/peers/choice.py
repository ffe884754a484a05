"""The peers: what one would use instead, each in the configuration that its author would give it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from bench.peers.apps import REDIS_URL
from bench.peers.load import FOLDER, compiled
from bench.peers.nginx import NCHAN, NGINX, PASSED, STORED, nchan, nchan_apart
from bench.peers.pushpin import pushpin
from bench.peers.servers import Peer, Place, Server, running
from shared.embedded import free_port

NODE = FOLDER / "node"
#: Of 200 streams that are opened at the same time pushpin 1.36 answers some never, of 40 a few ("received message out
#: of sequence", says its handler).
PUSHPIN_AT_ONCE = 20


@contextmanager
def limit(place: Place) -> Iterator[Server]:
    """Start the C program that is the limit."""
    port, redis = free_port(), place.redis
    command: list[str | Path] = [compiled(place.folder, "limit"), str(port), str(redis.port), redis.password]
    with running(place, port, command) as server:
        yield server


@contextmanager
def protocol(place: Place) -> Iterator[Server]:
    """Start asyncio protocols on uvloop."""
    port = free_port()
    command = [sys.executable, "-m", "bench.peers.protocol", str(port)]
    with running(place, port, command, **{REDIS_URL: place.redis.url()}) as server:
        yield server


def uvicorn(app: str) -> Callable[[Place], AbstractContextManager[Server]]:
    """Return what starts an application (`module:factory`) of this folder, as fast as uvicorn can."""

    @contextmanager
    def start(place: Place) -> Iterator[Server]:
        port = free_port()
        command = [sys.executable, "-m", "uvicorn", f"bench.peers.{app}", "--factory", f"--port={port}",
                   "--loop=uvloop", "--http=httptools", "--ws=none", "--no-access-log", "--log-level=warning",
                   "--backlog=4096", "--timeout-graceful-shutdown=1"]  # fmt: skip
        with running(place, port, command, **{REDIS_URL: place.redis.url()}) as server:
            yield server

    return start


@contextmanager
def node(place: Place) -> Iterator[Server]:
    """Start Node's http server."""
    port = free_port()
    with running(place, port, ["node", NODE / "server.mjs", str(port), place.redis.url()]) as server:
        yield server


_TUNED = "uvicorn, uvloop, httptools, hiredis; gc frozen after start"

PEERS = (
    Peer(
        "limit", "C, epoll, hand-written (the limit)", "one thread, one send a frame; no more than that",
        120_000, limit, needs=["gcc"], bound=True,
    ),
    Peer(
        "nchan", "nchan, published by HTTP", "one worker, nothing stored; 8 pipelined publishers",
        30_000, nchan(), shape="json", ready=": hi", follow="/sub/{}", by="http", publish="/pub/{}",
        needs=[NGINX, NCHAN], bound=True,
    ),
    Peer(
        "nchan-redis", "nchan, Redis mode", "as above; `distributed`, its default: Redis also keeps what is to be kept",
        8_000, nchan(STORED), shape="json", ready=": hi", follow="/sub/{}", by="http", publish="/pub/{}",
        needs=[NGINX, NCHAN],
    ),
    Peer(
        "nchan-nostore", "nchan, Redis mode, pub/sub alone", "as above; `nostore` and `fastpublish`",
        16_000, nchan(PASSED), shape="json", ready=": hi", follow="/sub/{}", by="http", publish="/pub/{}",
        needs=[NGINX, NCHAN], bound=True,
    ),
    Peer(
        "nchan-apart", "nchan, Redis mode, pub/sub alone, publisher apart",
        "as above; another nginx, on the other core, takes the messages",
        16_000, nchan_apart(PASSED), shape="json", ready=": hi", follow="/sub/{}", by="http", publish="/pub/{}",
        needs=[NGINX, NCHAN],
    ),
    Peer(
        "tutorial", "sse-starlette, one Redis subscription a stream", _TUNED,
        12_000, uvicorn("apps:tutorial"), shape="json", ready="event: connected", bound=True,
    ),
    Peer(
        "uvloop", "Python, protocols on uvloop, hand-written",
        "hiredis reader, one write a frame; gc frozen after start",
        100_000, protocol,
    ),
    Peer(
        "raw", "raw ASGI under uvicorn, one hub", f"{_TUNED}; hiredis reader, `send` awaited for each frame",
        60_000, uvicorn("apps:raw"), ready="event: connected",
    ),
    Peer(
        "starlette", "Starlette `StreamingResponse`, one hub",
        f"{_TUNED}; one Redis subscription, a queue for each stream",
        40_000, uvicorn("frameworks:starlette"), ready="event: connected",
    ),
    Peer(
        "fastapi", "FastAPI's own SSE, one Redis subscription a stream", f"{_TUNED}; `raw_data`, so nothing is encoded",
        6_000, uvicorn("frameworks:fastapi"), shape="json", ready="event: connected",
    ),
    Peer(
        "node", "Node, http, one hub", "one process, one Redis subscription by node-redis, buffers passed as they are",
        40_000, node, ready="event: connected", needs=["node", str(NODE / "node_modules")],
    ),
    Peer(
        "pushpin", "pushpin",
        "published over ZeroMQ (PUSH); no `message_rate`, no log; its application, nginx, on the other core",
        7_000, pushpin, ready="event: connected", by="zmq", at_once=PUSHPIN_AT_ONCE,
        needs=["pushpin", "condure", "zurl", NGINX],
    ),
)  # fmt: skip
