"""Keeping inboxes and tables within their bounds: the cap, expiry, tombstones, old events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import TextClause

import beat_schedule
from shared import audit, db, deletions, revocations, sessions
from shared.frames import DeletedReason
from shared.notification_id import id_range
from shared.settings import settings
from shared.statements import run
from workers.app import app, send
from workers.deletions import BATCH, delete, in_batches, lock, one_job_at_a_time
from workers.everywhere import in_every_database
from workers.publish import publish

#: Beyond these a cursor is answered by `reset` instead of a replay.
TOMBSTONE_DAYS = 7
TOMBSTONES_KEPT = 500
#: Rows that one change takes from an inbox at most: its frame names each of them.
CAPPED_AT_ONCE = 500
#: Events looked at in one transaction: no lock, one probe of an index each.
EVENTS_PAGE = 1_000


@app.task(name=beat_schedule.CAP_TASK)
def cap_task() -> None:
    """Delete what inboxes have over their cap."""
    with one_job_at_a_time(beat_schedule.CAP_TASK) as mine:
        if mine and not in_every_database(beat_schedule.CAP_TASK, cap):
            send(beat_schedule.CAP_TASK)


@app.task(name=beat_schedule.EXPIRE_TASK)
def expire_task() -> None:
    """Delete what has expired."""
    with one_job_at_a_time(beat_schedule.EXPIRE_TASK) as mine:
        if mine and not in_every_database(beat_schedule.EXPIRE_TASK, expire):
            send(beat_schedule.EXPIRE_TASK)


@app.task(name=beat_schedule.PURGE_TASK)
def purge_task() -> None:
    """Remove tombstones that are too old or too many."""
    with one_job_at_a_time(beat_schedule.PURGE_TASK) as mine:
        if mine and not in_every_database(beat_schedule.PURGE_TASK, purge):
            send(beat_schedule.PURGE_TASK)


@app.task(name=beat_schedule.FORGET_TASK)
def forget_task() -> None:
    """Remove events that nobody needs any more."""
    with one_job_at_a_time(beat_schedule.FORGET_TASK) as mine:
        if mine and not in_every_database(beat_schedule.FORGET_TASK, forget):
            send(beat_schedule.FORGET_TASK)


@app.task(name=beat_schedule.TIDY_TASK)
def tidy_task() -> None:
    """Remove sessions and revocations that are over, and old entries of the audit log."""
    with one_job_at_a_time(beat_schedule.TIDY_TASK) as mine:
        if mine and not in_every_database(beat_schedule.TIDY_TASK, tidy):
            send(beat_schedule.TIDY_TASK)


def tidy() -> bool:
    """Remove what nobody can sign in with any more, and audit entries past their retention; returns whether all.

    Sessions and revocations are in the shared database alone; elsewhere their tables are empty.
    """
    with db.transaction(db.EVERY_TENANT) as connection:
        run(connection, sessions.forget())
        run(connection, revocations.forget())
    return in_batches(_forget_some_audit)


def _forget_some_audit() -> bool:
    with db.transaction(db.EVERY_TENANT) as connection:
        return run(connection, audit.forget(settings().audit_retention_days)) > 0


def cap() -> bool:
    """Keep the last `inbox_cap` created of every inbox, deleted ones counted; returns whether all are within."""
    return in_batches(_Capping().batch)


class _Capping:
    def __init__(self) -> None:
        self._after = 0

    def batch(self) -> bool:
        """Cap some inboxes, in key order; returns whether there may be more."""
        cap = settings().inbox_cap
        with db.transaction(db.EVERY_TENANT) as connection:
            given = {"cap": cap, "after": self._after, "limit": BATCH}
            found = connection.execute(deletions.over_cap(), given).all()
            keys = _within_batch({row.key: min(row.excess, CAPPED_AT_ONCE) for row in found})
            if not keys:
                return False
            lock(connection, keys)
            due = {"keys": keys, "cap": cap, "most": CAPPED_AT_ONCE}
            messages = delete(connection, deletions.cap_these(), due, DeletedReason.CAPPED)
        publish(messages)
        far_over = [row.key for row in found[: len(keys)] if row.excess > CAPPED_AT_ONCE]
        self._after = far_over[0] - 1 if far_over else keys[-1]
        return True


def _within_batch(found: dict[int, int]) -> list[int]:
    """Return the first keys whose rows together are within a batch, at least one."""
    keys: list[int] = []
    rows = 0
    for key, excess in found.items():
        rows += excess
        if keys and rows > BATCH:
            break
        keys.append(key)
    return keys


def expire() -> bool:
    """Delete every notification whose time is over; returns whether all are gone."""
    return in_batches(_expire_some)


def _expire_some() -> bool:
    with db.transaction(db.EVERY_TENANT) as connection:
        rows = connection.execute(deletions.expired(), {"limit": BATCH}).all()
        if not rows:
            return False
        lock(connection, [row.key for row in rows])
        ids = {"ids": [row.id for row in rows]}
        messages = delete(connection, deletions.delete_these(), ids, DeletedReason.EXPIRED)
    publish(messages)
    return True


def purge() -> bool:
    """Remove tombstones older than a week or beyond 500 of an inbox; returns whether all are gone.

    The floor of each inbox rises to the greatest seq removed: a cursor below it gets `reset`.
    """
    keep = max(TOMBSTONES_KEPT, settings().inbox_cap)
    aged = in_batches(lambda: _purge_some(deletions.old_tombstones(), {"days": TOMBSTONE_DAYS}))
    return in_batches(lambda: _purge_some(deletions.surplus_tombstones(), {"keep": keep, "after": 0})) and aged


def _purge_some(statement: TextClause, given: Mapping[str, Any]) -> bool:
    with db.transaction(db.EVERY_TENANT) as connection:
        rows = connection.execute(statement, {**given, "limit": BATCH}).all()
        if not rows:
            return False
        lock(connection, [row.key for row in rows])
        return bool(connection.scalar(deletions.purge_these(), {"ids": [row.id for row in rows]}))


def forget() -> bool:
    """Remove events finished longer ago than their retention, once no inbox shows a notification of theirs.

    Their idempotency ends with that. Returns whether all are gone.
    """
    return in_batches(_Forgetting().batch)


class _Forgetting:
    def __init__(self) -> None:
        self._after = 0

    def batch(self) -> bool:
        """Look at a page of events; returns whether there may be more."""
        with db.transaction(db.EVERY_TENANT) as connection:
            given = {"days": settings().event_retention_days, "after": self._after, "limit": EVENTS_PAGE}
            rows = connection.execute(deletions.old_events(), given).all()
            if not rows:
                return False
            old = [(row.key, *id_range(row.accepted_at)) for row in rows if row.is_old]
            columns = [list(column) for column in zip(*old, strict=True)] or [[], [], []]
            connection.execute(deletions.forget_these(), dict(zip(("keys", "lows", "highs"), columns, strict=True)))
        self._after = rows[-1].key
        return not rows[-1].is_young
