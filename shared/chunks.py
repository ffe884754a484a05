"""The statements of a large event's chunks: each is one transaction over a range of inbox keys.

A chunk's transaction locks its chunk row, then inboxes. It never locks its event: a cancel waits for the chunk row, so
that every chunk is done or cancelled before withdrawing begins. Whoever needs both locks the event first.
"""

from __future__ import annotations

from functools import cache

from sqlalchemy import TextClause, text

from shared.fan_out import CLAIMED, NAMED, with_tenants
from shared.notification_id import notification_id_sql


@cache
def read_chunks() -> TextClause:
    """Make an event's failed chunks pending again and select all that are pending, and whether there is any."""
    return text("""
        WITH again AS (
            UPDATE fan_out_chunks SET state = 'pending', attempts = 0, tried_at = clock_timestamp()
            WHERE event_key = :event_key AND state = 'failed' RETURNING number)
        SELECT c.number, c.state = 'pending' OR c.number IN (SELECT number FROM again) AS pending
        FROM fan_out_chunks c WHERE c.event_key = :event_key ORDER BY c.number""")


@cache
def begin_chunk(*, waits: bool = False) -> TextClause:
    """Count an attempt of a pending chunk, unless it is held or has had `most`; selects the new number.

    `waits`: for whoever holds it, up to the lock's time. Not waited for on disk: it must outlive this process, not the
    server.
    """
    return text(f"""
        UPDATE fan_out_chunks c SET attempts = attempts + 1, tried_at = clock_timestamp()
        FROM set_config('synchronous_commit', 'off', true)
        WHERE c.event_key = :event_key AND c.number = (
            SELECT p.number FROM fan_out_chunks p
            WHERE p.event_key = :event_key AND p.number = :number AND p.state = 'pending' AND p.attempts < :most
            FOR NO KEY UPDATE {"" if waits else "SKIP LOCKED"}) RETURNING c.attempts""")


@cache
def claim_chunk() -> TextClause:
    """Lock a pending chunk and select its range, its event and the epoch; no row if it is held or no longer pending."""
    return with_tenants(f"""
        SELECT {CLAIMED}, c.after_key, c.up_to_key, d.epoch
        FROM fan_out_chunks c JOIN events e ON e.key = c.event_key CROSS JOIN deployment d
        WHERE c.event_key = :event_key AND c.number = :number AND c.state = 'pending' AND e.state = 'fanning_out'
        FOR NO KEY UPDATE OF c SKIP LOCKED""")


#: Every row of a chunk moves its inbox by one; the inbox's new numbers are the row's.
_MOVED = f"""
    UPDATE inboxes i SET seq = i.seq + 1, created = i.created + 1, unread = i.unread + 1, unseen = i.unseen + 1,
                         total = i.total + 1
    WHERE i.key = ANY(CAST(:keys AS bigint[]))
    RETURNING i.key, i.tenant, i.seq, i.created, i.unread, i.unseen,
              {notification_id_sql("CAST(:prefix AS text)", "CAST(:event_key AS bigint)", "i.key")} AS id"""
#: The lines of a chunk's message (see architecture.md): key, created seq, id, unread, unseen.
_LINES = """
    SELECT count(*) AS written, string_agg(
        concat(m.key, ' ', m.seq, ' ', m.id, ' ', m.unread, ' ', m.unseen), E'\\n' ORDER BY m.key) AS lines
    FROM moved m"""
_COLUMNS = """
    INSERT INTO notifications (id, key, tenant, event_key, ordinal, created_seq, seq, type, priority, title, message,
                               action_url, metadata, created_at, expires_at)
    SELECT m.id, m.key, m.tenant, :event_key, m.created, m.seq, m.seq, :type, :priority"""
_REST = "CAST(CAST(:metadata AS text) AS jsonb), now(), CAST(:expires_at AS timestamptz) FROM moved m"


