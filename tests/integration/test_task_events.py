"""What a worker tells Flower under load, switched on as Flower does it: no more than was said, and that completely."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery import Celery

from shared.exposition import counted
from shared.metrics import TASKS
from shared.settings import settings
from shared.wake import CHUNK_QUEUE, CHUNK_TASK
from tests.eventually import eventually
from tests.servers import Worker

PATIENCE_S = 60.0
MANY = 300
RATE = 2
Told = list[dict[str, Any]]


@contextmanager
def _hearing(app: Celery) -> Iterator[Told]:
    """Collect the tasks' events in the block."""
    told: Told = []
    over, ready = threading.Event(), threading.Event()

    def hear() -> None:
        with app.connection_for_read() as connection:
            receiver = app.events.Receiver(connection, handlers={"*": told.append})
            with receiver.consumer_context(wakeup=False) as (hearing, _, _):
                ready.set()
                while not over.is_set():
                    try:
                        hearing.drain_events(timeout=0.2)
                    except TimeoutError:
                        continue

    thread = threading.Thread(target=hear)
    thread.start()
    assert ready.wait(PATIENCE_S)
    try:
        yield told
    finally:
        over.set()
        thread.join(PATIENCE_S)


def _ended() -> int:
    sums = counted(settings().metrics_folder).sums
    return sum(value for name, value in sums.items() if name[0] == TASKS.name and name[2] == CHUNK_TASK)


def _of(told: Told, kind: str) -> list[str]:
    return [event["uuid"] for event in list(told) if event["type"] == kind]


@pytest.mark.parametrize("rate", [RATE, 0])
def test_a_load_of_tasks_is_told_up_to_the_bound_and_each_told_one_to_its_end(
    configured: dict[str, str], broker_url: str, new_worker: Callable[..., Worker], rate: int
) -> None:
    new_worker(CARILLON_TASK_EVENTS_PER_SECOND=str(rate))
    with Celery(broker=broker_url, set_as_current=False) as app, _hearing(app) as told:
        app.control.enable_events()
        began = time.monotonic()
        for number in range(MANY):
            app.send_task(CHUNK_TASK, args=(-1, number), queue=CHUNK_QUEUE, argsrepr=f"event -1, chunk {number}")
        eventually(lambda: _ended() == MANY, within=PATIENCE_S)
        eventually(lambda: len(_of(told, "task-succeeded")) == len(_of(told, "task-received")), within=PATIENCE_S)
        seconds = time.monotonic() - began
        received = _of(told, "task-received")
    assert (rate > 0) == bool(received)
    assert len(received) <= rate * (seconds + 1)
    assert sorted(received) == sorted(_of(told, "task-succeeded")) == sorted(_of(told, "task-started"))
    assert all(each["args"].startswith("event -1, chunk ") for each in told if each["type"] == "task-received")
