"""What a peer is: how it is started, asked and published to; and a server that runs, on its core."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import psutil

from bench.cpu import cpu_seconds
from bench.peers.load import OPENING, By, FailedError, Publishing, Streams
from shared.embedded import EmbeddedRedis
from shared.settings import PROJECT_ROOT

START_S = 60.0
STOP_S = 10.0
POLL_S = 0.05
#: The channel that all streams of a broadcast follow.
EVERYBODY = "all"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run takes place: its folder, its Redis, the core of the server in turn, and that of everything else."""

    folder: Path
    redis: EmbeddedRedis
    core: int
    other: int

    @property
    def beside(self) -> Place:
        """The same with the cores exchanged: for what helps a server without being one."""
        return replace(self, core=self.other, other=self.core)


@dataclass(frozen=True, slots=True)
class Peer:
    """One server to compare with. `guess`: messages a second at which the search for its limit begins.

    `ready` is what a stream's first answer contains once it follows its channel. `follow` and `publish` make a path or
    a channel of a channel's name; `at_once` streams are opened at the same time. `needs` are programs and files;
    `bound`: whether the product is held to its figures.
    """

    name: str
    title: str
    configuration: str
    guess: int
    start: Callable[[Place], AbstractContextManager[Server]]
    shape: Literal["frame", "json"] = "frame"
    ready: str = "\r\n\r\n"
    follow: str = "/{}"
    by: By = "redis"
    publish: str = "{}"
    at_once: int = OPENING
    needs: Sequence[str] = ()
    bound: bool = False

    def streams(self, port: int, channels: Sequence[str]) -> Streams:
        """Return what is asked for a stream of each of these channels."""
        rest = "HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n"
        heads = [f"GET {self.follow.format(each)} {rest}".encode() for each in channels]
        return Streams(port, self.ready, heads, [self.target(each) for each in channels])

    def target(self, channel: str) -> str:
        """Return the Redis channel or the path by which a channel is published to."""
        return self.publish.format(channel)

    def publishing(self, server: Server, place: Place) -> Publishing:
        """Return how messages come to the peer."""
        if self.by == "redis":
            return Publishing("redis", place.redis.port, place.redis.password, self.shape)
        return Publishing(self.by, server.publish_port or server.port, "", self.shape)

    @property
    def missing(self) -> list[str]:
        """What it needs and is not there."""
        return [each for each in self.needs if shutil.which(each) is None and not Path(each).exists()]


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: its port, its processes, and the port at which it is published to, where that is another."""

    port: int
    process: psutil.Process
    publish_port: int | None = None

    def _all(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    @property
    def rss(self) -> int:
        """Resident bytes of all its processes."""
        return sum(each.memory_info().rss for each in self._all())

    @property
    def cpu(self) -> float:
        """Seconds of processor time that its processes have had."""
        return cpu_seconds(each.pid for each in self._all())


@contextmanager
def running(place: Place, port: int, command: Sequence[str | Path], **environment: str) -> Iterator[Server]:
    """Run a server on its core from the moment when it listens on `port`; raises FailedError where it ends instead."""
    pinned = ["taskset", "-c", str(place.core), *command]
    with (place.folder / "log").open("ab") as log:
        process = subprocess.Popen(
            pinned, env={**os.environ, **environment}, cwd=PROJECT_ROOT, stdout=log, stderr=log,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    try:
        _wait_for(process, port, place)
        yield Server(port, psutil.Process(process.pid))
    finally:
        _stop(process)


def _wait_for(process: subprocess.Popen[bytes], port: int, place: Place) -> None:
    deadline = time.monotonic() + START_S
    while not _listens(port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise FailedError(f"{process.args!r} did not start:\n{(place.folder / 'log').read_text()[-2000:]}")
        time.sleep(POLL_S)


def _listens(port: int) -> bool:
    # Asked of the kernel, as some servers take any connection for a stream.
    return f":{port:04X} 00000000:0000 0A" in Path("/proc/net/tcp").read_text()


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a server with all that it has started, of which some may have left its group (pushpin's parts do)."""
    children: list[psutil.Process] = []
    with suppress(psutil.Error):
        children = psutil.Process(process.pid).children(recursive=True)
    _tell_group(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    _tell_group(process.pid, signal.SIGKILL)
    for child in children:
        with suppress(psutil.Error):
            child.kill()
    process.wait()


def _tell_group(leader: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(leader, number)
