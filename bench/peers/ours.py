"""The product's edge in the same run: everything on that is on in production, and its own wire format."""

from __future__ import annotations

import base64
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import jwt
import psycopg

from bench.peers.load import Publishing, Streams
from bench.peers.servers import Place, Server, running
from shared import migration
from shared.embedded import EmbeddedPostgres, free_port
from shared.frames import channel_of
from shared.settings import Settings
from shared.wake import chunk_channel

TENANT = "bench"
TITLE = "**Carillon**, one API process"
CONFIGURATION = "authentication, numbering, gap check, bounded buffers, metrics; uvicorn, uvloop, httptools"
#: Recipients in one message of an announcement, as a worker makes them by default.
CHUNK: int = Settings.model_fields["chunk_size"].default
#: Streams that one recipient may have at most: so many get identical bytes.
SHARING = 100
#: A stream needs a token that outlives the run.
TOKEN_S = 3_600
ISSUED = {"iss": "carillon", "aud": "carillon"}


@dataclass(frozen=True, slots=True)
class Edge:
    """One API process and how it is asked."""

    place: Place
    server: Server
    secret: str

    def _request(self, recipient: str) -> bytes:
        now = int(time.time())
        claims = {
            "sub": recipient,
            "tenant": TENANT,
            "iat": now,
            "exp": now + TOKEN_S,
            "iss": "carillon",
            "aud": "carillon",
        }
        token = jwt.encode(claims, self.secret, algorithm="HS256")
        head = f"GET /api/notifications/stream HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n"
        return head.encode()

    def streams(self, number: int, sharing: int = 1) -> Streams:
        """Return what is asked for `number` streams, `sharing` of them for each recipient."""
        recipients = [f"r{place}" for place in range(number // sharing)]
        requests = {each: self._request(each) for each in recipients}
        asked = [requests[recipients[place % len(recipients)]] for place in range(number)]
        return Streams(self.server.port, "event: connected", asked, [channel_of(TENANT, each) for each in recipients])

    @property
    def publishing(self) -> Publishing:
        """How workers publish: whole frames, by Redis."""
        return Publishing("redis", self.place.redis.port, self.place.redis.password, "frame")


def announcement_channel() -> str:
    """Return the channel of an announcement's chunks."""
    return chunk_channel(0)


@contextmanager
def postgres(folder: Path, recipients: int) -> Iterator[str]:
    """Start PostgreSQL with as many recipients, whose keys count from 1; yields its address."""
    server = EmbeddedPostgres(folder / "postgres", fast=True)
    server.start()
    try:
        migration.migrate(server.url())
        with psycopg.connect(server.url()) as session:
            session.execute("INSERT INTO tenants (id) VALUES (%s)", [TENANT])
            session.execute(
                "INSERT INTO inboxes (tenant, recipient)"
                " SELECT %s, 'r' || place FROM generate_series(0, %s) place ORDER BY place",
                [TENANT, recipients - 1],
            )
        yield server.url()
    finally:
        server.stop()


@contextmanager
def edge(place: Place, database: str, **more: str) -> Iterator[Edge]:
    """Start one API process on its core, as `carillon up` does; `more` are settings by their variables."""
    port, secret = free_port(), secrets.token_urlsafe(48)
    environment = {
        "CARILLON_DATA_DIR": str(place.folder), "CARILLON_DATABASE_URL": database,
        "CARILLON_REDIS_URL": place.redis.url(), "CARILLON_BROKER_URL": place.redis.url(),
        "CARILLON_JWT_SECRET": secret, "CARILLON_LOG_LEVEL": "warning",
        "CARILLON_SECRET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(), **more,
    }  # fmt: skip
    with running(place, port, command(port), **environment) as server:
        yield Edge(place, server, secret)


def command(port: int) -> Sequence[str]:
    """Return the command by which `carillon up` starts the API."""
    return [sys.executable, "-m", "uvicorn", "api.app:create_app", "--factory", "--host=127.0.0.1", f"--port={port}",
            "--loop=uvloop", "--http=httptools", "--ws=none", "--no-access-log", "--no-server-header",
            "--no-proxy-headers", "--log-level=warning"]  # fmt: skip
