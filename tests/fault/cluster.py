"""A whole installation of its own: two API processes, two workers in two lanes each, beat, PostgreSQL and Redis.

Every server is reached through a proxy: the parts see the proxies' addresses alone, and so do the load's clients.
"""

from __future__ import annotations

import base64
import secrets
import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import httpx
import psycopg

from shared import migration
from shared.embedded import EmbeddedPostgres, EmbeddedRedis
from tests import directory
from tests.directory import Row
from tests.eventually import eventually
from tests.fault import triggers
from tests.fault.loop import LoopThread
from tests.fault.parts import Api, Lane, Supervisor, Ticker
from tests.fault.proxy import Proxy
from tests.servers import Child
from tests.zygote import Zygote

URGENT = "carillon.urgent,carillon.accept"
BULK = "carillon.fan_out,carillon.maintenance"
START_S = 90.0
#: Processes whose clock can be set, where the shape asks for it, and where Debian's package has the library for that.
FAKED = ("api-1", "urgent-1", "bulk-1", "beat")
FAKETIME = "*/faketime/libfaketime.so.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a fault's cluster has that others have not: other application modules, and settings."""

    worker_app: str = "workers.app:app"
    api_app: str = "api.app:create_app"
    environment: dict[str, str] = field(default_factory=dict)
    #: Size of a file system of its own for PostgreSQL, in MiB; None: a plain folder.
    disk_mib: int | None = None
    #: Whether the processes of `FAKED` run by clocks that can be set.
    clocks: bool = False


#: Short times, so that what happens each half minute in production happens often here; chunks are small, so that an
#: announcement to 200 people has some.
SETTINGS = {
    "CARILLON_ENVIRONMENT": "development",
    "CARILLON_HEARTBEAT_SECONDS": "2",
    "CARILLON_STREAM_SEND_TIMEOUT_SECONDS": "5",
    "CARILLON_CHUNK_SIZE": "100",
    "CARILLON_CLAIM_BATCH": "100",
}


class Cluster:
    """The running installation, from `__enter__` to `__exit__`. Use it from the main thread."""

    def __init__(self, shape: Shape | None = None) -> None:
        self.shape = shape or Shape()
        self.folder = Path(tempfile.mkdtemp(prefix="carillon-fault-"))
        self.loop = LoopThread()
        self.postgres = EmbeddedPostgres(self.folder / "postgres")
        self.redis = EmbeddedRedis(self.folder / "redis")
        self.triggers = self.folder / "triggers"
        self.triggers.mkdir()
        self.clocks = self.folder / "clocks"
        self.clocks.mkdir()
        self._proxies: list[Proxy] = []
        self._stack = ExitStack()

    def __enter__(self) -> Cluster:
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            stack.callback(self.loop.stop)
            stack.callback(self._stop_proxies)
            self._make_disk(stack)
            self._start_servers(stack)
            self._start_parts(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _make_disk(self, stack: ExitStack) -> None:
        """Give PostgreSQL a file system of its own, where the shape asks for it."""
        if self.shape.disk_mib is None:
            return
        self.postgres.home.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={self.shape.disk_mib}m", "tmpfs", str(self.postgres.home)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        assert made.returncode == 0, f"A file system for PostgreSQL needs root with the right to mount: {made.stderr}"
        stack.callback(subprocess.run, ["umount", "--lazy", str(self.postgres.home)], check=True)

    def _start_servers(self, stack: ExitStack) -> None:
        stack.callback(self.postgres.kill)
        self.postgres.start()
        stack.callback(self.redis.kill)
        self.redis.start()
        migration.migrate(self.postgres.url())
        self.postgres_proxy = self.new_proxy(self.postgres.port)
        self.redis_proxy = self.new_proxy(self.redis.port)
        self.environment = {
            **SETTINGS,
            "CARILLON_DATA_DIR": str(self.folder / "data"),
            "CARILLON_DATABASE_URL": _through(self.postgres.url(), self.postgres.port, self.postgres_proxy),
            "CARILLON_REDIS_URL": _through(self.redis.url(0), self.redis.port, self.redis_proxy),
            "CARILLON_BROKER_URL": _through(self.redis.url(1), self.redis.port, self.redis_proxy),
            triggers.FOLDER: str(self.triggers),
            "CARILLON_JWT_SECRET": secrets.token_urlsafe(48),
            "CARILLON_SECRET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            **self.shape.environment,
        }

    def _start_parts(self, stack: ExitStack) -> None:
        if Child.zygote is None:
            zygote = Zygote(self.folder)
            stack.callback(zygote.stop)
            stack.callback(setattr, Child, "zygote", None)
            Child.zygote = zygote
        self.apis = [self.new_api(f"api-{number}") for number in (1, 2)]
        self.workers = {
            f"{lane}-{number}": self._worker(f"{lane}-{number}", queues)
            for number in (1, 2)
            for lane, queues in (("urgent", URGENT), ("bulk", BULK))
        }
        self.beat = self.new_beat("beat")
        parts = {"api-1": self.apis[0], "api-2": self.apis[1], **self.workers, "beat": self.beat}
        self.supervisor = Supervisor(parts)
        stack.callback(self.supervisor.stop)
        if self.shape.clocks:
            for name in FAKED:
                self._give_clock(name, parts[name])
        for part in parts.values():
            part.spawn()
        self.supervisor.start()
        self.api_proxies = [self.new_proxy(api.port) for api in self.apis]
        eventually(self.is_ready, within=START_S)

    def _give_clock(self, name: str, part: Child) -> None:
        """Have a part run by a clock that its file in `clocks` sets; it needs a process that is not forked."""
        library = faketime()
        assert library is not None, "no libfaketime"
        file = self.clocks / name
        file.write_text("+0\n")
        part.zygote = None
        part.environment = {
            **part.environment,
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def new_proxy(self, target: int) -> Proxy:
        """Return a listening proxy before a port."""
        proxy = Proxy(target)
        self.loop.run(proxy.start())
        self._proxies.append(proxy)
        return proxy

    def _stop_proxies(self) -> None:
        for proxy in self._proxies:
            self.loop.run(proxy.stop())

    def new_api(self, name: str) -> Api:
        """Return another API process, not yet started, nor supervised."""
        return Api(self.environment, self.folder / f"{name}.log", self.shape.api_app)

    def new_beat(self, name: str) -> Ticker:
        """Return another beat, not yet started, nor supervised."""
        return Ticker(self.environment, self.folder / f"{name}.log", self.shape.worker_app)

    def _worker(self, name: str, queues: str) -> Lane:
        return Lane(self.environment, self.folder / f"{name}.log", queues, name, self.shape.worker_app)

    def is_ready(self) -> bool:
        """Return True where both API processes see everything they need and every lane; fails with what is missing."""
        assert self.supervisor.settled(self.supervisor.parts), "a part is down"
        for api in self.apis:
            try:
                answer = httpx.get(f"{api.url}/readyz?full=1", timeout=5.0)
            except httpx.HTTPError as problem:
                raise AssertionError(f"{api.port}: {problem!r}") from problem
            assert answer.status_code == 200, answer.text
        return True

    def connect(self) -> psycopg.Connection[Row]:
        """Return a connection to PostgreSQL that no proxy stands before; it commits by itself."""
        return directory.connect(self.postgres.url())


def faketime() -> str | None:
    """Return the path of the library by which a process's clock can be set, None where it is not installed."""
    return next((str(found) for found in Path("/usr/lib").glob(FAKETIME)), None)


def _through(url: str, port: int, proxy: Proxy) -> str:
    return url.replace(f":{port}/", f":{proxy.port}/")
