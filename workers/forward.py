"""Telling other databases of events that may reach somebody there (`shared/forwards.py`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from sqlalchemy import Connection

from shared import databases, db, forwards, told_anew
from shared.audience import Sought
from shared.databases import SHARED, working_in
from shared.logs import log
from workers.app import FORWARD_TASK, app, wake
from workers.everywhere import apart
from workers.patience import patience
from workers.prepare import Prepared, Row

#: Events that one pair of transactions forwards.
BATCH = 200


def leave_forwards(connection: Connection, events: Iterable[Prepared]) -> bool:
    """Leave a forward for each other database where these events, which end here now, may reach somebody.

    Returns whether there is any. What was forwarded to here goes no further. Where all tenants share one database,
    nothing is asked.
    """
    if not databases.is_split():
        return False
    reached = _reached(connection, [event for event in events if not event.derived])
    pairs = sorted(reached)
    if pairs:
        given = {"keys": [key for key, _ in pairs], "databases": [name for _, name in pairs]}
        connection.execute(forwards.leave(), given)
    return bool(pairs)


def _reached(connection: Connection, events: Sequence[Prepared]) -> set[tuple[int, str]]:
    """Return the pairs of an event's key and another database where it may reach somebody."""
    here = databases.current()
    reached: set[tuple[int, str]] = set()
    asked: list[tuple[int, Sought]] = []
    for event in events:
        for target in event.targets:
            tenant = target.target.tenant
            names = databases.others(here) if tenant is None else [databases.database_of(tenant)]
            reached |= {(event.key, name) for name in names if name != here}
            if tenant is not None and here != SHARED and databases.database_of(tenant) == here:
                asked.append((event.key, target))
    return reached | {(key, SHARED) for key in _asked(connection, asked)}


def _asked(connection: Connection, asked: Sequence[tuple[int, Sought]]) -> set[int]:
    """Return which events target tenants of this database who have the one that is meant, or anybody, elsewhere."""
    if not asked:
        return set()
    targets = [target.target for _, target in asked]
    given = {
        "places": list(range(len(asked))),
        "tenants": [target.tenant for target in targets],
        "names": [target.name if target.kind == "recipient" else None for target in targets],
    }
    return {asked[place][0] for place in connection.scalars(forwards.who_is_elsewhere(), given)}


@app.task(name=FORWARD_TASK)
def forward_task() -> None:
    """Forward what is pending in this task's database."""
    forward_pending()


def forward_pending() -> None:
    """Forward everything that nobody else forwards now. A database that is away, or stands still, keeps no other one
    waiting, nor the lane of those who wait for their events.
    """
    for target in databases.others(databases.current()):
        with patience(FORWARD_TASK):
            apart(target, FORWARD_TASK, partial(_forward_all, target))


def _forward_all(target: str) -> None:
    while forward_some(target):
        pass


def forward_some(target: str, between: Callable[[], None] = lambda: None) -> bool:
    """Forward one batch: commit there, then mark it done here; returns whether there may be more.

    `between` is called between the two commits. The forwards stay locked meanwhile: a cancel waits, and is told after.
    """
    with db.transaction() as connection:
        rows = connection.execute(forwards.claim(), {"database": target, "limit": BATCH}).mappings().all()
        if not rows:
            return False
        _tell(target, rows)
        between()
        connection.execute(forwards.done(), {"keys": [row["event_key"] for row in rows], "database": target})
    log().info("forward.done", database=target, events=len(rows))
    with working_in(target):
        wake()
    return len(rows) == BATCH


def _tell(target: str, rows: Sequence[Row]) -> None:
    new, cancelled = ([row for row in rows if row["cancelled"] is wanted] for wanted in (False, True))
    with db.transaction(*sorted({row["tenant"] for row in rows}), database=target) as there:
        if new:
            given = {name: [row[name] for row in new] for name in forwards.COPIED}
            there.execute(forwards.KNOW_TENANTS, {"tenant": given["tenant"]})
            there.execute(forwards.store(), given)
            _tell_anew(there, [row for row in new if row["told"] is not None])
        if cancelled:
            named = {name: [row[name] for row in cancelled] for name in ("tenant", "source", "id")}
            there.execute(forwards.cancel_stored(), named)


def _tell_anew(there: Connection, rows: Sequence[Row]) -> None:
    if rows:
        given = {name: [row[name] for row in rows] for name in ("tenant", "source", "id", "revision", "told")}
        there.execute(told_anew.store(), given)