@cache
def multiply() -> TextClause:
    """Write one text into all of these locked inboxes; selects how many, and the lines of the chunk's message.

    Parameters: keys, prefix, event_key, type, priority, title, message, action_url, metadata, expires_at.
    """
    return text(f"""
        WITH moved AS ({_MOVED}),
        written AS ({_COLUMNS}, CAST(:title AS text), CAST(:message AS text), CAST(:action_url AS text), {_REST})
        {_LINES}""")


#: Texts of a chunk's recipients on their way in; emptied by each commit. COPY straight into a table with row-level
#: security is refused by PostgreSQL, and an unnested join is four times slower. (A pooler's sessions outlive a release:
#: whoever changes the columns changes the name.)
TEXTS_TABLE = text("""
    CREATE TEMPORARY TABLE IF NOT EXISTS fan_out_texts (key bigint, title text, message text, action_url text)
    ON COMMIT DELETE ROWS""")
COPY_TEXTS = "COPY fan_out_texts (key, title, message, action_url) FROM STDIN"
ANALYZE_TEXTS = text("ANALYZE fan_out_texts")


@cache
def write_personal() -> TextClause:
    """Write to each of these locked inboxes its own text of `fan_out_texts`; as `multiply`, without the texts."""
    return text(f"""
        WITH moved AS ({_MOVED}),
        written AS ({_COLUMNS}, x.title, x.message, x.action_url, {_REST} JOIN fan_out_texts x ON x.key = m.key)
        {_LINES}""")


@cache
def end_chunk() -> TextClause:
    """End a locked chunk, which reached up to `up_to_key`."""
    return text("""
        UPDATE fan_out_chunks SET state = 'done', recipients = :recipients, notifications = :notifications,
                                  up_to_key = :up_to_key WHERE event_key = :event_key AND number = :number""")


@cache
def add_chunk() -> TextClause:
    """Insert a chunk for what an overgrown one left of its range; selects its number.

    Two that do so at once collide in the primary key: one of them is rolled back and tried again.
    """
    return text("""
        INSERT INTO fan_out_chunks (event_key, number, after_key, up_to_key)
        SELECT :event_key, max(c.number) + 1, :after_key, :up_to_key FROM fan_out_chunks c
        WHERE c.event_key = :event_key RETURNING number""")


@cache
def take_back_chunk() -> TextClause:
    """Uncount an attempt of a chunk that failed for no fault of its own."""
    return text("""
        UPDATE fan_out_chunks SET attempts = attempts - 1
        WHERE event_key = :event_key AND number = :number AND state = 'pending' AND attempts > 0""")


@cache
def fail_chunk() -> TextClause:
    """Give up a pending chunk."""
    return text("""
        UPDATE fan_out_chunks SET state = 'failed'
        WHERE event_key = :event_key AND number = :number AND state = 'pending'""")


@cache
def count_published() -> TextClause:
    """Count what was published of a chunk."""
    return text("""
        UPDATE fan_out_chunks SET published = :published, published_at = clock_timestamp()
        WHERE event_key = :event_key AND number = :number""")


@cache
def lock_event() -> TextClause:
    """Lock an event for its progress. Not waited for on disk: the sweeper does it again after a crash."""
    return text("""
        SELECT e.state FROM events e CROSS JOIN set_config('synchronous_commit', 'off', true)
        WHERE e.key = :event_key FOR NO KEY UPDATE OF e""")


