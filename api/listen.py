"""Hearing of events that producers commit by SQL (`carillon_publish`), so that they need not wait for the sweeper.

A notification that is missed (connection lost, pooler in between) costs at most the sweeper's second or two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import psycopg

from shared import databases, db
from shared.logs import log

CHANNEL = "carillon_events"
#: Between two attempts to connect; the sweeper serves meanwhile.
RETRY_S = 5.0


async def _listen(database: str, on_event: Callable[[str], None]) -> None:
    # A connection cut without a word is noticed after 30 + 3 × 10 s.
    connection = await psycopg.AsyncConnection.connect(
        db.database_url(database), autocommit=True, connect_timeout=db.CONNECT_TIMEOUT_S,
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
        for database in databases.names():
            group.create_task(_listen_for_ever(database, on_event))


async def _listen_for_ever(database: str, on_event: Callable[[str], None]) -> None:
    while True:
        try:
            await _listen(database, on_event)
        except (psycopg.Error, OSError) as error:
            log().warning("listen.lost", database=database, reason=type(error).__name__)
        await asyncio.sleep(RETRY_S)
