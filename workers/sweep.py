"""The sweeper: whatever a lost message, a killed worker or an absent broker left is found here and queued again.

It looks every second and is cheap: eight statements on small partial indexes. Seven stamp or end what they find (100
rows each, and 1,000 that batches gave back), one only asks; with tenants' own databases a ninth asks for forwards.
"""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass

from sqlalchemy import Connection, text

import beat_schedule
from shared import chunks, databases, deletions, fan_out, forwards
from shared.following import trace_of
from shared.logs import log
from shared.settings import settings
from shared.wake import CHUNK_TASK
from workers.app import FAN_OUT_ONE_TASK, FORWARD_TASK, PLAN_TASK, WITHDRAW_TASK, app, send, wake
from workers.chunks import progress
from workers.everywhere import in_every_database
from workers.jobs import Run, perform

#: Of each kind, queued or given up by one sweep at most: bounds what piles up in a lane without workers, and its locks.
LIMIT = 100
#: Returned to the batches by one sweep at most: what four workers' batches held when they met a lock.
RELEASED = 1_000

#: Whether the first pending event waits for longer than a fan-out that was woken takes; no row: none is pending.
_OVERDUE = text("""
    SELECT e.accepted_at < clock_timestamp() - interval '1 s' FROM events e
    WHERE e.state = 'accepted' AND e.attempts = 0 AND e.tried_at IS NULL ORDER BY e.key LIMIT 1""")


@app.task(name=beat_schedule.SWEEP_TASK)
def sweep_task() -> None:
    """Queue again what was left."""
    in_every_database(beat_schedule.SWEEP_TASK, sweep)


@dataclass(slots=True)
class _Left:
    """What one look found, each stamped so that the next look leaves it alone for a while."""

    overdue: bool
    suspects: list[tuple[int, int]]
    chunks: list[tuple[int, int]]
    #: Events of which a chunk was given up, with their trace ids.
    ended: dict[int, str]
    unplanned: list[int]
    stalled: list[int]
    cancels: list[int]
    forwarding: bool

    @property
    def count(self) -> int:
        """How much that is."""
        listed: tuple[Sized, ...] = (
            self.suspects, self.chunks, self.ended, self.unplanned, self.stalled, self.cancels,
        )  # fmt: skip
        return sum(len(each) for each in listed) + self.overdue + self.forwarding


def sweep() -> None:
    """Queue again, or give up, all that should have been done by now; what is queued was stamped before.

    One look holds the job's lease, in a transaction that waits for nobody; what follows from it may take longer.
    """
    found: list[_Left] = []
    perform(beat_schedule.SWEEP_TASK, lambda run: _look(run, found))
    for left in found:
        _queue_again(left)


def _look(run: Run, found: list[_Left]) -> bool:
    with run.transaction() as connection:
        left = _left(connection)
        run.done = left.count
        run.tell(connection)
    found.append(left)
    return True


def _left(connection: Connection) -> _Left:
    connection.execute(fan_out.release_waiting(), {"limit": RELEASED})
    overdue = bool(connection.scalar(_OVERDUE))
    suspects = _suspects(connection)
    left = _chunks(connection)
    given = {"most": settings().max_attempts, "limit": LIMIT}
    ended = {
        row["event_key"]: trace_of(row) for row in connection.execute(chunks.fail_exhausted_chunks(), given).mappings()
    }
    stalled = connection.execute(chunks.stalled_events(), {"limit": LIMIT}).all()
    return _Left(
        overdue, suspects, left, ended,
        unplanned=[event.key for event in stalled if not event.planned],
        stalled=[event.key for event in stalled if event.planned],
        cancels=list(connection.scalars(deletions.due_cancels(), {"limit": LIMIT})),
        forwarding=_forwarding(connection),
    )  # fmt: skip


def _queue_again(left: _Left) -> None:
    if left.overdue:
        wake()
    for key, attempts in left.suspects:
        send(FAN_OUT_ONE_TASK, key, attempts)
    for event_key, number in left.chunks:
        send(CHUNK_TASK, event_key, number)
    for key in left.cancels:
        send(WITHDRAW_TASK, key)
    if left.forwarding:
        send(FORWARD_TASK)
    for key in left.unplanned:
        send(PLAN_TASK, key)
    for event_key, trace_id in left.ended.items():
        log().error("event.given_up", event_key=event_key, trace_id=trace_id, attempts=settings().max_attempts)
    for event_key in {*left.ended, *left.stalled}:
        progress(event_key)


def _suspects(connection: Connection) -> list[tuple[int, int]]:
    most = settings().max_attempts
    reason = f"Its fan-out ended with its worker process {most} times."
    given = {"most": most, "error": reason, "limit": LIMIT}
    for row in connection.execute(fan_out.fail_exhausted(), given).mappings():
        log().error("event.given_up", event_key=row["key"], trace_id=trace_of(row), attempts=most)
    due = connection.execute(fan_out.due_suspects(), {"most": most, "limit": LIMIT})
    return [(row.key, row.attempts) for row in due]


def _forwarding(connection: Connection) -> bool:
    others = databases.others(databases.current())
    return bool(others) and connection.execute(forwards.due(), {"databases": list(others)}).first() is not None


def _chunks(connection: Connection) -> list[tuple[int, int]]:
    rows = connection.execute(chunks.requeue_chunks(), {"most": settings().max_attempts, "limit": LIMIT})
    return [(row.event_key, row.number) for row in rows]
