"""Workers that die in the middle of their work: everything arrives, once, and what kills them ends as failed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from shared.wake import FAN_OUT_TASK
from tests import directory
from tests.directory import Row, count
from tests.eventually import eventually
from tests.servers import Beat, Worker
from workers.app import app

EVENTS = 2_000
PEOPLE = 50
#: Small batches, so that there are many transactions to die in.
BATCH = 5
#: A pool process is killed each time as many notifications more are written; the last time the whole worker is.
KILLS_AT = (200, 500, 800, 1_100, 1_400)
#: Wake-ups that wait while the first one is worked on.
WAKE_UPS = 30
ISSUED = {"certificate_id": "c1", "badge_title": "Rust"}


def post(db: psycopg.Connection[Row], many: int) -> None:
    with db.transaction():
        for number in range(many):
            data = {**ISSUED, "student_id": f"s{number % PEOPLE}"}
            directory.add_event(db, "certificate.issued", data, id=str(number))


def kill_pool(worker: Worker) -> None:
    """Kill every process of the worker's pool; the worker itself lives and starts new ones."""
    for child in psutil.Process(worker.pid).children():
        os.kill(child.pid, signal.SIGKILL)


def test_two_thousand_events_arrive_once_while_workers_are_killed(
    settings_env: dict[str, str], new_worker: Callable[..., Worker], beat: Beat
) -> None:
    """Pins I2 and I3 under SIGKILL of pool processes and of a whole worker, amid their transactions.

    Without the sweeper a killed wake-up leaves events pending for ever; with the state change outside of the rows'
    transaction some are told twice or never.
    """
    settings_env["CARILLON_CLAIM_BATCH"] = str(BATCH)
    workers = [new_worker(), new_worker()]
    with directory.connect(settings_env["CARILLON_DATABASE_URL"]) as db:
        directory.add_recipients(db, "acme", [f"s{number}" for number in range(PEOPLE)])
        post(db, EVENTS)
        for kill, written in enumerate(KILLS_AT):
            eventually(lambda enough=written: count(db, "notifications") >= enough, within=60)  # type: ignore[misc]
            for worker in workers:
                kill_pool(worker)
            assert count(db, "events WHERE state = 'accepted'") > 0
            if kill == len(KILLS_AT) - 1:
                workers[0].kill()
                workers[0].start()
        eventually(lambda: count(db, "events WHERE state <> 'done'") == 0, within=120)
        assert count(db, "notifications") == EVENTS
        assert count(db, "events WHERE recipients = 1 AND notifications = 1") == EVENTS
        directory.assert_numbered_without_gaps(db)


@pytest.mark.usefixtures("beat")
def test_an_announcement_arrives_once_while_the_workers_of_its_chunks_are_killed(
    settings_env: dict[str, str], new_worker: Callable[..., Worker]
) -> None:
    """Pins I2 for chunks: one that dies with its worker is done again, by the sweeper, and told once."""
    settings_env["CARILLON_CHUNK_SIZE"] = "50"
    worker = new_worker()
    with directory.connect(settings_env["CARILLON_DATABASE_URL"]) as db:
        directory.add_recipients(db, "acme", [f"s{number}" for number in range(EVENTS)])
        call = {"title": "Maintenance", "message": "Tonight", "audience": {"everyone": True}}
        event = directory.add_event(db, "system.announcement", call)
        for written in (200, 900):
            eventually(lambda enough=written: count(db, "notifications") >= enough, within=60)  # type: ignore[misc]
            kill_pool(worker)
        eventually(lambda: directory.event(db, event)["state"] == "done", within=120)
        row = directory.event(db, event)
        assert (row["recipients"], row["notifications"], count(db, "notifications")) == (EVENTS, EVENTS, EVENTS)
        directory.assert_numbered_without_gaps(db)


@pytest.fixture
def poisoned(settings_env: dict[str, str], tmp_path: Path) -> Iterator[Worker]:
    """A worker, not yet started, that the title "poison" kills."""
    worker = Worker(settings_env, tmp_path / "poisoned.log")
    worker.arguments[worker.arguments.index("workers.app:app")] = "tests.fault.poisoned_worker:app"
    yield worker
    worker.kill()


def post_poison(db: psycopg.Connection[Row]) -> int:
    """Add an event that kills whichever process renders it, and a hundred others after it; return its key."""
    directory.add_recipients(db, "acme", [f"s{number}" for number in range(PEOPLE)])
    data = {**ISSUED, "student_id": "s0", "badge_title": "poison"}
    poison = directory.add_event(db, "certificate.issued", data)
    post(db, 100)
    return poison


def assert_only_poison_failed(db: psycopg.Connection[Row], poison: int) -> None:
    eventually(lambda: count(db, "events WHERE state = 'done'") == 100, within=60)
    eventually(lambda: directory.event(db, poison)["state"] == "failed", within=90)
    row = directory.event(db, poison)
    assert (row["attempts"], row["error"]) == (5, "Its fan-out ended with its worker process 5 times.")
    assert count(db, "notifications") == 100
    directory.assert_numbered_without_gaps(db)


@pytest.mark.usefixtures("beat")
def test_an_event_that_kills_its_worker_fails_after_five_attempts_and_blocks_nobody(
    settings_env: dict[str, str], poisoned: Worker
) -> None:
    """Pins that a poison event is isolated: claimed in batches for ever it would take every later one down with it."""
    poisoned.start()
    with directory.connect(settings_env["CARILLON_DATABASE_URL"]) as db:
        assert_only_poison_failed(db, post_poison(db))


def test_an_event_that_kills_its_worker_does_not_do_so_for_every_wake_up_that_waits(
    configured: dict[str, str], poisoned: Worker, request: pytest.FixtureRequest
) -> None:
    """Pins that a process which replaces a dead one looks for the reason at once.

    The dead one's wake-up comes again behind all others, and each of those took a process with it.
    """
    with app.connection_for_write(configured["CARILLON_BROKER_URL"]) as connection:
        for _ in range(WAKE_UPS):
            app.send_task(FAN_OUT_TASK, connection=connection)
    with directory.connect(configured["CARILLON_DATABASE_URL"]) as db:
        poison = post_poison(db)
        poisoned.start()
        request.getfixturevalue("beat")
        assert_only_poison_failed(db, poison)
    # Each of the two processes by the batch, and five attempts.
    assert poisoned.output.count("exited with 'signal 9 (SIGKILL)'") <= 2 + 5
