"""Workers that die while they count failed logins: each failure is counted once, and the third is told once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psutil
import psycopg
import pytest

from tests import directory
from tests.directory import Row, count
from tests.eventually import eventually
from tests.failed_logins import TENANT, admins, fail, told, windows
from tests.servers import Worker
from workers.failed_logins import run

FAILURES = 900
KILLS = 3


@pytest.mark.usefixtures("beat", "configured")
def test_every_failure_is_counted_once_while_workers_are_killed_amid_their_counting(
    settings_env: dict[str, str], new_worker: Callable[..., Worker]
) -> None:
    """Pins that staging goes with the event's end and the count with leaving the stage.

    The window's row is held, so that the worker waits inside the counting transaction when it is killed.
    """
    settings_env["CARILLON_CLAIM_BATCH"] = "5"
    with directory.connect(settings_env["CARILLON_DATABASE_URL"]) as db:
        keys = admins(db)
        fail(db, 0, 0.01, 0.02)
        worker = new_worker()
        eventually(lambda: len(told(db, keys["dean"])) == 1, within=30)
        for kill in range(KILLS):
            with directory.connect(settings_env["CARILLON_DATABASE_URL"]) as holder, holder.transaction():
                holder.execute("SELECT 1 FROM failed_login_windows FOR UPDATE")
                fail(db, *(1 + kill + number / 1_000 for number in range(FAILURES // KILLS)))
                eventually(lambda: counting(db), within=60)
                for child in psutil.Process(worker.pid).children():
                    os.kill(child.pid, signal.SIGKILL)
        eventually(lambda: windows(db) == [(TENANT, "ada", 0, FAILURES + 3)], within=90)
        assert count(db, "failed_logins") == 0
        assert count(db, "events WHERE type = 'security.login_failed'") == 1
        eventually(lambda: count(db, "events WHERE state <> 'done'") == 0)
        run(datetime.now(UTC) + timedelta(minutes=2))
        for name in ("root", "dean"):
            (row,) = directory.notifications(db, keys[name])
            assert (row["ordinal"], row["metadata"]["failures"]) == (1, FAILURES + 3)


def counting(db: psycopg.Connection[Row]) -> bool:
    """Tell whether a worker waits for the window, amid its transaction."""
    waiting = "pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%UPDATE failed_login_windows%'"
    return count(db, waiting) > 0
