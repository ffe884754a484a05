"""What the operators' page shows: rates and latencies of the last seconds, queues, fan-outs, failures, streams, jobs.

However many pages are open, it is read at most once in `FRESH_S` for each set of tenants.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any

from sqlalchemy.exc import DBAPIError

import beat_schedule
from api.measure import FRESH_S, PATIENCE_S, Measures
from shared import databases, db, metrics, operations
from shared.cells import Name, Read
from shared.errors import Unavailable
from shared.exposition import Counted, Values, by_label, quantile_of, value_of
from shared.metrics import Metric
from shared.statements import arun

#: Rates and latencies are those of about this long; it also bounds what is kept.
WINDOW_S = 20.0
#: Types that are listed, the slowest ones first.
TYPES = 8
_RATES: dict[str, tuple[Metric, tuple[str, ...]]] = {
    "accepted": (metrics.EVENTS, ("accepted",)),
    "duplicates": (metrics.EVENTS, ("duplicate",)),
    "urgent": (metrics.NOTIFICATIONS, ("urgent",)),
    "fanOut": (metrics.NOTIFICATIONS, ("fan_out",)),
    "frames": (metrics.DELIVERED, ()),
}
_TOTALS: dict[str, Metric] = {"resets": metrics.RESETS, "slow": metrics.SLOW, "refusedStreams": metrics.STREAMS_REFUSED}
Tenants = tuple[str, ...] | None


class Overview:
    """Tells what the page shows. Keeps what was counted up to `WINDOW_S` ago, to compare with."""

    def __init__(self, measures: Measures) -> None:
        self._measures = measures
        self._lock = asyncio.Lock()
        self._earlier: deque[tuple[float, Values]] = deque()
        self._told: dict[Tenants, tuple[float, dict[str, Any]]] = {}

    async def tell(self, tenants: frozenset[str] | None) -> dict[str, Any]:
        """Return the whole, with the lists of these tenants' events alone (None: of all). What is away is None."""
        chosen = None if tenants is None else tuple(sorted(tenants))
        async with self._lock:
            read_at, told = self._told.get(chosen, (-FRESH_S, {}))
            if time.monotonic() - read_at > FRESH_S:
                told = await self._look(chosen)
                self._told = {name: each for name, each in self._told.items() if time.monotonic() - each[0] < FRESH_S}
                self._told[chosen] = time.monotonic(), told
            return told

    async def _look(self, tenants: Tenants) -> dict[str, Any]:
        counted, (queues, broker), lists = await asyncio.gather(
            self._measures.counted(), self._measures.queues(), _lists(tenants)
        )
        seconds, growth = self._grown(counted.sums)
        return {
            "at": round(time.time() * 1000),
            "rates": {
                name: value_of(growth, metric, *labels) / seconds if seconds else None
                for name, (metric, labels) in _RATES.items()
            },
            "latency": {
                "commit": _latency(growth, metrics.COMMIT, "urgent"),
                "socket": _latency(growth, metrics.SOCKET),
            },
            "refused": by_label(counted.sums, metrics.REFUSED),
            "repaired": by_label(counted.sums, metrics.REPAIRED),
            "totals": {name: value_of(counted.sums, metric) for name, metric in _TOTALS.items()},
            "queues": queues,
            "broker": broker,
            "streams": [_streams(read) for read in counted.living if read.part == "api"],
            "workers": sum(read.part == "worker" for read in counted.living),
            "types": _slowest(growth),
            "jobs": _jobs(counted, queues or {}),
            **lists,
        }

    def _grown(self, sums: Values) -> tuple[float | None, dict[Name, int]]:
        """Return how long ago the oldest numbers were counted that are kept, and how much each has grown since.

        None: nobody has looked for a while, so there is nothing to compare with.
        """
        now = time.monotonic()
        while self._earlier and now - self._earlier[0][0] > WINDOW_S:
            self._earlier.popleft()
        before, then = self._earlier[0] if self._earlier else (None, sums)
        self._earlier.append((now, dict(sums)))
        grown: dict[Name, int] = defaultdict(int)
        grown.update({name: value - then.get(name, 0) for name, value in sums.items()})
        return None if before is None else now - before, grown


def _latency(growth: Values, metric: Metric, *labels: str) -> dict[str, float | None]:
    return {f"p{round(100 * share)}": quantile_of(growth, metric, share, *labels) for share in (0.5, 0.99)}


def _streams(read: Read) -> dict[str, Any]:
    values = {metric.name: read.values.get((metric.name, ""), 0) for metric in (metrics.STREAMS, metrics.INBOXES)}
    return {"process": read.process.split("-")[1], "streams": values[metrics.STREAMS.name],
            "inboxes": values[metrics.INBOXES.name]}  # fmt: skip


def _slowest(growth: Values) -> list[dict[str, Any]]:
    """Return the event types with the longest mean time from acceptance to commit, lately."""
    seconds, commits = by_label(growth, metrics.TYPE_SECONDS), by_label(growth, metrics.TYPE_COMMITS)
    means = {name: seconds.get(name, 0.0) / many for name, many in commits.items() if many > 0}
    slowest = sorted(means, key=lambda name: -means[name])[:TYPES]
    return [{"type": name, "seconds": means[name], "commits": commits[name]} for name in slowest]


def _jobs(counted: Counted, queues: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each periodic job with its last run: from its row, or, where it has none, from what workers counted."""
    last, spent = by_label(counted.sums, metrics.TASK_LAST), by_label(counted.sums, metrics.TASK_SECONDS)
    ended: dict[str, int] = defaultdict(int)
    for (name, _, *labels), value in counted.sums.items():
        if name == metrics.TASKS.name:
            ended[labels[0]] += value
    rows = {row["job"]: row for row in queues.get("jobs", ())}
    told = []
    for job in {job.task: job for job in beat_schedule.JOBS}.values():
        run = rows.get(job.task.removeprefix("carillon."), {})
        mean = spent.get(job.task, 0.0) / ended[job.task] if ended[job.task] else None
        told.append({
            "task": job.task,
            "why": job.why,
            "everySeconds": job.every_s,
            "secondsAgo": run.get("secondsAgo", time.time() - last[job.task] if job.task in last else None),
            "seconds": run.get("lastSeconds", mean),
            "done": run.get("lastDone"),
            "failures": run.get("failures", 0),
            "error": run.get("error"),
            "running": run.get("running", False),
        })  # fmt: skip
    return told


async def _lists(tenants: Tenants) -> dict[str, Any]:
    try:
        async with asyncio.timeout(PATIENCE_S):
            told = await asyncio.gather(*(_lists_of(name, tenants) for name in databases.names()))
    except (Unavailable, DBAPIError, TimeoutError):
        return {"fanOuts": None, "failed": None}
    return {name: [row for each in told for row in each[name]][: operations.LISTED] for name in ("fanOuts", "failed")}


async def _lists_of(database: str, tenants: Sequence[str] | None) -> dict[str, Any]:
    async with db.watching_transaction(database=database) as connection:
        return {
            "fanOuts": await arun(connection, operations.fan_outs(tenants)),
            "failed": await arun(connection, operations.failed(tenants)),
        }
