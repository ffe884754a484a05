"""The statements of counting failed logins: what is to be counted, the windows, and the events that they make.

One transaction at a time counts and tells: whoever has locked the job's row in `job_turns`. A failure is staged in the
transaction that ends its event and leaves the stage in the one that counts it, so it is counted once, whatever is
killed, redelivered or run twice.
"""

from __future__ import annotations

from datetime import timedelta
from functools import cache

from sqlalchemy import TextClause, text

from shared.cloudevent import RESERVED_SOURCE as SOURCE
from shared.fan_out import CLAIMED

#: The type that is counted, and the one that is told.
FAILED = "auth.login_failed"
TOLD = "security.login_failed"
JOB = "failed_logins"

#: A producer's clock may be so wrong; beyond it, the time of acceptance tells more.
MAX_SKEW_MINUTES = 5
#: A notification changes at most this often, however fast somebody guesses.
UPDATE_EVERY = timedelta(minutes=1)
#: After this a window is history: what still comes for it is counted and told to nobody.
UPDATED_FOR = timedelta(hours=1)
#: A round through a large audience may end a little later than it is asked for: bounds the look at old windows.
_LOOKED_FOR = UPDATED_FOR + timedelta(hours=1)
#: A failure that opened no window is forgotten this long after its window would have ended: others of the same
#: window may come that late, from producers that were cut off.
KEPT_AFTER = timedelta(hours=1)


@cache
def take_turn() -> TextClause:
    """Lock the job's row until the commit and select the clock (`now`, where given); no row: somebody else has it."""
    return text(f"""
        SELECT coalesce(CAST(:now AS timestamptz), clock_timestamp()) AS now FROM job_turns
        WHERE job = '{JOB}' FOR NO KEY UPDATE SKIP LOCKED""")


@cache
def stage() -> TextClause:
    """Stage failed logins to be counted, at their own times but near those of acceptance. Parameters: keys."""
    skew = f"make_interval(mins => {MAX_SKEW_MINUTES})"
    return text(f"""
        INSERT INTO failed_logins (event_key, tenant, account, at)
        SELECT e.key, e.tenant, e.data ->> 'account_id',
               least(greatest(e.occurred_at, e.accepted_at - {skew}), e.accepted_at + {skew})
        FROM events e WHERE e.key = ANY(CAST(:keys AS bigint[])) ON CONFLICT (event_key) DO NOTHING""")


_FAILURE = """
    f.event_key, f.tenant, f.account, f.at, e.data ->> 'ip' AS ip, e.data ->> 'user_agent' AS user_agent,
    coalesce(e.state IN ('cancelling', 'cancelled'), false) AS cancelled"""


@cache
def staged() -> TextClause:
    """Select the first staged: event_key, tenant, account, at, ip, user_agent, cancelled. Parameters: limit.

    In the words of their index, (kept_at, event_key), though `kept_at` is null in all of them: by `event_key` alone it
    was the primary key's walk, past all that are kept.
    """
    return text(f"""
        SELECT {_FAILURE} FROM (
            SELECT * FROM failed_logins s WHERE s.kept_at IS NULL ORDER BY s.kept_at, s.event_key LIMIT :limit) f
        LEFT JOIN events e ON e.key = f.event_key ORDER BY f.event_key""")


_ACCOUNTS = """unnest(CAST(:tenants AS text[]), CAST(:accounts AS text[]), CAST(:lows AS timestamptz[]),
                      CAST(:highs AS timestamptz[])) AS a(tenant, account, low, high)"""


@cache
def kept() -> TextClause:
    """Select what is kept of accounts, as `staged`. Parameters: tenants, accounts, lows, highs (arrays)."""
    return text(f"""
        SELECT {_FAILURE} FROM {_ACCOUNTS} CROSS JOIN LATERAL (
            SELECT * FROM failed_logins s
            WHERE s.tenant = a.tenant AND s.account = a.account AND s.kept_at IS NOT NULL) f
        LEFT JOIN events e ON e.key = f.event_key""")


@cache
def standing() -> TextClause:
    """Select the windows of accounts that began between `lows` and `highs`. Parameters: as `kept`."""
    return text(f"""
        SELECT w.key, w.tenant, w.account, w.started_at, w.failures, w.first_at, w.last_at, w.ip, w.user_agent,
               w.addresses
        FROM {_ACCOUNTS} CROSS JOIN LATERAL (
            SELECT * FROM failed_login_windows o WHERE o.tenant = a.tenant AND o.account = a.account
              AND o.started_at BETWEEN a.low AND a.high) w""")


@cache
def keep() -> TextClause:
    """Keep failures for others that may come. Parameters: keys, now."""
    return text("UPDATE failed_logins SET kept_at = :now WHERE event_key = ANY(CAST(:keys AS bigint[]))")


@cache
def unstage() -> TextClause:
    """Take failures off the stage: they are counted, or were cancelled before. Parameters: keys."""
    return text("DELETE FROM failed_logins WHERE event_key = ANY(CAST(:keys AS bigint[]))")


