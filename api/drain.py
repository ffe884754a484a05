"""SIGTERM and SIGINT close the streams first: uvicorn alone would wait for them for ever."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Drainable(Protocol):
    """What closes its streams: afterwards each was told `goodbye` and no new one is accepted."""

    async def drain(self) -> None: ...


@contextmanager
def drain_on_signal(hub: Drainable) -> Iterator[None]:
    """While the block runs, a stop signal drains `hub` and then goes on to the server's own handler.

    Outside the main thread (tests that run the application in one) no handler can be set and none is.
    """
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()
    before: dict[signal.Signals, Any] = {}

    def drain() -> None:
        task = loop.create_task(hub.drain())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(drain)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    try:
        for number in _SIGNALS:
            before[number] = signal.signal(number, handle)
    except ValueError:
        before.clear()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
