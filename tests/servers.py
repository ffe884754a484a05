"""The product's own processes, started for a test as an operator would, and ended with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import httpx

from shared.embedded import free_port
from shared.settings import PROJECT_ROOT
from shared.unprivileged import launched
from tests.eventually import eventually
from tests.zygote import Forked, Zygote

#: A start that takes 2 s alone has taken over a minute on two cores beside other runs.
START_SECONDS = 180.0
STOP_SECONDS = 60.0
#: All tests fail from one address, and processes of theirs that share a Redis count together.
MANY_FAILURES = {"CARILLON_FAILED_ATTEMPTS_PER_MINUTE": "1000000"}


class Child:
    """One process in a group of its own, its output kept in a file. It dies with the test run, whatever happens."""

    start_seconds = START_SECONDS
    #: Whose code it runs: Python looks there first.
    folder = PROJECT_ROOT
    #: Where there is one, Python modules are started by it.
    zygote: Zygote | None = None

    def __init__(self, arguments: list[str], environment: dict[str, str], log: Path) -> None:
        self.arguments = arguments
        self.environment = environment
        self.log = log
        self.process: subprocess.Popen[bytes] | Forked | None = None

    @property
    def pid(self) -> int:
        """The running process's id."""
        assert self.process is not None
        return self.process.pid

    @property
    def output(self) -> str:
        """Everything that was printed so far, by all starts."""
        return self.log.read_text(errors="replace")

    def spawn(self) -> None:
        """Start without waiting."""
        if self.zygote is not None and self.arguments[:2] == [sys.executable, "-m"]:
            environment = {**base_environment(), **self.environment}
            self.process = self.zygote.spawn(self.arguments[2:], environment, self.log)
            return
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                launched(self.arguments, death_signal=signal.SIGKILL),
                env={**base_environment(), **self.environment},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def start(self) -> None:
        """Start, and return when it is ready. Fails with its output when it ends or takes over `start_seconds`."""
        self.spawn()
        eventually(self._ready_or_dead, within=self.start_seconds)
        assert self.process is not None
        assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.output[-4000:]}"

    def _ready_or_dead(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None or self.is_ready()

    def is_ready(self) -> bool:
        """Return whether it does its work now."""
        return True

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the main process alone."""
        os.kill(self.pid, number)

    def stop(self) -> int:
        """Ask it to end (SIGTERM) and return its exit code once nothing of its group is left."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            self.process.terminate()
        code = self.process.wait(STOP_SECONDS)
        self.kill()
        return code

    def kill(self) -> None:
        """End it and all of its group at once. Without a running one: nothing."""
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_SECONDS)

    def restart(self) -> None:
        """Stop it cleanly and start it anew, at the same address."""
        self.stop()
        self.start()


class ApiServer(Child):
    """A uvicorn process of the API, ready when the database is migrated and reachable."""

    def __init__(self, environment: dict[str, str], log: Path, port: int | None = None) -> None:
        self.port = port or free_port()
        arguments = [sys.executable, "-m", "uvicorn", "api.app:create_app", "--factory", "--host=127.0.0.1",
                     f"--port={self.port}", "--timeout-graceful-shutdown=5"]  # fmt: skip
        super().__init__(arguments, environment, log)

    @property
    def url(self) -> str:
        """The server's address, without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5.0).status_code == 200
        except httpx.HTTPError:
            return False


class Worker(Child):
    """A Celery worker for some of the queues (all, unless told), ready when it takes tasks."""

    QUEUES = "carillon.urgent,carillon.accept,carillon.fan_out,carillon.maintenance"

    def __init__(
        self, environment: dict[str, str], log: Path, queues: str = QUEUES, concurrency: int = 2, name: str = "test"
    ) -> None:
        arguments = [sys.executable, "-m", "celery", "-A", "workers.app:app", "worker", f"--queues={queues}",
                     f"--concurrency={concurrency}", f"--hostname={name}@%h", "--loglevel=INFO"]  # fmt: skip
        super().__init__(arguments, environment, log)
        self._told = 0

    def spawn(self) -> None:
        self._told = self._readiness_told()
        super().spawn()

    def _readiness_told(self) -> int:
        # Celery's own line (logger celery.apps.worker): "celery@host ready." or the same as a field of a JSON line.
        return self.output.count(" ready.") if self.log.exists() else 0

    def is_ready(self) -> bool:
        return self._readiness_told() > self._told


class Beat(Child):
    """A Celery beat process; ready at once, as it only sends. `hasty`: each job is due every second."""

    def __init__(self, environment: dict[str, str], log: Path, *, hasty: bool = False) -> None:
        program = "tests.hasty_beat" if hasty else "celery"
        arguments = [sys.executable, "-m", program, "-A", "workers.app:app", "beat", "--pidfile=", "--loglevel=INFO"]
        super().__init__(arguments, environment, log)


def base_environment() -> dict[str, str]:
    """Return what a child inherits: the shell's, less every setting of ours and every colour."""
    dropped = ("CARILLON_", "PG", "FORCE_COLOR", "COLORTERM")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**kept, "PYTHONUNBUFFERED": "1"}


def killed_by_itself(code: str, environment: dict[str, str]) -> None:
    """Run Python code that kills its own process."""
    environment = {**os.environ, **environment}
    child = subprocess.run([sys.executable, "-c", code], env=environment, cwd=PROJECT_ROOT, check=False)
    assert child.returncode == -signal.SIGKILL


def die_forwarding(database: str, environment: dict[str, str]) -> None:
    """Forward from a database in a process that kills itself once the shared one has committed."""
    killed_by_itself(
        "import os, signal\nfrom shared.databases import working_in\nfrom workers.forward import forward_some\n"
        f"with working_in({database!r}):\n    forward_some('shared', lambda: os.kill(os.getpid(), signal.SIGKILL))\n",
        environment,
    )
