"""The statements of the fan-out: claiming events, numbering inboxes, writing notifications, counting attempts.

An event in state `accepted` is pending. `tried_at` set marks a suspect: its worker was lost, or its batch failed.
Batches leave suspects to be tried alone, each try counted by a commit of its own before it begins. One that has had no
such try, for somebody held an inbox of it, returns to the batches after a second.
"""

from __future__ import annotations

from functools import cache

from sqlalchemy import TextClause, text

from shared.catalog import PLATFORM

#: Seconds until a suspect is tried again: 1, 2, 4, 8, … after each attempt, a minute at most.
MAX_WAIT_S = 60
#: A last attempt that nobody holds for this long ended with its process: longer than from its count to its claim.
EXHAUSTED_S = 2
_WAIT = f"make_interval(secs => least(2 ^ e.attempts, {MAX_WAIT_S}))"
#: By what an event is found in logs (`shared/following.py`).
NAMED = "e.tenant, e.source, e.id, e.traceparent"
#: What a worker needs of an event.
CLAIMED = (
    "e.key, e.tenant, e.source, e.id, e.type, e.subject, e.time, e.dataschema, e.traceparent, e.data, e.content_hash, "
    "e.registers, e.derived, e.accepted_at, e.expires_at, e.attempts, now() AS now"
)


def with_tenants(claim: str) -> TextClause:
    """Return a claim that lets the rest of the transaction see the rows of the claimed events' tenants.

    And those of the platform's people, whom half of all events reach: without a statement more. It reads nothing that
    depends on the tenants itself.
    """
    return text(f"""
        WITH claimed AS MATERIALIZED ({claim})
        SELECT c.* FROM claimed c CROSS JOIN (
            SELECT set_config('app.tenants', (array_agg(DISTINCT tenant) || '{{{PLATFORM}}}')::text, true) AS tenants
            FROM claimed) s
        WHERE s.tenants IS NOT NULL ORDER BY c.key""")


@cache
def claim_batch() -> TextClause:
    """Claim pending events for this transaction, oldest first, none that another one holds. Parameters: limit."""
    return with_tenants(f"""
        SELECT {CLAIMED} FROM events e WHERE e.state = 'accepted' AND e.attempts = 0 AND e.tried_at IS NULL
        ORDER BY e.key LIMIT :limit FOR NO KEY UPDATE OF e SKIP LOCKED""")


_CLAIM_ONE = f"""
    SELECT {CLAIMED} FROM events e WHERE e.key = :key AND e.state = :state FOR NO KEY UPDATE OF e SKIP LOCKED"""


@cache
def claim_one() -> TextClause:
    """Claim one event in one state for this transaction; no row where it has left it or is held."""
    return with_tenants(_CLAIM_ONE)


@cache
def claim_anywhere() -> TextClause:
    """As `claim_one`, in a transaction that goes on seeing the tenants that it began with."""
    return text(_CLAIM_ONE)


@cache
def read_one() -> TextClause:
    """Select one event in one state, without a lock, as `claim_one` does. Parameters: key, state."""
    return text(f"SELECT {CLAIMED} FROM events e WHERE e.key = :key AND e.state = :state")


@cache
def suspect_pending() -> TextClause:
    """Mark the first `limit` pending events that nobody holds as suspects and select their keys.

    For whoever runs the wake-up of a worker that died: what that worker had claimed is among them.
    """
    return text("""
        UPDATE events SET tried_at = clock_timestamp() WHERE key IN (
            SELECT e.key FROM events e WHERE e.state = 'accepted' AND e.attempts = 0 AND e.tried_at IS NULL
            ORDER BY e.key LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED) RETURNING key""")


@cache
def suspect_these() -> TextClause:
    """Mark those of these pending events that nobody holds as suspects. Parameters: keys."""
    return text("""
        UPDATE events SET tried_at = clock_timestamp() WHERE key IN (
            SELECT e.key FROM events e WHERE e.key = ANY(CAST(:keys AS bigint[])) AND e.state = 'accepted'
            ORDER BY e.key FOR NO KEY UPDATE SKIP LOCKED)""")


