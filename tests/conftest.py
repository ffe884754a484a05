"""Real servers for the tests: one PostgreSQL and one Redis a run; a cloned database and an empty Redis a test."""

from __future__ import annotations

import base64
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import hypothesis
import psycopg
import pytest
import redis
import structlog
from psycopg import sql

from shared import db, migration
from shared.catalog import catalog
from shared.embedded import EmbeddedPostgres, EmbeddedRedis
from shared.settings import settings
from tests.servers import MANY_FAILURES, ApiServer, Beat, Child, Worker
from tests.zygote import Zygote

# A time limit for an example fails on a busy machine; what speed has to be is shown by bench/.
hypothesis.settings.register_profile("carillon", deadline=None)
hypothesis.settings.load_profile("carillon")

TEMPLATE = "template_carillon"
_numbers = count()


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """Forget a test's log settings with the test: they name a captured standard error that is closed by then."""
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture(scope="session")
def servers_dir() -> Iterator[Path]:
    """A folder for the servers' data, not below pytest's own: that one keeps the data of three runs."""
    folder = Path(tempfile.mkdtemp(prefix="carillon-tests-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres(servers_dir: Path) -> Iterator[EmbeddedPostgres]:
    """The run's PostgreSQL, with a migrated template database."""
    server = EmbeddedPostgres(servers_dir / "postgres", fast=True)
    server.start()
    with _administrator(server) as session:
        session.execute(f"CREATE DATABASE {TEMPLATE}")
    migration.migrate(server.url(TEMPLATE), server.application)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def shared_redis(servers_dir: Path) -> Iterator[EmbeddedRedis]:
    """The run's Redis; tests take `redis_url`, which finds it empty."""
    server = EmbeddedRedis(servers_dir / "redis", fast=True)
    server.start()
    yield server
    server.stop()


def _administrator(server: EmbeddedPostgres) -> psycopg.Connection:
    return psycopg.connect(server.url("postgres"), autocommit=True)


@pytest.fixture
def new_database(postgres: EmbeddedPostgres) -> Iterator[Callable[[], str]]:
    """Make as many migrated databases as asked for; all are dropped after the test, whoever is still connected."""
    made: list[str] = []

    def make() -> str:
        name = f"test_{next(_numbers)}"
        with _administrator(postgres) as session:
            statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
            session.execute(statement.format(sql.Identifier(name), sql.Identifier(TEMPLATE)))
        made.append(name)
        return postgres.url(name)

    yield make
    with _administrator(postgres) as session:
        for name in made:
            session.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def database_url(new_database: Callable[[], str]) -> str:
    """A migrated, empty database of this test's own."""
    return new_database()


@pytest.fixture
def production(postgres: EmbeddedPostgres, database_url: str) -> dict[str, str]:
    """What a process of this test needs to be told beside `settings_env` to run in production."""
    return {
        "CARILLON_ENVIRONMENT": "production",
        "CARILLON_DATABASE_URL": postgres.application_url(database_url.rpartition("/")[2]),
        "CARILLON_FLOWER_PASSWORD": secrets.token_urlsafe(24),
    }


@pytest.fixture
def empty_database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A database of this test's own in which nothing was migrated."""
    name = f"empty_{next(_numbers)}"
    with _administrator(postgres) as session:
        session.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield postgres.url(name)
    with _administrator(postgres) as session:
        session.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def redis_url(shared_redis: EmbeddedRedis) -> str:
    """The run's Redis (database 0), emptied. Pub/sub knows no databases: a test's processes end with it."""
    with redis.Redis.from_url(shared_redis.url()) as client:
        client.flushall()
    return shared_redis.url(0)


@pytest.fixture
def broker_url(shared_redis: EmbeddedRedis, redis_url: str) -> str:
    """Database 1 of the same, emptied Redis."""
    return shared_redis.url(1)


@pytest.fixture
def private_redis(servers_dir: Path) -> Iterator[EmbeddedRedis]:
    """A Redis of this test's own, to kill, stop and empty."""
    server = EmbeddedRedis(servers_dir / f"redis-{next(_numbers)}", fast=True)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def private_postgres(servers_dir: Path) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL of this test's own, migrated, to kill and stop. It flushes like the real one. Costs a second."""
    server = EmbeddedPostgres(servers_dir / f"postgres-{next(_numbers)}")
    server.start()
    migration.migrate(server.url())
    yield server
    server.kill()


@pytest.fixture
def settings_env(database_url: str, redis_url: str, broker_url: str, tmp_path: Path) -> dict[str, str]:
    """The CARILLON_* environment of this test's processes; change it before they are started to change a setting."""
    return {
        "CARILLON_ENVIRONMENT": "development",
        "CARILLON_DATA_DIR": str(tmp_path / "data"),
        "CARILLON_DATABASE_URL": database_url,
        "CARILLON_REDIS_URL": redis_url,
        "CARILLON_BROKER_URL": broker_url,
        "CARILLON_JWT_SECRET": secrets.token_urlsafe(48),
        "CARILLON_SECRET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        **MANY_FAILURES,
    }


@pytest.fixture
def configured(settings_env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Give this very process the settings of `settings_env`, with engines of its own that are closed after the test."""
    for name, value in settings_env.items():
        monkeypatch.setenv(name, value)
    _forget_settings()
    # As workers do before they take tasks: on a busy machine, reading it takes longer than a transaction may idle.
    catalog()
    yield settings_env
    _forget_settings()


def _forget_settings() -> None:
    settings.cache_clear()
    db.forget_engines()


@pytest.fixture(scope="session")
def zygote(servers_dir: Path) -> Iterator[Zygote]:
    """What the run's API, worker and beat processes are forked from."""
    Child.zygote = Zygote(servers_dir)
    yield Child.zygote
    Child.zygote.stop()
    Child.zygote = None


@pytest.fixture
def new_api_server(zygote: Zygote, settings_env: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., ApiServer]]:
    """Start as many API processes as asked for, each with more settings: `…(CARILLON_HEARTBEAT_SECONDS="1")`."""
    with ExitStack() as stack:

        def make(**extra: str) -> ApiServer:
            server = ApiServer({**settings_env, **extra}, tmp_path / f"api-{next(_numbers)}.log")
            stack.callback(server.kill)
            server.start()
            return server

        yield make


@pytest.fixture
def api_server(new_api_server: Callable[..., ApiServer]) -> ApiServer:
    """A ready API process: `.url`, `.process`, `.restart()`, `.output`."""
    return new_api_server()


@pytest.fixture
def new_worker(zygote: Zygote, settings_env: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """Start as many Celery workers as asked for: `new_worker(queues="carillon.fan_out", concurrency=1)`."""
    with ExitStack() as stack:

        def make(queues: str = Worker.QUEUES, concurrency: int = 2, name: str | None = None, **extra: str) -> Worker:
            number = next(_numbers)
            log = tmp_path / f"worker-{number}.log"
            child = Worker({**settings_env, **extra}, log, queues, concurrency, name or f"test{number}")
            stack.callback(child.kill)
            child.start()
            return child

        yield make


@pytest.fixture
def worker(new_worker: Callable[..., Worker]) -> Worker:
    """A ready Celery worker for all queues."""
    return new_worker()


@pytest.fixture
def beat(zygote: Zygote, settings_env: dict[str, str], tmp_path: Path) -> Iterator[Beat]:
    """A running Celery beat."""
    child = Beat(settings_env, tmp_path / "beat.log")
    child.start()
    yield child
    child.kill()
