"""The tests' own ground: what one test leaves must not be there in the next."""

from __future__ import annotations

import psycopg
import pytest
import redis

from shared.embedded import EmbeddedPostgres, EmbeddedRedis


@pytest.mark.parametrize("turn", [1, 2])
def test_every_test_finds_a_migrated_database_without_rows_of_others(database_url: str, turn: int) -> None:
    with psycopg.connect(database_url) as session:
        session.execute("CREATE TABLE left_behind ()")
        assert session.execute("SELECT count(*) FROM deployment").fetchone() == (1,)


@pytest.mark.parametrize("turn", [1, 2])
def test_every_test_finds_redis_empty(redis_url: str, broker_url: str, turn: int) -> None:
    with redis.Redis.from_url(redis_url) as client, redis.Redis.from_url(broker_url) as broker:
        assert (client.dbsize(), broker.dbsize()) == (0, 0)
        client.set("left", "behind")
        broker.set("left", "behind")


def test_a_killed_redis_comes_back_at_its_address_with_its_data(private_redis: EmbeddedRedis) -> None:
    url = private_redis.url()
    with redis.Redis.from_url(url) as client:
        client.set("kept", "1")
    private_redis.kill()
    private_redis.start()
    with redis.Redis.from_url(url) as client:
        assert client.get("kept") == b"1"


def test_a_killed_postgres_comes_back_at_its_address_with_its_data(private_postgres: EmbeddedPostgres) -> None:
    url = private_postgres.url()
    with psycopg.connect(url) as session:
        session.execute("CREATE TABLE kept AS SELECT 1 AS number")
    private_postgres.kill()
    private_postgres.start()
    with psycopg.connect(url) as session:
        assert session.execute("SELECT number FROM kept").fetchone() == (1,)
