"""Everything that runs by the clock: one table of job, cadence, lane and why.

Beat only queues these. Two beats may run at once and a message may come late or twice: every job looks at PostgreSQL,
does what is due, and finds nothing the second time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from shared.wake import CHUNK_QUEUE, FAN_OUT_QUEUE, MAINTENANCE_QUEUE


class Job(NamedTuple):
    """A periodic task: its cadence in seconds, the lane that runs it, and why it runs that often."""

    task: str
    every_s: float
    queue: str
    why: str
    args: tuple[str, ...] = ()


#: Each lane and a queue of its workers.
LANES = {"urgent": FAN_OUT_QUEUE, "fan_out": CHUNK_QUEUE, "maintenance": MAINTENANCE_QUEUE}
HEARTBEAT_TASK = "carillon.heartbeat"
SWEEP_TASK = "carillon.sweep"
CAP_TASK = "carillon.cap"
CAP_TYPES_TASK = "carillon.cap_types"
EXPIRE_TASK = "carillon.expire"
PURGE_TASK = "carillon.purge"
FORGET_TASK = "carillon.forget"
TIDY_TASK = "carillon.tidy"
FAILED_LOGINS_TASK = "carillon.failed_logins"
COUNTERS_TASK = "carillon.audit_counters"
PRESENCE_TASK = "carillon.clear_places"
PRESENCE_S = 300.0
HEARTBEAT_S = 5.0
#: A run that no worker took for so long has nothing to add to later ones: bounds what waits for workers to return. Beat
#: tells the moment by its clock, and the worker compares it with its own: where they differ by more than this, a worker
#: drops every run.
EXPIRES_S = 300.0

JOBS = (
    Job(SWEEP_TASK, 1.0, MAINTENANCE_QUEUE, "what a lost message left is picked up within two seconds"),
    Job(FAILED_LOGINS_TASK, 5.0, MAINTENANCE_QUEUE, "the third is told within 15 s, one missed run included"),
    Job(CAP_TASK, 15.0, MAINTENANCE_QUEUE, "an inbox over its cap is at most 30 s late, one missed run included"),
    Job(CAP_TYPES_TASK, 15.0, MAINTENANCE_QUEUE, "at most 30 s late, but after an announcement to many"),
    Job(EXPIRE_TASK, 15.0, MAINTENANCE_QUEUE, "an expired notification is at most 30 s late, the same way"),
    Job(PURGE_TASK, 300.0, MAINTENANCE_QUEUE, "tombstones are kept for days: minutes do not matter, bulk does"),
    Job(FORGET_TASK, 3_600.0, MAINTENANCE_QUEUE, "events are kept for weeks"),
    Job(TIDY_TASK, 3_600.0, MAINTENANCE_QUEUE, "sessions last for hours, the audit log for months"),
    Job(COUNTERS_TASK, 60.0, MAINTENANCE_QUEUE, "2,000 inboxes each time: a million are recounted three times a day"),
    Job(PRESENCE_TASK, PRESENCE_S, MAINTENANCE_QUEUE, "places of dead processes count for nobody: memory alone waits"),
    *(
        Job(HEARTBEAT_TASK, HEARTBEAT_S, queue, "/readyz knows within seconds that a lane stands still", (lane,))
        for lane, queue in LANES.items()
    ),
)


def _entry(job: Job) -> dict[str, Any]:
    options = {"queue": job.queue, "expires": max(job.every_s, EXPIRES_S)}
    return {"task": job.task, "schedule": job.every_s, "args": job.args, "options": options}


SCHEDULE: dict[str, dict[str, Any]] = {" ".join((job.task, *job.args)): _entry(job) for job in JOBS}
