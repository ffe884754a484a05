"""Withdrawing a cancelled event: what is pending of it never happens, what is out is deleted with that reason."""

from __future__ import annotations

from uuid import UUID

from shared import db, deletions, fan_out
from shared.frames import DeletedReason
from shared.notification_id import id_range
from workers.app import WITHDRAW_TASK, app, send
from workers.deletions import delete, lock, one_job_at_a_time
from workers.jobs import BATCH, in_batches
from workers.patience import patience
from workers.publish import publish


@app.task(name=WITHDRAW_TASK)
def withdraw_task(event_key: int) -> None:
    """Withdraw an event in state `cancelling`."""
    with patience(WITHDRAW_TASK), one_job_at_a_time(WITHDRAW_TASK, waits=False) as mine:
        if mine and not withdraw(event_key):
            send(WITHDRAW_TASK, event_key)


def withdraw(event_key: int) -> bool:
    """Withdraw an event's notifications in batches; returns False where time ran out before it was `cancelled`.

    Each inbox gets one change and one `deleted` frame. An event that is not being cancelled, or that another worker
    withdraws now, is left alone.
    """
    return in_batches(_Withdrawal(event_key).batch)


class _Withdrawal:
    def __init__(self, event_key: int) -> None:
        self._key = event_key
        self._after: UUID | None = None

    def batch(self) -> bool:
        """Withdraw some; returns whether there may be more."""
        with db.transaction(db.EVERY_TENANT) as connection:
            event = (
                connection.execute(fan_out.claim_anywhere(), {"key": self._key, "state": "cancelling"})
                .mappings()
                .first()
            )
            if event is None:
                return False
            # Waits for the chunks that run: after it every chunk is done or cancelled, and nothing more is written.
            connection.execute(deletions.cancel_chunks(), {"event_key": self._key})
            low, high = id_range(event["accepted_at"])
            given = {"event_key": self._key, "after": self._after or low, "last": high, "limit": BATCH}
            rows = connection.execute(deletions.event_notifications(), given).all()
            if not rows:
                connection.execute(deletions.finish_cancel(), {"event_key": self._key})
                return False
            lock(connection, [row.key for row in rows])
            ids = [row.id for row in rows]
            gone = delete(connection, deletions.delete_these(), {"ids": ids}, DeletedReason.WITHDRAWN)
        publish(gone.messages)
        self._after = ids[-1]
        return True
