"""Larger installations' servers, from Debian's packages. `make deploy-test` runs these tests; `make test` does not."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest

from shared import db, directory
from shared.embedded import EmbeddedPostgres, EmbeddedRedis
from tests.deploy.servers import PgBouncer, RabbitMQ, RedisServers
from tests.deploy.whole_way import WholeWay
from tests.producers import TENANT, make_key
from tests.servers import ApiServer, Worker

#: Set by `make deploy-test`: whoever has not installed the servers is not told of failures of theirs.
if "CARILLON_DEPLOY_TESTS" not in os.environ:
    collect_ignore_glob = ["test_*.py"]

#: Only publish and subscribe brings anything within a test's patience; the reconciler would hide that it does not.
RECONCILE = {"CARILLON_RECONCILE_SECONDS": "60"}


@pytest.fixture
def redis_servers(tmp_path: Path) -> Iterator[RedisServers]:
    """A Redis Cluster of this test's own."""
    made = RedisServers(tmp_path, secrets.token_urlsafe(24))
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def pgbouncer(postgres: EmbeddedPostgres, tmp_path: Path) -> Iterator[PgBouncer]:
    """A pooler of transactions before the run's PostgreSQL."""
    made = PgBouncer(tmp_path / "pgbouncer", postgres)
    made.start()
    yield made
    made.kill()


@pytest.fixture(scope="session")
def rabbitmq(servers_dir: Path) -> Iterator[RabbitMQ]:
    """The run's RabbitMQ. A test that ends it starts it again."""
    made = RabbitMQ(servers_dir / "rabbitmq")
    try:
        made.start()
        yield made
    finally:
        made.kill()


@pytest.fixture
async def way(
    configured: dict[str, str], new_api_server: Callable[..., ApiServer], new_worker: Callable[..., Worker]
) -> AsyncIterator[WholeWay]:
    """Two API processes and a worker, with people; the settings are those of the test's `settings_env`."""
    key = make_key()
    people = [f"person-{number}" for number in range(12)]
    with db.transaction("*") as connection:
        directory.import_recipients(connection, [{"tenant": TENANT, "id": each} for each in people])
    servers = [new_api_server(**RECONCILE) for _ in range(2)]
    new_worker(**RECONCILE)
    async with httpx.AsyncClient(base_url=servers[0].url, timeout=30) as client:
        yield WholeWay(configured, servers, people, key, client)


@pytest.fixture
def results(shared_redis: EmbeddedRedis, redis_url: str) -> str:
    """The one Redis that keeps Celery's results."""
    return redis_url
