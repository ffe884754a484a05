"""What an operator sees of the whole: one read of the database, one of Redis and of the broker, one of the server."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import httpx
import redis
from sqlalchemy import Connection, TextClause, text

from shared import broker, jobs
from shared.settings import Settings
from shared.wake import ACCEPT_QUEUE, CHUNK_QUEUE, FAN_OUT_QUEUE, MAINTENANCE_QUEUE

QUEUES = (FAN_OUT_QUEUE, ACCEPT_QUEUE, CHUNK_QUEUE, MAINTENANCE_QUEUE)
#: A server that takes longer is away, for someone who waits before a terminal.
PATIENCE_SECONDS = 3.0
#: Failed events that are listed; the counts tell of the others.
RECENT_FAILED = 10

_COUNTS: dict[str, TextClause] = {
    "deployment": text("SELECT epoch, current_setting('server_version') AS version FROM deployment"),
    "events": text("SELECT state, count(*) AS count FROM events GROUP BY state ORDER BY state"),
    "queue": text("""SELECT count(*) AS open,
        coalesce(extract(epoch FROM clock_timestamp() - min(accepted_at)), 0)::float AS oldest_seconds
        FROM events WHERE state IN ('accepted', 'fanning_out', 'cancelling')"""),
    "lanes": text("""SELECT lane, extract(epoch FROM clock_timestamp() - beaten_at)::float AS seconds_ago
        FROM heartbeats ORDER BY lane"""),
    "inboxes": text("""SELECT count(*) AS inboxes, coalesce(sum(total), 0)::bigint AS shown,
        coalesce(sum(unread), 0)::bigint AS unread, coalesce(sum(unseen), 0)::bigint AS unseen,
        coalesce(sum(created), 0)::bigint AS created FROM inboxes"""),
    "directory": text(
        "SELECT (SELECT count(*) FROM tenants) AS tenants, (SELECT count(*) FROM recipients) AS recipients"
    ),
    "jobs": jobs.read(),
    "failed": text("""SELECT tenant, source, id, type, attempts, error, finished_at FROM events
        WHERE state = 'failed' ORDER BY key DESC LIMIT :limit"""),
}


def of_database(connection: Connection) -> dict[str, Any]:
    """Return the epoch, the events by state, the queue's age in seconds, lanes, inboxes and the last failed events."""

    def rows(name: str, **values: Any) -> list[dict[str, Any]]:
        return [dict(row) for row in connection.execute(_COUNTS[name], values).mappings()]

    deployment, queue, inboxes, directory = (rows(name)[0] for name in ("deployment", "queue", "inboxes", "directory"))
    return {
        "epoch": deployment["epoch"],
        "postgres": deployment["version"],
        "events": {row["state"]: row["count"] for row in rows("events")},
        "queue": {"open": queue["open"], "oldestSeconds": round(queue["oldest_seconds"], 1)},
        "lanes": {row["lane"]: round(row["seconds_ago"], 1) for row in rows("lanes")},
        "inboxes": inboxes,
        "directory": directory,
        "jobs": rows("jobs"),
        "failed": [_failed(row) for row in rows("failed", limit=RECENT_FAILED)],
    }


