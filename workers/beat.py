"""Beat's scheduler: Celery's own, which does not pile up messages in a lane that nobody works on."""

from __future__ import annotations

from typing import Any

from celery.beat import ScheduleEntry, Scheduler
from kombu.exceptions import KombuError

from shared.logs import log

#: A lane with more waiting messages has no use for another wake-up; a day without workers would leave 100,000.
MOST_WAITING = 1_000


class BoundedScheduler(Scheduler):  # type: ignore[misc]
    """Leaves a due entry out while its lane is full. Keeps no file: every job may run twice, none must run on time."""

    def apply_entry(self, entry: ScheduleEntry, producer: Any = None) -> None:
        """Queue the entry's task, unless its lane is full."""
        queue = entry.options["queue"]
        if self._waiting(queue) > MOST_WAITING:
            log().warning("beat.lane_full", queue=queue, task=entry.task)
            return
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
