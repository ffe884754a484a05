"""What workers count beside their work: tasks, their time, their last good end, and how long commits took to come."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from celery import Task, signals

from shared import metrics

#: When the task that this process is at began, by the monotonic clock, and whether the database failed it.
_began = 0.0
_away = False


def count_commits(lane: str, committed: Sequence[tuple[str, float]]) -> None:
    """Count what was committed just now: of each event, or chunk of one, the type and when it was accepted."""
    now = time.time()
    by_type: dict[str, list[float]] = {}
    for event_type, accepted_at in committed:
        by_type.setdefault(event_type, []).append(now - accepted_at)
    metrics.COMMIT.observe([now - accepted_at for _, accepted_at in committed], lane)
    for event_type, durations in by_type.items():
        metrics.TYPE_COMMITS.add(len(durations), event_type)
        metrics.TYPE_SECONDS.spend(sum(durations), event_type)


def note_away() -> None:
    """The database failed the task that is under way, which ends without an error all the same."""
    global _away  # noqa: PLW0603 - one task at a time
    _away = True


def rest(seconds: float) -> None:
    """The task that is under way waited for so long for something to do: that is no time in it."""
    global _began  # noqa: PLW0603 - one task at a time
    _began += seconds


@signals.task_prerun.connect
def _begin(**_: Any) -> None:
    global _began, _away
    _began, _away = time.monotonic(), False


@signals.task_postrun.connect
def _end(task: Task, state: str | None = None, **_: Any) -> None:
    outcome = "database_away" if _away else (state or "unknown").lower()
    metrics.TASKS.add(1, task.name, outcome)
    metrics.TASK_SECONDS.spend(time.monotonic() - _began, task.name)
    if outcome == "success":
        metrics.TASK_LAST.now(task.name)
