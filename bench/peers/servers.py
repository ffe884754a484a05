"""Each peer: how it is started, asked and published to, in the configuration that its author would give it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from bench.peers.apps import REDIS_URL
from bench.peers.load import Publishing, Streams, compiled
from shared.embedded import EmbeddedRedis, free_port
from shared.settings import PROJECT_ROOT

START_S = 60.0
STOP_S = 10.0
POLL_S = 0.05
#: The channel that all streams of a broadcast follow.
EVERYBODY = "all"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run takes place: its folder, its Redis, and the core that servers have for themselves."""

    folder: Path
    redis: EmbeddedRedis
    core: int


@dataclass(frozen=True, slots=True)
class Peer:
    """One server to compare with. `guess`: messages a second at which the search for its limit begins.

    `ready` is what a stream's first answer contains once it follows its channel.
    """

    name: str
    title: str
    configuration: str
    guess: int
    start: Callable[[Place], AbstractContextManager[Server]]
    shape: Literal["frame", "json"] = "frame"
    ready: str = "\r\n\r\n"
    follow: str = "/{}"
    publish: str | None = None

    def streams(self, port: int, channels: Sequence[str]) -> Streams:
        """Return what is asked for a stream of each of these channels."""
        rest = "HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n"
        heads = [f"GET {self.follow.format(each)} {rest}".encode() for each in channels]
        return Streams(port, self.ready, heads, [self.target(each) for each in channels])

    def target(self, channel: str) -> str:
        """Return the Redis channel or the path by which a channel is published to."""
        return self.publish.format(channel) if self.publish is not None else channel

    def publishing(self, server: Server, place: Place) -> Publishing:
        """Return how messages come to the peer."""
        if self.publish is not None:
            return Publishing("http", server.port, "", self.shape)
        return Publishing("redis", place.redis.port, place.redis.password, self.shape)


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: its port, and its processes."""

    port: int
    process: psutil.Process

    def _all(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    @property
    def rss(self) -> int:
        """Resident bytes of all its processes."""
        return sum(each.memory_info().rss for each in self._all())

    @property
    def cpu(self) -> float:
        """Seconds of processor time that its processes have had."""
        return sum(sum(each.cpu_times()[:2]) for each in self._all())


@contextmanager
def running(place: Place, port: int, command: Sequence[str | Path], **environment: str) -> Iterator[Server]:
    """Run a server on its core from the moment when it listens on `port`; raises SystemExit where it ends instead."""
    pinned = ["taskset", "-c", str(place.core), *command]
    with (place.folder / "log").open("ab") as log:
        process = subprocess.Popen(
            pinned,
            env={**os.environ, **environment},
            cwd=PROJECT_ROOT,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    try:
        _wait_for(process, port, place)
        yield Server(port, psutil.Process(process.pid))
    finally:
        _stop(process)


def _wait_for(process: subprocess.Popen[bytes], port: int, place: Place) -> None:
    deadline = time.monotonic() + START_S
    while not _listens(port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"{process.args!r} did not start:\n{(place.folder / 'log').read_text()[-2000:]}")
        time.sleep(POLL_S)


def _listens(port: int) -> bool:
    # Asked of the kernel, as some servers take any connection for a stream.
    return f":{port:04X} 00000000:0000 0A" in Path("/proc/net/tcp").read_text()


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
        process.wait()


@contextmanager
def limit(place: Place) -> Iterator[Server]:
    """Start the C program that is the limit."""
    port = free_port()
    command: list[str | Path] = [
        compiled(place.folder, "limit"),
        str(port),
        str(place.redis.port),
        place.redis.password,
    ]
    with running(place, port, command) as server:
        yield server


def uvicorn(app: str) -> Callable[[Place], AbstractContextManager[Server]]:
    """Return what starts one of `apps`, as fast as uvicorn can."""

    @contextmanager
    def start(place: Place) -> Iterator[Server]:
        port = free_port()
        command = [sys.executable, "-m", "uvicorn", f"bench.peers.apps:{app}", f"--port={port}", "--loop=uvloop",
                   "--http=httptools", "--ws=none", "--no-access-log", "--log-level=warning", "--backlog=4096",
                   "--timeout-graceful-shutdown=1"]  # fmt: skip
        if app == "tutorial":
            command.append("--factory")
        with running(place, port, command, **{REDIS_URL: place.redis.url()}) as server:
            yield server

    return start


#: One worker, as there is one core; no log; messages are kept for nobody, which spares nchan its buffers.
NGINX = """
load_module {module};
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
error_log {folder}/nginx.log warn;
pid {folder}/nginx.pid;
events {{ worker_connections 16000; use epoll; multi_accept on; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  tcp_nodelay on; keepalive_requests 1000000000; keepalive_timeout 1h; client_body_buffer_size 16k;
  nchan_shared_memory_size 512m;
  {upstream}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location ~ ^/sub/(\\w+)$ {{
      nchan_subscriber eventsource; nchan_channel_id $1; nchan_subscriber_first_message newest;
      nchan_eventsource_ping_interval 30; {more}
    }}
    location ~ ^/pub/(\\w+)$ {{
      nchan_publisher; nchan_channel_id $1; nchan_store_messages off; {more}
    }}
  }}
}}
"""
NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
#: How nchan may use Redis: messages stored there, for all servers and for subscribers that come back (its default), or
#: handed on by pub/sub alone.
STORED = "nchan_redis_storage_mode distributed;"
PASSED = "nchan_redis_storage_mode nostore; nchan_redis_nostore_fastpublish on;"


def nchan(redis: str = "") -> Callable[[Place], AbstractContextManager[Server]]:
    """Return what starts nginx with nchan: on its own, or using Redis in one of its ways."""

    @contextmanager
    def start(place: Place) -> Iterator[Server]:
        if not NCHAN.exists():
            raise SystemExit("nchan is not there: apt-get install nginx libnginx-mod-nchan, or leave it out (--only).")
        port, folder = free_port(), place.folder / "nginx"
        folder.mkdir(exist_ok=True)
        # nginx's worker is another user.
        place.folder.chmod(0o755)
        (folder / "nginx.conf").write_text(_nginx(folder, port, redis, place.redis.url()))
        with running(place, port, ["/usr/sbin/nginx", "-c", folder / "nginx.conf", "-p", folder]) as server:
            yield server

    return start


def _nginx(folder: Path, port: int, redis: str, url: str) -> str:
    upstream = f"upstream redis {{ nchan_redis_server {url}; {redis} }}" if redis else ""
    more = "nchan_redis_pass redis;" if redis else ""
    return NGINX.format(module=NCHAN, folder=folder, port=port, upstream=upstream, more=more)


LIMIT = Peer(
    "limit", "C, epoll, hand-written (the limit)", "one thread, one send a frame; no more than that", 120_000, limit
)
TUTORIAL = Peer(
    "tutorial", "sse-starlette, one Redis subscription a stream",
    "uvicorn, uvloop, httptools, hiredis; gc frozen after start", 12_000, uvicorn("tutorial"),
    shape="json", ready="event: connected",
)  # fmt: skip
RAW = Peer(
    "raw", "raw ASGI under uvicorn, one hub", "hiredis reader, `send` awaited for each frame; gc frozen after start",
    60_000, uvicorn("raw"), ready="event: connected",
)  # fmt: skip
NCHAN_HTTP = Peer(
    "nchan", "nchan, published by HTTP", "one worker, nothing stored; 8 pipelined publishers",
    30_000, nchan(), shape="json", ready=": hi", follow="/sub/{}", publish="/pub/{}",
)  # fmt: skip
NCHAN_REDIS = Peer(
    "nchan-redis", "nchan, Redis mode", "as above; each message passes Redis by its default way, distributed", 8_000,
    nchan(STORED), shape="json", ready=": hi", follow="/sub/{}", publish="/pub/{}",
)  # fmt: skip
NCHAN_PASSED = Peer(
    "nchan-nostore", "nchan, Redis mode without storage", "as above; nostore and fastpublish: pub/sub alone",
    16_000, nchan(PASSED), shape="json", ready=": hi", follow="/sub/{}", publish="/pub/{}",
)  # fmt: skip
PEERS = (LIMIT, NCHAN_HTTP, NCHAN_REDIS, NCHAN_PASSED, TUTORIAL, RAW)