def of_all(told: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the same of all databases: the shared one's, with the counts of all summed, and the jobs' runs joined."""
    last = jobs.told([row for each in told for row in each["jobs"]])
    return {**_summed(told), "jobs": last}


def _summed(told: Sequence[dict[str, Any]]) -> dict[str, Any]:
    first, *rest = told
    if not rest:
        return first
    states = {state for each in told for state in each["events"]}
    return {
        **first,
        "events": {state: sum(each["events"].get(state, 0) for each in told) for state in sorted(states)},
        "queue": {
            "open": sum(each["queue"]["open"] for each in told),
            "oldestSeconds": max(each["queue"]["oldestSeconds"] for each in told),
        },
        "inboxes": {name: sum(each["inboxes"][name] for each in told) for name in first["inboxes"]},
        # The shared database knows every tenant.
        "directory": {**first["directory"], "recipients": sum(each["directory"]["recipients"] for each in told)},
        "failed": [row for each in told for row in each["failed"]][:RECENT_FAILED],
    }


def _failed(row: dict[str, Any]) -> dict[str, Any]:
    finished = row.pop("finished_at")
    return {**row, "finishedAt": finished.isoformat() if finished else None}


def redis_client(url: str) -> redis.Redis:
    """Return a client that gives up soon and does not try again by itself."""
    return redis.Redis.from_url(
        url, socket_timeout=PATIENCE_SECONDS, socket_connect_timeout=PATIENCE_SECONDS, retry=None
    )


def of_redis(url: str) -> dict[str, Any]:
    """Return what a Redis says of itself; `away` (the reason) alone where it says nothing."""
    started = time.monotonic()
    try:
        with redis_client(url) as client:
            told: Any = client.info()
    except (redis.RedisError, OSError) as problem:
        return {"away": str(problem)}
    return {
        "version": told["redis_version"],
        "memory": told["used_memory_human"],
        "clients": told["connected_clients"],
        "evictionPolicy": told.get("maxmemory_policy", "unknown"),
        "milliseconds": round((time.monotonic() - started) * 1000, 1),
    }


def waiting(broker_url: str) -> dict[str, int]:
    """Return how many tasks wait in each queue of the broker; empty for one that is away, or of another kind."""
    if broker.is_amqp(broker_url):
        return broker.waiting(broker_url, QUEUES, PATIENCE_SECONDS) or {}
    url = broker.redis_url(broker_url)
    if url is None:
        return {}
    try:
        with redis_client(url) as client:
            return {queue: int(client.llen(queue)) for queue in QUEUES}
    except (redis.RedisError, OSError):
        return {}


def of_server(url: str) -> dict[str, Any]:
    """Return the API's readiness, with `away` (the reason) where it does not answer."""
    try:
        answer = httpx.get(f"{url}/readyz", timeout=PATIENCE_SECONDS, trust_env=False)
        told: dict[str, Any] = answer.json()
    except (httpx.HTTPError, ValueError) as problem:
        return {"away": str(problem) or type(problem).__name__}
    return {"url": url, **told}


def url_of(settings: Settings, name: str) -> str | None:
    """Return a server's URL with its password (`database_url`, `redis_url`, `broker_url`), None where none is known."""
    secret = getattr(settings, name)
    return None if secret is None else str(secret.get_secret_value())


#: Chunks that were done stay done, so nothing is told twice; an event without chunks begins anew.
_RETRY_CHUNKS = """UPDATE fan_out_chunks c SET state = 'pending', attempts = 0
    FROM chosen WHERE c.event_key = chosen.key AND c.state = 'failed'"""
RETRY = text(f"""
    WITH chosen AS (SELECT key FROM events WHERE state = 'failed'
        AND (CAST(:tenant AS text) IS NULL OR tenant = :tenant) AND (CAST(:source AS text) IS NULL OR source = :source)
        AND (CAST(:id AS text) IS NULL OR id = :id) ORDER BY key FOR UPDATE),
    chunks AS ({_RETRY_CHUNKS})
    UPDATE events e SET attempts = 0, tried_at = NULL, error = NULL, finished_at = NULL,
        state = CASE WHEN EXISTS (SELECT FROM fan_out_chunks c WHERE c.event_key = e.key) THEN 'fanning_out'
                     ELSE 'accepted' END
    FROM chosen WHERE e.key = chosen.key RETURNING e.key, e.tenant, e.source, e.id, e.traceparent""")


def retry_failed(connection: Connection, tenant: str | None, source: str | None, id: str | None) -> int:
    """Return failed events to the queue of record (None: whichever) and say how many; the sweeper takes them up."""
    values = {"tenant": tenant, "source": source, "id": id}
    return connection.execute(RETRY, values).rowcount
