"""Publishing in your own transaction, where you share Carillon's database: the event exists if that commits.

The database checks the envelope at once; the type and its data are checked when a worker takes the event, so a wrong
one ends as `failed` (`Client.event` tells). Your role needs: `GRANT EXECUTE ON FUNCTION carillon_publish(jsonb) TO …`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from carillon_client.event import Event, envelope_of

Status = Literal["accepted", "duplicate"]


def publish(session: Any, event: Event | Mapping[str, Any]) -> Status:
    """Publish with the commit of `session`: a SQLAlchemy session or connection, or a psycopg connection or cursor.

    Returns `duplicate` for what was posted before. Raises the driver's error, which ends your transaction, for an
    envelope that is not valid, an unknown tenant, or other content under the same id.
    """
    return _status(session.execute(*_statement(session, event)).fetchone())


async def publish_async(session: Any, event: Event | Mapping[str, Any]) -> Status:
    """As `publish`, with SQLAlchemy's `AsyncSession` or `AsyncConnection`, or psycopg's `AsyncConnection`."""
    result = await session.execute(*_statement(session, event))
    row = result.fetchone()
    return _status(await row if hasattr(row, "__await__") else row)


def _statement(session: Any, event: Event | Mapping[str, Any]) -> tuple[Any, Any]:
    told = json.dumps(envelope_of(event))
    if type(session).__module__.partition(".")[0] == "psycopg":
        return "SELECT carillon_publish(%s::jsonb)", (told,)
    from sqlalchemy import text

    return text("SELECT carillon_publish(CAST(:event AS jsonb))"), {"event": told}


def _status(row: Any) -> Status:
    status: Status = row[0]
    return status
