"""What an operator looks at while it runs: how long the queues are, what is fanned out now, and what failed.

Small reads of partial indexes, cheap however many events there are, as the workers' role, which sees every tenant's
events (not their notifications).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import TextClause, text

from shared import jobs, overview
from shared.statements import Program, Row

#: Rows of a list on the page; the counts tell of the others.
LISTED = 20
#: Counting stops here: beyond it "a lot" is all that one needs to know, and counting a million rows takes 0.2 s.
MOST_COUNTED = 100_000
#: Those whose queue is the events themselves.
LANES_OF_EVENTS = ("urgent", "fan_out")
_NAMES = {"accepted_at": "acceptedAt", "finished_at": "finishedAt"}

_AGES = text("""
    SELECT
      coalesce(extract(epoch FROM clock_timestamp() - (
          SELECT e.accepted_at FROM events e WHERE e.state = 'accepted' ORDER BY e.key LIMIT 1)), 0)::float AS urgent,
      coalesce(extract(epoch FROM clock_timestamp() - (
          SELECT e.accepted_at FROM events e WHERE e.state = 'fanning_out' ORDER BY e.key LIMIT 1)), 0)::float
          AS fan_out,
      (SELECT count(*) FROM (SELECT FROM fan_out_chunks WHERE state = 'pending' LIMIT :most) c) AS chunks,
      (SELECT count(*) FROM (SELECT FROM events WHERE state = 'failed' LIMIT :most) f) AS failed""")
_OPEN = text("""
    SELECT o.state, count(*) AS events FROM (
        SELECT e.state FROM events e WHERE e.state IN ('accepted', 'fanning_out', 'cancelling') LIMIT :most) o
    GROUP BY o.state""")
_SILENCE = text("SELECT lane, extract(epoch FROM clock_timestamp() - beaten_at)::float AS seconds FROM heartbeats")

_MINE = "(CAST(:tenants AS text[]) IS NULL OR e.tenant = ANY(CAST(:tenants AS text[])))"
_FAN_OUTS = text(f"""
    SELECT e.tenant, e.source, e.id, e.type, e.accepted_at, c.chunks, c.done, c.failed, c.notifications
    FROM events e CROSS JOIN LATERAL (
        SELECT count(*) AS chunks, count(*) FILTER (WHERE f.state = 'done') AS done,
               count(*) FILTER (WHERE f.state = 'failed') AS failed,
               coalesce(sum(f.notifications), 0)::bigint AS notifications
        FROM fan_out_chunks f WHERE f.event_key = e.key) c
    WHERE e.state = 'fanning_out' AND {_MINE} ORDER BY e.key LIMIT :limit""")
_FAILED = text(f"""
    SELECT e.tenant, e.source, e.id, e.type, e.attempts, e.error, e.finished_at FROM events e
    WHERE e.state = 'failed' AND {_MINE} ORDER BY e.key DESC LIMIT :limit""")


def queue() -> Program[dict[str, Any]]:
    """Return one database's queues: ages in seconds by lane, open events by state, pending chunks, failed events.

    And for how many seconds each lane's workers were not heard, which the shared database knows, and the jobs' runs.
    """
    (ages,) = yield _AGES, {"most": MOST_COUNTED}
    states = yield _OPEN, {"most": MOST_COUNTED}
    lanes = yield _SILENCE, {}
    runs = yield jobs.read(), {}
    return {
        "ages": {lane: ages[lane] for lane in LANES_OF_EVENTS},
        "open": {row["state"]: row["events"] for row in states},
        "chunks": ages["chunks"],
        "failed": ages["failed"],
        "silence": {row["lane"]: row["seconds"] for row in lanes},
        "jobs": runs,
    }


def of_all(told: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the queues of several databases as one: the greatest ages, sums of counts, the first one's lanes."""
    states = {state for each in told for state in each["open"]}
    return {
        "ages": {lane: max(each["ages"][lane] for each in told) for lane in LANES_OF_EVENTS},
        "open": {state: sum(each["open"].get(state, 0) for each in told) for state in sorted(states)},
        "chunks": sum(each["chunks"] for each in told),
        "failed": sum(each["failed"] for each in told),
        "silence": told[0]["silence"],
        "jobs": jobs.told([row for each in told for row in each["jobs"]]),
    }


def fan_outs(tenants: Sequence[str] | None) -> Program[list[dict[str, Any]]]:
    """Return large events that are being fanned out, oldest first, with their chunks. `tenants` None: of all."""
    return (yield from _listed(_FAN_OUTS, tenants))


def failed(tenants: Sequence[str] | None) -> Program[list[dict[str, Any]]]:
    """Return the events that failed last, with the reason."""
    return (yield from _listed(_FAILED, tenants))


def _listed(statement: TextClause, tenants: Sequence[str] | None) -> Program[list[dict[str, Any]]]:
    rows = yield statement, {"tenants": None if tenants is None else list(tenants), "limit": LISTED}
    return [{_NAMES.get(name, name): value for name, value in row.items()} for row in rows]


def retry(tenant: str, source: str, id: str) -> Program[Row | None]:
    """Return a failed event to the queue of record; its name and `traceparent`, or None where no failed one is it."""
    rows = yield overview.RETRY, {"tenant": tenant, "source": source, "id": id}
    return rows[0] if rows else None
