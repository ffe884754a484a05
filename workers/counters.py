"""The audit of the counters: a sample of inboxes is recounted, and a drift is repaired and told of loudly.

Counters change in the transactions of their rows (I6), so there is nothing to find: what is found is a fault of the
product's, or somebody's own SQL.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

import beat_schedule
from shared import counters
from shared.logs import log
from workers.app import app, send
from workers.deletions import lock, one_job_at_a_time
from workers.everywhere import in_every_database
from workers.jobs import Run, in_batches, perform

#: Inboxes that one transaction recounts: a hundred rows each are read for it, 50 ms where they are in memory. Nothing
#: is locked.
BATCH = 200
#: Inboxes that one run recounts: a million are gone through in eight hours at one run a minute.
SAMPLE = 2_000


@app.task(name=beat_schedule.COUNTERS_TASK)
def audit_task() -> None:
    """Recount some inboxes and repair those whose counters drifted."""
    with one_job_at_a_time(beat_schedule.COUNTERS_TASK) as mine:
        if mine and not in_every_database(beat_schedule.COUNTERS_TASK, audit):
            send(beat_schedule.COUNTERS_TASK)


def audit() -> bool:
    """Recount the next inboxes in key order, from the first one again after the last; returns whether time sufficed.

    Each repair is one change of its inbox: streams hear of it from the reconciler. A drift is logged as an error and
    counted among the job's faults.
    """
    return perform(beat_schedule.COUNTERS_TASK, lambda run: in_batches(_Auditing(run).batch))


class _Auditing:
    def __init__(self, run: Run) -> None:
        self._run = run

    def batch(self) -> bool:
        """Recount some; returns whether the sample goes on."""
        with self._run.transaction() as connection:
            after = self._run.position
            limit = min(BATCH, self._run.batch, SAMPLE - self._run.done)
            rows = connection.execute(counters.recount(), {"after": after, "limit": limit}).all()
            at_the_end = len(rows) < limit
            self._run.move_to(connection, 0 if at_the_end else rows[-1].key)
            self._repair(connection, [row.key for row in rows if row.drifts])
        self._run.done += len(rows)
        return not at_the_end and self._run.done < SAMPLE

    def _repair(self, connection: Connection, keys: Sequence[int]) -> None:
        if not keys:
            return
        lock(connection, keys)
        for row in connection.execute(counters.repair(), {"keys": keys}):
            self._run.faults += 1
            log().error("counters.drift", inbox=row.key, unread=row.unread, unseen=row.unseen, total=row.total)