@cache
def forget() -> TextClause:
    """Forget the failures that were kept before a moment. Parameters: before, limit."""
    return text("""
        DELETE FROM failed_logins WHERE event_key IN (
            SELECT s.event_key FROM failed_logins s WHERE s.kept_at < :before ORDER BY s.kept_at LIMIT :limit)""")


@cache
def make_events() -> TextClause:
    """Store the events of new windows, accepted and pending; one that is there stays as it is.

    Array parameters: tenants, ids, accounts, times (texts), datas, hashes, moments.
    """
    return text(f"""
        INSERT INTO events (tenant, source, id, type, subject, time, data, content_hash, occurred_at)
        SELECT t.tenant, '{SOURCE}', t.id, '{TOLD}', t.account, t.time, t.data::jsonb, t.hash, t.moment
        FROM unnest(CAST(:tenants AS text[]), CAST(:ids AS text[]), CAST(:accounts AS text[]), CAST(:times AS text[]),
                    CAST(:datas AS text[]), CAST(:hashes AS bytea[]), CAST(:moments AS timestamptz[]))
             AS t(tenant, id, account, time, data, hash, moment)
        ORDER BY t.tenant, t.id ON CONFLICT (tenant, source, id) DO NOTHING""")


#: What changes of a window while it grows, with the type of its array parameter.
GROWING = {
    "failures": "bigint",
    "first_at": "timestamptz",
    "last_at": "timestamptz",
    "ip": "text",
    "user_agent": "text",
    "addresses": "text",
}
_GROWN = ", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in GROWING.items())


@cache
def open_windows() -> TextClause:
    """Store windows whose events are stored. Array parameters: tenants, ids, accounts, starts, and `GROWING`; now."""
    return text(f"""
        INSERT INTO failed_login_windows (event_key, tenant, account, started_at, failures, first_at, last_at, ip,
                                          user_agent, addresses, made_at, told, told_at)
        SELECT e.key, t.tenant, t.account, t.start, t.failures, t.first_at, t.last_at, t.ip, t.user_agent,
               t.addresses::jsonb, :now, t.failures, :now
        FROM unnest(CAST(:tenants AS text[]), CAST(:ids AS text[]), CAST(:accounts AS text[]),
                    CAST(:starts AS timestamptz[]), {_GROWN})
             AS t(tenant, id, account, start, {", ".join(GROWING)})
        JOIN events e ON e.tenant = t.tenant AND e.source = '{SOURCE}' AND e.id = t.id""")


@cache
def grow_windows() -> TextClause:
    """Bring windows up to what they have now. Array parameters: keys and `GROWING`."""
    return text(f"""
        UPDATE failed_login_windows w SET failures = t.failures, first_at = t.first_at, last_at = t.last_at,
               ip = t.ip, user_agent = t.user_agent, addresses = t.addresses::jsonb
        FROM unnest(CAST(:keys AS bigint[]), {_GROWN}) AS t(key, {", ".join(GROWING)}) WHERE w.key = t.key""")


@cache
def claim_untold() -> TextClause:
    """Lock the events of windows that have more than was told, and select both: rounds under way first.

    Only once the event is done: before, its fan-out would write the old text after the new one. Not within
    `UPDATE_EVERY` of the last telling, nor `UPDATED_FOR` after the first one. Parameters: now, limit.
    """
    return text(f"""
        SELECT {CLAIMED}, w.key AS window, w.account, w.started_at, w.failures, w.first_at, w.last_at, w.ip,
               w.user_agent, w.addresses, w.telling, w.told_up_to
        FROM failed_login_windows w JOIN events e ON e.key = w.event_key
        WHERE w.told < w.failures AND w.told_at <= CAST(:now AS timestamptz) - {_seconds(UPDATE_EVERY)}
          AND w.told_at > CAST(:now AS timestamptz) - {_seconds(_LOOKED_FOR)}
          AND (w.made_at > CAST(:now AS timestamptz) - {_seconds(UPDATED_FOR)} OR w.telling IS NOT NULL)
          AND e.state = 'done' AND e.type = '{TOLD}'
        ORDER BY w.telling IS NULL, e.key LIMIT :limit FOR NO KEY UPDATE OF e SKIP LOCKED""")


def _seconds(time: timedelta) -> str:
    return f"make_interval(secs => {time.total_seconds():.0f})"


@cache
def set_told() -> TextClause:
    """Note what windows have told, to everybody. Parameters: keys, told (arrays), now."""
    return text("""
        UPDATE failed_login_windows w SET told = t.told, told_at = :now, telling = NULL, told_up_to = 0
        FROM unnest(CAST(:keys AS bigint[]), CAST(:told AS bigint[])) AS t(key, told) WHERE w.key = t.key""")


@cache
def set_telling() -> TextClause:
    """Note how far a round through a large audience is. Parameters: key, telling, told_up_to."""
    return text("""
        UPDATE failed_login_windows SET telling = :telling, told_up_to = :told_up_to WHERE key = :key""")
