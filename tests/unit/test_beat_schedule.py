from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from celery import Celery

import beat_schedule
from shared.wake import CHUNK_QUEUE, FAN_OUT_QUEUE, MAINTENANCE_QUEUE
from workers.beat import SteadyEntry


def test_every_job_has_an_entry_of_its_own_and_a_reason() -> None:
    assert len(beat_schedule.SCHEDULE) == len(beat_schedule.JOBS) == 13
    assert all(job.why for job in beat_schedule.JOBS)


def test_every_lane_beats() -> None:
    beats = {job.args: job.queue for job in beat_schedule.JOBS if job.task == beat_schedule.HEARTBEAT_TASK}
    assert beats == {("urgent",): FAN_OUT_QUEUE, ("fan_out",): CHUNK_QUEUE, ("maintenance",): MAINTENANCE_QUEUE}


def test_a_run_that_no_worker_took_expires_but_not_for_clocks_that_differ_by_minutes() -> None:
    """Fails when runs expire within seconds: a worker whose clock is ahead of beat's would drop every sweep, unseen."""
    for job in beat_schedule.JOBS:
        entry = beat_schedule.SCHEDULE[" ".join((job.task, *job.args))]
        assert max(300.0, job.every_s) == entry["options"]["expires"]


def test_a_clock_that_is_set_back_an_hour_delays_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Celery("clock")
    entry = SteadyEntry(name="sweep", task="sweep", schedule=1.0, app=clock)
    monkeypatch.setattr(clock, "now", lambda: datetime.now(UTC) - timedelta(hours=1))
    assert 0.0 <= entry.is_due().next <= 1.0
    assert next(entry).is_due().next <= 1.0