@cache
def sum_chunks() -> TextClause:
    """Bring a locked event's counts up to its chunks, and end it when none is pending: `failed` if one failed."""
    return text("""
        UPDATE events e SET recipients = s.recipients, notifications = s.notifications, published = s.published,
            error = coalesce(e.error, CAST(:error AS text), CASE WHEN s.failed > 0 AND s.pending = 0
                THEN s.failed || ' of ' || s.chunks || ' chunks failed.' END),
            state = CASE WHEN e.state <> 'fanning_out' OR s.pending > 0 THEN e.state
                         WHEN s.failed > 0 THEN 'failed' ELSE 'done' END,
            finished_at = CASE WHEN e.state = 'fanning_out' AND s.pending = 0 THEN clock_timestamp()
                               ELSE e.finished_at END
        FROM (SELECT count(*) AS chunks, coalesce(sum(c.recipients), 0) AS recipients,
                     coalesce(sum(c.notifications), 0) AS notifications, coalesce(sum(c.published), 0) AS published,
                     count(*) FILTER (WHERE c.state = 'pending') AS pending,
                     count(*) FILTER (WHERE c.state = 'failed') AS failed
              FROM fan_out_chunks c WHERE c.event_key = :event_key) s
        WHERE e.key = :event_key AND s.chunks > 0 AND e.state IN ('fanning_out', 'done', 'failed')""")


#: A chunk waits in its lane, or its message was lost. While the lane works, only a long wait tells.
LANE_IDLE_S = 5
LOST_AFTER_S = 60


@cache
def requeue_chunks() -> TextClause:
    """Stamp the pending chunks whose message seems lost, and that nobody holds; selects them. Parameters: most, limit.

    Lost: nothing in the lane was begun for 5 s, or the chunk has waited for a minute. Both are looked for once: a plan
    that did so for each chunk read 500 of them 500 times, every second.
    """
    return text(f"""
        WITH lane AS MATERIALIZED (
            SELECT CASE WHEN EXISTS (
                SELECT FROM fan_out_chunks b WHERE b.state = 'pending'
                  AND b.tried_at >= clock_timestamp() - make_interval(secs => {LANE_IDLE_S}))
                THEN {LOST_AFTER_S} ELSE {LANE_IDLE_S} END AS patience),
        lost AS MATERIALIZED (
            SELECT p.event_key, p.number
            FROM fan_out_chunks p JOIN events e ON e.key = p.event_key CROSS JOIN lane
            WHERE p.state = 'pending' AND e.state = 'fanning_out' AND p.attempts < :most
              AND p.tried_at < clock_timestamp() - make_interval(secs => lane.patience)
            ORDER BY p.event_key, p.number LIMIT :limit FOR NO KEY UPDATE OF p SKIP LOCKED)
        UPDATE fan_out_chunks c SET tried_at = clock_timestamp() FROM lost l
        WHERE c.event_key = l.event_key AND c.number = l.number RETURNING c.event_key, c.number""")


@cache
def fail_exhausted_chunks() -> TextClause:
    """Give up the pending chunks that nobody holds and whose last try ended with their worker; selects their events.

    Parameters: most, limit.
    """
    return text(f"""
        WITH lost AS MATERIALIZED (
            SELECT p.event_key, p.number FROM fan_out_chunks p
            WHERE p.state = 'pending' AND p.attempts >= :most
              AND p.tried_at < clock_timestamp() - make_interval(secs => {LANE_IDLE_S})
            ORDER BY p.event_key, p.number LIMIT :limit FOR NO KEY UPDATE OF p SKIP LOCKED)
        UPDATE fan_out_chunks c SET state = 'failed' FROM lost l JOIN events e ON e.key = l.event_key
        WHERE c.event_key = l.event_key AND c.number = l.number RETURNING c.event_key, {NAMED}""")


@cache
def stalled_events() -> TextClause:
    """Stamp and select large events that have no chunks yet (`planned` false), or none pending and were not ended."""
    return text("""
        UPDATE events u SET tried_at = clock_timestamp() WHERE u.key IN (
            SELECT e.key FROM events e
            WHERE e.state = 'fanning_out' AND (e.tried_at IS NULL OR e.tried_at < clock_timestamp() - interval '5 s')
              AND NOT EXISTS (SELECT FROM fan_out_chunks c WHERE c.event_key = e.key AND c.state = 'pending')
            ORDER BY e.key LIMIT :limit FOR NO KEY UPDATE OF e SKIP LOCKED)
        RETURNING u.key, EXISTS (SELECT FROM fan_out_chunks c WHERE c.event_key = u.key) AS planned""")