@cache
def suspect_one() -> TextClause:
    """Mark a pending event that a process died of as a suspect: that was an attempt. Parameters: key.

    Waits for whoever holds it, as that one may die of it too. Those that were tried together with it (`begin_attempts`)
    are cleared by that, and pending as before. Selects its name.
    """
    return text(f"""
        WITH deadly AS (
            SELECT e.key, e.tried_at FROM events e WHERE e.key = :key AND e.state = 'accepted' FOR NO KEY UPDATE),
        others AS (
            SELECT e.key FROM events e JOIN deadly d ON e.tried_at = d.tried_at AND e.key <> d.key
            WHERE e.state = 'accepted' AND e.tried_at IS NOT NULL AND e.attempts = 1
            ORDER BY e.key FOR NO KEY UPDATE OF e SKIP LOCKED),
        cleared AS (UPDATE events e SET tried_at = NULL, attempts = 0 FROM others o WHERE e.key = o.key)
        UPDATE events e SET tried_at = clock_timestamp(), attempts = greatest(e.attempts, 1)
        FROM deadly d WHERE e.key = d.key RETURNING {NAMED}""")


@cache
def release_waiting() -> TextClause:
    """Return to the batches the suspects that nobody holds and that were not tried alone. Parameters: limit."""
    return text(f"""
        UPDATE events SET tried_at = NULL WHERE key IN (
            SELECT e.key FROM events e WHERE e.state = 'accepted' AND e.attempts = 0
              AND e.tried_at < clock_timestamp() - {_WAIT}
            ORDER BY e.key LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED)""")


@cache
def begin_attempt() -> TextClause:
    """Count an attempt of a suspect, unless it is held, not pending, or has had `most`; selects number and name.

    Where `after` is not null it is counted only if it is the next one after so many. Parameters: key, most, after.
    """
    return text(f"""
        UPDATE events e SET attempts = attempts + 1, tried_at = clock_timestamp() WHERE key = (
            SELECT e.key FROM events e WHERE e.key = :key AND e.state = 'accepted' AND e.attempts < :most
              AND e.attempts = coalesce(CAST(:after AS int), e.attempts)
            FOR NO KEY UPDATE SKIP LOCKED) RETURNING attempts, {NAMED}""")


@cache
def begin_attempts() -> TextClause:
    """Count an attempt of those of these suspects that nobody holds and that had none; selects them. Parameters: keys.

    They are then to be tried together, which their common `tried_at` tells: the transaction's, that no other group has.
    """
    return text("""
        UPDATE events SET attempts = attempts + 1, tried_at = now() WHERE key IN (
            SELECT e.key FROM events e
            WHERE e.key = ANY(CAST(:keys AS bigint[])) AND e.state = 'accepted' AND e.attempts = 0
            ORDER BY e.key FOR NO KEY UPDATE SKIP LOCKED) RETURNING key""")


@cache
def claim_these() -> TextClause:
    """Claim those of these pending events that nobody holds, for this transaction. Parameters: keys."""
    return with_tenants(f"""
        SELECT {CLAIMED} FROM events e WHERE e.key = ANY(CAST(:keys AS bigint[])) AND e.state = 'accepted'
        ORDER BY e.key FOR NO KEY UPDATE OF e SKIP LOCKED""")


@cache
def take_back_attempts() -> TextClause:
    """Uncount an attempt of each of these events that failed for no fault of theirs. Parameters: keys."""
    return text("""
        UPDATE events SET attempts = attempts - 1
        WHERE key = ANY(CAST(:keys AS bigint[])) AND state = 'accepted' AND attempts > 0""")


@cache
def fail() -> TextClause:
    """Give an event up, unless it has left `accepted` and `fanning_out`. Parameters: key, error."""
    return text("""
        UPDATE events SET state = 'failed', error = :error, finished_at = clock_timestamp()
        WHERE key = :key AND state IN ('accepted', 'fanning_out')""")


@cache
def finish_empty() -> TextClause:
    """End a locked event that turned out to reach nobody. Parameters: key."""
    return text("UPDATE events SET state = 'done', finished_at = clock_timestamp() WHERE key = :key")


@cache
def fail_exhausted() -> TextClause:
    """Give up the suspects that nobody holds and whose last of `most` tries ended with their worker; selects them.

    Parameters: most, error, limit.
    """
    return text(f"""
        UPDATE events e SET state = 'failed', error = :error, finished_at = clock_timestamp() WHERE key IN (
            SELECT e.key FROM events e WHERE e.state = 'accepted' AND e.attempts >= :most
              AND e.tried_at < clock_timestamp() - make_interval(secs => {EXHAUSTED_S})
            ORDER BY e.key LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED) RETURNING key, {NAMED}""")


@cache
def due_suspects() -> TextClause:
    """Stamp the suspects that nobody holds, that were tried, and whose wait is over; selects their keys and attempts.

    Parameters: most, limit.
    """
    return text(f"""
        UPDATE events SET tried_at = clock_timestamp() WHERE key IN (
            SELECT e.key FROM events e WHERE e.state = 'accepted' AND e.attempts > 0 AND e.attempts < :most
              AND e.tried_at < clock_timestamp() - {_WAIT}
            ORDER BY e.key LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED) RETURNING key, attempts""")


