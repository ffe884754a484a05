"""Each lane leaves a mark when one of its tasks has run: the whole way from beat over the broker to a worker works."""

from __future__ import annotations

import time
from typing import Any

from celery import Task, signals
from sqlalchemy import text

import beat_schedule
from shared import db
from shared.wake import ACCEPT_QUEUE
from workers.app import app
from workers.patience import patience

_BEAT = text("""
    INSERT INTO heartbeats (lane, beaten_at) VALUES (:lane, clock_timestamp())
    ON CONFLICT (lane) DO UPDATE SET beaten_at = excluded.beaten_at""")
_LANE_OF = {ACCEPT_QUEUE: "urgent", **{queue: lane for lane, queue in beat_schedule.LANES.items()}}
#: When this process last left a mark for a lane.
_beaten: dict[str, float] = {}


@app.task(name=beat_schedule.HEARTBEAT_TASK)
def heartbeat(lane: str) -> None:
    """Tell that this lane's workers live."""
    with patience(beat_schedule.HEARTBEAT_TASK), db.transaction() as connection:
        connection.execute(_BEAT, {"lane": lane})
    _beaten[lane] = time.monotonic()


@signals.task_postrun.connect
def _beat_while_busy(task: Task, **_: Any) -> None:
    # A heartbeat waits its turn behind hundreds of chunks; the chunks prove the same.
    lane = _LANE_OF.get((task.request.delivery_info or {}).get("routing_key", ""))
    if lane is not None and time.monotonic() - _beaten.get(lane, 0.0) > beat_schedule.HEARTBEAT_S:
        heartbeat(lane)
