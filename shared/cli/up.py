"""`carillon up`: everything on one machine, under one supervisor, with one log."""

from __future__ import annotations

import asyncio
import os
import signal

from pydantic import SecretStr
from rich.panel import Panel
from rich.table import Table

from shared import launch, migration, outbox, parts, runtime
from shared.embedded import EmbeddedPostgres, EmbeddedRedis
from shared.joint_log import JointLog, use_colour
from shared.processes import Part
from shared.redis_users import BROKER, STREAM
from shared.settings import Settings, data_dir, load_settings, unread_settings
from shared.supervisor import Supervisor, until_told_to_stop

STANDARD_OUTPUT = 1
#: Six Python programs start at once: on a busy machine they need several times what a server needs.
SLOW_START = 3
#: Redis' numbered databases: 0 carries pub/sub and counters, 1 the broker's queues.
BROKER_DATABASE = 1


def up(*, with_parent: bool = False) -> None:
    """Start everything and keep it running until Ctrl-C or SIGTERM; then everything is stopped and nothing is left.

    `with_parent`: stop as well when the process that started this one dies (make, killed). Raises `StartError` with one
    sentence when it cannot start or a part dies five times within a minute; then, too, nothing is left running.
    """
    if with_parent:
        launch.die_with(os.getppid(), signal.SIGTERM)
    folder = data_dir().absolute()
    with runtime.only_one(folder):
        secrets = runtime.development_secrets(folder)
        settings = _with_secrets(load_settings(data_dir=folder), secrets)
        runtime.require_free_ports(settings)
        _run(settings, secrets["flower_cookie_secret"])


def _with_secrets(settings: Settings, secrets: dict[str, str]) -> Settings:
    """Return the settings with the folder's own secrets wherever the operator gave none."""
    needed = (
        ("secret_key", "flower_password") if settings.names_signer else ("jwt_secret", "secret_key", "flower_password")
    )
    unset = [name for name in needed if getattr(settings, name) is None]
    return settings.model_copy(update={name: SecretStr(secrets[name]) for name in unset})


def _run(settings: Settings, cookie_secret: str) -> None:
    log = JointLog(STANDARD_OUTPUT, colour=use_colour(os.environ, os.isatty(STANDARD_OUTPUT)))
    try:
        asyncio.run(_supervise(settings, cookie_secret, log))
    finally:
        runtime.withdraw(settings.data_dir)
        log.close()


async def _supervise(settings: Settings, cookie_secret: str, log: JointLog) -> None:
    supervisor = Supervisor(log)
    await until_told_to_stop(supervisor, _start(supervisor, settings, cookie_secret, log), log)
    log.line("carillon", "all parts have stopped")


async def _start(supervisor: Supervisor, settings: Settings, cookie_secret: str, log: JointLog) -> None:
    """Start the stages in order, show where to look, and watch; never returns."""
    for sentence in unread_settings():
        log.line("carillon", sentence)
    settings = await _servers(supervisor, settings)
    told = settings.model_copy(update={"database_owner_url": None, "tenant_database_owners": {}})
    environment = {**parts.inherited(os.environ), **parts.settings_environment(told)}
    await asyncio.to_thread(migration.migrate_configured, settings)
    log.line("carillon", "the database is migrated")
    for reason in (await asyncio.to_thread(outbox.require_all_usable, settings)).values():
        log.line("carillon", reason)
    supervisor.start([parts.api_part(settings, environment), *_workers(settings, environment)])
    password = settings.flower_password.get_secret_value() if settings.flower_password else ""
    flower = parts.flower_part(settings, environment, password, cookie_secret)
    supervisor.start([parts.beat_part(settings, environment), flower])
    runtime.publish(settings.data_dir, parts.settings_environment(settings))
    await supervisor.ready(settings.start_timeout_seconds * SLOW_START)
    log.show(_panel(settings))
    await supervisor.unless_hopeless(asyncio.Event().wait())


async def _servers(supervisor: Supervisor, settings: Settings) -> Settings:
    """Start the embedded servers, wait for the given ones; return the settings with every URL known."""
    postgres, redis = parts.embedded_servers(settings)
    supervisor.start(parts.embedded_part(server) for server in (postgres, redis) if server)
    await asyncio.gather(supervisor.ready(settings.start_timeout_seconds), *parts.given_servers(settings))
    return settings.model_copy(update=_urls(postgres, redis, settings))


def _urls(postgres: EmbeddedPostgres | None, redis: EmbeddedRedis | None, settings: Settings) -> dict[str, object]:
    urls: dict[str, object] = {}
    if postgres:
        urls["database_url"] = SecretStr(postgres.application_url())
        urls["database_owner_url"] = SecretStr(postgres.url())
    if redis and settings.redis_url is None:
        urls["redis_url"] = SecretStr(redis.url(user=STREAM))
    if redis and settings.broker_url is None:
        urls["broker_url"] = SecretStr(redis.url(BROKER_DATABASE, BROKER))
    return urls


def _workers(settings: Settings, environment: dict[str, str]) -> list[Part]:
    lanes = [parts.worker_part(lane, settings, environment) for lane in parts.LANES]
    return [*lanes, parts.relay_part(environment)] if settings.outboxes else lanes


def _panel(settings: Settings) -> Panel:
    """Return where to look. Flower's password is shown in development only, where it was made for this folder."""
    page = f"http://{'localhost' if settings.host == '127.0.0.1' else settings.host}:{settings.port}"
    password = settings.flower_password.get_secret_value() if settings.flower_password else ""
    login = f"{settings.flower_user} / {password}" if settings.development else settings.flower_user
    rows = {
        "The page": f"{page}/",
        "The API": f"{page}/docs" if settings.development else page,
        "Flower": f"http://localhost:{settings.flower_port}/ ({login})",
        "Data": str(settings.data_dir),
        "Stop": "Ctrl-C",
    }
    table = Table.grid(padding=(0, 2))
    for name, value in rows.items():
        table.add_row(name, value)
    return Panel(table, title="Carillon is running", expand=False)
