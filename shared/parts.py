"""Carillon's parts as the supervisor sees them: command, environment, when they are ready, how they stop."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import redis
from pydantic import SecretStr

from shared import broker, db
from shared.embedded import ONCE, EmbeddedPostgres, EmbeddedRedis, EmbeddedServer
from shared.errors import StartError
from shared.processes import Part
from shared.settings import PROJECT_ROOT, Settings
from shared.unprivileged import launched

#: Lane → its queues: a broadcast must not delay a person, nor housekeeping either of them.
LANES = {
    "urgent": ("carillon.urgent", "carillon.accept"),
    "fan_out": ("carillon.fan_out",),
    "maintenance": ("carillon.maintenance",),
}
#: Streams are told goodbye within a second; requests end within their statements' 5 s.
API_GRACE_SECONDS = 5
API_STOP_SECONDS = 10.0
#: SIGTERM of a busy prefork worker took 31.6 s once.
WORKER_STOP_SECONDS = 45.0
SERVER_STOP_SECONDS = 20.0
ASK_SECONDS = 5.0
PING_SECONDS = 2.0
RETRY_SECONDS = 0.25
#: Settings of ours go to the parts by name; the libraries' own variables would bend what is decided here (another
#: broker, four API processes, a Flower without its password).
NOT_INHERITED = ("CARILLON_", "FLOWER_", "CELERY_", "UVICORN_", "WEB_CONCURRENCY", "PG", "FORCE_COLOR")


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what the parts inherit of a shell's environment."""
    kept = {name: value for name, value in environment.items() if not name.startswith(NOT_INHERITED)}
    # Celery warns each lane of root, at each start: what it warns of is pickle, and only JSON is accepted here.
    return {**kept, "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore:::celery.platforms"}


def settings_environment(settings: Settings) -> dict[str, str]:
    """Return every setting of ours that is set, as the variables that a part reads it from."""
    dumped = settings.model_dump(exclude_none=True)
    return {f"CARILLON_{name.upper()}": _told(value) for name, value in dumped.items()}


