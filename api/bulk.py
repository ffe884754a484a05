"""Bulk imports: a body of any length, stored row by row, a thousand rows in a transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson
from fastapi import Request
from pydantic import BaseModel

from api.body import pieces, require_type
from api.rows import Elements, Lines, Row, Splitter, batches
from shared import audit, db
from shared.audit import Entry
from shared.directory import ROWS_AT_ONCE, Report
from shared.keys import ProducerKey
from shared.logs import log
from shared.plans import Plan, arun_plan
from shared.statements import arun

JSON = "application/json"
NDJSON = "application/x-ndjson"
#: Rejected rows that are told one by one; the others are counted.
MAX_TOLD = 1_000

Change = Callable[[Sequence[Any], Callable[[str], bool]], Plan[Report]]


class Tally:
    """What became of the rows of all batches: the counts, and the first thousand faults."""

    def __init__(self) -> None:
        self.created = self.updated = self.rejected = 0
        self.errors: list[dict[str, Any]] = []

    def add(self, rows: Sequence[Row], usable: Sequence[Row], report: Report) -> None:
        """Count one batch; `report` is about its `usable` rows, the others could not be read."""
        unread = [(row.line, "", row.fault) for row in rows if row.fault is not None]
        refused = [(usable[error.index or 0].line, error.field, error.message) for error in report.errors]
        self.created += report.created
        self.updated += report.updated
        self.rejected += report.rejected + len(unread)
        told = sorted(unread + refused)[: MAX_TOLD - len(self.errors)]
        self.errors += [{"line": line, "field": name, "message": message} for line, name, message in told]


async def store_rows(request: Request, key: ProducerKey, change: Change) -> Tally:
    """Store the body's rows as they arrive; no connection is held while the next ones do.

    Rows that are wrong are left out and told. Raises `MalformedBody` where the body cannot be read on; what came before
    is stored then.
    """
    tally = Tally()
    try:
        async for rows in batches(pieces(request), _splitter(request), ROWS_AT_ONCE):
            usable = [row for row in rows if row.fault is None]
            report = await arun_plan(change([row.value for row in usable], key.may_use))
            tally.add(rows, usable, report)
    finally:
        await _tell_of(tally, key, request.url.path)
    return tally


async def _tell_of(tally: Tally, key: ProducerKey, path: str) -> None:
    """Put what was stored into the log and the audit log, also where the body broke off."""
    counts = {"created": tally.created, "updated": tally.updated, "rejected": tally.rejected}
    log().info("directory.imported", prefix=key.prefix, path=path, **counts)
    if tally.created or tally.updated:
        async with db.async_transaction() as connection:
            await arun(connection, audit.record(Entry(key.actor, "directory.imported", subject=path, details=counts)))


def _splitter(request: Request) -> Splitter:
    return Lines() if require_type(request, (NDJSON, JSON)) == NDJSON else Elements()


def rows_body(model: type[BaseModel]) -> dict[str, Any]:
    """Return the OpenAPI request body of rows of `model`. Wrong rows are told, not refused: any row is taken."""
    named = model.__name__
    told = f"{named}: {model.__doc__} A row of another form is left out and told."
    row = {"description": told, "examples": [_ROWS[named]]}
    line = orjson.dumps(_ROWS[named]).decode() + "\n"
    content = {
        NDJSON: {"schema": {"description": f"A line each: {told}"}, "example": line},
        JSON: {"schema": {"type": "array", "items": row}, "example": [_ROWS[named]]},
    }
    return {"requestBody": {"required": True, "content": content}}


_ROWS = {
    "RecipientRow": {"tenant": "uni-berlin", "id": "ada", "roles": ["student"]},
    "MembershipRow": {"tenant": "uni-berlin", "topic": "course:la-1", "recipient": "ada"},
}
