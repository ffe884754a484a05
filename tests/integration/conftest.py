"""The API within the test's process, with no HTTP server to start, or as a process; real database, real Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
import redis

from shared import db as database
from shared.directory import ensure_tenant, import_recipients
from shared.embedded import EmbeddedPostgres, EmbeddedRedis
from shared.tokens import make_token
from tests import directory, inboxes
from tests.directory import Row
from tests.edge import Edge, new_database, running_edge
from tests.outboxes import Producer, RelayProcess, dumped, make, setting
from tests.producers import TENANT, make_key, serving


@pytest.fixture
async def api(configured: dict[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API."""
    async with serving() as client:
        yield client


@pytest.fixture
def key(configured: dict[str, str]) -> str:
    """A producer key for the tenant `acme` with the scope `events:write`."""
    return make_key()


@pytest.fixture
def redis_data(configured: dict[str, str]) -> Iterator[redis.Redis]:
    """A client of the Redis of streams and presence."""
    with redis.Redis.from_url(configured["CARILLON_REDIS_URL"]) as client:
        yield client


@pytest.fixture
def db(configured: dict[str, str]) -> Iterator[psycopg.Connection[Row]]:
    """A session on the test's database, beside the product's own: autocommitting, rows as dicts."""
    with directory.connect(configured["CARILLON_DATABASE_URL"]) as connection:
        yield connection


@pytest.fixture
def publish(db: psycopg.Connection[Row]) -> inboxes.Publish:
    """Notify Ada, oldest first: `publish("grade.posted", course_id="c1")`."""
    directory.add_recipients(db, inboxes.TENANT, [inboxes.WHO])
    return inboxes.publisher(db)


@pytest.fixture
async def ada(api: httpx.AsyncClient) -> httpx.AsyncClient:
    """The client of the API, with Ada's token."""
    api.headers["authorization"] = f"Bearer {make_token(inboxes.TENANT, inboxes.WHO)}"
    return api


@pytest.fixture(scope="module")
def edge(
    postgres: EmbeddedPostgres, shared_redis: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Edge]:
    """An API process for all tests of this file."""
    with (
        new_database(postgres) as url,
        running_edge(url, shared_redis.url(), tmp_path_factory.mktemp("edge")) as running,
    ):
        yield running


@pytest.fixture
def producer_url(empty_database_url: str, settings_env: dict[str, str]) -> str:
    """A producer's own database with an outbox that Carillon knows; its events may be of the tenant `acme`."""
    make(empty_database_url)
    settings_env["CARILLON_OUTBOXES"] = dumped(setting(empty_database_url, TENANT))
    return empty_database_url


@pytest.fixture
def producer(producer_url: str, configured: dict[str, str]) -> Iterator[Producer]:
    """A session of the producer; Carillon knows the tenant, and Ann."""
    with database.transaction("*") as connection:
        ensure_tenant(connection, TENANT)
        import_recipients(connection, [{"tenant": TENANT, "id": "ann"}])
    with psycopg.connect(producer_url) as session:
        yield session


@pytest.fixture
def new_relay(
    producer: Producer, zygote: object, settings_env: dict[str, str], tmp_path: Path
) -> Iterator[Callable[[], RelayProcess]]:
    """Start as many relay processes as asked for."""
    made: list[RelayProcess] = []

    def start() -> RelayProcess:
        made.append(RelayProcess(settings_env, tmp_path / f"relay-{len(made)}.log"))
        made[-1].start()
        return made[-1]

    yield start
    for each in made:
        each.kill()
