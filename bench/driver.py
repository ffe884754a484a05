"""The measuring side: it posts and listens on one event loop, by hand-written HTTP: about 0.2 ms of CPU an event."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from bench.wire import Poster, frames
from shared.tokens import make_token

POSTERS = 16
#: How long frames may still come after the last posting.
DRAIN_S = 30.0
STRUCTURED, BATCHED = "application/cloudevents+json", "application/cloudevents-batch+json"


def issued(id: str, tenant: str, student: str) -> dict[str, Any]:
    """Return an event for one person."""
    data = {"student_id": student, "certificate_id": id, "badge_title": "Rust"}
    return envelope(id, "certificate.issued", tenant, data)


def envelope(id: str, type: str, tenant: str, data: dict[str, Any]) -> dict[str, Any]:
    """Return an event."""
    return {"specversion": "1.0", "id": id, "source": "/bench", "type": type, "tenant": tenant, "data": data}


def quantile(ascending: Sequence[float], part: float) -> float:
    """Return the value below which this part of them lies; not a number without any."""
    return round(ascending[min(len(ascending) - 1, int(part * len(ascending)))], 1) if ascending else float("nan")


class Driver:
    """Posts with a producer key, and notes when what was posted, answered and heard: by `time.perf_counter`."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._posters: dict[str, asyncio.Queue[Poster]] = {}
        self._key = key
        self._streams: list[asyncio.Task[None]] = []
        self.sent: dict[str, float] = {}
        self.answered: dict[str, float] = {}
        #: Event (by its certificate, or an announcement's title) → when its frames came.
        self.heard: dict[str, list[float]] = {}

    def _pool(self, kind: str) -> asyncio.Queue[Poster]:
        if kind not in self._posters:
            headers = {"Authorization": f"Bearer {self._key}", "Content-Type": kind}
            pool = self._posters[kind] = asyncio.Queue()
            for _ in range(POSTERS):
                pool.put_nowait(Poster(self._port, "/api/events", headers))
        return self._posters[kind]

    async def _send(self, kind: str, body: bytes) -> None:
        pool = self._pool(kind)
        poster = await pool.get()
        try:
            status, answer = await poster.post(body)
        finally:
            pool.put_nowait(poster)
        if status != 202:
            raise SystemExit(f"{status}: {answer[:500].decode()}")

    async def post(self, event: dict[str, Any]) -> None:
        """Post one event."""
        body = orjson.dumps(event)
        self.sent[event["id"]] = time.perf_counter()
        await self._send(STRUCTURED, body)
        self.answered[event["id"]] = time.perf_counter()

    async def post_batch(self, body: bytes) -> None:
        """Post a batch that is encoded already."""
        await self._send(BATCHED, body)

    async def listen(self, tenant: str, recipients: Sequence[str]) -> None:
        """Open a stream for each recipient, and return when all are open."""
        opened = [asyncio.Event() for _ in recipients]
        for recipient, event in zip(recipients, opened, strict=True):
            self._streams.append(asyncio.create_task(self._follow(tenant, recipient, event)))
        await asyncio.gather(*(event.wait() for event in opened))

    async def _follow(self, tenant: str, recipient: str, opened: asyncio.Event) -> None:
        async for line in frames(self._port, make_token(tenant, recipient), opened):
            now = time.perf_counter()
            told = orjson.loads(line[len(b"data: ") :])
            if told.get("type") == "created":
                shown = told["notification"]
                self.heard.setdefault(shown["metadata"].get("certificateId", shown["title"]), []).append(now)

    async def close_streams(self) -> None:
        """Close all streams."""
        for task in self._streams:
            task.cancel()
        await asyncio.gather(*self._streams, return_exceptions=True)
        self._streams.clear()

    async def paced(
        self, name: str, rate: float, seconds: float, event: Callable[[str, int], dict[str, Any]]
    ) -> list[str]:
        """Post `event(id, number)` at a steady rate, whether earlier ones are answered or not; return the ids."""
        posts, ids, start = [], [], time.perf_counter()
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, start + number / rate - time.perf_counter()))
            ids.append(f"{name}-{number}")
            posts.append(asyncio.create_task(self.post(event(ids[-1], number))))
        await asyncio.gather(*posts)
        return ids

    async def all_heard(self, ids: Sequence[str], times: int = 1, within: float = DRAIN_S) -> list[str]:
        """Wait until each was heard so many times, or `within` is over; return those that were."""
        deadline = time.perf_counter() + within
        while any(len(self.heard.get(id, ())) < times for id in ids) and time.perf_counter() < deadline:
            await asyncio.sleep(0.02)
        return [id for id in ids if len(self.heard.get(id, ())) >= times]
