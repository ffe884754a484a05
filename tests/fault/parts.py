"""The cluster's own processes, with the product's command lines, and who starts them again when they die."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from shared.wake import FAN_OUT_QUEUE
from tests.servers import ApiServer, Child, Worker

#: How often the supervisor looks; the product's is told at once.
LOOK_S = 0.05
#: After a death, as the product's supervisor after the first of a row: a second, a quarter more or less.
BACK_OFF_S = 1.0
JITTER = 0.25
#: Between two looks at the memory of the API.
MEMORY_S = 1.0
MIB = 1024 * 1024


class Api(ApiServer):
    """One API process, as `carillon up` starts it, unless `app` names another factory."""

    def __init__(self, environment: dict[str, str], log: Path, app: str = "api.app:create_app") -> None:
        super().__init__(environment, log)
        self.arguments = [
            sys.executable, "-m", "uvicorn", app, "--factory", "--host=127.0.0.1", f"--port={self.port}",
            "--loop=uvloop", "--http=httptools", "--ws=none", "--no-access-log", "--no-server-header",
            "--timeout-graceful-shutdown=5",
        ]  # fmt: skip


class Lane(Worker):
    """One worker process for some lanes: with two children where one may linger for events, else with one."""

    def __init__(self, environment: dict[str, str], log: Path, queues: str, name: str, app: str) -> None:
        super().__init__(environment, log, queues, concurrency=2 if FAN_OUT_QUEUE in queues else 1, name=name)
        self.arguments[self.arguments.index("workers.app:app")] = app
        self.arguments += ["--without-mingle", "--without-gossip"]

    def children(self) -> list[psutil.Process]:
        """Return the pool's processes; none while the worker is down."""
        with suppress(psutil.NoSuchProcess):
            found: list[psutil.Process] = psutil.Process(self.pid).children()
            return found
        return []


class Ticker(Child):
    """One beat process."""

    def __init__(self, environment: dict[str, str], log: Path, app: str) -> None:
        arguments = [sys.executable, "-m", "celery", "-A", app, "beat", "--pidfile=", "--loglevel=INFO"]
        super().__init__(arguments, environment, log)


class Supervisor:
    """Starts every part again that dies, a second later, and what is left of its process group is killed first.

    `deaths` counts all deaths by the part's name.
    """

    def __init__(self, parts: dict[str, Child]) -> None:
        self.parts = parts
        self.deaths: dict[str, int] = dict.fromkeys(parts, 0)
        #: The greatest resident memory of a part since its last start, in MiB; and when each was last started.
        self.peak_mib: dict[str, float] = {}
        self.started_at: dict[str, float] = {}
        self._due: dict[str, float] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Begin to look after the parts, which run already."""
        now = time.monotonic()
        self.started_at = dict.fromkeys(self.parts, now)
        self._thread.start()

    def stop(self) -> None:
        """Kill every part and look no more."""
        self._ended.set()
        self._thread.join()
        for part in self.parts.values():
            with suppress(ProcessLookupError):
                os.killpg(part.pid, signal.SIGCONT)
            part.kill()

    def settled(self, names: Iterable[str]) -> bool:
        """Tell whether these parts all run at this moment."""
        with self._lock:
            return not any(name in self._due or self._is_dead(self.parts[name]) for name in names)

    @staticmethod
    def _is_dead(part: Child) -> bool:
        return part.process is None or part.process.poll() is not None

    def _run(self) -> None:
        measured = 0.0
        while not self._ended.wait(LOOK_S):
            with self._lock:
                self._look(time.monotonic())
            if time.monotonic() > measured + MEMORY_S:
                measured = time.monotonic()
                self._measure()

    def _look(self, now: float) -> None:
        for name, part in self.parts.items():
            if name in self._due:
                if now >= self._due[name]:
                    del self._due[name]
                    part.spawn()
                    self.started_at[name] = now
            elif self._is_dead(part):
                self.deaths[name] += 1
                part.kill()
                self._due[name] = now + BACK_OFF_S * random.uniform(1 - JITTER, 1 + JITTER)

    def _measure(self) -> None:
        for name, part in self.parts.items():
            if isinstance(part, Api):
                with suppress(psutil.Error):
                    used = psutil.Process(part.pid).memory_info().rss / MIB
                    self.peak_mib[name] = max(used, self.peak_mib.get(name, 0.0))
