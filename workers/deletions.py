"""What the deleting jobs share: one of them at a time, in batches with pauses, told to the streams after commits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

from redis.exceptions import RedisError
from sqlalchemy import Connection, TextClause

from shared import fan_out, metrics
from shared.cursor import Cursor
from shared.frames import Counters, DeletedReason, channel_of, deleted
from shared.logs import log
from workers.publish import Message, redis_client

#: Rows that one transaction deletes: as many inboxes are locked at most, for 100 ms.
BATCH = 2_000
#: A job ends after this and queues itself again: the sweeper waits behind it where a lane has one process.
JOB_S = 5.0
#: Longer than a job's time and its last batch.
LEASE_MS = 20_000
LEASE = "carillon:housekeeping"
#: Between two batches a job rests as long as the last one took, up to this.
MAX_REST_S = 0.2


@contextmanager
def one_job_at_a_time(job: str) -> Iterator[bool]:
    """Yield whether this job may run: not while another one does, so that a lane of two always has one for sweeps.

    For economy alone: two that ran at once, two beats' or after Redis was lost, would do nothing wrong.
    """
    token = uuid4().hex
    try:
        taken = bool(redis_client().set(LEASE, token, nx=True, px=LEASE_MS))
    except (RedisError, OSError):
        taken = True
    if not taken:
        log().info("housekeeping.waits", job=job)
    try:
        yield taken
    finally:
        if taken:
            _give_back(token)


def _give_back(token: str) -> None:
    with suppress(RedisError, OSError):
        if redis_client().get(LEASE) == token.encode():
            redis_client().delete(LEASE)


def in_batches(batch: Callable[[], bool], seconds: float = JOB_S) -> bool:
    """Call `batch` until it returns False (nothing left) or the job's time is over; returns whether all was done."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        started = time.monotonic()
        if not batch():
            return True
        time.sleep(min(MAX_REST_S, time.monotonic() - started))
    return False


def lock(connection: Connection, keys: Sequence[int]) -> None:
    """Lock inboxes in key order."""
    connection.execute(fan_out.lock_inboxes(), {"keys": sorted(set(keys))}).all()


def delete(
    connection: Connection, statement: TextClause, given: Mapping[str, Any], reason: DeletedReason
) -> list[Message]:
    """Run a deleting statement on locked inboxes and return the frames that tell it, one for each inbox."""
    rows = connection.execute(statement, given).mappings().all()
    # Counted before the commit: what is rolled back is done, and counted, again.
    metrics.DELETED.add(sum(len(row["ids"]) for row in rows), reason.value)
    return [
        (
            channel_of(row["tenant"], row["recipient"]),
            deleted(Cursor(row["epoch"], row["seq"]), Counters(row["unread"], row["unseen"], 0), row["ids"], reason),
        )
        for row in rows
    ]
