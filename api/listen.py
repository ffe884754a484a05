"""Hearing of events that producers commit by SQL (`carillon_publish`), so that they need not wait for the sweeper.

A notification that is missed (connection lost, pooler in between) costs at most the sweeper's second or two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import psycopg

from shared import databases, db
from shared.logs import log
from shared.settings import settings

CHANNEL = "carillon_events"
#: Between two attempts to connect; the sweeper serves meanwhile.
RETRY_S = 5.0


def addresses() -> dict[str, str]:
    """Return where to listen, by the databases' names.

    Behind a pooler of transactions nobody hears anything: there only those whose own address is told besides.
    """
    chosen = settings()
    past = {databases.database_of(name): url.get_secret_value() for name, url in chosen.listen_databases.items()}
    direct = {} if chosen.database_pooled else {name: db.database_url(name) for name in databases.names()}
    return direct | past


async def _listen(database: str, address: str, on_event: Callable[[str], None]) -> None:
    # A connection cut without a word is noticed after 30 + 3 × 10 s.
    connection = await psycopg.AsyncConnection.connect(
        address, autocommit=True, connect_timeout=db.CONNECT_TIMEOUT_S,
        application_name="carillon-listen", keepalives_idle=30, keepalives_interval=10, keepalives_count=3,
    )  # fmt: skip
    async with connection:
        await connection.execute(f"LISTEN {CHANNEL}")
        on_event(database)
        async for _ in connection.notifies():
            on_event(database)


async def listen_for_events(on_event: Callable[[str], None]) -> None:
    """Call `on_event` with the database, for every commit of such an event and after each (re)connection.

    Until cancelled.
    """
    async with asyncio.TaskGroup() as group:
        for database, address in addresses().items():
            group.create_task(_listen_for_ever(database, address, on_event))


async def _listen_for_ever(database: str, address: str, on_event: Callable[[str], None]) -> None:
    while True:
        try:
            await _listen(database, address, on_event)
        except (psycopg.Error, OSError) as error:
            log().warning("listen.lost", database=database, reason=type(error).__name__)
        await asyncio.sleep(RETRY_S)
