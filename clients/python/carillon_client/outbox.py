"""Publishing in your own transaction, in Carillon's database or in one of yours: the event exists if that commits.

Where you share Carillon's database, it checks the envelope at once, and a wrong type or wrong data ends as `failed`
(`Client.event` tells). A database of your own has an outbox (`carillon outbox sql` prints it), which Carillon's relay
empties; what is wrong stays there with its reason. Either way your role may call `carillon_publish(jsonb)`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from carillon_client.event import Event, envelope_of

Status = Literal["accepted", "duplicate"]


def publish(session: Any, event: Event | Mapping[str, Any]) -> Status:
    """Publish with the commit of `session`: a SQLAlchemy session or connection, or a psycopg connection or cursor.

    Returns `duplicate` for what was posted before; from an outbox of your own always `accepted`: there the relay finds
    what was posted before, and it notifies nobody again. Raises the driver's error, which ends your transaction, for an
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
