"""Keeping inboxes and tables within their bounds: caps, expiry, tombstones, old events, and what of signing in is over.

Each job takes the clock that it goes by, for tests; None is the database's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
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
from workers.deletions import Deleted, delete, lock, one_job_at_a_time
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
    """Delete what inboxes have over their cap."""
    _everywhere(beat_schedule.CAP_TASK, cap)


@app.task(name=beat_schedule.CAP_TYPES_TASK)
def cap_types_task() -> None:
    """Delete what inboxes have over the caps of types."""
    _everywhere(beat_schedule.CAP_TYPES_TASK, cap_types)


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
        has_more = mine and not in_every_database(task, work)
    # Behind the jobs that waited meanwhile, which have just been queued.
    if has_more:
        send(task)


def cap(now: datetime | None = None) -> bool:
    """Keep the last created of every inbox, as many as its tenant's cap or `inbox_cap`, deleted ones counted.

    Returns whether a round over all inboxes ended (`_Round`).
    """
    return perform(beat_schedule.CAP_TASK, lambda run: _ended(_Capping(run)), now)


def cap_types(now: datetime | None = None) -> bool:
    """Keep of types with a cap of their own the last so many that an inbox shows.

    A job of its own: a new cap of a type, or an announcement to all, is many runs of it, which the caps of inboxes
    behind must not wait for. Returns whether a round over all inboxes ended (`_Round`).
    """
    return perform(beat_schedule.CAP_TYPES_TASK, lambda run: _ended(_CappingTypes(run)), now)


def _caps() -> dict[str, Any]:
    """Return the caps as the statements take them."""
    own = settings().tenant_inbox_caps
    return {"cap": settings().inbox_cap, "tenants": list(own), "caps": list(own.values())}


class _Round(ABC):
    """A run's way over the inboxes in key order: from where the last run ended to the end, then round to there.

    `has_ended` once the last inbox is passed: each was looked at by this run or, where they are more than a run has
    time for, by it and those just before it, which queued each other. What was looked at by those before is looked at
    again in the time that remains.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.has_ended = False
        #: The run's first position, once it is known.
        self._first: int | None = None

    def batch(self) -> bool:
        """Do some work, or look for it behind the run's position; returns whether there may be more."""
        if self.has_ended and self._first is not None and self.run.position >= self._first:
            return False
        with self.run.transaction() as connection:
            if self._first is None:
                self._first = self.run.position
            return self._look(connection) or self._turn(connection)

    @abstractmethod
    def _look(self, connection: Connection) -> bool:
        """Look at the next inboxes; returns whether there were any."""

    def _turn(self, connection: Connection) -> bool:
        """Go on with the first inbox; returns whether this run has not looked at it yet."""
        self.run.move_to(connection, 0)
        is_first_turn, self.has_ended = not self.has_ended, True
        return is_first_turn and bool(self._first)


def _ended(way: _Round) -> bool:
    return in_batches(way.batch) or way.has_ended


class _Capping(_Round):
    """What inboxes have over their cap, a page of inboxes after the other; `position` is the last key that is done."""

    #: What deletes it in locked inboxes.
    _statement: Callable[[], TextClause] = staticmethod(deletions.cap_these)

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self._caps = _caps()
        #: Of the page that is worked on, found without locks: what is due, by keys, in their order; and its last key.
        self._due: dict[int, int] = {}
        self._last = 0

    def batch(self) -> bool:
        """Cap some inboxes of the page, or look at the next one; returns whether there may be more."""
        if not self._due:
            return super().batch()
        self._cap(self._chosen())
        return True

    def _look(self, connection: Connection) -> bool:
        """Find what is due in the next inboxes, once the last page is within its caps."""
        page = connection.execute(*self._asked()).one()
        if page.last is None:
            return False
        self._last = page.last
        self._due = dict(zip(page.keys or (), page.excesses or (), strict=True))
        self._go_on(connection)
        return True

    def _asked(self) -> tuple[TextClause, dict[str, Any]]:
        least = min([self._caps["cap"], *self._caps["caps"]])
        page = {"least": least, "after": self.run.position, "inboxes": INBOXES_SEEN}
        return deletions.over_caps(), {**self._caps, **page}

    def _chosen(self) -> list[int]:
        return _within({key: min(excess, CAPPED_AT_ONCE) for key, excess in self._due.items()}, self.run.batch)

    def _cap(self, keys: list[int]) -> None:
        with self.run.transaction() as connection:
            lock(connection, keys)
            due = {**self._caps, "keys": keys, "most": CAPPED_AT_ONCE}
            gone = delete(connection, self._statement(), due, DeletedReason.CAPPED, self.run.now)
            self._strike(keys, gone)
            self._go_on(connection)
        self.run.done += gone.rows
        publish(gone.messages)

    def _strike(self, keys: list[int], gone: Deleted) -> None:
        """Strike inboxes that are within their caps now."""
        for key in keys:
            self._due[key] -= CAPPED_AT_ONCE
            if self._due[key] <= 0:
                del self._due[key]

    def _go_on(self, connection: Connection) -> None:
        """Let this run, or the next one where this one is cut off, go on before the first inbox that is left."""
        self.run.move_to(connection, next(iter(self._due), self._last + 1) - 1)


