"""A task of each lane leaves a mark: the whole way from beat over the broker to a worker and the database works."""

from __future__ import annotations

from sqlalchemy import text

import beat_schedule
from shared import db
from workers.app import app
from workers.patience import patience

_BEAT = text("""
    INSERT INTO heartbeats (lane, beaten_at) VALUES (:lane, clock_timestamp())
    ON CONFLICT (lane) DO UPDATE SET beaten_at = excluded.beaten_at""")


@app.task(name=beat_schedule.HEARTBEAT_TASK)
def heartbeat(lane: str) -> None:
    """Tell that this lane's workers live."""
    with patience(beat_schedule.HEARTBEAT_TASK), db.transaction() as connection:
        connection.execute(_BEAT, {"lane": lane})
