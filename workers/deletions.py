"""What the deleting jobs share: one of them at a time, in batches with pauses, told to the streams after commits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, NamedTuple
from uuid import uuid4

from sqlalchemy import Connection, TextClause

from shared import fan_out, metrics
from shared.cursor import Cursor
from shared.frames import Counters, DeletedReason, channel_of, deleted
from shared.logs import log
from shared.stream_redis import AWAY
from workers.app import send
from workers.publish import Message, redis_client

#: Longer than a job's time and its last batch.
LEASE_MS = 20_000
LEASE = "carillon:housekeeping"
#: The jobs that came while another one worked: whoever ends queues them.
WAITING = "carillon:housekeeping:waiting"
WAITING_S = 60
#: More jobs than there are.
MOST_WAITING = 100


class Deleted(NamedTuple):
    """What one transaction deletes: how many rows, the frames that tell it, one for each inbox, and of which inbox (by
    key) how many."""

    rows: int
    messages: list[Message]
    of: dict[int, int]


@contextmanager
def one_job_at_a_time(job: str, *, waits: bool = True) -> Iterator[bool]:
    """Yield whether this job may run: not while another one does, so that a lane of two always has one for sweeps.

    For economy alone: two that ran at once, two beats' or after Redis was lost, would do nothing wrong. A job that
    `waits` is queued again when the other one ends: of two that beat sends at the same moment, none is left out.
    """
    token = uuid4().hex
    try:
        taken = _take(token)
        if not taken and waits:
            _wait(job)
            # The other one may have ended in between.
            taken = _take(token)
    except AWAY:
        taken = True
    if not taken:
        log().info("housekeeping.waits", job=job)
    try:
        yield taken
    finally:
        if taken:
            _give_back(token)


def _take(token: str) -> bool:
    return bool(redis_client().set(LEASE, token, nx=True, px=LEASE_MS))


def _wait(job: str) -> None:
    redis_client().sadd(WAITING, job)
    redis_client().expire(WAITING, WAITING_S)


def _give_back(token: str) -> None:
    with suppress(*AWAY):
        if redis_client().get(LEASE) == token.encode():
            redis_client().delete(LEASE)
        waiting: Any = redis_client().spop(WAITING, MOST_WAITING)
        for job in waiting:
            send(bytes(job).decode())


def lock(connection: Connection, keys: Sequence[int]) -> None:
    """Lock inboxes in key order."""
    connection.execute(fan_out.lock_inboxes(), {"keys": sorted(set(keys))}).all()


def delete(
    connection: Connection,
    statement: TextClause,
    given: Mapping[str, Any],
    reason: DeletedReason,
    now: datetime | None = None,
) -> Deleted:
    """Run a deleting statement on locked inboxes. `now` None: the database's clock."""
    parameters = {**given, "reason": reason.value, "now": now}
    rows = connection.execute(statement, parameters).mappings().all()
    of = {row["key"]: len(row["ids"]) for row in rows}
    many = sum(of.values())
    # Counted before the commit: what is rolled back is done, and counted, again.
    metrics.DELETED.add(many, reason.value)
    return Deleted(many, [_told(row, reason) for row in rows], of)


def _told(row: Mapping[Any, Any], reason: DeletedReason) -> Message:
    cursor, counters = Cursor(row["epoch"], row["seq"]), Counters(row["unread"], row["unseen"], 0)
    ids = [str(id) for id in row["ids"]]
    return channel_of(row["tenant"], row["recipient"]), deleted(cursor, counters, ids, reason)
