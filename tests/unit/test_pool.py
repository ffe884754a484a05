"""The worker's pool: a process that is about to end has ended before anybody looks."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.connection import wait
from unittest.mock import patch

import pytest
from celery.concurrency import get_implementation
from celery.concurrency.asynpool import AsynPool

from workers.app import configuration
from workers.pool import Pool, TaskPool

#: The time between a process's last open file and its end, made long enough to be hit every time.
LINGERING_S = 0.2


def _close_everything_and_linger() -> None:
    os.closerange(3, 256)
    multiprocessing.get_context("fork").Event().wait(LINGERING_S)
    os._exit(7)


def test_a_process_that_closed_its_pipe_and_has_not_ended_yet_is_waited_for() -> None:
    """Pins that a death is noticed at once: Celery looks once, and then not for 5 s. Without the wait it sees None."""
    process = multiprocessing.get_context("fork").Process(target=_close_everything_and_linger)
    process.start()
    seen: list[int | None] = []
    with patch.object(AsynPool, "_event_process_exit", lambda pool, hub, proc: seen.append(proc.exitcode)):
        assert wait([process.sentinel], timeout=30) == [process.sentinel]
        Pool.__new__(Pool)._event_process_exit(None, process)
    process.join()
    process.close()
    assert seen == [7]


@pytest.mark.usefixtures("configured")
def test_workers_are_started_with_that_pool() -> None:
    assert get_implementation(configuration()["worker_pool"]) is TaskPool
    assert TaskPool.Pool is Pool
