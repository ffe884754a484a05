"""What every periodic job does alike: it holds its lease, works in bounded batches, and says what it did."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from uuid import uuid4

from sqlalchemy import Connection

from shared import db, jobs
from shared.logs import log
from workers.patience import patience

#: A job ends after this and queues itself again: the sweeper waits behind it where a lane has one process.
JOB_S = 5.0
#: Rows that one transaction deletes at most: as many inboxes are locked. On an idle machine that is 20 to 50 ms, with
#: some MiB of log, for each row has leaves of two indexes to itself. Twice as many took 230 ms where the commit,
#: besides flushing them, had to make a new segment of the log (80 ms).
BATCH = 1_000
#: People wait for their inbox for so long at most, and are refused after 2 s.
MOST_LOCKED_S = 0.2
#: What a transaction is to take, by the one before: the other half is for a disk or a core that is busy for a moment.
AIM_S = MOST_LOCKED_S / 2
LEAST_BATCH = 100
#: How a run begins: nobody knows yet how long so many take.
FIRST_BATCH = 250
#: Between two batches a job rests as long as the last one took, up to this.
MAX_REST_S = 0.2


class Taken(Exception):
    """Another run of this job has its lease."""


class Run:
    """One run of a job in the database that is worked in: its lease, its clock, and what it did so far.

    `now` None: the database's clock. `done` counts rows, `faults` what was found wrong.
    """

    def __init__(self, job: str, now: datetime | None = None) -> None:
        self.job, self.now = job, now
        self.done = 0
        self.faults = 0
        #: Where the job goes on, as it was left by the last `move_to`; known within a transaction.
        self.position = 0
        self.told = False
        #: How many rows the next transaction may take.
        self.batch = FIRST_BATCH
        self._holder = uuid4().hex
        self._started = time.monotonic()
        self._longest_s = 0.0
        #: When the transaction began that is going on.
        self._began: float | None = None

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Run a block in one transaction over every tenant that holds the lease. Raises `Taken`."""
        with self.timed(), db.transaction(db.EVERY_TENANT) as connection:
            self._take(connection)
            yield connection

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count the block as one transaction of the run."""
        self._began = time.monotonic()
        yield
        self._note_length()

    def _note_length(self) -> None:
        if self._began is not None:
            length = time.monotonic() - self._began
            self._longest_s = max(self._longest_s, length)
            self.batch = next_batch(self.batch, length)
        self._began = None

    def _take(self, connection: Connection) -> None:
        names = {"job": self.job, "holder": self._holder}
        row = connection.execute(jobs.take(), names).first()
        if row is None and connection.execute(jobs.make(), {"job": self.job}).first() is not None:
            row = connection.execute(jobs.take(), names).first()
        if row is None:
            raise Taken
        self.position = row.position

    def move_to(self, connection: Connection, position: int) -> None:
        """Let the job go on from `position`, in this transaction and in its later runs."""
        connection.execute(jobs.move(), {"job": self.job, "position": position})
        self.position = position

    def detail(self, connection: Connection) -> int:
        """Return how far the job came within what is behind its position; 0: no way."""
        return connection.scalar(jobs.detail(), {"job": f"{self.job}.detail"}) or 0

    def set_detail(self, connection: Connection, detail: int) -> None:
        """Note how far the job came within what is behind its position, in this transaction and for its later runs."""
        connection.execute(jobs.set_detail(), {"job": f"{self.job}.detail", "position": detail})

    def tell(self, connection: Connection, complete: bool = True, error: str | None = None) -> None:
        """Write what the run did and give its lease back, with this transaction's commit."""
        self.told = True
        self._note_length()
        connection.execute(
            jobs.tell(),
            {
                "job": self.job,
                "holder": self._holder,
                "seconds": time.monotonic() - self._started,
                "done": self.done,
                "faults": self.faults,
                "longest_s": self._longest_s,
                "complete": complete,
                "error": error,
            },
        )


def next_batch(size: int, took_s: float) -> int:
    """Return how many rows the transaction after one of `size` rows may take, so that nobody waits for long.

    As many as would have taken `AIM_S`, half to twice as many as before, `LEAST_BATCH` to `BATCH`.
    """
    fits = round(size * AIM_S / max(took_s, AIM_S / 2))
    return min(BATCH, max(LEAST_BATCH, size // 2, fits))


def perform(job: str, work: Callable[[Run], bool], now: datetime | None = None) -> bool:
    """Run a job in the database that is worked in; returns whether nothing is left for this run's caller.

    A job that another run holds is left to that one. A failure is written down by its kind, and raised.
    """
    run = Run(job, now)
    try:
        complete = work(run)
    except Taken:
        log().debug("job.taken", job=job)
        return True
    except Exception as error:
        with patience(job):
            _tell(run, complete=False, error=type(error).__name__)
        raise
    if not run.told:
        _tell(run, complete)
    return complete


def _tell(run: Run, complete: bool, error: str | None = None) -> None:
    with db.transaction() as connection:
        run.tell(connection, complete, error)


def in_batches(batch: Callable[[], bool], seconds: float = JOB_S) -> bool:
    """Call `batch` until it returns False (nothing left) or the job's time is over; returns whether all was done."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        started = time.monotonic()
        if not batch():
            return True
        time.sleep(min(MAX_REST_S, time.monotonic() - started))
    return False
