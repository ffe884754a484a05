"""The periodic jobs' rows: who works on a job now, where it goes on, and what its runs did.

One row for each job in each database. Whoever has the lease may work; it is renewed in the transaction of each batch.
So it ends soon after a killed holder, and it survives a pooler of transactions, where a session's lock would not.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import TextClause, text

from shared.statements import Row

#: Longer than a batch and its rest, and shorter than the cadence of what must be done within 30 s: a run whose
#: predecessor was killed loses one turn at most.
LEASE_S = 10


@cache
def take() -> TextClause:
    """Take or renew a job's lease and select where the job goes on (`position`); no row: somebody else has it.

    Waits for nobody. Parameters: job, holder.
    """
    return text(f"""
        WITH mine AS (
            SELECT r.job FROM job_runs r WHERE r.job = :job
              AND (r.holder = :holder OR r.leased_until IS NULL OR r.leased_until < clock_timestamp())
            FOR NO KEY UPDATE SKIP LOCKED)
        UPDATE job_runs r SET holder = :holder, leased_until = clock_timestamp() + interval '{LEASE_S} s'
        FROM mine m WHERE r.job = m.job RETURNING r.position""")


@cache
def make() -> TextClause:
    """Make the row of a job that has none; selects it if it was made. Parameters: job."""
    return text("INSERT INTO job_runs (job) VALUES (:job) ON CONFLICT DO NOTHING RETURNING job")


@cache
def move() -> TextClause:
    """Note where a job goes on the next time. Parameters: job, position."""
    return text("UPDATE job_runs SET position = :position WHERE job = :job")


@cache
def detail() -> TextClause:
    """Select how far a job came within what is behind its position. Parameters: job (the row's own name)."""
    return text("SELECT position FROM job_runs WHERE job = :job")


@cache
def set_detail() -> TextClause:
    """Note the same, in a row that is no job's: it never ran, and is told nowhere. Parameters: job, position."""
    return text("""
        INSERT INTO job_runs (job, position) VALUES (:job, :position)
        ON CONFLICT (job) DO UPDATE SET position = excluded.position""")


@cache
def tell() -> TextClause:
    """Count a run that ended, and give its lease back if it still has it.

    Parameters: job, holder, seconds, done, faults, longest_s, complete, error (None: it went well).
    """
    return text("""
        INSERT INTO job_runs AS r (job, runs, done, faults, failures, last_started_at, last_finished_at, last_seconds,
                                   last_done, longest_transaction, complete, error)
        SELECT CAST(:job AS text), 1, CAST(:done AS bigint), CAST(:faults AS bigint),
               CASE WHEN CAST(:error AS text) IS NULL THEN 0 ELSE 1 END,
               clock_timestamp() - make_interval(secs => :seconds), clock_timestamp(), CAST(:seconds AS float8),
               CAST(:done AS bigint), CAST(:longest_s AS float8), :complete, CAST(:error AS text)
        ON CONFLICT (job) DO UPDATE SET
            runs = r.runs + 1, done = r.done + excluded.done, faults = r.faults + excluded.faults,
            failures = r.failures + excluded.failures,
            last_started_at = excluded.last_started_at, last_finished_at = excluded.last_finished_at,
            last_seconds = excluded.last_seconds, last_done = excluded.last_done,
            longest_transaction = excluded.longest_transaction, complete = excluded.complete, error = excluded.error,
            holder = CASE WHEN r.holder = :holder THEN NULL ELSE r.holder END,
            leased_until = CASE WHEN r.holder = :holder THEN NULL ELSE r.leased_until END""")


@cache
def read() -> TextClause:
    """Select the jobs that ever ran, by name: job, runs, done, faults, failures, the last_… of the last run,
    longest_transaction (seconds, of the last run), complete (whether it left nothing), error, seconds_ago, running.
    """
    return text("""
        SELECT job, runs, done, faults, failures, last_started_at, last_finished_at, last_seconds, last_done,
               longest_transaction, complete, error,
               extract(epoch FROM clock_timestamp() - last_finished_at)::float8 AS seconds_ago,
               coalesce(leased_until > clock_timestamp(), false) AS running
        FROM job_runs WHERE last_finished_at IS NOT NULL ORDER BY job""")


_SUMMED = ("runs", "done", "faults", "failures", "last_seconds", "last_done")


def told(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return one entry for each job, by name, from the rows of `read` of one database or several.

    Several databases' runs are one: what they did is summed, and it ended with the last of them.
    """
    jobs: dict[str, dict[str, Any]] = {}
    for row in rows:
        known = jobs.get(row["job"])
        jobs[row["job"]] = dict(row) if known is None else _joined(known, row)
    return [_entry(jobs[name]) for name in sorted(jobs)]


def _joined(one: dict[str, Any], other: Row) -> dict[str, Any]:
    return {
        **one,
        **{name: one[name] + other[name] for name in _SUMMED},
        "last_started_at": min(one["last_started_at"], other["last_started_at"]),
        "last_finished_at": max(one["last_finished_at"], other["last_finished_at"]),
        "longest_transaction": max(one["longest_transaction"], other["longest_transaction"]),
        "seconds_ago": min(one["seconds_ago"], other["seconds_ago"]),
        "complete": one["complete"] and other["complete"],
        "running": one["running"] or other["running"],
        "error": one["error"] or other["error"],
    }


def _entry(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "job": row["job"].removeprefix("carillon."),
        "running": row["running"],
        "runs": row["runs"],
        "failures": row["failures"],
        "done": row["done"],
        "faults": row["faults"],
        "lastStartedAt": row["last_started_at"],
        "lastFinishedAt": row["last_finished_at"],
        "lastSeconds": round(row["last_seconds"], 3),
        "lastDone": row["last_done"],
        "longestTransactionSeconds": round(row["longest_transaction"], 3),
        "complete": row["complete"],
        "error": row["error"],
        "secondsAgo": round(row["seconds_ago"], 1),
    }
