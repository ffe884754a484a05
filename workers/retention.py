"""Keeping inboxes and tables within their bounds: caps, expiry, tombstones, old events, and what of signing in is over.

Each job takes the clock that it goes by, for tests; None is the database's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, TextClause

import beat_schedule
from shared import audit, deletions, revocations, sessions, statements
from shared.catalog import catalog
from shared.frames import DeletedReason
from shared.notification_id import id_range
from shared.settings import settings
from shared.statements import Program
from workers.app import app, send
from workers.deletions import delete, lock, one_job_at_a_time
from workers.everywhere import in_every_database
from workers.jobs import Run, in_batches, perform
from workers.publish import publish

#: Beyond these a cursor is answered by `reset` instead of a replay.
TOMBSTONE_DAYS = 7
TOMBSTONES_KEPT = 500
#: Rows that one change takes from an inbox at most: its frame names each of them.
CAPPED_AT_ONCE = 500
#: Inboxes whose types are counted in one transaction: a hundred rows each are read for it, and ten or so may go.
TYPED_AT_ONCE = 100
#: Events looked at in one transaction: no lock, one probe of an index each.
EVENTS_PAGE = 1_000
#: Inboxes looked at in one transaction for what is over their caps: 20 ms, no lock. All of them in each look cost more
#: than the deleting: of a million 0.3 s, fifty times in half a minute in which 2,000 were over their cap.
INBOXES_SEEN = 50_000
#: Inboxes looked at in one transaction for a surplus of tombstones: one probe of an index each at most (some 50 ms), no
#: lock.
INBOXES_PAGE = 5_000


@app.task(name=beat_schedule.CAP_TASK)
def cap_task() -> None:
    """Delete what inboxes have over their cap, and over those of types."""
    _everywhere(beat_schedule.CAP_TASK, cap)


@app.task(name=beat_schedule.EXPIRE_TASK)
def expire_task() -> None:
    """Delete what has expired."""
    _everywhere(beat_schedule.EXPIRE_TASK, expire)


@app.task(name=beat_schedule.PURGE_TASK)
def purge_task() -> None:
    """Remove tombstones that are too old or too many."""
    _everywhere(beat_schedule.PURGE_TASK, purge)


@app.task(name=beat_schedule.FORGET_TASK)
def forget_task() -> None:
    """Remove events that nobody needs any more."""
    _everywhere(beat_schedule.FORGET_TASK, forget)


@app.task(name=beat_schedule.TIDY_TASK)
def tidy_task() -> None:
    """Remove sessions and revocations that are over, and old entries of the audit log."""
    _everywhere(beat_schedule.TIDY_TASK, tidy)


def tidy() -> bool:
    """Remove what nobody can sign in with any more, and audit entries past their retention; returns whether all.

    Sessions and revocations are in the shared database alone; elsewhere their tables are empty.
    """
    return perform(beat_schedule.TIDY_TASK, _tidy)


def _tidy(run: Run) -> bool:
    days = settings().audit_retention_days
    parts: tuple[Callable[[], Program[int]], ...] = (
        lambda: sessions.forget(run.batch),
        lambda: revocations.forget(run.batch),
        lambda: audit.forget(days),
    )
    return all(in_batches(partial(_tidy_some, run, part)) for part in parts)


def _tidy_some(run: Run, part: Callable[[], Program[int]]) -> bool:
    with run.transaction() as connection:
        gone = statements.run(connection, part())
    run.done += gone
    return gone > 0


def _everywhere(task: str, work: Callable[[], bool]) -> None:
    with one_job_at_a_time(task) as mine:
        if mine and not in_every_database(task, work):
            send(task)


def cap(now: datetime | None = None) -> bool:
    """Keep the last created of every inbox, as many as its tenant's cap or `inbox_cap`, deleted ones counted.

    Of types with a cap of their own the last so many that are shown are kept. Returns whether all inboxes are within.
    """
    return perform(beat_schedule.CAP_TASK, lambda run: in_batches(_Capping(run).batch), now)


def _caps() -> dict[str, Any]:
    """Return the caps as the statements take them."""
    own = settings().tenant_inbox_caps
    return {"cap": settings().inbox_cap, "tenants": list(own), "caps": list(own.values())}


class _Capping:
    """What inboxes have too many of, in key order, a page of inboxes after the other, from where the last run ended."""

    def __init__(self, run: Run) -> None:
        self._run = run
        capped = {kind.name: kind.cap for kind in catalog() if kind.cap is not None}
        self._types = {"types": list(capped), "caps": list(capped.values())}
        #: Of the page that is worked on: what is due, found without locks, and its last key (None: no page yet).
        self._over: dict[int, int] = {}
        self._typed: list[int] = []
        self._last: int | None = None

    def batch(self) -> bool:
        """Cap some inboxes, or look at the next page; returns whether there may be more."""
        if self._over:
            self._cap_some()
        elif self._typed:
            self._cap_types_of_some()
        else:
            return self._look()
        return True

    def _look(self) -> bool:
        """Find what is due in the next inboxes, once the last page is within its caps."""
        with self._run.transaction() as connection:
            if self._last is not None:
                self._run.move_to(connection, self._last)
            caps = _caps()
            least = min([caps["cap"], *caps["caps"]])
            given = {**caps, "least": least, "after": self._run.position, "inboxes": INBOXES_SEEN}
            page = connection.execute(deletions.over_caps(), given).one()
            if page.last is None:
                self._run.move_to(connection, 0)
                return False
        self._last = page.last
        self._over = dict(zip(page.keys or (), page.excesses or (), strict=True))
        self._typed = list(page.typed or ()) if self._types["types"] else []
        return True

    def _cap_some(self) -> None:
        keys = _within({key: min(excess, CAPPED_AT_ONCE) for key, excess in self._over.items()}, self._run.batch)
        self._delete(keys, deletions.cap_these(), _caps())
        for key in keys:
            self._over[key] -= CAPPED_AT_ONCE
            if self._over[key] <= 0:
                del self._over[key]

    def _cap_types_of_some(self) -> None:
        keys = self._typed[: min(TYPED_AT_ONCE, self._run.batch)]
        self._delete(keys, deletions.cap_types_of_these(), self._types)
        del self._typed[: len(keys)]

    def _delete(self, keys: list[int], statement: TextClause, caps: Mapping[str, Any]) -> None:
        with self._run.transaction() as connection:
            lock(connection, keys)
            due = {**caps, "keys": keys, "most": CAPPED_AT_ONCE}
            gone = delete(connection, statement, due, DeletedReason.CAPPED, self._run.now)
        self._run.done += gone.rows
        publish(gone.messages)


def _within(found: dict[int, int], most: int) -> list[int]:
    """Return the first keys whose rows together are within so many, at least one."""
    keys: list[int] = []
    rows = 0
    for key, excess in found.items():
        rows += excess
        if keys and rows > most:
            break
        keys.append(key)
    return keys


def expire(now: datetime | None = None) -> bool:
    """Delete every notification whose time is over; returns whether all are gone."""
    return perform(beat_schedule.EXPIRE_TASK, lambda run: in_batches(lambda: _expire_some(run)), now)


def _expire_some(run: Run) -> bool:
    with run.transaction() as connection:
        rows = connection.execute(deletions.expired(), {"now": run.now, "limit": run.batch}).all()
        if not rows:
            return False
        lock(connection, [row.key for row in rows])
        ids = {"ids": [row.id for row in rows]}
        gone = delete(connection, deletions.delete_these(), ids, DeletedReason.EXPIRED, run.now)
    run.done += gone.rows
    publish(gone.messages)
    return True


def purge(now: datetime | None = None) -> bool:
    """Remove tombstones older than a week or beyond 500 of an inbox; returns whether all are gone.

    The floor of each inbox rises to the greatest seq removed: a cursor below it gets `reset`.
    """
    return perform(beat_schedule.PURGE_TASK, _purge, now)


def _purge(run: Run) -> bool:
    old = {"now": run.now, "days": TOMBSTONE_DAYS}
    aged = in_batches(lambda: _purge_some(run, deletions.old_tombstones(), old))
    return in_batches(_PurgingSurplus(run).batch) and aged


def _purge_some(run: Run, statement: TextClause, given: Mapping[str, Any]) -> bool:
    with run.transaction() as connection:
        rows = connection.execute(statement, {**given, "limit": run.batch}).all()
        purged = _purge_these(connection, rows)
    run.done += purged
    return bool(purged)


def _purge_these(connection: Connection, rows: Sequence[Row[Any]]) -> int:
    if not rows:
        return 0
    lock(connection, [row.key for row in rows])
    purged: int = connection.scalar(deletions.purge_these(), {"ids": [row.id for row in rows]}) or 0
    return purged


class _PurgingSurplus:
    """What inboxes have too many of, in key order, from where the last run ended."""

    def __init__(self, run: Run) -> None:
        self._run = run
        caps = _caps()
        self._given = {**caps, "keep": max(TOMBSTONES_KEPT, caps["cap"]), "inboxes": INBOXES_PAGE}
        #: How far the inbox after the run's position was looked at.
        self._seen = {"partly": 0, "ordinal": 0}

    def batch(self) -> bool:
        """Look at some rows in some inboxes and purge what is to go; returns whether there may be more."""
        with self._run.transaction() as connection:
            given = {**self._given, **self._seen, "after": self._run.position, "limit": self._run.batch}
            up_to = connection.scalar(deletions.next_inboxes(), given)
            if up_to is None:
                self._run.move_to(connection, 0)
                return False
            rows = connection.execute(deletions.beyond_kept(), {**given, "up_to": up_to}).all()
            purged = _purge_these(connection, [row for row in rows if row.is_tombstone])
            self._go_on(connection, up_to, rows if len(rows) == given["limit"] else ())
        self._run.done += purged
        return True

    def _go_on(self, connection: Connection, up_to: int, cut_off: Sequence[Row[Any]]) -> None:
        """Go on behind the inboxes, or behind the last of the rows where more than those were there."""
        last = max(((row.key, row.ordinal) for row in cut_off), default=(0, 0))
        self._seen = dict(zip(("partly", "ordinal"), last, strict=True))
        self._run.move_to(connection, last[0] - 1 if cut_off else up_to)


def forget(now: datetime | None = None) -> bool:
    """Remove events finished longer ago than their retention, once no inbox shows a notification of theirs.

    Their idempotency ends with that. Returns whether all are gone.
    """
    return perform(beat_schedule.FORGET_TASK, lambda run: in_batches(lambda: _forget_some(run)), now)


def _forget_some(run: Run) -> bool:
    """Look at a page of events, from where the last run ended; returns whether there may be more.

    Those that an inbox still shows stay, and are passed: more of them than a run has time for would end it each time.
    """
    given = {"now": run.now, "days": settings().event_retention_days, "limit": min(EVENTS_PAGE, run.batch)}
    with run.transaction() as connection:
        rows = connection.execute(deletions.old_events(), {**given, "after": run.position}).all()
        at_the_end = not rows or rows[-1].is_young
        old = [(row.key, *id_range(row.accepted_at)) for row in rows if row.is_old]
        columns = [list(column) for column in zip(*old, strict=True)] or [[], [], []]
        names = dict(zip(("keys", "lows", "highs"), columns, strict=True))
        forgotten = connection.execute(deletions.forget_these(), names).rowcount if old else 0
        run.move_to(connection, 0 if at_the_end else rows[-1].key)
    run.done += forgotten
    return not at_the_end
