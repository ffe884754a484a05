"""A producer with a database of its own: its outbox, and a relay to empty it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import orjson
import psycopg
from psycopg.types.json import Jsonb

from shared import outbox
from tests.producers import rows
from tests.servers import Child
from workers.relay import Taken, relay_some

NAME = "registrar"
#: A session on a producer's own database.
Producer = psycopg.Connection[Any]


def setting(url: str, *tenants: str, name: str = NAME) -> dict[str, Any]:
    """Return what CARILLON_OUTBOXES says of one outbox, to be merged and dumped."""
    return {name: {"url": url, "tenants": list(tenants)}}


def dumped(*outboxes: dict[str, Any]) -> str:
    """Return the setting of several outboxes."""
    return orjson.dumps({name: each for some in outboxes for name, each in some.items()}).decode()


def make(url: str) -> None:
    """Run the shipped statements in a producer's database."""
    with psycopg.connect(url, autocommit=True) as session:
        session.execute(outbox.ddl("public").encode())


def write(session: psycopg.Connection[Any], *events: Any) -> None:
    """Write rows without the function that checks them, in the session's transaction."""
    with session.cursor() as cursor:
        cursor.executemany("INSERT INTO carillon_outbox (event) VALUES (%s)", [(Jsonb(event),) for event in events])


def waiting(session: psycopg.Connection[Any]) -> list[int]:
    """Return the positions of what is in the outbox and not refused."""
    rows = session.execute("SELECT position FROM carillon_outbox WHERE refused_at IS NULL ORDER BY 1").fetchall()
    return [row[0] for row in rows]


def refusals(session: psycopg.Connection[Any]) -> list[tuple[int, str]]:
    """Return what is refused, with why."""
    query = "SELECT position, reason FROM carillon_outbox WHERE refused_at IS NOT NULL ORDER BY 1"
    return [(row[0], row[1]) for row in session.execute(query).fetchall()]


def events(database_url: str) -> list[str]:
    """Return the ids of the events that Carillon has, as they were stored."""
    return [row[0] for row in rows(database_url, "SELECT id FROM events ORDER BY key")]


def relay_once(name: str = NAME, between: Any = lambda: None) -> Taken:
    """Take one batch in this process."""
    engine = outbox.engine_of(outbox.named(name), keeps=False)
    try:
        return relay_some(name, engine, between)
    finally:
        engine.dispose()


class RelayProcess(Child):
    """`carillon relay`, ready when it says so."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        super().__init__([sys.executable, "-m", "workers.relay"], environment, log)

    def is_ready(self) -> bool:
        return self.log.exists() and "relay.started" in self.output
