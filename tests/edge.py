"""One API process for a whole module of stream tests: its tests keep apart by recipients of their own."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import orjson
import psycopg
from psycopg import sql
from sqlalchemy import create_engine

from shared.db import sqlalchemy_url
from shared.embedded import EmbeddedPostgres
from shared.key_store import create_key
from tests.listener import Listener, token_for
from tests.servers import MANY_FAILURES, ApiServer
from tests.writer import TENANT, Writer

_numbers = count()


@dataclass(frozen=True, slots=True)
class Edge:
    """A running API process with a worker to write for it."""

    server: ApiServer
    writer: Writer
    environment: dict[str, str]

    def recipient(self) -> str:
        """Return a new recipient, with an inbox."""
        name = f"edge{next(_numbers)}"
        self.writer.register(name)
        return name

    def token(self, recipient: str, ttl: float = 3600) -> str:
        """Return a recipient's token."""
        return token_for(self.environment, recipient, ttl)

    def listener(self, recipient: str, query: str = "", **headers: str) -> Listener:
        """Return a stream of a recipient, to be opened."""
        return Listener(self.server.url, self.token(recipient), query, **headers)


def key_for(edge: Edge, *scopes: str) -> str:
    """Make a producer key with these scopes for the tests' tenant."""
    engine = create_engine(sqlalchemy_url(edge.environment["CARILLON_DATABASE_URL"]))
    try:
        with engine.begin() as connection:
            return create_key(connection, [TENANT], scopes)
    finally:
        engine.dispose()


def id_of(frame: bytes) -> str:
    """Return the notification's id in a `created` frame."""
    return str(orjson.loads(frame.split(b"data: ")[1])["notification"]["id"])


@contextmanager
def new_database(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A migrated database that is dropped at the end, whoever is still connected."""
    name = sql.Identifier(f"edge_{next(_numbers)}")
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as session:
        session.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template_carillon STRATEGY file_copy").format(name))
        yield postgres.url(name.as_string().strip('"'))
        session.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def environment_of(database_url: str, redis_url: str, folder: Path, **extra: str) -> dict[str, str]:
    """Return the settings of an API process."""
    return {
        "CARILLON_DATA_DIR": str(folder / "data"),
        "CARILLON_DATABASE_URL": database_url,
        "CARILLON_REDIS_URL": redis_url,
        "CARILLON_BROKER_URL": redis_url,
        "CARILLON_JWT_SECRET": secrets.token_urlsafe(48),
        "CARILLON_SECRET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        **MANY_FAILURES,
        **extra,
    }


@contextmanager
def running_edge(database_url: str, redis_url: str, folder: Path, **extra: str) -> Iterator[Edge]:
    """A ready API process over these servers, ended at the end."""
    environment = environment_of(database_url, redis_url, folder, **extra)
    server = ApiServer(environment, folder / f"edge-{next(_numbers)}.log")
    try:
        server.start()
        with Writer(database_url, redis_url) as writer:
            yield Edge(server, writer, environment)
    finally:
        server.kill()
