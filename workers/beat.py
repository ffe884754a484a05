"""Beat's scheduler: Celery's own, which piles nothing up in a lane that nobody works on, and goes by a steady clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from celery.beat import ScheduleEntry, Scheduler
from kombu.exceptions import KombuError

from shared.broker import sending
from shared.logs import log

#: A lane with more waiting messages has no use for another wake-up; a day without workers would leave 100,000.
MOST_WAITING = 1_000

#: A broker that takes nothing must not hold beat up: the next run is due soon.
SEND_S = 5.0

_STARTED_AT, _STARTED = datetime.now(UTC), time.monotonic()


def steady_now() -> datetime:
    """Return the time by the monotonic clock: a clock that is set back an hour would stop all jobs for that hour."""
    return _STARTED_AT + timedelta(seconds=time.monotonic() - _STARTED)


class SteadyEntry(ScheduleEntry):  # type: ignore[misc]
    """An entry that is due by `steady_now`."""

    def __init__(self, *args: Any, last_run_at: datetime | None = None, **kwargs: Any) -> None:
        super().__init__(*args, last_run_at=last_run_at or steady_now(), **kwargs)
        self.schedule.nowfun = steady_now


class BoundedScheduler(Scheduler):  # type: ignore[misc]
    """Leaves a due entry out while its lane is full. Keeps no file: every job may run twice, none must run on time."""

    Entry = SteadyEntry

    def apply_entry(self, entry: ScheduleEntry, producer: Any = None) -> None:
        """Queue the entry's task, unless its lane is full."""
        queue = entry.options["queue"]
        if self._waiting(queue) > MOST_WAITING:
            log().warning("beat.lane_full", queue=queue, task=entry.task)
            return
        entry.options.update(sending(SEND_S))
        super().apply_entry(entry, producer=producer)

    def _waiting(self, queue: str) -> int:
        try:
            with self.connection.channel() as channel:
                return int(channel.queue_declare(queue=queue, passive=True).message_count)
        except self.connection.channel_errors:
            # No message was ever sent there.
            return 0
        except (OSError, KombuError, *self.connection.connection_errors):
            # Sending says so itself, and its failure is handled there.
            return 0
