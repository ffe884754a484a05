"""What this process adds to the numbers: its hub's counts, copied once a second; and what is measured when asked for.

The hub counts in plain integers: nothing on the way of a frame waits for a metric.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError

from api.hub import Hub
from api.tasks import end
from shared import broker, cells, databases, db, exposition, metrics, operations, overview
from shared.errors import Unavailable
from shared.exposition import Counted, Measured
from shared.logs import log
from shared.settings import settings
from shared.statements import arun

#: A copy is two dozen additions; a scrape sees what happened up to this long ago.
COPY_S = 1.0
#: Scrapers and pages that ask within this are told the same: none of them makes the database work more often.
FRESH_S = 1.5
#: A database that does not answer within this is away.
PATIENCE_S = 3.0
BROKER_PATIENCE_S = 1.0


def copy(hub: Hub) -> None:
    """Show what a hub has counted so far."""
    counts, reconciler = hub.counts, hub.reconciler
    streams, inboxes = hub.sizes()
    metrics.STREAMS.set(streams)
    metrics.INBOXES.set(inboxes)
    metrics.STREAM_BEGINNINGS.show(counts.fresh, "fresh")
    metrics.STREAM_BEGINNINGS.show(counts.replays, "replay")
    metrics.RESETS.show(counts.resets)
    metrics.STREAMS_REFUSED.show(counts.refused)
    metrics.SLOW.show(counts.slow)
    metrics.DELIVERED.show(counts.delivered)
    for kind in ("late", "held", "untold", "unreadable"):
        metrics.ODD_FRAMES.show(getattr(counts, kind), kind)
    metrics.REPAIRED.show(reconciler.holes, "hole")
    metrics.REPAIRED.show(reconciler.reconciled, "round")
    metrics.ROUNDS.show(reconciler.rounds)


#: What the jobs' rows tell, by their field. Over all runs, and kept in the database: whoever restores it restores them.
JOBS = (
    ("secondsAgo", ("carillon_job_age_seconds", "How long ago a periodic job last ended, in any database")),
    ("done", ("carillon_job_rows", "Rows that a periodic job worked on, in all its runs")),
    ("faults", ("carillon_job_faults", "What a periodic job found wrong and repaired, in all its runs")),
    ("failures", ("carillon_job_failures", "Runs of a periodic job that failed")),
)


class Measures:
    """Copies a hub's counts between `start` and `stop`, and measures the queues for whoever asks."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._task: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._queues: tuple[float, dict[str, Any] | None] = (-FRESH_S, None)
        self._waiting: dict[str, int] | None = None

    async def start(self) -> None:
        """Begin this process's file and the copying."""
        await asyncio.to_thread(metrics.begin, "api")
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Copy a last time and let go of the file."""
        await end(self._task)
        copy(self._hub)
        metrics.end()

    async def _run(self) -> None:
        while True:
            copy(self._hub)
            await asyncio.sleep(COPY_S)

    async def counted(self) -> Counted:
        """Return what all processes of this host counted; this one's alone where they share no folder."""
        copy(self._hub)
        try:
            return await asyncio.to_thread(exposition.counted, settings().metrics_folder)
        except OSError as error:
            log().warning("metrics.unshared", folder=str(settings().metrics_folder), reason=type(error).__name__)
            return Counted([], cells.CELLS_HERE.told())

    async def queues(self) -> tuple[dict[str, Any] | None, dict[str, int] | None]:
        """Return the database's queues and the broker's, at most `FRESH_S` old; None for what is away."""
        async with self._lock:
            if time.monotonic() - self._queues[0] > FRESH_S:
                told, self._waiting = await asyncio.gather(_queues(), _waiting())
                self._queues = time.monotonic(), told
        return self._queues[1], self._waiting

    async def gauges(self) -> list[Measured]:
        """Return what is measured just now, as gauges."""
        queues, waiting = await self.queues()
        up = {"database": float(queues is not None), "redis": float(self._hub.subscriber.is_up.is_set())}
        url = overview.url_of(settings(), "broker_url") or ""
        if broker.is_amqp(url) or broker.redis_url(url) is not None:
            up["broker"] = float(waiting is not None)
        return [
            Measured("carillon_up", "Whether the API reaches it", "dependency", up),
            *_of(queues or {}, waiting or {}),
        ]


async def _queues() -> dict[str, Any] | None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            return operations.of_all(await asyncio.gather(*map(_queue, databases.names())))
    except (Unavailable, DBAPIError, TimeoutError) as error:
        log().warning("metrics.database_away", reason=type(error).__name__)
        return None


async def _queue(name: str) -> dict[str, Any]:
    async with db.watching_transaction(database=name) as connection:
        return await arun(connection, operations.queue())


async def _waiting() -> dict[str, int] | None:
    """Return how many tasks wait in each queue of the broker; None where it is away, or of another kind."""
    url = overview.url_of(settings(), "broker_url")
    if url is not None and broker.is_amqp(url):
        return await asyncio.to_thread(broker.waiting, url, overview.QUEUES, BROKER_PATIENCE_S)
    asked = broker.redis_url(url or "")
    if asked is None:
        return None
    client = Redis.from_url(
        asked, socket_timeout=BROKER_PATIENCE_S, socket_connect_timeout=BROKER_PATIENCE_S, retry=None
    )
    try:
        async with client.pipeline(transaction=False) as pipeline:
            for queue in overview.QUEUES:
                pipeline.llen(queue)
            return dict(zip(overview.QUEUES, map(int, await pipeline.execute()), strict=True))
    except (RedisError, OSError):
        return None
    finally:
        await client.aclose()


def _of(queues: dict[str, Any], waiting: dict[str, int]) -> list[Measured]:
    one = {name: {"": float(queues[name])} if name in queues else {} for name in ("chunks", "failed")}
    return [
        Measured(
            "carillon_queue_age_seconds",
            "Age of the oldest event that waits: for its fan-out (urgent), for its chunks' end (fan_out)",
            "lane",
            queues.get("ages", {}),
        ),
        Measured("carillon_open_events", "Events that are not finished", "state", queues.get("open", {})),
        Measured("carillon_pending_chunks", "Chunks of large events that wait or run", "", one["chunks"]),
        Measured("carillon_failed_events", "Events given up, until retried or forgotten", "", one["failed"]),
        Measured(
            "carillon_lane_silence_seconds",
            "How long a lane's workers were not heard: a task of theirs tells every 5 s",
            "lane",
            queues.get("silence", {}),
        ),
        *(Measured(*told, "job", {run["job"]: run[field] for run in queues.get("jobs", ())}) for field, told in JOBS),
        Measured("carillon_broker_messages", "Tasks that wait in the broker", "queue", waiting),
    ]