class _CappingTypes(_Capping):
    """What inboxes show of types beyond their caps; nothing is looked at while no type has one."""

    _statement = staticmethod(deletions.cap_types_of_these)

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        capped = {kind.name: kind.cap for kind in catalog() if kind.cap is not None}
        self._caps = {"types": list(capped), "caps": list(capped.values())}

    def _look(self, connection: Connection) -> bool:
        return bool(self._caps["types"]) and super()._look(connection)

    def _asked(self) -> tuple[TextClause, dict[str, Any]]:
        return deletions.grown(), {"after": self.run.position, "inboxes": INBOXES_SEEN}

    def _chosen(self) -> list[int]:
        return list(self._due)[: min(TYPED_AT_ONCE, self.run.batch)]

    def _strike(self, keys: list[int], gone: Deleted) -> None:
        """Strike inboxes of which less went than may at once: nothing is left there."""
        for key in keys:
            if gone.of.get(key, 0) < CAPPED_AT_ONCE:
                del self._due[key]


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
    """Remove tombstones older than a week or beyond 500 of an inbox.

    Returns whether all of the old ones are gone and a round over all inboxes ended (`_Round`). The floor of each inbox
    rises to the greatest seq removed: a cursor below it gets `reset`.
    """
    return perform(beat_schedule.PURGE_TASK, _purge, now)


def _purge(run: Run) -> bool:
    old = {"now": run.now, "days": TOMBSTONE_DAYS}
    aged = in_batches(lambda: _purge_some(run, deletions.old_tombstones(), old))
    return _ended(_PurgingSurplus(run)) and aged


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


class _PurgingSurplus(_Round):
    """What inboxes have too many of, some rows in some inboxes at a time."""

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        caps = _caps()
        self._given = {**caps, "keep": max(TOMBSTONES_KEPT, caps["cap"]), "inboxes": INBOXES_PAGE}
        #: Up to which ordinal the inbox right behind the position was looked at, by this run or the last one.
        self._ordinal: int | None = None
        self._purged = 0

    def batch(self) -> bool:
        """Purge what is to go of some rows; returns whether there may be more."""
        self._purged = 0
        has_more = super().batch()
        self.run.done += self._purged
        return has_more

    def _look(self, connection: Connection) -> bool:
        ordinal = self.run.detail(connection) if self._ordinal is None else self._ordinal
        seen = {"partly": self.run.position + 1, "ordinal": ordinal}
        given = {**self._given, **seen, "after": self.run.position, "limit": self.run.batch}
        up_to = connection.scalar(deletions.next_inboxes(), given)
        if up_to is None:
            return False
        rows = connection.execute(deletions.beyond_kept(), {**given, "up_to": up_to}).all()
        self._purged = _purge_these(connection, [row for row in rows if row.is_tombstone])
        # Behind these inboxes, or behind the last of the rows where more than those may be there.
        at = (rows[-1].key - 1, rows[-1].ordinal) if len(rows) == given["limit"] else (up_to, 0)
        self._go_on(connection, ordinal, *at)
        return True

    def _go_on(self, connection: Connection, before: int, position: int, ordinal: int) -> None:
        self.run.move_to(connection, position)
        self._ordinal = ordinal
        if ordinal != before:
            self.run.set_detail(connection, ordinal)


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