@cache
def lock_inboxes(*, around: bool = False) -> TextClause:
    """Lock inboxes in key order and select their counters and the epoch; `around`: but those that somebody holds.

    One whose recipient was deleted meanwhile is left out: PostgreSQL checks the condition again once it has the lock.
    Parameters: keys.
    """
    return text(f"""
        SELECT d.epoch, i.key, i.tenant, i.recipient, i.seq, i.created, i.unread, i.unseen
        FROM inboxes i CROSS JOIN deployment d WHERE i.key = ANY(CAST(:keys AS bigint[])) AND NOT i.deserted
        ORDER BY i.key FOR NO KEY UPDATE OF i {"SKIP LOCKED" if around else ""}""")


@cache
def read_deserted() -> TextClause:
    """Select those of these inboxes whose recipient was deleted. Parameters: keys."""
    return text("SELECT i.key FROM inboxes i WHERE i.key = ANY(CAST(:keys AS bigint[])) AND i.deserted")


@cache
def read_existing() -> TextClause:
    """Select those of these notifications that exist, as tombstones too. Parameters: ids."""
    return text("SELECT n.id FROM notifications n WHERE n.id = ANY(CAST(:ids AS uuid[]))")


#: The columns of `notifications` that a fan-out fills for each row, with the type of their array parameter.
ROW_COLUMNS = {
    "id": "uuid",
    "key": "bigint",
    "tenant": "text",
    "event_key": "bigint",
    "ordinal": "bigint",
    "created_seq": "bigint",
    "type": "text",
    "priority": "smallint",
    "title": "text",
    "message": "text",
    "action_url": "text",
    "metadata": "text",
    "expires_at": "timestamptz",
}
INBOX_COLUMNS = {"key": "bigint", "seq": "bigint", "created": "bigint", "added": "int"}
EVENT_COLUMNS = {
    "key": "bigint",
    "state": "text",
    "recipients": "bigint",
    "notifications": "bigint",
    "error": "text",
    "content_hash": "bytea",
}


def _arrays(prefix: str, columns: dict[str, str]) -> str:
    arrays = ", ".join(f"CAST(:{prefix}_{name} AS {kind}[])" for name, kind in columns.items())
    return f"unnest({arrays}) AS t({', '.join(columns)})"


@cache
def write_batch() -> TextClause:
    """Insert numbered notifications, move their locked inboxes, and end their events: one statement for a batch.

    Parameters: row_*, inbox_* and event_* arrays of the columns above. Flat arrays: rows come ready from the caller,
    for a join of unnested arrays with each other runs five times slower. The keys are repeated for the tables:
    whichever way a plan joins them, it reads these rows alone.
    """
    return text(f"""
        WITH written AS (
            INSERT INTO notifications (id, key, tenant, event_key, ordinal, created_seq, seq, type, priority, title,
                                       message, action_url, metadata, created_at, expires_at)
            SELECT t.id, t.key, t.tenant, t.event_key, t.ordinal, t.created_seq, t.created_seq, t.type, t.priority,
                   t.title, t.message, t.action_url, t.metadata::jsonb, now(), t.expires_at
            FROM {_arrays("row", ROW_COLUMNS)}),
        moved AS (
            UPDATE inboxes i SET seq = t.seq, created = t.created, unread = i.unread + t.added,
                                 unseen = i.unseen + t.added, total = i.total + t.added
            FROM {_arrays("inbox", INBOX_COLUMNS)}
            WHERE i.key = t.key AND i.key = ANY(CAST(:inbox_key AS bigint[])))
        UPDATE events e SET state = t.state, recipients = t.recipients, notifications = t.notifications,
               error = t.error, content_hash = coalesce(e.content_hash, t.content_hash),
               finished_at = CASE WHEN t.state <> 'fanning_out' THEN clock_timestamp() END
        FROM {_arrays("event", EVENT_COLUMNS)}
        WHERE e.key = t.key AND e.key = ANY(CAST(:event_key AS bigint[]))""")


@cache
def count_published() -> TextClause:
    """Count what was published of events. Parameters: keys, counts. Not waited for on disk: a count is no promise."""
    return text("""
        UPDATE events e SET published = e.published + t.count,
               published_at = CASE WHEN t.count > 0 THEN clock_timestamp() ELSE e.published_at END
        FROM unnest(CAST(:keys AS bigint[]), CAST(:counts AS bigint[])) AS t(key, count),
             set_config('synchronous_commit', 'off', true)
        WHERE e.key = t.key AND e.key = ANY(CAST(:keys AS bigint[]))""")