def _told(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    if isinstance(value, dict):
        return json.dumps(value, default=_told)
    return str(value)


async def _answers(url: str) -> bool:
    try:
        async with httpx.AsyncClient(timeout=ASK_SECONDS, trust_env=False) as client:
            return (await client.get(url)).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _python(*arguments: str) -> Callable[[], list[str]]:
    """Return the command of one of our own processes. Killed with the supervisor: the work is in PostgreSQL."""
    return lambda: launched([sys.executable, "-m", *arguments], death_signal=signal.SIGKILL)


def embedded_part(server: EmbeddedServer) -> Part:
    """Return the part that keeps an embedded server running."""
    return Part(
        name=server.name.lower(),
        command=server.command,
        environment=server.environment(),
        folder=server.home,
        prepare=server.prepare,
        is_ready=partial(asyncio.to_thread, server.is_ready),
        stop_signal=server.stop_signal,
        stop_seconds=SERVER_STOP_SECONDS,
    )


def embedded_servers(settings: Settings) -> tuple[EmbeddedPostgres | None, EmbeddedRedis | None]:
    """Return the servers that no setting replaces. Redis serves as the broker, too, unless that is set."""
    postgres = None if settings.database_url else EmbeddedPostgres(settings.data_dir / "postgres")
    needed = settings.redis_url is None or settings.broker_url is None
    return postgres, EmbeddedRedis(settings.data_dir / "redis") if needed else None


def arguments_of(part: str, settings: Settings) -> list[str]:
    """Return what Python runs as one of our own processes, by its name: the same under `carillon up` and alone."""
    celery = ["celery", "--quiet", "-A", "workers.app:app"]
    level = f"--loglevel={settings.log_level}"
    if part in LANES:
        return [
            *celery, "worker", f"--queues={','.join(LANES[part])}", f"--hostname={part}@%h",
            f"--concurrency={settings.worker_concurrency}", level, "--without-mingle", "--without-gossip",
        ]  # fmt: skip
    return {
        "api": [
            "uvicorn", "api.app:create_app", "--factory", f"--host={settings.host}", f"--port={settings.port}",
            "--loop=uvloop", "--http=httptools", "--ws=none", "--no-access-log", "--no-server-header",
            "--no-proxy-headers", f"--timeout-graceful-shutdown={API_GRACE_SECONDS}",
        ],
        "relay": ["workers.relay"],
        "beat": [*celery, "beat", "--pidfile=", level],
        "flower": [*celery, "flower"],
    }[part]  # fmt: skip


#: What `carillon run` takes.
OWN_PARTS = ("api", *LANES, "relay", "beat", "flower")


def api_part(settings: Settings, environment: Mapping[str, str]) -> Part:
    """Return the API. It is ready when everything is: database, migrations, Redis, broker and every lane's worker."""
    return Part(
        name="api",
        command=_python(*arguments_of("api", settings)),
        environment=environment,
        folder=PROJECT_ROOT,
        is_ready=partial(_answers, f"{local_url(settings.host, settings.port)}/readyz?full=1"),
        stop_seconds=API_STOP_SECONDS,
    )


def local_url(host: str, port: int) -> str:
    """Return the address by which this machine reaches a server that listens on `host`."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104 - recognised, not bound
    return f"http://{reachable}:{port}"


def worker_part(lane: str, settings: Settings, environment: Mapping[str, str]) -> Part:
    """Return one lane's Celery worker."""
    return Part(
        name=lane,
        command=_python(*arguments_of(lane, settings)),
        environment=environment,
        folder=PROJECT_ROOT,
        stop_seconds=WORKER_STOP_SECONDS,
    )


def relay_part(environment: Mapping[str, str]) -> Part:
    """Return the relay of producers' outboxes. Killed at any point it loses and doubles nothing."""
    return Part(name="relay", command=_python("workers.relay"), environment=environment, folder=PROJECT_ROOT)


def beat_part(settings: Settings, environment: Mapping[str, str]) -> Part:
    """Return Celery's beat. Its jobs are told by intervals alone, so it keeps no file."""
    command = _python(*arguments_of("beat", settings))
    return Part(name="beat", command=command, environment=environment, folder=PROJECT_ROOT)


def flower_environment(settings: Settings, address: str, password: str, cookie_secret: str) -> dict[str, str]:
    """Return Flower's own settings. All go by environment: `ps` shows none."""
    return {
        "FLOWER_ADDRESS": address,
        "FLOWER_PORT": str(settings.flower_port),
        "FLOWER_BASIC_AUTH": f"{settings.flower_user}:{password}",
        "FLOWER_COOKIE_SECRET": cookie_secret,
        "FLOWER_PERSISTENT": "true",
        "FLOWER_DB": str(settings.data_dir / "flower"),
        # A task's arguments are ids in words, and its result is nothing: the columns that say something.
        "FLOWER_TASKS_COLUMNS": "name,state,args,received,started,runtime,worker,uuid",
    }


def flower_part(settings: Settings, environment: Mapping[str, str], password: str, cookie_secret: str) -> Part:
    """Return Flower on loopback, behind a password."""
    flower = flower_environment(settings, "127.0.0.1", password, cookie_secret)
    return Part(
        name="flower",
        command=_python(*arguments_of("flower", settings)),
        environment={**environment, **flower},
        folder=PROJECT_ROOT,
        prepare=_DropAfterDeath(settings.data_dir / "flower"),
        is_ready=partial(_answers, f"http://127.0.0.1:{settings.flower_port}/healthcheck"),
    )


class _DropAfterDeath:
    """Removes Flower's history before every start but the first: a half-saved one could not be read again."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._started = False

    def __call__(self) -> None:
        if self._started:
            for file in self._database.parent.glob(f"{self._database.name}*"):
                file.unlink()
        self._started = True


async def wait_for(check: Callable[[], None], within: float) -> None:
    """Return once `check` no longer raises `StartError`; raise its last one after `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        try:
            return await asyncio.to_thread(check)
        except StartError:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(RETRY_SECONDS)


def given_servers(settings: Settings) -> list[Awaitable[None]]:
    """Return, for every server that a setting names, a wait until it answers (30 s at most, as set)."""
    checks: list[Callable[[], None]] = []
    databases = [settings.database_url, settings.database_owner_url]
    databases += [*settings.tenant_databases.values(), *settings.tenant_database_owners.values()]
    for database in databases:
        if database is not None:
            checks.append(partial(db.wait_for_database, database.get_secret_value(), within=0))
    for name in ("redis_url", "broker_url", "result_url"):
        if (url := getattr(settings, name)) is not None:
            checks.append(partial(_require_broker, f"CARILLON_{name.upper()}", url.get_secret_value()))
    return [wait_for(check, settings.start_timeout_seconds) for check in checks]


def _require_broker(name: str, url: str) -> None:
    """Raise `StartError` unless the server at `url` answers: Redis to a PING, RabbitMQ to a login, others at all."""
    parts, asked = urlsplit(url.partition(";")[0]), broker.redis_url(url)
    try:
        if asked is not None:
            with redis.Redis.from_url(
                asked, socket_timeout=PING_SECONDS, socket_connect_timeout=PING_SECONDS, retry=ONCE
            ) as client:
                client.ping()
        elif broker.is_amqp(url):
            if broker.waiting(url, (), PING_SECONDS) is None:
                raise OSError("no answer, or not with this user")
        elif parts.hostname and parts.port:
            _connect(parts.hostname, parts.port)
    except (OSError, redis.RedisError) as problem:
        where = f"{parts.scheme}://{parts.hostname or ''}:{parts.port or ''}{parts.path}"
        raise StartError(f"The server at {where} does not answer ({problem}): start it, or correct {name}.") from None


def _connect(host: str, port: int) -> None:
    socket.create_connection((host, port), timeout=PING_SECONDS).close()
